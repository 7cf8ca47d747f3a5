"""Small graphs like those of other tools, without a manifest."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from tests.models import publish_bare

Shape = Sequence[int | str]
Tensors = Mapping[str, tuple[int, Shape]]

FLOAT, STRING = TensorProto.FLOAT, TensorProto.STRING


def publish_graph(
    models: Path, name: str, nodes: list[NodeProto], inputs: Tensors, outputs: Tensors
) -> None:
    """Save a graph of these nodes as version 1 of a bare model; a named axis has any length."""
    graph = helper.make_graph(nodes, name, _declared(inputs), _declared(outputs))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    publish_bare(models, name, model.SerializeToString())


def publish_half_plus(models: Path, name: str, addend: float, shape: Shape) -> None:
    """Save ``y = x / 2 + addend``, like TensorFlow Serving's example models."""
    nodes = [
        helper.make_node("Constant", [], ["half"], value_float=0.5),
        helper.make_node("Constant", [], ["addend"], value_float=float(addend)),
        helper.make_node("Mul", ["x", "half"], ["halved"]),
        helper.make_node("Add", ["halved", "addend"], ["y"]),
    ]
    publish_graph(models, name, nodes, {"x": (FLOAT, shape)}, {"y": (FLOAT, shape)})


def publish_identity(models: Path, name: str, tensors: Tensors) -> None:
    """Save a graph that copies each input ``x`` to the output ``x_out``."""
    nodes = [helper.make_node("Identity", [key], [f"{key}_out"]) for key in tensors]
    publish_graph(
        models, name, nodes, tensors, {f"{key}_out": kind for key, kind in tensors.items()}
    )


def _declared(tensors: Tensors) -> list[ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in tensors.items()
    ]
