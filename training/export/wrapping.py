"""Rewrite an imported graph to the form of a bundle: one input of raw columns, one output."""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, compose, helper, numpy_helper

from service.bundle.features import INPUT_NAME
from training.errors import ImportRejected
from training.export.foreign_graph import STRING_TYPE, ForeignGraph, OutputMapping
from training.onnx_files import Array, strip
from training.recipe.table import Feature

_PREFIX = "model/"
# The first version of ai.onnx.ml whose LabelEncoder maps between all types.
_LABEL_ENCODER_VERSION = 2


class GraphBuilder:
    """Collects nodes and constants to add to a graph, in topological order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(
        self,
        kind: str,
        *inputs: str,
        output: str = "",
        domain: str = "",
        **options: int | str | list[int] | list[float] | list[str],
    ) -> str:
        """Add a node and return the name of its output."""
        output = output or f"{self.name}/step_{len(self.nodes)}"
        node = helper.make_node(kind, inputs, [output], domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in options.items())
        self.nodes.append(node)
        return output

    def add_constant(self, values: Array) -> str:
        """Add a constant and return its name."""
        name = f"{self.name}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name


def wrap(
    foreign: ForeignGraph, columns: Sequence[Feature], mapping: OutputMapping, output_tensor: str
) -> bytes:
    """Return the graph with the input ``features`` and one output, for any batch size.

    The columns are in the order of the graph's inputs. Raise `ImportRejected` if the graph uses an
    operator set that nodes cannot be added to.
    """
    model = compose.add_prefix(foreign.model, _PREFIX)
    before, after = GraphBuilder("columns"), GraphBuilder("prediction")
    _feed(before, foreign, columns)
    _add_output(after, mapping, output_tensor)
    graph = model.graph
    if any(node.op_type == "LabelEncoder" for node in (*before.nodes, *after.nodes)):
        _require_label_encoder(model)
    retained = _find_needed([*before.nodes, *graph.node, *after.nodes], output_tensor)
    used = {name for node in retained for name in _list_inputs(node)}
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    wrapped = helper.make_graph(
        retained,
        "onward",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["batch", len(columns)])],
        [helper.make_tensor_value_info(output_tensor, TensorProto.FLOAT, ["batch", mapping.width])],
        [*before.constants, *initializers, *after.constants],
        sparse_initializer=list(graph.sparse_initializer),
    )
    model.graph.CopyFrom(wrapped)
    strip(model)
    return bytes(model.SerializeToString(deterministic=True))


def _feed(builder: GraphBuilder, foreign: ForeignGraph, columns: Sequence[Feature]) -> None:
    """Connect the columns to the inputs of the graph, cast to their types."""
    start = 0
    for known in foreign.inputs:
        end = start + (known.width or len(columns))
        target = _PREFIX + known.name
        if known.type == STRING_TYPE:
            cells = [
                _look_up_words(
                    builder, _select_columns(builder, start + k, start + k + 1), column.categories
                )
                for k, column in enumerate(columns[start:end])
            ]
            builder.add("Concat", *cells, output=target, axis=1)
        else:
            part = _select_columns(builder, start, end)
            builder.add("Cast", part, output=target, to=known.type)
        start = end


def _select_columns(builder: GraphBuilder, start: int, end: int) -> str:
    positions = builder.add_constant(np.arange(start, end, dtype=np.int64))
    return builder.add("Gather", INPUT_NAME, positions, axis=1)


def _look_up_words(builder: GraphBuilder, positions: str, categories: Sequence[str]) -> str:
    """Return the words at these positions; -1, NaN and unknown positions give the empty word."""
    return builder.add(
        "LabelEncoder",
        positions,
        domain="ai.onnx.ml",
        keys_floats=[float(k) for k in range(len(categories))],
        values_strings=list(categories),
        default_string="",
    )


def _add_output(builder: GraphBuilder, mapping: OutputMapping, output_tensor: str) -> None:
    """Convert the output of the graph to that of the bundle, ``[batch, width]``."""
    found = _PREFIX + mapping.output
    if mapping.form == "label":
        found = _encode_one_hot(builder, found, mapping.classes)
    if mapping.form in ("label", "probabilities") and mapping.width == 1:
        found = builder.add("Gather", found, builder.add_constant(np.array([1])), axis=1)
    shape = builder.add_constant(np.array([-1, mapping.width]))
    found = builder.add("Reshape", found, shape)
    if mapping.form not in ("probability", "probabilities"):
        builder.add("Cast", found, output=output_tensor, to=TensorProto.FLOAT)
        return
    found = builder.add("Cast", found, to=TensorProto.FLOAT)
    # Sums over many trees can exceed one by rounding.
    found = builder.add("Min", found, builder.add_constant(np.array(1, dtype=np.float32)))
    builder.add(
        "Max", found, builder.add_constant(np.array(0, dtype=np.float32)), output=output_tensor
    )


def _encode_one_hot(
    builder: GraphBuilder, found: str, classes: Sequence[str] | Sequence[int]
) -> str:
    codes: list[int] = [code for code in classes if isinstance(code, int)]
    if not codes:
        codes = list(range(len(classes)))
        found = builder.add(
            "LabelEncoder",
            found,
            domain="ai.onnx.ml",
            keys_strings=[str(word) for word in classes],
            values_int64s=codes,
            default_int64=-1,
        )
    found = builder.add("Cast", found, to=TensorProto.INT64)
    found = builder.add("Reshape", found, builder.add_constant(np.array([-1, 1])))
    same = builder.add("Equal", found, builder.add_constant(np.array(codes)))
    return builder.add("Cast", same, to=TensorProto.FLOAT)


def _find_needed(nodes: Sequence[NodeProto], output_tensor: str) -> list[NodeProto]:
    """Return the nodes that the output depends on, in order."""
    needed, retained = {output_tensor}, []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(_list_inputs(node))
            retained.append(node)
    return retained[::-1]


def _list_inputs(node: NodeProto) -> set[str]:
    """Return every input of a node, including those used in its subgraphs."""
    inner = [part for attribute in node.attribute for part in (attribute.g, *attribute.graphs)]
    return set(node.input).union(*(_list_inputs(step) for graph in inner for step in graph.node))


def _require_label_encoder(model: ModelProto) -> None:
    versions = {opset.domain: opset for opset in model.opset_import}
    if "ai.onnx.ml" not in versions:
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", _LABEL_ENCODER_VERSION))
    elif versions["ai.onnx.ml"].version < _LABEL_ENCODER_VERSION:
        if any(node.op_type == "LabelEncoder" for node in model.graph.node):
            raise ImportRejected(
                "it encodes strings with the first version of ai.onnx.ml. Convert it again with "
                "target_opset={'': 18, 'ai.onnx.ml': 3}."
            )
        versions["ai.onnx.ml"].version = _LABEL_ENCODER_VERSION
