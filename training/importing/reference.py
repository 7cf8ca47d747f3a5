"""The predictions of the original, which the bundle must reproduce, at several batch sizes."""

from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import BINARY
from service.spelling import format_count
from training.data.table import Float32s
from training.errors import ImportRejected
from training.export.output_mapping import OutputMapping
from training.importing.differences import explain_batches
from training.importing.original import Original
from training.importing.rows import Rows
from training.onnx_files import Array

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.intp]

LARGEST_BATCH = 16_384
_BATCHES = (1, 2, 7)
_MAX_RUNS = 20_000
# Slow graphs run fewer small batches: as many as fit into this time, but some in any case.
_SECONDS = 2
_MIN_RUNS = 50
_TIMED_RUNS = 5
# How much the predictions of the original may depend on the other rows of a batch. The order of
# sums depends on its size, so their last bits do.
_BATCH_RELATIVE = 1e-4
_BATCH_ABSOLUTE = 1e-4


@dataclass(frozen=True)
class Prediction:
    """What a bundle should serve for the first rows."""

    scores: Float32s
    """``[rows, outputs]``: the output of the bundle's graph."""
    labels: Positions | None
    """``[rows]``: positions of the graph's own labels; None for values, or if it has no label."""


@dataclass(frozen=True)
class Reference:
    """The predictions of the original by batch size."""

    original: Original
    rows: Rows
    mapping: OutputMapping
    predictions: dict[int, Prediction]
    ties: Mask
    """``[rows]``, whether the graph's own label of a row depends on the size of the batch."""

    @property
    def scale(self) -> float:
        """The size of the predictions that differences near zero are compared with."""
        if self.mapping.labels:
            return 1.0
        return float(np.abs(self.predictions[LARGEST_BATCH].scores).mean())

    def give_ties_the_first_label(self) -> OutputMapping:
        """Return the mapping for a graph whose own label of ties depends on the batch.

        Ties get the first of the labels, as in the libraries that such graphs come from.
        """
        threshold = self.mapping.threshold
        if len(self.mapping.labels) == BINARY and self.ties.any():
            threshold = self._choose_threshold()
        return replace(self.mapping, threshold=threshold, label_output=None)

    def _choose_threshold(self) -> float | None:
        """Return a threshold that gives ties the first of two labels, as argmax does.

        Return that of the mapping if no other one gives the same labels.
        """
        highest, lowest = -np.inf, np.inf
        for prediction in self.predictions.values():
            ties, scores = self.ties[: len(prediction.scores)], prediction.scores[:, 0]
            second = np.asarray(prediction.labels == 1) & ~ties
            highest = max(highest, scores[ties].max(initial=-np.inf))
            lowest = min(lowest, scores[second].min(initial=np.inf))
        raised = np.nextafter(np.float32(highest), np.float32(1))
        return float(raised) if raised <= lowest else self.mapping.threshold

    def describe_ties(self) -> str:
        """Return a remark on rows whose label is a matter of rounding; empty if there are none."""
        count = int(self.ties.sum())
        if not count:
            return ""
        row = int(np.flatnonzero(self.ties)[0])
        return (
            f"Two labels are equally probable in {format_count(count, 'row')}, for example in "
            f"{self.rows.location(row)}: the model's own label of such a row depends on the size "
            "of the batch."
        )


def run_reference(original: Original, rows: Rows, mapping: OutputMapping) -> Reference:
    """Run the original on all rows at once, and in small batches.

    Raise `ImportRejected` if a prediction is NaN or infinite, or depends on the other rows of its
    batch.
    """
    together = _predict(original, rows, mapping, LARGEST_BATCH, len(rows.encoded))
    predictions = {LARGEST_BATCH: together}
    ties = np.zeros(len(rows.encoded), dtype=np.bool_)
    reference = Reference(original, rows, mapping, predictions, ties)
    runs = _count_runs(original, rows, mapping)
    for size in _BATCHES:
        apart = _predict(original, rows, mapping, size, runs * size)
        _verify_independence(reference, apart, size)
        predictions[size] = apart
        if together.labels is not None and apart.labels is not None:
            count = len(apart.labels)
            ties[:count] |= together.labels[:count] != apart.labels
    return reference


