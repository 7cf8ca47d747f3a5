"""Why the bundle predicts something else than the original, with the remedy."""

from dataclasses import dataclass

import numpy as np

from training.export.output_mapping import OutputMapping
from training.importing.original import Original
from training.importing.rows import Datatype, Rows
from training.onnx_files import Array


@dataclass(frozen=True)
class Investigation:
    """What is known when a row of the bundle differs from the original."""

    original: Original
    rows: Rows
    mapping: OutputMapping
    datatype: Datatype

    def explain(self, row: int) -> str:
        """Return the cause of a difference in a row, and the remedy.

        The original runs on the row again, each time with one column as the bundle decodes it.
        """
        own = [column[row : row + 1] for column in self.rows.own]
        expected = self._predict(own)
        effects: dict[int, float] = {}
        for k in range(len(own)):
            decoded = self.rows.decode(k, self.datatype)[row : row + 1]
            if not _are_equal(own[k], decoded):
                found = self._predict([*own[:k], decoded, *own[k + 1 :]])
                effects[k] = float(np.abs(found - expected).max())
        # NaN, which is no number, is the largest effect.
        column = max(effects, key=lambda k: np.nan_to_num(effects[k], nan=np.inf), default=None)
        if column is None:
            return (
                "The rewritten graph computes something else than the original with the same "
                "inputs; please report this with the file."
            )
        return self._explain_column(row, column)

    def _predict(self, columns: list[Array]) -> Array:
        outputs = self.original.run(columns)
        label = self.mapping.label_output
        found = self.mapping.apply(outputs).astype(np.float64)
        if label is None or outputs[label].dtype.kind not in "iufb":
            return found
        return np.column_stack([found, outputs[label].reshape(len(found), -1)])

    def _explain_column(self, row: int, column: int) -> str:
        feature = self.rows.columns[column].feature
        own, cell = self.rows.own[column][row], self.rows.cell(row, column)
        decoded = self.rows.decode(column, self.datatype)[row]
        named = f"Column {feature.name!r}: the model gets {own!r} for the cell {cell!r}"
        if not isinstance(own, str):
            return (
                f"Column {feature.name!r}: the model gets {float(own)!r}, which the bundle rounds "
                f"to {float(decoded)!r} in 32 bits."
            )
        if decoded and decoded == own.strip():
            return (
                f"{named}, and the service reads {decoded!r}, without the blanks around it. Remove "
                f"the blanks from the cell, or list {own!r} among the categories in --card."
            )
        if np.isnan(self.rows.encoded[row, column]):
            return (
                f"{named}, which the service reads as a missing value, for which the graph gets an "
                f"empty word. List {own!r} among the categories in --card, or leave out the row."
            )
        return (
            f"{named}; this word is none of the categories, so the bundle gives the graph an empty "
            f"word, for which it predicts something else. List {own!r} among the categories in "
            "--card, or use --unseen reject and leave out the row."
        )


def explain_batches(original: Original) -> str:
    """Return why predictions may depend on the other rows of a batch, and the remedy."""
    operators = original.list_operators()
    if "If" in operators or "Loop" in operators:
        return (
            "Its If or Loop decides once for the whole batch. Export it without branches that "
            "depend on the values of rows (Where chooses row by row)."
        )
    if "DynamicQuantizeLinear" in operators:
        return (
            "It is quantized dynamically: DynamicQuantizeLinear takes the scale from all rows of a "
            "batch. Quantize it statically (quantize_static), or import the model that was not "
            "quantized."
        )
    return (
        "The graph combines the rows of a batch. Export it in evaluation mode, and with sums, "
        "means and normalizations over the columns (axis 1) instead of the rows."
    )


def _are_equal(own: Array, decoded: Array) -> bool:
    if own.dtype == object:
        return bool((own == decoded).all())
    return bool(np.array_equal(own, decoded, equal_nan=True))
