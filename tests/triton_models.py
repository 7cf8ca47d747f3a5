"""The example models of Triton's client project, created by the onnx helper."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from tests.models import publish_bare

IMAGE = 8  # pixels per side
LABELS = ("red", "green", "blue")


def sum_and_difference(
    element: int = TensorProto.INT32, rows: int | str = 1, columns: int = 16
) -> bytes:
    """The sum and difference of two inputs ``[rows, columns]``; strings contain numbers."""
    is_text = element == TensorProto.STRING
    names = ["INPUT0", "INPUT1"]
    nodes = []
    if is_text:
        nodes = [
            helper.make_node("Cast", [n], [f"{n}_number"], to=TensorProto.INT32) for n in names
        ]
        names = [f"{name}_number" for name in names]
    suffix = "_number" if is_text else ""
    nodes.append(helper.make_node("Add", names, [f"OUTPUT0{suffix}"]))
    nodes.append(helper.make_node("Sub", names, [f"OUTPUT1{suffix}"]))
    if is_text:
        nodes += [
            helper.make_node("Cast", [f"{name}_number"], [name], to=TensorProto.STRING)
            for name in ("OUTPUT0", "OUTPUT1")
        ]
    inputs, outputs = (
        [helper.make_tensor_value_info(f"{kind}{n}", element, [rows, columns]) for n in (0, 1)]
        for kind in ("INPUT", "OUTPUT")
    )
    return _serialized(nodes, inputs, outputs)


def identity(element: int, shape: list[int | str]) -> bytes:
    """A graph whose ``OUTPUT0`` is ``INPUT0``."""
    inputs = [helper.make_tensor_value_info("INPUT0", element, shape)]
    outputs = [helper.make_tensor_value_info("OUTPUT0", element, shape)]
    return _serialized([helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])], inputs, outputs)


def image_classifier(rows: int | str = "batch") -> bytes:
    """The mean of each color of images ``[rows, 3, IMAGE, IMAGE]``, as three scores."""
    axes = numpy_helper.from_array(np.array([2, 3], np.int64), "axes")
    node = helper.make_node("ReduceMean", ["data", "axes"], ["scores"], keepdims=0)
    shape = [rows, 3, IMAGE, IMAGE]
    inputs = [helper.make_tensor_value_info("data", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [rows, 3])]
    return _serialized([node], inputs, outputs, [axes])


def publish_examples(models: Path) -> None:
    """Publish the example models with the names that the example programs use."""
    publish_bare(models, "simple", sum_and_difference())
    publish_bare(models, "simple_int8", sum_and_difference(TensorProto.INT8))
    publish_bare(models, "simple_string", sum_and_difference(TensorProto.STRING))
    publish_bare(models, "simple_batch", sum_and_difference(rows="batch"))
    publish_bare(models, "simple_identity", identity(TensorProto.STRING, ["batch", "strings"]))
    publish_bare(models, "custom_identity_int32", identity(TensorProto.INT32, ["batch", "values"]))
    publish_images(models)


def publish_images(models: Path) -> None:
    """Publish an image classifier with Triton's configuration and labels."""
    home = publish_bare(models, "colors", image_classifier()).parent
    (home / "config.pbtxt").write_text(
        'name: "colors"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 8\n'
        'output [\n  {\n    name: "scores"\n    label_filename: "color_labels.txt"\n  }\n]\n'
    )
    (home / "color_labels.txt").write_text("\n".join(LABELS) + "\n")


def _serialized(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    weights: list[Any] | None = None,
) -> bytes:
    model = helper.make_model(
        helper.make_graph(nodes, "example", inputs, outputs, weights or []),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content
