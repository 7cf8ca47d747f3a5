"""Small models: graphs created by the onnx helper, and bundles with them."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, checker, helper, numpy_helper

from service.bundle.features import (
    BooleanFeature,
    CategoryFeature,
    Feature,
    FeaturesInput,
    IntegerFeature,
    NumberFeature,
    Range,
)
from service.bundle.manifest import (
    ClassesOutput,
    Examples,
    Manifest,
    Tensor,
    Tolerance,
    ValueOutput,
    output_name,
)
from service.bundle.store import EXAMPLES, MODEL, to_json, write_bundle
from service.engine.model import ServedModel
from service.engine.registry import Registry

# probability = sigmoid(0.1 exam_1 + 0.2 exam_2 - 20)
ADMISSION_WEIGHTS = [[0.1], [0.2]]
ADMISSION_BIAS = [-20.0]


def graph(
    weights: list[list[float]], bias: list[float], output: str, activation: str | None = None
) -> bytes:
    """A graph ``output = activation(features @ weights + bias)`` for float32 batches."""
    columns, width = np.shape(weights)
    initializers = [
        numpy_helper.from_array(np.array(weights, np.float32), "weights"),
        numpy_helper.from_array(np.array(bias, np.float32), "bias"),
    ]
    last = "score" if activation else output
    nodes = [helper.make_node("Gemm", ["features", "weights", "bias"], [last])]
    if activation:
        nodes.append(helper.make_node(activation, [last], [output]))
    return assembled(
        nodes,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", columns])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", width])],
        initializers,
    )


def sum_and_difference() -> bytes:
    """A graph of the sum and the difference of two int32 inputs ``[1, 16]``."""
    shape = [1, 16]
    names = ("INPUT0", "INPUT1"), ("OUTPUT0", "OUTPUT1")
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name in group]
        for group in names
    )
    nodes = [
        helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
        helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
    ]
    return assembled(nodes, inputs, outputs, [])


def failing_graph() -> bytes:
    """A graph that can be loaded, but fails unless a batch fills rows of seven values."""
    constants = [
        numpy_helper.from_array(np.array([-1, 7], np.int64), "sevens"),
        numpy_helper.from_array(np.array([1], np.int64), "columns"),
    ]
    nodes = [
        helper.make_node("Reshape", ["features", "sevens"], ["reshaped"]),
        helper.make_node("ReduceSum", ["reshaped", "columns"], ["probability"]),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 2])]
    outputs = [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1])]
    return assembled(nodes, inputs, outputs, constants)


def number(name: str, **options: Any) -> NumberFeature:  # noqa: ANN401 - the class checks them
    """A number feature with an example."""
    return NumberFeature(name=name, type="number", **({"example": 1.0} | options))


def admission_features() -> list[Feature]:
    """Two exam scores."""
    points = {"unit": "points", "allowed": Range(minimum=0, maximum=100)}
    return [number("exam_1", example=61, **points), number("exam_2", example=74, **points)]


def mixed_features() -> list[Feature]:
    """A feature of every kind; the first and the last one are optional."""
    return [
        number("size", unit="m²", optional=True),
        IntegerFeature(name="rooms", type="integer", example=3, allowed=Range(minimum=1)),
        BooleanFeature(name="garden", type="boolean", example=True),
        CategoryFeature(
            name="quarter", type="category", categories=["north", "south"], example="north"
        ),
        CategoryFeature(
            name="color",
            type="category",
            categories=["red", "green"],
            example="red",
            unseen="other",
            optional=True,
        ),
    ]


def manifest(name: str, features: list[Feature], output: ValueOutput | ClassesOutput) -> Manifest:
    """A manifest without digests; publishing adds them."""
    tasks = {"value": "regression", "probability": "binary", "probabilities": "multiclass"}
    return Manifest.model_validate(
        {
            "format_version": 1,
            "name": name,
            "title": name.capitalize(),
            "description": f"The {name} of the tests.",
            "task": tasks[output_name(output)],
            "input": FeaturesInput(kind="features", features=features),
            "output": output,
            "files": {},
        }
    )


def examples(
    rows: list[list[float]],
    outputs: npt.ArrayLike,
    model_manifest: Manifest,
    tolerance: float = 1e-5,
) -> Examples:
    """Rows with their expected outputs."""
    return Examples(
        input=_tensor("features", np.array(rows)),
        output=_tensor(output_name(model_manifest.output), np.array(outputs)),
        tolerance=Tolerance(absolute=tolerance, relative=tolerance),
    )


def publish(models: Path, model_manifest: Manifest, model: bytes, self_test: Examples) -> Path:
    """Write a bundle with these parts."""
    return write_bundle(models, model_manifest, {MODEL: model, EXAMPLES: to_json(self_test)})


def sigmoid(score: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The logistic function in float64."""
    return 1 / (1 + np.exp(-np.asarray(score, np.float64)))


def admission_probability(exam_1: float, exam_2: float) -> float:
    """The output of the admission bundle, computed by numpy."""
    return float(sigmoid(0.1 * exam_1 + 0.2 * exam_2 - 20.0))


