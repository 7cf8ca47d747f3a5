"""Small models with known explanations: products of features, and weighted sums of pixels."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from service.bundle.manifest import (
    ClassesOutput,
    Examples,
    ImageInput,
    Manifest,
    Tensor,
    Tolerance,
    ValueOutput,
)
from tests.models import assembled, examples, manifest, number, publish, sigmoid

Floats = npt.NDArray[np.float64]


def publish_quadratic(models: Path, matrix: list[list[float]], reference: list[float]) -> Path:
    """Publish ``value = x @ matrix @ x``; the example of the manifest is the reference row."""
    features = [number(f"x{k}", example=example) for k, example in enumerate(reference)]
    model_manifest = manifest("quadratic", list(features), ValueOutput(kind="value", name="value"))
    columns = len(matrix)
    self_test = examples([[1.0] * columns], [[float(np.sum(matrix))]], model_manifest)
    return publish(models, model_manifest, _quadratic(matrix), self_test)


def ink_probability(weights: Floats, image: npt.NDArray[np.uint8]) -> float:
    """The output of the ink model for a gray image, computed by numpy."""
    return float(sigmoid((weights * image[..., 0] / 255).sum() - 2))


def publish_ink(models: Path, weights: Floats) -> Path:
    """Publish ``probability = sigmoid(sum of weights * gray / 255 - 2)`` of gray images.

    Args:
        models: the folder.
        weights: ``[height, width]``, the weight of each pixel.
    """
    height, width = weights.shape
    output = ClassesOutput(kind="classes", name="ink", labels=["little", "much"])
    model_input = ImageInput(
        kind="image", height=height, width=width, channels=1, fit="stretch", decoder="test"
    )
    model_manifest = Manifest(
        format_version=1,
        name="ink",
        title="Ink",
        task="binary",
        input=model_input,
        output=output,
        files={},
    )
    blank = np.zeros((1, height, width, 1))
    self_test = Examples(
        input=Tensor(
            name="image", datatype="UINT8", shape=list(blank.shape), data=blank.ravel().tolist()
        ),
        output=Tensor(name="probability", shape=[1, 1], data=[float(sigmoid(-2))]),
        tolerance=Tolerance(absolute=1e-5, relative=1e-5),
    )
    return publish(models, model_manifest, _ink(weights), self_test)


def _quadratic(matrix: list[list[float]]) -> bytes:
    constants = [
        numpy_helper.from_array(np.array(matrix, np.float32), "matrix"),
        numpy_helper.from_array(np.array([1], np.int64), "columns"),
    ]
    nodes = [
        helper.make_node("MatMul", ["features", "matrix"], ["turned"]),
        helper.make_node("Mul", ["turned", "features"], ["products"]),
        helper.make_node("ReduceSum", ["products", "columns"], ["value"]),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", len(matrix)])]
    outputs = [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])]
    return assembled(nodes, inputs, outputs, constants)


def _ink(weights: Floats) -> bytes:
    height, width = weights.shape
    scaled = (weights / 255).astype(np.float32)
    constants = [
        numpy_helper.from_array(scaled.reshape(height, width, 1), "weights"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
        numpy_helper.from_array(np.array(-2, np.float32), "bias"),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["gray"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["gray", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axes"], ["ink"], keepdims=0),
        helper.make_node("Add", ["ink", "bias"], ["score"]),
        helper.make_node("Sigmoid", ["score"], ["probability"]),
    ]
    shape = ["batch", height, width, 1]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)]
    outputs = [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", 1])]
    return assembled(nodes, inputs, outputs, constants)
