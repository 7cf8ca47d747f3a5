"""Measure an imported model on the rows of a table, as it is served."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from service.bundle import manifest as contract
from service.spelling import format_count, join_names
from training.data.numbers import as_numbers
from training.data.table import Float32s, Floats, Table
from training.errors import DataError
from training.evaluation.metrics import measure, predict_baseline, round_metrics
from training.export.output_mapping import OutputMapping
from training.importing.reference import Mask
from training.importing.rows import Rows
from training.recipe.table import ModelCard
from training.report.imported import MeasuredRows

_SHOWN = 8


@dataclass(frozen=True)
class ServedModel:
    """An imported model with its predictions for the rows, as the service returns them."""

    card: ModelCard
    rows: Rows
    mapping: OutputMapping
    threshold: float
    """Of two labels, the second is predicted from this probability on."""
    predictions: Float32s
    """``[rows, outputs]``, of the bundle's graph."""

    @cached_property
    def label_words(self) -> dict[str, int]:
        """The position of each word for a label: of the graph, of the card and of its values."""
        labels, words = self.card.target.labels, dict[str, int]()
        for names in (self.card.target.values, labels, self.mapping.classes):
            if len(names) == len(labels):
                for position, name in enumerate(names):
                    words.setdefault(str(name), position)
        return words

    def find_label(self, cell: str) -> int | None:
        """Return the position of the label that a cell writes, as it is or without blanks.

        A whole number may have a fraction of zero. Return None if the cell is no label.
        """
        stripped, words = cell.strip(), self.label_words
        forms = [cell, stripped, _write_integer(stripped)]
        if self.card.target.ignore_case:
            words = {word.lower(): position for word, position in words.items()}
            forms = [form.lower() for form in forms]
        return next((words[form] for form in forms if form in words), None)


def evaluate(
    model: ServedModel, table: Table
) -> tuple[contract.Evaluation | None, MeasuredRows | None, str]:
    """Compute metrics on the rows with a target; return these rows, and a remark on the others.

    The rows should not have been used for training, but nobody recorded that.

    Raises:
        DataError: a target is not a number, or none of the labels.
    """
    card = model.card
    target = _read_labels(model, table) if card.target.labels else _read_values(model, table)
    known = ~np.isnan(target)
    missing = int((~known).sum())
    have = "has" if missing == 1 else "have"
    total = format_count(len(target), "row")
    remark = f"{missing:,} of {total} {have} no target; only the others are measured."
    if not known.any():
        return None, None, remark
    target, predictions = target[known], model.predictions[known]
    _, baseline = predict_baseline(card, target, len(target))
    name = "the shares of the labels" if card.target.labels else "the mean"
    evaluation = contract.Evaluation(
        part="given",
        rows=len(target),
        metrics=round_metrics(measure(card, target, predictions, model.threshold)),
        baseline=contract.Baseline(
            name=f"{name} in these rows",
            metrics=round_metrics(measure(card, target, baseline)),
        ),
    )
    rows = MeasuredRows(card, table.filter(pl.Series(known)), target, predictions)
    return evaluation, rows, remark if missing else ""


def _read_values(model: ServedModel, table: Table) -> Floats:
    """Return the target of each row, ``[rows]``; NaN if it has none."""
    target = model.card.target
    cells = table.clean().column(target.column)
    cells = cells.set(cells.is_in(target.missing), None) if target.missing else cells
    numbers = as_numbers(cells, table.number_format, target.affix)
    wrong = (numbers.is_null() & cells.is_not_null()).to_numpy()
    _reject_first(table, cells, wrong, "not a number. Correct the cell, or leave it empty")
    return np.asarray(numbers.fill_null(np.nan).to_numpy(), dtype=np.float64)


def _read_labels(model: ServedModel, table: Table) -> Floats:
    """Return the position of each row's label, ``[rows]``; NaN if it has none.

    An empty cell is a label if a class of the graph is the empty word.
    """
    target = model.card.target
    absent = {"", *target.missing, *table.missing}
    cells = table.column(target.column).fill_null("")
    found: dict[str, float] = {}
    for cell in cells.unique():
        position = model.find_label(cell)
        unknown = np.nan if cell.strip() in absent or target.others == "drop" else np.inf
        found[cell] = unknown if position is None else position
    positions = np.array([found[cell] for cell in cells], dtype=np.float64)
    labels = join_names(target.labels, _SHOWN)
    problem = f"none of the labels {labels}. Name all labels with --labels, or correct the cell"
    _reject_first(table, cells, np.isinf(positions), problem)
    return positions


def _reject_first(table: Table, cells: pl.Series, wrong: Mask, problem: str) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        row = int(rows[0])
        raise DataError(
            f"{table.location(row)}, column {cells.name!r}: {cells[row]!r} is {problem}."
        )


def _write_integer(cell: str) -> str:
    """Return a whole number such as 1.0 without its fraction, as classes are written."""
    try:
        number = float(cell)
    except ValueError:
        return cell
    return str(int(number)) if number.is_integer() else cell
