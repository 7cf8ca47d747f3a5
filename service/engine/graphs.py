"""Runs captured once for each size of batch and replayed: CUDA graphs.

A captured graph reads and writes the very addresses that it was captured with, so each size has
tensors of its own on the GPU. A batch is filled up to the next size, and the answer cut back.
This was written from ONNX Runtime's documentation and tests; it has never run on a GPU.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.engine.dtypes import Array, Arrays, Rows

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

# A run option; ONNX Runtime keeps one graph by number, and -1 neither captures nor replays.
GRAPH_ID = "gpu_graph_id"
NO_GRAPH = "-1"

# While one thread captures, no other may ask the GPU for memory, whatever its model.
ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Size:
    """One size of batch: its tensors on the device, and how a run of it is asked for."""

    binding: Any
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    options: Any


class GraphRuns:
    """Runs of a graph whose tensors have rows along their first axis, and no other free axis.

    Args:
        session: of ONNX Runtime, opened with graphs switched on.
        rows: of the inputs, and of the outputs.
        make_tensor: a tensor on the device, of a shape and a numpy type.
        make_options: run options for a graph's number.
    """

    def __init__(
        self,
        session: Any,  # noqa: ANN401 - the library has no types
        rows: tuple[Rows, Rows],
        make_tensor: Callable[[list[int], type[Any]], Any],
        make_options: Callable[[str], Any],
    ) -> None:
        self._session = session
        self._inputs, self._outputs = rows
        self._make_tensor = make_tensor
        self._make_options = make_options
        self._sizes: dict[int, Size] = {}

    def run(self, arrays: Arrays) -> Arrays | None:
        """The answer, or None for a batch that has no size here.

        Raises:
            Exception: whatever ONNX Runtime raises.
        """
        rows = self._rows_of(arrays)
        size = next((size for size in SIZES if size >= rows), None)
        if not rows or size is None:
            return None
        with ONE_AT_A_TIME:
            bound = self._sizes.get(size) or self._bind(size)
            for tensor, array in zip(bound.inputs, arrays, strict=True):
                tensor.update_inplace(filled(array, size))
            self._session.run_with_iobinding(bound.binding, bound.options)
            return tuple(tensor.numpy()[:rows].copy() for tensor in bound.outputs)

    def _rows_of(self, arrays: Arrays) -> int:
        """The rows that all inputs have; 0 where they are not as the graph takes them."""
        known = [row for _, row in self._inputs]
        alike = all(
            array.shape[1:] == row.shape[1:] and array.dtype == row.dtype and array.ndim
            for array, row in zip(arrays, known, strict=True)
        )
        counts = {len(array) for array in arrays} if alike else set()
        return counts.pop() if len(counts) == 1 else 0

    def _bind(self, size: int) -> Size:
        binding = self._session.io_binding()
        inputs = [(name, self._tensor(row, size)) for name, row in self._inputs]
        outputs = [(name, self._tensor(row, size)) for name, row in self._outputs]
        for name, tensor in inputs:
            binding.bind_ortvalue_input(name, tensor)
        for name, tensor in outputs:
            binding.bind_ortvalue_output(name, tensor)
        bound = Size(
            binding,
            [tensor for _, tensor in inputs],
            [tensor for _, tensor in outputs],
            # Number 0 is the runtime's own.
            self._make_options(str(SIZES.index(size) + 1)),
        )
        self._sizes[size] = bound
        return bound

    def _tensor(self, row: Array, size: int) -> Any:  # noqa: ANN401 - as above
        return self._make_tensor([size, *row.shape[1:]], row.dtype.type)


def filled(array: Array, size: int) -> Array:
    """The rows, and copies of the last one behind them up to this many.

    Copies and not zeros, so that no row can fail that no caller sent.
    """
    missing = size - len(array)
    if not missing:
        return np.ascontiguousarray(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
