"""What a user decides about an import, beyond the card of the model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from service.spelling import closest_name, format_suggestion, join_names
from training.errors import ImportRejected
from training.recipe.table import ModelCard

_SHOWN = 20


@dataclass(frozen=True)
class ImportOptions:
    """Choices for an import; each has a default that the graph and the rows decide."""

    output: str | None = None
    """The output of the graph to serve; by default the one that fits the labels."""
    activation: Literal["softmax", "sigmoid"] | None = None
    """What the bundle applies to the output, for a graph that returns logits."""
    labels: tuple[str, ...] = ()
    """Names of the classes; by default those of the card or of the graph."""
    optional: tuple[str, ...] = ()
    """Features whose cells may be empty."""
    unseen: Literal["reject", "other"] | None = None
    """What to do with unknown words, for every feature of words; by default as in the card."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Units by feature."""
    target: str | None = None
    """The column of true values that the table must have; by default that of the card, if any."""
    expected: tuple[str, ...] = ()
    """Columns of the table with the predictions of the library that made the model.

    One column of values or labels, or one of probabilities for each label.
    """

    def apply(self, card: ModelCard) -> ModelCard:
        """Return the card with these choices; raise `ImportRejected` for unknown features."""
        names = [feature.name for feature in card.features]
        for option, chosen in (("optional", self.optional), ("units", self.units)):
            for name in chosen:
                if name not in names:
                    known = f"its features: {join_names(names, _SHOWN)}"
                    hint = format_suggestion(closest_name(name, names), known)
                    raise ImportRejected(f"--{option} names {name!r}, which is no feature; {hint}")
        features = []
        for feature in card.features:
            changes: dict[str, object] = {}
            if feature.name in self.optional:
                changes["optional"] = True
            if self.unseen is not None and feature.type == "category":
                changes["unseen"] = self.unseen
            if feature.name in self.units:
                changes["unit"] = self.units[feature.name]
            features.append(feature.model_copy(update=changes))
        return card.model_copy(update={"features": features})
