"""The ranges of features: which numbers are valid, and which the training set has.

They are found once for each model; `service.codecs.features` compares the rows of requests.
"""

from collections.abc import Callable
from math import inf, isfinite, nextafter
from typing import Any

import numpy as np

from service.bundle.features import (
    UNSEEN,
    WHOLE_MAX,
    BooleanFeature,
    CategoryFeature,
    DatetimeFeature,
    Feature,
    IntegerFeature,
    NumericalFeature,
    NumericFeature,
    Range,
)
from service.engine.tensors import DTYPES
from service.timetext import END, FIRST_DAY, TIME_OF_DAY, format_datetime
from service.values import format_number, join_values

# A table repeats the warning in every row.
_CATEGORIES_SHOWN = 3


def find_valid_range(feature: NumericalFeature, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the range of valid numbers in an input of this type; infinity is in no such range."""
    if isinstance(feature, CategoryFeature):
        return UNSEEN if feature.unseen == "other" else 0.0, len(feature.categories) - 1.0
    if isinstance(feature, BooleanFeature):
        return 0.0, 1.0
    if isinstance(feature, DatetimeFeature):
        first, end = (0.0, 1.0) if feature.format == TIME_OF_DAY else (FIRST_DAY, END)
        return first, nextafter(end, 0.0)
    # Larger integers may have been rounded before they arrived; 32 bits round smaller ones too.
    is_exact = isinstance(feature, IntegerFeature) and dtype == DTYPES["FP64"]
    largest = float(WHOLE_MAX if is_exact else np.finfo(dtype).max)
    allowed = feature.allowed or Range()
    return max(allowed.low, -largest), min(allowed.high, largest)


def has_training_range(feature: NumericalFeature) -> bool:
    """Return whether the manifest has the range of a feature in the training set."""
    return isinstance(feature, NumericFeature) and feature.trained is not None


def find_training_range(feature: NumericalFeature) -> tuple[float, float]:
    """Return the range of a feature's numbers in the training set; infinity where it is unknown."""
    if isinstance(feature, CategoryFeature):
        return 0.0, inf  # without `UNSEEN`
    if isinstance(feature, BooleanFeature) or feature.trained is None:
        return -inf, inf
    return feature.trained.low, feature.trained.high


def choose_format(feature: NumericalFeature, dtype: np.dtype[Any]) -> Callable[[float], str]:
    """Return the function that formats the numbers of a feature in warnings."""
    if isinstance(feature, DatetimeFeature):
        text_format = feature.format
        return lambda days: format_datetime(days, text_format) if isfinite(days) else str(days)
    # Seven digits are what training keeps of ranges in 32 bits.
    return "{:.7g}".format if dtype == DTYPES["FP32"] else format_number


def split_warning(feature: NumericalFeature, low: str, high: str) -> tuple[str, str | None]:
    """Return the warning before and after the value; the second is None if it shows no value."""
    if isinstance(feature, CategoryFeature):
        sentence = (
            f"Feature {feature.name!r} has a category that is not in the training set "
            f"({join_values(feature.categories, _CATEGORIES_SHOWN)})."
        )
        return sentence, None
    unit = f" {feature.unit}" if feature.unit else ""
    advice = f"outside the training range {low} to {high}; the prediction is unreliable."
    return f"Feature {feature.name!r} is ", f"{unit}, {advice}"


def warn_missing(feature: Feature) -> str:
    """Return the warning about a missing value of a feature that is complete in training."""
    return (
        f"Feature {feature.name!r} is missing, which it never is in the training set; "
        "the prediction is unreliable."
    )
