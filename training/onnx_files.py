"""Run and clean ONNX files; the only training module that imports ONNX Runtime."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from training.data.table import Float32s
from training.errors import ImportRejected

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # has an effect only before the import
import onnx
import onnxruntime as ort

_ERRORS_ONLY = 3

Array = npt.NDArray[Any]


def run_graph(model: bytes, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run any graph once and return every output by its name.

    Raise `ImportRejected` if ONNX Runtime rejects the graph or the rows.
    """
    try:
        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no narrower base
        reason = str(error).partition("\n")[0]
        raise ImportRejected(f"ONNX Runtime cannot run it: {reason}") from None


class Graph:
    """A loaded graph."""

    def __init__(self, model: bytes) -> None:
        self._session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def predict(self, rows: Array) -> Float32s:
        """Map rows in raw units, or images as uint8, to predictions ``[rows, outputs]``."""
        predictions: Float32s = self._session.run(None, {self._input: rows})[0]
        return predictions

    def predict_in_batches(self, rows: Array, size: int) -> Float32s:
        """Map as `predict` does, in batches of at most ``size`` rows."""
        starts = range(0, len(rows), size)
        return np.concatenate([self.predict(rows[start : start + size]) for start in starts])


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
