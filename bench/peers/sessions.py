"""The models as every peer opens them: ONNX Runtime, one thread."""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime


class Graph:
    """One model: rows in, rows out."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.taken = self.session.get_inputs()[0]
        self.given = self.session.get_outputs()[0]
        self.takes_images = self.taken.name == "image"

    def predict(self, rows: object) -> np.ndarray:
        """Nested lists, or arrays, of numbers to the output's rows."""
        if self.takes_images:
            array = np.asarray(rows, np.uint8).reshape(-1, 28, 28, 1)
        else:
            array = np.asarray(rows, np.float32)
        return self.session.run(None, {self.taken.name: array})[0]


def paths(models: Path) -> dict[str, Path]:
    """Each model's file."""
    return {home.name: home / "1" / "model.onnx" for home in sorted(models.iterdir())}


def options() -> argparse.Namespace:
    """The models' folder and the port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    return parser.parse_args()
