"""What an exported graph answers; the only file of training that imports ONNX Runtime."""

import os

from service.bundle.manifest import INPUT_NAME
from training.tabular import Float32s

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # must stand before the import to have an effect
import onnxruntime as ort


class Graph:
    """A loaded graph."""

    def __init__(self, model: bytes) -> None:
        self._session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])

    def predict(self, features: Float32s) -> Float32s:
        """``[rows, columns]`` in raw units to the answers, ``[rows, outputs]``."""
        answers: Float32s = self._session.run(None, {INPUT_NAME: features})[0]
        return answers
