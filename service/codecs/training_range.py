"""Values that a model takes and was never trained on: worth a warning, not a refusal."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from service.bundle.features import CategoryFeature, Feature, IntegerFeature, NumberFeature
from service.values import listed

Warnings = Mapping[int, Sequence[str]]

NO_WARNINGS: Warnings = {}


class TrainedRange:
    """What the training part spanned, feature by feature."""

    def __init__(self, features: Sequence[Feature]) -> None:
        # Bodies may be full of such values, so each has only its number put in.
        self._sentences = [_sentence(feature) for feature in features]
        low, high = zip(*map(_span, features), strict=True)
        # In 32 bits, as the rows are: rounding must not put an end of the range outside itself.
        self._low = np.array(low, np.float32)
        self._high = np.array(high, np.float32)
        self._is_bounded = bool(np.isfinite(self._low).any() or np.isfinite(self._high).any())

    def warnings(self, matrix: npt.NDArray[np.float32]) -> Warnings:
        """A sentence for each value beyond what training saw, by row; a gap is none.

        Args:
            matrix: ``[rows, columns]``, checked.
        """
        if not self._is_bounded:
            return NO_WARNINGS
        beyond = (matrix < self._low) | (matrix > self._high)
        if not np.count_nonzero(beyond):
            return NO_WARNINGS
        found: dict[int, list[str]] = {}
        values = matrix[beyond].tolist()
        for (row, column), value in zip(np.argwhere(beyond).tolist(), values, strict=True):
            before, after = self._sentences[column]
            sentence = before if after is None else f"{before}{value:.7g}{after}"
            found.setdefault(row, []).append(sentence)
        return found


def swap_hint(features: Sequence[Feature], row: Sequence[float], column: int) -> str | None:
    """Whether a value was probably meant for another feature, and that one's for it.

    Args:
        features: of the row.
        row: their numbers.
        column: of a value that breaks its rule.
    """
    own = features[column]
    if not _fits(own, row[column]):
        for other, value in zip(features, row, strict=True):
            if _fits(other, row[column]) and _fits(own, value):
                return f"Are {own.name!r} and {other.name!r} swapped?"
    return None


def _fits(feature: Feature, value: float) -> bool:
    """Whether training saw numbers like this; not where nobody knows what it saw."""
    if not isinstance(feature, NumberFeature | IntegerFeature) or feature.trained is None:
        return False
    return feature.trained.low <= value <= feature.trained.high


def _span(feature: Feature) -> tuple[float, float]:
    if isinstance(feature, NumberFeature | IntegerFeature):
        if feature.trained is not None:
            return feature.trained.low, feature.trained.high
    elif isinstance(feature, CategoryFeature):
        return 0.0, np.inf
    return -np.inf, np.inf


def _sentence(feature: Feature) -> tuple[str, str | None]:
    """What comes before and after the value; or the whole of it, where that is not told."""
    if isinstance(feature, CategoryFeature):
        sentence = (
            f"Feature {feature.name!r} is a word that training did not see; "
            f"it saw {listed(feature.categories)}."
        )
        return sentence, None
    low, high = _span(feature)
    unit = f" {feature.unit}" if feature.unit else ""
    return (
        f"Feature {feature.name!r} is ",
        f"{unit}, and training saw only {low:.7g} to {high:.7g}; the answer is a guess beyond it.",
    )
