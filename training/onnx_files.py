"""What an exported graph answers; the only file of training that imports ONNX Runtime."""

import os
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from training.data.table import Float32s
from training.errors import ImportRefused

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # must stand before the import to have an effect
import onnx
import onnxruntime as ort

_ERRORS_ONLY = 3

Array = npt.NDArray[Any]


def run_graph(model: bytes, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run any graph once and give every output by its name.

    Raises:
        ImportRefused: ONNX Runtime refuses the graph or the rows.
    """
    try:
        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no narrower base
        reason = str(error).partition("\n")[0]
        raise ImportRefused(f"ONNX Runtime cannot run it: {reason}") from None


class Graph:
    """A loaded graph."""

    def __init__(self, model: bytes) -> None:
        self._session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])

        self._input = self._session.get_inputs()[0].name

    def predict(self, rows: Array) -> Float32s:
        """Rows in raw units, or pictures as bytes, to the answers, ``[rows, outputs]``."""
        answers: Float32s = self._session.run(None, {self._input: rows})[0]
        return answers


def strip(model: onnx.ModelProto) -> None:
    """Remove stack traces, paths and descriptions that exporters leave in the file.

    Operator sets are put in order: scikit-learn's converter writes them as a Python set has them,
    which is another order in every process.
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
