"""Rows like those of a table, which show how a graph chooses the labels of rows that it lacks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.errors import ImportRejected
from training.export.output_mapping import OutputMapping, find_positions
from training.importing.original import Original, Outputs
from training.importing.rows import Rows
from training.onnx_files import Array

_RUN_SINGLY = 500


@dataclass(frozen=True)
class MixedRows:
    """Rows whose cells are those of a table, between them or near them."""

    rows: Rows
    """Those of the table."""
    columns: Sequence[Array]
    """What the original gets, ``[mixed rows]`` for each column."""
    outputs: Outputs
    """Of the original, with the same rows; empty if it has none for them."""

    def describe(self, row: int) -> str:
        """Return a row for messages."""
        return f"the generated row {self.rows.describe_cells(self.columns, row)}"

    def have_ties(self, original: Original, mapping: OutputMapping) -> bool:
        """Return whether the graph's own label of some row depends on the size of the batch."""
        together = mapping.read_positions(self.outputs) if self.outputs else None
        if together is None:
            return False
        count = min(_RUN_SINGLY, len(together))
        columns = [cells[:count] for cells in self.columns]
        outputs = original.run_in_batches(columns, 1, [str(mapping.label_output)])
        singly = find_positions(outputs[str(mapping.label_output)], mapping.classes)
        return not np.array_equal(singly, together[:count])


def mix_rows(original: Original, rows: Rows, outputs: Outputs) -> MixedRows:
    """Return rows like those of a table, with the outputs of the original.

    They reach leaves of trees that the table does not, and lie nearer to the limits of labels.

    Args:
        original: the model; rows that it rejects are left out.
        rows: those of the table.
        outputs: of the original, for them.
    """
    found: list[tuple[Outputs, list[Array]]] = []
    for reach in (0, 1):
        mixed = rows.mix(reach)
        try:
            found.append(_select_usable(original.run(mixed), mixed, outputs))
        except ImportRejected:  # a position outside a table of the graph, for example
            continue
    if not found:
        return MixedRows(rows, [], {})
    names = set.intersection(*(set(part) for part, _ in found))
    joined = {name: np.concatenate([part[name] for part, _ in found]) for name in names}
    columns = list(map(np.concatenate, zip(*(cells for _, cells in found), strict=True)))
    return MixedRows(rows, columns, joined)


def _select_usable(
    found: Outputs, columns: list[Array], outputs: Outputs
) -> tuple[Outputs, list[Array]]:
    """Return outputs and columns without the rows for which the graph has no number.

    Outputs that have none for rows of the table, either, select nothing.
    """
    count = len(columns[0])
    tables = {
        name: array
        for name, array in found.items()
        if isinstance(array, np.ndarray) and array.ndim > 0 and len(array) == count
    }
    usable = np.ones(count, dtype=np.bool_)
    for name, array in tables.items():
        if array.dtype.kind == "f" and np.isfinite(outputs[name]).all():
            usable &= np.isfinite(array.reshape(count, -1)).all(axis=1)
    selected = {name: array[usable] for name, array in tables.items()}
    return selected, [cells[usable] for cells in columns]
