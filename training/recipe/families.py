"""Every model family: one table that recipes, drafts, fitting and explanations read.

To add a family, write a row here and its builder: for PyTorch in `training.model.networks`, for
scikit-learn in `training.model.estimators`, for images in `training.images.networks`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from service.bundle.manifest import BINARY

Task = Literal["regression", "binary", "multiclass"]

_REGRESSION: frozenset[Task] = frozenset({"regression"})
_CLASSIFICATION: frozenset[Task] = frozenset({"binary", "multiclass"})


@dataclass(frozen=True)
class TableFamily:
    """What sets a family of table models apart."""

    tasks: frozenset[Task] = _REGRESSION | _CLASSIFICATION
    library: Literal["PyTorch", "scikit-learn"] = "PyTorch"
    """An estimator of scikit-learn needs neither preprocessing nor a training loop."""
    hidden_layers: bool = False
    """Whether the recipe must list the widths of hidden layers; no other family may."""
    additive: bool = False
    """Whether the score is a sum over the features, so that each contribution is exact."""
    binary_loss: Literal["cross-entropy", "perceptron"] = "cross-entropy"
    binary_activation: Literal["sigmoid", "hard-sigmoid"] = "sigmoid"
    """What turns the score of the second of two labels into a probability."""
    draft_optimizer: Literal["LBFGS", "SGD", "AdamW"] | None = None
    """The optimizer of a drafted recipe; None where ``new`` does not offer the family."""


TABLE_FAMILIES: Mapping[str, TableFamily] = {
    "linear": TableFamily(tasks=_REGRESSION, additive=True, draft_optimizer="LBFGS"),
    "logistic": TableFamily(tasks=_CLASSIFICATION, additive=True, draft_optimizer="LBFGS"),
    "perceptron": TableFamily(
        tasks=_CLASSIFICATION,
        additive=True,
        binary_loss="perceptron",
        binary_activation="hard-sigmoid",
        draft_optimizer="SGD",
    ),
    "mlp": TableFamily(hidden_layers=True, draft_optimizer="AdamW"),
    "decision-tree": TableFamily(library="scikit-learn"),
    "k-means": TableFamily(tasks=_CLASSIFICATION, library="scikit-learn"),
}

IMAGE_FAMILIES: Mapping[str, str] = {"layers": "layers", "residual": "widths"}
"""Families of image models, each with the key of the network section that lists its layers."""


def output_width(labels: int) -> int:
    """Return the outputs of a model: one per label; for two labels or a value, one."""
    return labels if labels > BINARY else 1


def list_draft_families() -> list[str]:
    """Return the families that a drafted recipe can have."""
    return [name for name, family in TABLE_FAMILIES.items() if family.draft_optimizer]


def require_family(families: Mapping[str, object], name: str) -> str:
    """Return the name if it is in the table of families.

    Raise `ValueError` if the table has no such family.
    """
    if name not in families:
        raise ValueError(f"choose from {', '.join(families)}")
    return name
