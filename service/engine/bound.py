"""Small runs with inputs and outputs bound once, which spares a third of what a short run takes.

ONNX Runtime's ordinary call looks up each tensor by its name and makes the output anew. Bound to
fixed buffers it does neither; what is left is to copy some hundred bytes in and out.
"""

import threading
from typing import Any

import numpy as np

from service.engine.dtypes import Array, Arrays

_MOST_ROWS = 64
# A larger batch takes so long that what is spared cannot be seen.
_MOST_BYTES = 256 * 1024


class BoundRuns:
    """Runs of a graph of one tensor in and one out, whose rows lie along the first axis.

    Args:
        session: of ONNX Runtime, on the CPU.
        taken: the input's name, and an array without rows of its shape and datatype.
        made: the same of the output.
    """

    def __init__(self, session: Any, taken: tuple[str, Array], made: tuple[str, Array]) -> None:  # noqa: ANN401 - the library has no types
        self._session = session
        (given_name, row), (made_name, answer) = taken, made
        self._names = given_name, made_name
        size = max(row.itemsize * int(np.prod(row.shape[1:])), 1)
        rows = min(_MOST_ROWS, _MOST_BYTES // size)
        self._given = np.zeros((rows, *row.shape[1:]), row.dtype)
        self._answered = np.zeros((rows, *answer.shape[1:]), answer.dtype)
        self._dtype = row.dtype
        # By an input's shape: the binding, and the parts of the buffers that it is bound to.
        self._bindings: dict[tuple[int, ...], tuple[Any, Array, Array]] = {}
        self._free = threading.Lock()

    def run(self, arrays: Arrays, options: Any = None) -> Arrays | None:  # noqa: ANN401 - as above
        """The answer, the caller's own to keep; None where the ordinary call is to be used.

        Args:
            arrays: the one input.
            options: of the run, by which another thread may end it.

        Of a run that fails the ordinary call tells why, or succeeds, where a graph answers another
        number of rows than it was given.
        """
        (given,) = arrays
        bound = self._bindings.get(given.shape)
        if bound is None:
            bound = self._bind(given.shape)
        # Another thread's run is under way only where a large request or a shadow computes.
        if bound is None or given.dtype != self._dtype or not self._free.acquire(blocking=False):
            return None
        try:
            binding, into, out = bound
            into[...] = given
            self._session.run_with_iobinding(binding, options)
            return (out.copy(),)
        except Exception:  # noqa: BLE001 - ONNX Runtime's errors share no narrower base
            return None
        finally:
            self._free.release()

    def _bind(self, shape: tuple[int, ...]) -> tuple[Any, Array, Array] | None:
        """Bind the first rows of both buffers; None for shapes that the buffers do not hold."""
        if shape[1:] != self._given.shape[1:] or not 0 < shape[0] <= len(self._given):
            return None
        into, out = self._given[: shape[0]], self._answered[: shape[0]]
        binding = self._session.io_binding()
        taken, made = self._names
        binding.bind_input(taken, "cpu", 0, into.dtype.type, list(into.shape), into.ctypes.data)
        binding.bind_output(made, "cpu", 0, out.dtype.type, list(out.shape), out.ctypes.data)
        return self._bindings.setdefault(shape, (binding, into, out))
