"""Small graphs of other programs, and what ONNX Runtime itself returns for them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from training.export.foreign_graph import ForeignGraph
from training.export.output_mapping import OutputMapping
from training.export.wrapping import Datatype, wrap
from training.onnx_files import Array
from training.recipe.table import Feature

DOUBLE = TensorProto.DOUBLE
FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
STRING = TensorProto.STRING

node = helper.make_node


def tensor(name: str, kind: int, *shape: int | str) -> ValueInfoProto:
    """An input or output."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def constant(name: str, values: Any) -> TensorProto:  # noqa: ANN401 - what numpy takes
    """An initializer."""
    array = np.array(values)
    return numpy_helper.from_array(array.astype(object) if array.dtype.kind == "U" else array, name)


def floats(name: str, values: Any) -> TensorProto:  # noqa: ANN401 - what numpy takes
    """An initializer of 32 bits."""
    return numpy_helper.from_array(np.array(values, np.float32), name)


def assembled(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    constants: Sequence[TensorProto] = (),
    opset: int = 18,
) -> ModelProto:
    """A model of these parts."""
    graph: GraphProto = helper.make_graph(nodes, "foreign", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def identity(*outputs: ValueInfoProto) -> ModelProto:
    """A model whose outputs are its inputs."""
    inputs = []
    for output in outputs:
        value = ValueInfoProto()
        value.CopyFrom(output)
        value.name = f"{output.name}_in"
        inputs.append(value)
    nodes = [node("Identity", [f"{output.name}_in"], [output.name]) for output in outputs]
    return assembled(nodes, inputs, outputs)


def softmax_of_three(**options: Any) -> ModelProto:  # noqa: ANN401 - those of `assembled`
    """A classifier ``p = softmax(x @ w)`` of three columns and classes."""
    nodes = [node("MatMul", ["x", "w"], ["z"]), node("Softmax", ["z"], ["p"], axis=1)]
    weights = [[1, -1, 0.5], [0, 2, -1], [0.25, 0, 1]]
    return assembled(
        nodes, [tensor("x", FLOAT, "N", 3)], [tensor("p", FLOAT, "N", 3)], [floats("w", weights)],
        **options,
    )  # fmt: skip


def predicted(model: ModelProto, inputs: Mapping[str, Array]) -> dict[str, Any]:
    """Every output of the original, as ONNX Runtime returns it."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def served(
    foreign: ForeignGraph,
    mapping: OutputMapping,
    rows: Array,
    columns: Sequence[Feature] | None = None,
    datatype: Datatype = "FP32",
) -> Array:
    """What the wrapped graph returns for rows of features."""
    if columns is None:
        columns = [Feature(name=f"c{k}", type="number") for k in range(rows.shape[1])]
    kind = "value" if not mapping.labels else "probability"
    kind = "probabilities" if mapping.width > 1 else kind
    content = wrap(foreign, columns, mapping, kind, datatype)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    (output,) = session.get_outputs()
    assert output.name == kind
    assert [given.name for given in session.get_inputs()] == ["features"]
    features = rows.astype(np.float64 if datatype == "FP64" else np.float32)
    found: Array = session.run(None, {"features": features})[0]
    assert found.dtype == np.float32
    assert found.shape == (len(rows), mapping.width)
    return found
