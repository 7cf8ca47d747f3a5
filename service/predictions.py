"""What the outputs of a graph mean: class labels, their probabilities, and interval ends.

Training and the service both read outputs by these rules.
"""

from collections.abc import Callable, Sequence, Sized
from operator import ge, lt
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import DEFAULT_THRESHOLD, ClassesOutput, Interval, IntervalLevel

Number = TypeVar("Number", bound=np.generic)
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
# The probability of each label, the position of the predicted one, and whether it is unsure.
RowClassification = tuple[Sequence[np.floating[Any]] | npt.NDArray[Any], int, bool]

_BINARY_CLASSES = 2
# The comparisons of one row and of many.
_predicts_second, _is_unsure = ge, lt


def both_labels(scores: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Return the probabilities of two labels, ``[rows, 2]``, by that of the second, ``[rows, 1]``.

    Scores of more columns are returned unchanged.
    """
    if scores.shape[1] != 1:
        return scores
    both = np.empty((len(scores), _BINARY_CLASSES), scores.dtype)
    np.subtract(1, scores[:, 0], out=both[:, 0])
    both[:, 1] = scores[:, 0]
    return both


def scores_by_label(scores: npt.NDArray[Number], labels: Sized) -> npt.NDArray[Number]:
    """Return scores ``[rows, labels]``; one column for two labels is that of the second.

    Of models without known labels, ``labels`` is empty, and the scores remain ``[rows, columns]``.
    """
    return both_labels(scores) if len(labels) == _BINARY_CLASSES else scores


def predicted_labels(scores: npt.NDArray[Any], threshold: float = DEFAULT_THRESHOLD) -> Ints:
    """Return the position of each row's predicted label, ``[rows]``.

    Args:
        scores: ``[rows, labels]``, or ``[rows, 1]`` with those of the second of two labels.
        threshold: of two labels, the second is predicted from this score on.
    """
    if scores.shape[1] > _BINARY_CLASSES:
        return np.asarray(scores.argmax(axis=1), np.intp)
    return np.asarray(_predicts_second(scores[:, -1], np.float32(threshold)), np.intp)


def label_probabilities(
    probabilities: npt.NDArray[Number], labels: Sequence[int] | npt.NDArray[np.integer[Any]]
) -> npt.NDArray[Number]:
    """Return the probability of one label of each row of ``[rows, labels]``, by its position."""
    chosen: npt.NDArray[Number] = probabilities[np.arange(len(probabilities)), labels]
    return chosen


def low_confidence(
    output: ClassesOutput, probabilities: npt.NDArray[Any], labels: Sequence[int]
) -> list[bool] | None:
    """Return whether each row's predicted label is unsure; None if the model has no limit for it.

    ``probabilities`` are ``[rows, labels]``, and ``labels`` the positions of the predicted ones.
    """
    if output.unsure_below is None:
        return None
    own = label_probabilities(probabilities, labels)
    flags: list[bool] = are_unsure(own, output.unsure_below).tolist()
    return flags


def are_unsure(confidence: npt.NDArray[Any], unsure_below: float) -> npt.NDArray[np.bool_]:
    """Return whether the probabilities of the predicted labels, ``[rows]``, are below a limit."""
    return np.asarray(_is_unsure(confidence.astype(np.float64), unsure_below))


def row_classifier(
    output: ClassesOutput,
) -> Callable[[npt.NDArray[Any]], RowClassification]:
    """Return a function that classifies one row of the graph's output, ``[columns]``.

    It does what `scores_by_label`, `predicted_labels` and `low_confidence` do, which take several
    times as long for the one row that most requests have.
    """
    is_binary, unsure_below = output.is_binary, output.unsure_below
    threshold = np.float32(output.decision_threshold)

    def classify(row: npt.NDArray[Any]) -> RowClassification:
        probabilities: Sequence[np.floating[Any]] | npt.NDArray[Any] = row
        if is_binary:
            second = row[-1]
            if row.size == 1:
                probabilities = (1 - second, second)
            chosen = int(_predicts_second(second, threshold))
        else:
            chosen = int(row.argmax())
        if unsure_below is None:
            return probabilities, chosen, False
        return probabilities, chosen, _is_unsure(float(probabilities[chosen]), unsure_below)

    return classify


def most_probable(probabilities: npt.NDArray[Any], top: int) -> Ints:
    """Return the positions of each row's most probable labels, ``[rows, top]``.

    Of equal ones the first comes first; a ``top`` above the number of labels is all of them.
    """
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :top]


def interval_bins(edges: Sequence[float], values: npt.NDArray[Any]) -> Ints:
    """Return the bin of each value, ``[rows]``; an edge belongs to the bin above."""
    return np.searchsorted(np.array(edges), values, side="right")


def interval_ends(
    interval: Interval, level: IntervalLevel, values: npt.NDArray[Any]
) -> tuple[Floats, Floats]:
    """Return the low and the high end of the interval around each value, ``[rows]``.

    ``level`` is one of the interval's; values and ends are in the output's unit.
    """
    margin = np.array(level.margins)[interval_bins(interval.edges, values)]
    value = values.astype(np.float64)
    if interval.scale == "value":
        return value - margin, value + margin
    return (1 + value) / np.exp(margin) - 1, (1 + value) * np.exp(margin) - 1
