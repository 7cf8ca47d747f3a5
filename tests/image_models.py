"""Small image models: bundles whose outputs are their pixels, and graphs of other programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from service.bundle.manifest import (
    ClassesOutput,
    Examples,
    ImageInput,
    Manifest,
    Tensor,
    Tolerance,
    list_inputs,
)
from tests.images import Pixels
from tests.models import assembled, publish


def publish_mirror(models: Path, rule: ImageInput, name: str = "mirror") -> Path:
    """Publish a model whose probabilities are its pixels divided by 255."""
    count = int(np.prod(list_inputs(rule)[0].shape))
    model_manifest = Manifest(
        format_version=1,
        name=name,
        title=name.capitalize(),
        description=f"The {name} of the tests.",
        task="multiclass",
        input=rule,
        output=ClassesOutput(
            kind="classes", name="number", labels=[str(pixel) for pixel in range(count)]
        ),
        files={},
    )
    pixels = np.arange(count) % 256
    self_test = Examples(
        input=Tensor(
            name="image",
            datatype="UINT8",
            shape=[1, *list_inputs(rule)[0].shape],
            data=pixels.astype(float).tolist(),
        ),
        output=Tensor(name="probabilities", shape=[1, count], data=(pixels / 255).tolist()),
        tolerance=Tolerance(absolute=1e-6, relative=1e-6),
    )
    return publish(models, model_manifest, _mirror(rule, count), self_test)


def seen_by(response: dict[str, Any], rule: ImageInput) -> Pixels:
    """The pixels in a response of the native protocol."""
    return pixels_of(list(response["probabilities"].values()), rule)


def pixels_of(shares: npt.ArrayLike, rule: ImageInput) -> Pixels:
    """The pixels of a model's probabilities."""
    pixels: Pixels = np.rint(np.array(shares) * 255).astype(np.uint8)
    return pixels.reshape(list_inputs(rule)[0].shape)


def _mirror(rule: ImageInput, count: int) -> bytes:
    constants = [
        numpy_helper.from_array(np.array([-1, count], np.int64), "flat"),
        numpy_helper.from_array(np.array(255, np.float32), "white"),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["numbers", "flat"], ["row"]),
        helper.make_node("Div", ["row", "white"], ["probabilities"]),
    ]
    shape: list[int | str | None] = ["batch", *list_inputs(rule)[0].shape]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", count])]
    return assembled(nodes, inputs, outputs, constants)


def pixel_graph(  # noqa: PLR0913 - each is a property of a graph
    shape: Sequence[int | str],
    element: int = TensorProto.FLOAT,
    *,
    classes: int = 3,
    steps: Sequence[tuple[str, npt.ArrayLike]] = (),
    activation: str | None = "Softmax",
    white: float = 1.0,
    opset: int = 17,
) -> bytes:
    """A linear model of all pixels, from the input ``x`` to the output ``y``.

    Args:
        shape: of the input, with the batch.
        element: the type of the input.
        classes: the columns of the output.
        steps: operators with a constant, which the graph applies first.
        activation: the last operator.
        white: the value of a white pixel after the steps, so that scores differ a little.
        opset: the version of the operators.
    """
    width = int(np.prod([side for side in shape[1:] if isinstance(side, int)]))
    weights = np.random.default_rng(3).normal(0, 3 / white / width**0.5, (width, classes))
    constants = [
        numpy_helper.from_array(np.array([-1, width], np.int64), "flat"),
        numpy_helper.from_array(weights.astype(np.float32), "weights"),
    ]
    nodes = [helper.make_node("Cast", ["x"], ["number_0"], to=TensorProto.FLOAT)]
    for position, (operator, value) in enumerate(steps):
        constants.append(numpy_helper.from_array(np.array(value, np.float32), f"step_{position}"))
        operands = [f"number_{position}", f"step_{position}"]
        nodes.append(helper.make_node(operator, operands, [f"number_{position + 1}"]))
    nodes += [
        helper.make_node("Reshape", [f"number_{len(steps)}", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["score"]),
        helper.make_node(activation or "Identity", ["score"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "pixels",
        [helper.make_tensor_value_info("x", element, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], classes])],
        constants,
    )
    opsets = [helper.make_opsetid("", opset)]
    content: bytes = helper.make_model(
        graph, opset_imports=opsets, ir_version=8
    ).SerializeToString()
    return content


def run_directly(model: bytes | Path, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The first output of a graph with one input, by ONNX Runtime itself."""
    content = model.read_bytes() if isinstance(model, Path) else model
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found: npt.NDArray[Any] = session.run(None, {session.get_inputs()[0].name: values})[0]
    return found
