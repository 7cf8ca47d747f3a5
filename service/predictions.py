"""What the outputs of a graph mean: class labels, their probabilities, and interval ends.

Training and the service both read outputs by these rules. `to_label_columns` and `predict_label`
take the columns of an output: arrays ``[rows]``, or the numbers of one row, ``[columns]``, which
takes a third of the time of a matrix with one row.
"""

from collections.abc import Sequence, Sized
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import (
    BINARY,
    DEFAULT_THRESHOLD,
    ClassesOutput,
    Interval,
    IntervalLevel,
)

Number = TypeVar("Number", bound=np.generic)
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


def to_label_columns(columns: npt.NDArray[Any]) -> Sequence[Any] | npt.NDArray[Any]:
    """Return a column for each label; a single column is that of the second of two labels."""
    return columns if len(columns) > 1 else (1 - columns[0], columns[0])


def predict_label(
    columns: npt.NDArray[Any], threshold: float
) -> np.intp | np.bool_ | npt.NDArray[np.intp | np.bool_]:
    """Return the position of the predicted label: the most probable one of more than two.

    Of two labels, the second is predicted from the threshold on, in the precision of the columns.
    """
    if len(columns) > BINARY:
        position: np.intp | Ints = columns.argmax(axis=0)
        return position
    is_second: np.bool_ | npt.NDArray[np.bool_] = columns[-1] >= threshold
    return is_second


def expand_binary_scores(scores: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Return the probabilities of two labels, ``[rows, 2]``, by that of the second, ``[rows, 1]``.

    Scores of more columns are returned unchanged.
    """
    if scores.shape[1] != 1:
        return scores
    both = np.empty((len(scores), BINARY), scores.dtype)
    both[:, 0], both[:, 1] = to_label_columns(scores.T)
    return both


def scores_by_label(scores: npt.NDArray[Number], labels: Sized) -> npt.NDArray[Number]:
    """Return scores ``[rows, labels]``; one column for two labels is that of the second.

    Of models without known labels, ``labels`` is empty, and the scores remain ``[rows, columns]``.
    """
    return expand_binary_scores(scores) if len(labels) == BINARY else scores


def predict_labels(scores: npt.NDArray[Any], threshold: float = DEFAULT_THRESHOLD) -> Ints:
    """Return the position of each row's predicted label, ``[rows]``.

    Args:
        scores: ``[rows, labels]``, or ``[rows, 1]`` with those of the second of two labels.
        threshold: of two labels, the second is predicted from this score on.
    """
    return np.asarray(predict_label(scores.T, threshold), np.intp)


def label_probabilities(
    probabilities: npt.NDArray[Number], labels: Sequence[int] | npt.NDArray[np.integer[Any]]
) -> npt.NDArray[Number]:
    """Return the probability of one label of each row of ``[rows, labels]``, by its position."""
    chosen: npt.NDArray[Number] = probabilities[np.arange(len(probabilities)), labels]
    return chosen


@overload
def are_unsure(
    confidence: npt.NDArray[np.floating], unsure_below: np.float64
) -> npt.NDArray[np.bool_]: ...
@overload
def are_unsure(confidence: np.floating, unsure_below: np.float64) -> np.bool_: ...
def are_unsure(
    confidence: npt.NDArray[np.floating] | np.floating, unsure_below: np.float64
) -> npt.NDArray[np.bool_] | np.bool_:
    """Return whether the probability of a predicted label, or of each in ``[rows]``, is too low.

    The limit has 64 bits, in which it was chosen, so that the comparison has them too.
    """
    return confidence < unsure_below


class Classification(NamedTuple):
    """The predicted labels of rows.

    ``probabilities`` are ``[rows, labels]``, ``positions`` those of the predicted labels, and
    ``unsure`` whether their probabilities are too low; None if the model has no limit for that.
    """

    probabilities: npt.NDArray[Any]
    positions: list[int]
    unsure: list[bool] | None


def classify(output: ClassesOutput, scores: npt.NDArray[Any]) -> Classification:
    """Classify the rows of the graph's output, ``[rows, columns]``."""
    probabilities = expand_binary_scores(scores)
    positions = predict_labels(scores, output.decision_threshold)
    unsure = None
    if output.unsure_below is not None:
        confidence = label_probabilities(probabilities, positions)
        unsure = are_unsure(confidence, np.float64(output.unsure_below)).tolist()
    return Classification(probabilities, positions.tolist(), unsure)


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
