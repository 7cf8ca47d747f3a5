"""What a person reads: a value with its unit, or a label with probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import ClassesOutput, Output, ValueOutput
from service.codecs.intervals import interval_ends, require_interval
from service.codecs.labels import scores_by_label
from service.codecs.options import Parameters
from service.engine.dtypes import Array
from service.errors import InvalidRequest

Answer = dict[str, object]


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
