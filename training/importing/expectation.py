"""Compare an imported model with the predictions of the library that made it."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from service.bundle.manifest import BINARY
from service.predictions import predict_labels, scores_by_label
from service.spelling import format_count, join_names
from training.data.numbers import as_numbers
from training.data.table import Float32s, Floats, Table
from training.errors import DataError, ImportRejected
from training.importing.measurement import ServedModel

# A file usually has fewer digits of a prediction than the library computes.
_RELATIVE = 1e-4
_ABSOLUTE = 1e-4
_SHOWN = 8
_CONVERTER = (
    "The graph itself predicts so, in its own types: the conversion to ONNX changed the model. "
    "Convert it with a newer version of the converter, or with inputs of another type (float "
    "instead of double, or the reverse)."
)


def compare_expected(model: ServedModel, columns: Sequence[str]) -> str:
    """Compare the predictions with those of the library in these columns of the table.

    Args:
        model: with its predictions.
        columns: one with values, labels, or probabilities of the second of two labels; or one of
            probabilities for each label.

    Returns:
        A remark with the largest difference; an empty one without columns.

    Raises:
        ImportRejected: a label differs, or a number by more than the digits of a file.
        DataError: there is no such column, or a cell is no prediction.
    """
    if not columns:
        return ""
    if model.rows.table is None:
        raise ImportRejected("--expected names columns of a table; give one with --csv.")
    labels = model.card.target.labels
    cells = [model.rows.table.column(name).fill_null("") for name in columns]
    if labels and len(columns) == 1:
        positions = [model.find_label(cell) for cell in cells[0]]
        known = [position for position in positions if position is not None]
        if len(known) == len(positions):
            return _compare_labels(model, columns[0], known)
    scores = scores_by_label(model.predictions, labels) if labels else model.predictions
    if len(columns) == 1 and len(labels) == BINARY:
        scores = scores[:, 1:]
    if len(columns) != scores.shape[1]:
        outputs = f"the probabilities of {join_names(labels, _SHOWN)}" if labels else "one value"
        raise ImportRejected(
            f"--expected names {format_count(len(columns), 'column')}, but the model predicts "
            f"{outputs}. Name one column for each, or one with the predicted labels."
        )
    expected = np.column_stack([_read_numbers(model.rows.table, one) for one in cells])
    return _compare_numbers(model, columns, scores, expected)


def _compare_labels(model: ServedModel, column: str, expected: list[int]) -> str:
    found = predict_labels(model.predictions, model.threshold)
    differ = np.flatnonzero(found != np.array(expected))
    if not len(differ):
        return f"All {len(found)} labels equal those of the column {column!r}."
    row, labels = int(differ[0]), model.card.target.labels
    raise ImportRejected(
        f"{model.rows.location(row)}: the model predicts {labels[found[row]]!r}, and the column "
        f"{column!r} of --expected has {labels[expected[row]]!r} ({len(differ)} such rows). "
        f"{_CONVERTER}"
    )


def _read_numbers(table: Table, cells: pl.Series) -> Floats:
    numbers = as_numbers(cells.str.strip_chars(), table.number_format)
    if numbers.null_count():
        row = int(numbers.is_null().arg_true()[0])
        raise DataError(
            f"{table.location(row)}, column {cells.name!r}: {cells[row]!r} is no prediction: "
            "neither a number nor one of the labels."
        )
    return np.asarray(numbers.to_numpy(), dtype=np.float64)


def _compare_numbers(
    model: ServedModel, columns: Sequence[str], scores: Float32s, expected: Floats
) -> str:
    scale = 1.0 if model.card.target.labels else float(np.abs(expected).mean())
    distance = np.abs(scores.astype(np.float64) - expected)
    row, column = map(int, np.unravel_index(distance.argmax(), distance.shape))
    excess = distance > _ABSOLUTE * scale + _RELATIVE * np.abs(expected)
    if not excess.any():
        return (
            f"The predictions equal those of {', '.join(map(repr, columns))}; the largest "
            f"difference is {distance.max():.3g}."
        )
    raise ImportRejected(
        f"{model.rows.location(row)}: the model predicts {scores[row, column]:.7g}, and the column "
        f"{columns[column]!r} of --expected has {expected[row, column]:.7g}. This is the largest "
        f"difference; {int(excess.any(axis=1).sum())} of {len(scores)} rows differ. {_CONVERTER}"
    )