def publish_admission(models: Path, name: str = "admission") -> Path:
    """Publish a binary classifier of two exam scores."""
    output = ClassesOutput(kind="classes", name="decision", labels=["not admitted", "admitted"])
    model_manifest = manifest(name, admission_features(), output)
    rows = [[61.0, 74.0], [30.0, 40.0], [100.0, 100.0]]
    outputs = [[admission_probability(*row)] for row in rows]
    model = graph(ADMISSION_WEIGHTS, ADMISSION_BIAS, "probability", "Sigmoid")
    return publish(models, model_manifest, model, examples(rows, outputs, model_manifest))


def publish_price(models: Path, name: str = "price", slope: float = 2.0) -> Path:
    """Publish ``value = slope * size`` euros."""
    model_manifest = manifest(
        name, [number("size", unit="m²")], ValueOutput(kind="value", name="price", unit="euros")
    )
    rows = [[1.0], [2.5]]
    model = graph([[slope]], [0.0], "value")
    return publish(
        models, model_manifest, model, examples(rows, slope * np.array(rows), model_manifest)
    )


def publish_mixed(models: Path, name: str = "mixed") -> Path:
    """Publish ``value = rooms + 10 garden + 100 quarter``, 1000 more without a size."""
    model_manifest = manifest(name, mixed_features(), ValueOutput(kind="value", name="points"))
    rows = [[1.0, 3.0, 1.0, 0.0, 0.0], [2.0, 1.0, 0.0, 1.0, 1.0]]
    outputs = [[13.0], [101.0]]
    return publish(models, model_manifest, _mixed_graph(), examples(rows, outputs, model_manifest))


def _mixed_graph() -> bytes:
    weights = [
        numpy_helper.from_array(np.array([[w] for w in column], np.float32), name)
        for name, column in (
            ("weights", [0, 1, 10, 100, 0]),
            ("indicator_weights", [1000, 0, 0, 0, 0]),
        )
    ]
    zero = numpy_helper.from_array(np.array(0, np.float32), "zero")
    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["filled"]),
        helper.make_node("Cast", ["missing"], ["indicator"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["filled", "weights"], ["sum"]),
        helper.make_node("MatMul", ["indicator", "indicator_weights"], ["offset"]),
        helper.make_node("Add", ["sum", "offset"], ["value"]),
    ]
    return assembled(
        nodes,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 5])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])],
        [*weights, zero],
    )


def publish_iris(models: Path, name: str = "iris") -> Path:
    """Publish a classifier of three labels: the softmax of three features."""
    labels = ["setosa", "versicolor", "virginica"]
    output = ClassesOutput(kind="classes", name="species", labels=labels)
    model_manifest = manifest(name, [number(letter) for letter in "abc"], output)
    rows = [[1.0, 2.0, 3.0], [3.0, 0.0, 0.0]]
    exponentials = np.exp(np.array(rows))
    outputs = exponentials / exponentials.sum(axis=1, keepdims=True)
    model = graph(np.eye(3).tolist(), [0.0] * 3, "probabilities", "Softmax")
    return publish(models, model_manifest, model, examples(rows, outputs, model_manifest))


def publish_bare(models: Path, name: str, model: bytes) -> Path:
    """Publish version 1 of a model without a manifest."""
    folder = models / name / "1"
    folder.mkdir(parents=True)
    (folder / MODEL).write_bytes(model)
    return folder


def _tensor(name: str, values: npt.NDArray[Any]) -> Tensor:
    data = [float(value) for value in values.ravel()]
    return Tensor(name=name, shape=list(values.shape), data=data)


def assembled(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any]) -> bytes:
    """The content of a ``model.onnx`` with these parts, which are checked."""
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, outputs, weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def counting_loop() -> bytes:
    """A graph ``count = steps`` that counts in a loop, so its time depends on its input."""
    scalar = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["condition"], ["continue"]),
            helper.make_node("Add", ["current", "one"], ["next"]),
        ],
        "step",
        [
            scalar("iteration", TensorProto.INT64, []),
            scalar("condition", TensorProto.BOOL, []),
            scalar("current", TensorProto.INT64, [1]),
        ],
        [scalar("continue", TensorProto.BOOL, []), scalar("next", TensorProto.INT64, [1])],
        [numpy_helper.from_array(np.array([1], np.int64), "one")],
    )
    weights = [
        numpy_helper.from_array(np.ones((), np.bool_), "true"),
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
    ]
    return assembled(
        [helper.make_node("Loop", ["steps", "true", "zero"], ["count"], body=body)],
        [scalar("steps", TensorProto.INT64, [1])],
        [scalar("count", TensorProto.INT64, [1])],
        weights,
    )


def in_memory(registry: Registry, name: str, version: str | None = None) -> ServedModel:
    """The model that serves.

    Raises:
        OnwardError: no version serves.
    """
    model = registry.entry(name, version, serving=True).model
    assert model is not None
    return model
