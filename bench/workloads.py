"""The workloads: models in a folder, rows, and the outputs of ONNX Runtime for them."""

import gzip
import io
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from service.bundle.features import Feature, NumberFeature, Range
from service.bundle.manifest import ClassesOutput
from tests.models import assembled, examples, manifest, publish

Array = npt.NDArray[Any]

MLP = "mlp784"
_SHIPPED = ("admission", "digits_conv", "digits_cnn")
_PIXELS = 784
_HIDDEN = 128
_LABELS = 10
_MANY_ROWS = 256
_DATA = Path(os.environ.get("ONWARD_DATA", "../shared/datasets"))
_DIGITS = "mnist/t10k-images-idx3-ubyte.gz"
_HEADER_BYTES = 16


@dataclass(frozen=True)
class Workload:
    """One of the requests A to D.

    Args:
        letter: the name of the request.
        model: the name of the model.
        rows: the model's input, ``[batch, …]``.
        columns: the names of the features; none if the input is an image.
        expected: the outputs of ONNX Runtime, ``[batch, outputs]``.
    """

    letter: str
    model: str
    rows: Array
    columns: Sequence[str]
    expected: Array


def make_models(folder: Path) -> None:
    """Create the models in a folder: three shipped ones and a dense network."""
    for name in _SHIPPED:
        shutil.copytree(Path("models") / name / "1", folder / name / "1")
    _publish_mlp(folder)


def workloads(models: Path) -> dict[str, Workload]:
    """The requests by letter; ``D*`` is D to the larger network."""
    random = np.random.default_rng(1)
    row = np.array([[45.0, 85.0]])
    # Within the training range: other values add warnings to native responses.
    many = random.uniform(35, 95, (_MANY_ROWS, 2)).round(4)
    pixels = random.uniform(0, 1, (1, _PIXELS)).round(3)
    digit = _digit().reshape(1, 28, 28, 1)
    exams = ("exam_1", "exam_2")
    requests: dict[str, tuple[str, Array, Sequence[str]]] = {
        "A": ("admission", row, exams),
        "B": (MLP, pixels, _names()),
        "C": ("admission", many, exams),
        "D": ("digits_conv", digit, ()),
        "D*": ("digits_cnn", digit, ()),
    }
    return {
        letter: Workload(letter, model, rows, columns, _predict(models, model, rows))
        for letter, (model, rows, columns) in requests.items()
    }


def png(rows: Array) -> bytes:
    """The first image as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(rows[0, :, :, 0]).save(file, "PNG")
    return file.getvalue()


def _predict(models: Path, model: str, rows: Array) -> Array:
    session = onnxruntime.InferenceSession(models / model / "1" / "model.onnx")
    (model_input,) = session.get_inputs()
    values = rows if rows.dtype == np.uint8 else rows.astype(np.float32)
    outputs: Array = session.run(None, {model_input.name: values})[0]
    return outputs


def _digit() -> Array:
    """A digit of MNIST's test set, or a ring of its size if the data set is missing."""
    path = _DATA / _DIGITS
    if path.exists():
        with gzip.open(path) as file:
            content = file.read(_HEADER_BYTES + _PIXELS)[_HEADER_BYTES:]
        return np.frombuffer(content, np.uint8)
    y, x = np.mgrid[:28, :28] - 13.5
    ring: Array = (255 * np.exp(-((np.hypot(x, y) - 7) ** 2) / 2)).astype(np.uint8)
    return ring


def _names() -> list[str]:
    return [f"p{pixel}" for pixel in range(_PIXELS)]


def _publish_mlp(folder: Path) -> None:
    """Publish a dense network with 784 numbers, 128 units, 10 labels and random weights."""
    limits = Range(minimum=0, maximum=1)
    features: list[Feature] = [
        NumberFeature(name=name, type="number", allowed=limits, trained=limits, example=0.5)
        for name in _names()
    ]
    labels = [str(label) for label in range(_LABELS)]
    model_manifest = manifest(
        MLP, features, ClassesOutput(kind="classes", name="digit", labels=labels)
    )
    model = _mlp()
    rows = np.random.default_rng(2).uniform(0, 1, (2, _PIXELS)).round(3)
    session = onnxruntime.InferenceSession(model)
    outputs = session.run(None, {"features": rows.astype(np.float32)})[0]
    publish(folder, model_manifest, model, examples(rows.tolist(), outputs, model_manifest))


def _mlp() -> bytes:
    random = np.random.default_rng(3)
    sizes = {"w1": (_PIXELS, _HIDDEN), "b1": (_HIDDEN,), "w2": (_HIDDEN, _LABELS), "b2": (_LABELS,)}
    weights = [
        numpy_helper.from_array(random.normal(0, 0.05, size).astype(np.float32), name)
        for name, size in sizes.items()
    ]
    nodes = [
        helper.make_node("Gemm", ["features", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    model_input = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", _PIXELS])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", _LABELS])
    return assembled(nodes, [model_input], [output], weights)
