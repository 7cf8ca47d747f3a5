"""The original model, run in its own input types."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from training.errors import ImportRejected
from training.export.foreign_graph import ForeignGraph
from training.onnx_files import Array, Graph

Outputs = dict[str, Array]


class Original:
    """The original model: takes each column in the type of its input, and returns all outputs."""

    def __init__(self, foreign: ForeignGraph) -> None:
        self.foreign = foreign

    @cached_property
    def _graph(self) -> Graph:
        return Graph(self.foreign.model.SerializeToString())

    def run(self, columns: Sequence[Array]) -> Outputs:
        """Return every output for ``[rows]`` of each column.

        Raise `ImportRejected` if ONNX Runtime cannot run the graph on these rows.
        """
        return self._graph.run(self._shape(columns))

    def run_in_batches(
        self, columns: Sequence[Array], size: int, outputs: Sequence[str]
    ) -> Outputs:
        """Return these outputs for all rows, in batches of at most ``size`` rows."""
        inputs, parts = self._shape(columns), []
        for start in range(0, len(columns[0]), size):
            batch = {name: cells[start : start + size] for name, cells in inputs.items()}
            parts.append(self._graph.run(batch, outputs))
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs}

    def _shape(self, columns: Sequence[Array]) -> dict[str, Array]:
        """Return the inputs of the graph by their names."""
        inputs, start = {}, 0
        for known in self.foreign.inputs:
            end = start + (known.width or len(columns))
            inputs[known.name] = known.shape(np.stack(columns[start:end], axis=1))
            start = end
        return inputs

    def run_first(self, columns: Sequence[Array]) -> Outputs:
        """Return every output for all rows at once.

        Raise `ImportRejected` if the graph has a fixed number of rows, or fails on a row.
        """
        try:
            return self.run(columns)
        except ImportRejected as error:
            if len(columns[0]) > 1 and self._runs([column[:1] for column in columns]):
                rows = f"all {len(columns[0])} rows at once"
                raise ImportRejected(f"it predicts one row, but not {rows}: {error}") from None
            raise

    def _runs(self, columns: Sequence[Array]) -> bool:
        try:
            self.run(columns)
        except ImportRejected:
            return False
        return True

    def list_operators(self) -> set[str]:
        """Return the types of the nodes, without those of subgraphs."""
        return {node.op_type for node in self.foreign.model.graph.node}