def find_differences(found: Float32s, expected: Float32s, relative: float, absolute: float) -> Mask:
    """Return the rows with a prediction that differs by more; NaN differs from everything."""
    with np.errstate(invalid="ignore"):
        bound = absolute + relative * np.abs(expected.astype(np.float64))
        close: Mask = np.abs(found.astype(np.float64) - expected) <= bound
    differ: Mask = np.asarray(~close.all(axis=1))
    return differ


def show_prediction(
    mapping: OutputMapping, scores: Float32s, labels: Positions | None, row: int
) -> str:
    """Return a prediction for messages: its numbers, and its label if there is one."""
    shown = ", ".join(f"{number:.7g}" for number in scores[row].tolist())
    return shown if labels is None else f"{mapping.labels[labels[row]]!r} ({shown})"


def reject_missing(rows: Rows, output: str, scores: Array) -> None:
    """Raise `ImportRejected` if an output, ``[rows, ...]``, is NaN or infinite for a row.

    The message names the empty cells of the row, which may be the cause.
    """
    missing = ~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)
    if not missing.any():
        return
    row = int(np.flatnonzero(missing)[0])
    word = "NaN" if np.isnan(scores[row]).any() else "infinite"
    more = f" ({int(missing.sum())} such rows)" if missing.sum() > 1 else ""
    gaps = [
        repr(column.feature.name)
        for k, column in enumerate(rows.columns)
        if np.isnan(rows.encoded[row, k])
    ]
    cause = "Correct the cells of this row, or the model."
    if gaps:
        cause = (
            f"The cells of {', '.join(gaps)} are empty in this row, and the model has no "
            "prediction for missing values: add an imputer to the model, or fill the cells and "
            "import it without --optional for the column."
        )
    raise ImportRejected(
        f"{rows.location(row)}: its output {output!r} is {word}, which is no prediction{more}. "
        f"{cause}"
    )


def _predict(
    original: Original, rows: Rows, mapping: OutputMapping, size: int, count: int
) -> Prediction:
    """Return the predictions of the first rows, in batches of ``size``."""
    names = dict.fromkeys(filter(None, (mapping.output, mapping.label_output)))
    own = [column[:count] for column in rows.own]
    outputs = original.run_in_batches(own, size, list(names))
    scores = mapping.apply(outputs)
    reject_missing(rows, mapping.output, scores)
    labels = mapping.read_positions(outputs)
    if labels is not None and (labels < 0).any():
        row = int(np.flatnonzero(labels < 0)[0])
        name = str(mapping.label_output)
        raise ImportRejected(
            f"{rows.location(row)}: its output {name!r} is {outputs[name].ravel()[row]!r}, which "
            f"is none of its classes ({', '.join(map(str, mapping.classes))}). Name all of them "
            "with --labels."
        )
    return Prediction(scores, labels)


def _count_runs(original: Original, rows: Rows, mapping: OutputMapping) -> int:
    """Return how many small batches to run of each size."""
    own = [column[:_TIMED_RUNS] for column in rows.own]
    started = perf_counter()
    original.run_in_batches(own, 1, [mapping.output])
    seconds = (perf_counter() - started) / len(own[0])
    return min(_MAX_RUNS, max(_MIN_RUNS, int(_SECONDS / seconds)))


def _verify_independence(reference: Reference, apart: Prediction, size: int) -> None:
    """Reject predictions that depend on the other rows of a batch."""
    rows, mapping = reference.rows, reference.mapping
    together = reference.predictions[LARGEST_BATCH].scores[: len(apart.scores)]
    absolute = _BATCH_ABSOLUTE * reference.scale
    differ = find_differences(apart.scores, together, _BATCH_RELATIVE, absolute)
    if differ.any():
        row = int(np.flatnonzero(differ)[0])
        raise ImportRejected(
            f"its predictions depend on the other rows of a batch. {rows.location(row)}: "
            f"{show_prediction(mapping, apart.scores, None, row)} in batches of {size}, and "
            f"{show_prediction(mapping, together, None, row)} with all {len(rows.encoded)} rows. "
            f"{explain_batches(reference.original)}"
        )
