"""Run and clean ONNX files; the only training module that imports ONNX Runtime."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from service.bundle.runtime_messages import describe_runtime_error
from training.data.table import Float32s
from training.errors import ImportRejected

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # has an effect only before the import
import onnx
import onnxruntime as ort

_FATAL_ONLY = 4  # errors are raised, and their messages need not be printed as well

Array = npt.NDArray[Any]


def run_graph(model: bytes, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run any graph once and return every output by its name.

    Raise `ImportRejected` if ONNX Runtime rejects the graph or the rows.
    """
    return Graph(model).run(inputs)


class Graph:
    """A loaded graph.

    Raise `ImportRejected`, also when it runs, if ONNX Runtime rejects the graph or the rows.
    """

    def __init__(self, model: bytes) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        with _explained("load"):
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Return the named outputs, or every output, by its name."""
        names = self._outputs if outputs is None else list(outputs)
        with _explained("run"):
            found = self._session.run(names, dict(inputs))
        return dict(zip(names, found, strict=True))

    def predict(self, rows: Array | Mapping[str, Array]) -> Float32s:
        """Map rows in raw units, or images as uint8, to predictions ``[rows, outputs]``.

        ``rows`` are the only input, or all inputs by name.
        """
        inputs = rows if isinstance(rows, Mapping) else {self._input: rows}
        predictions: Float32s = self.run(inputs)[self._outputs[0]]
        return predictions

    def predict_in_batches(self, rows: Array | Mapping[str, Array], size: int) -> Float32s:
        """Map as `predict` does, in batches of at most ``size`` rows."""
        inputs = rows if isinstance(rows, Mapping) else {self._input: rows}
        starts = range(0, len(next(iter(inputs.values()))), size)
        return np.concatenate(
            [
                self.predict({name: one[start : start + size] for name, one in inputs.items()})
                for start in starts
            ]
        )


@contextmanager
def _explained(step: str) -> Iterator[None]:
    """Raise errors of ONNX Runtime as `ImportRejected`, with their remedy."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no narrower base
        reason = describe_runtime_error(str(error)).rstrip(".")
        raise ImportRejected(f"ONNX Runtime cannot {step} it: {reason}.") from None


def strip(model: onnx.ModelProto) -> None:
    """Remove stack traces, paths and descriptions that exporters leave in the file.

    Operator sets are sorted: scikit-learn's converter writes them in the order of a Python set,
    which differs in every process.
    """
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    del model.metadata_props[:]
    model.ClearField("doc_string")
    inner = model.graph
    inner.ClearField("doc_string")
    for part in (
        inner,
        *inner.node,
        *inner.input,
        *inner.output,
        *inner.value_info,
        *inner.initializer,
    ):
        del part.metadata_props[:]
        part.ClearField("doc_string")
