"""Load the models for every peer, by ONNX Runtime with one thread."""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime


class Graph:
    """One model, which predicts for rows."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.input = self.session.get_inputs()[0]
        self.output = self.session.get_outputs()[0]
        self.takes_images = self.input.name == "image"

    def predict(self, rows: object) -> np.ndarray:
        """Predict for nested lists or arrays of numbers."""
        if self.takes_images:
            array = np.asarray(rows, np.uint8).reshape(-1, 28, 28, 1)
        else:
            array = np.asarray(rows, np.float32)
        return self.session.run(None, {self.input.name: array})[0]


def paths(models: Path) -> dict[str, Path]:
    """The file of each model."""
    return {home.name: home / "1" / "model.onnx" for home in sorted(models.iterdir())}


def options() -> argparse.Namespace:
    """The folder of the models and the port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    return parser.parse_args()
