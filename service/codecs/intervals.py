"""Prediction intervals as a caller asks for them: `service.bundle.manifest` says what they are."""

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import Interval, IntervalLevel, Output, ValueOutput
from service.engine.dtypes import Array
from service.errors import InvalidRequest

_LARGEST = np.finfo(np.float32).max
_CLOSE = 1e-9

Ends = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def interval_ends(output: Output, level: float, values: Array) -> Ends:
    """The low and the high end of each value's interval, float32 as the values are.

    Args:
        output: of the model.
        level: the share of truths that shall lie within.
        values: ``[rows]``, what the model answers.

    Raises:
        InvalidRequest: the model has no intervals, or none of this level.
    """
    interval, chosen = _offered(output, level)
    place = np.searchsorted(np.array(interval.edges), values, side="right")
    margin = np.array(chosen.margins)[place]
    value = values.astype(np.float64)
    if interval.scale == "value":
        low, high = value - margin, value + margin
    else:
        low, high = (1 + value) / np.exp(margin) - 1, (1 + value) * np.exp(margin) - 1
    return _float32(low), _float32(high)


def require_interval(output: Output, level: float) -> None:
    """Refuse a level that the model cannot answer, before it is asked to compute.

    Raises:
        InvalidRequest: the sentence tells which levels there are.
    """
    _offered(output, level)


def _offered(output: Output, level: float) -> tuple[Interval, IntervalLevel]:
    if not isinstance(output, ValueOutput):
        raise InvalidRequest(
            "Parameter 'interval' is for values; this model answers labels, whose probabilities "
            "tell its doubt."
        )
    if output.interval is None:
        raise InvalidRequest(
            "This model has no prediction intervals: too few rows were left to learn them from. "
            "Leave out 'interval'."
        )
    for one in output.interval.levels:
        if abs(one.level - level) < _CLOSE:
            return output.interval, one
    offered = ", ".join(f"{one.level:g}" for one in output.interval.levels)
    raise InvalidRequest(f"Parameter 'interval' must be one of {offered} here, got {level:g}.")


def _float32(ends: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return np.minimum(np.maximum(ends, -_LARGEST), _LARGEST).astype(np.float32)
