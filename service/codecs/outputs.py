"""Predictions as values with units, or as class labels with probabilities and intervals."""

from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import ClassesOutput, Interval, IntervalLevel, Output, ValueOutput
from service.codecs.options import Parameters
from service.engine.tensors import Array
from service.errors import InvalidRequest

Answer = dict[str, object]
_TWO = 2
_LARGEST = np.finfo(np.float32).max
_CLOSE = 1e-9

Ends = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def scores_by_label(scores: Array, labels: Sized) -> Array:
    """Scores ``[rows, labels]``; where two labels have one column, it is that of the second.

    Args:
        scores: ``[rows, columns]``.
        labels: as many as there are; none where nobody knows them.
    """
    if scores.shape[1] != 1 or len(labels) != _TWO:
        return scores
    both = np.empty((len(scores), _TWO), scores.dtype)
    np.subtract(1, scores[:, 0], out=both[:, 0])
    both[:, 1] = scores[:, 0]
    return both


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
    """Reject a level that the model does not have, before it runs.

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


def require_offered(output: Output, parameters: Parameters) -> None:
    """Refuse what answers of this model do not have.

    Raises:
        InvalidRequest: labels of a model that answers a value, or an interval that it has not.
    """
    if parameters.interval is not None:
        require_interval(output, parameters.interval)
    if isinstance(output, ValueOutput) and parameters.top is not None:
        raise InvalidRequest("Parameter 'top' chooses among labels; this model answers a value.")


def answers(output: Output, scores: Array, parameters: Parameters) -> list[Answer]:
    """One answer for each row of the graph's output, its numbers as numpy's own.

    Args:
        output: what the manifest says of it.
        scores: ``[rows, columns]``.
        parameters: what the caller wants to read.
    """
    if isinstance(output, ValueOutput):
        return _values(output, scores[:, 0], parameters.interval)
    probabilities = scores_by_label(scores, output.labels)
    chosen = chosen_labels(output, probabilities)
    read = _labels(output.labels, probabilities, chosen, parameters)
    flags = unsure(output, probabilities, chosen)
    if flags is not None:
        for answer, flag in zip(read, flags, strict=True):
            answer["unsure"] = flag
    return read


def chosen_labels(output: ClassesOutput, probabilities: Array) -> list[int]:
    """The position of each row's label.

    Args:
        output: with the threshold that two labels have.
        probabilities: ``[rows, labels]``.
    """
    if len(output.labels) > 2:  # noqa: PLR2004 - two labels have a threshold instead
        chosen: list[int] = probabilities.argmax(axis=1).tolist()
        return chosen
    threshold = 0.5 if output.threshold is None else output.threshold
    seconds: list[int] = (probabilities[:, 1] >= np.float32(threshold)).astype(np.intp).tolist()
    return seconds


def most_probable(probabilities: Array, top: int) -> npt.NDArray[np.intp]:
    """Each row's most probable labels by position, the first of equals first.

    Args:
        probabilities: ``[rows, labels]``.
        top: how many; all, where there are fewer.

    Returns:
        ``[rows, top]``.
    """
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :top]


def unsure(output: ClassesOutput, probabilities: Array, chosen: Sequence[int]) -> list[bool] | None:
    """Whether each row's answer is unsure; None where the model does not tell.

    Args:
        output: with the probability below which an answer is unsure.
        probabilities: ``[rows, labels]``.
        chosen: the position of each row's label.
    """
    if output.unsure_below is None:
        return None
    own = probabilities[np.arange(len(chosen)), chosen]
    flags: list[bool] = (own.astype(np.float64) < output.unsure_below).tolist()
    return flags


def _values(output: ValueOutput, values: Array, level: float | None) -> list[Answer]:
    unit = {} if output.unit is None else {"unit": output.unit}
    if level is None:
        return [{"value": value, **unit} for value in values]
    rows = zip(values, *interval_ends(output, level, values), strict=True)
    return [
        {"value": value, **unit, "interval": {"level": level, "low": low, "high": high}}
        for value, low, high in rows
    ]


def _labels(
    labels: Sequence[str], probabilities: Array, chosen: Sequence[int], parameters: Parameters
) -> list[Answer]:
    named = [labels[place] for place in chosen]
    if not parameters.probabilities:
        own = probabilities[np.arange(len(chosen)), chosen]
        return [
            {"label": label, "probability": share} for label, share in zip(named, own, strict=True)
        ]
    shares = _shares(labels, probabilities, parameters.top)
    rows = zip(named, probabilities, chosen, shares, strict=True)
    return [
        {"label": label, "probability": row[place], "probabilities": share}
        for label, row, place, share in rows
    ]


def _shares(
    labels: Sequence[str], probabilities: Array, top: int | None
) -> Sequence[Mapping[str, Any]]:
    if top is None:
        return [dict(zip(labels, row, strict=True)) for row in probabilities]
    order = most_probable(probabilities, top).tolist()
    return [
        {labels[place]: row[place] for place in places}
        for row, places in zip(probabilities, order, strict=True)
    ]
