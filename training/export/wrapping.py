"""Rewrite an imported graph to the form of a bundle: one input of raw columns, one output."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, shape_inference

from service.bundle.features import INPUT_NAME
from training.errors import ImportRejected
from training.export.foreign_graph import ForeignGraph, require_standard_operators
from training.export.graph_builder import GraphBuilder
from training.export.graph_names import (
    choose_free_name,
    list_inputs,
    list_names,
    list_nodes,
    rename,
)
from training.export.graph_reading import STRING_TYPE
from training.export.output_mapping import OutputMapping
from training.export.output_nodes import add_output
from training.onnx_files import strip
from training.recipe.table import Feature

Datatype = Literal["FP32", "FP64"]

_ML = "ai.onnx.ml"
_TYPES = {"FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE}
# The first version of ai.onnx.ml whose LabelEncoder maps between all types.
_LABEL_ENCODER_VERSION = 2


def wrap(
    foreign: ForeignGraph,
    columns: Sequence[Feature],
    mapping: OutputMapping,
    output_tensor: str,
    datatype: Datatype = "FP32",
) -> bytes:
    """Return the graph with the input ``features`` and one output, for any batch size.

    The columns are in the order of the graph's inputs; the input has the type ``datatype``. Raise
    `ImportRejected` if the graph uses an operator set that nodes cannot be added to.
    """
    model = ModelProto()
    model.CopyFrom(foreign.model)
    names = _free_names(model, INPUT_NAME, output_tensor)
    used = list_names(model.graph)
    before = GraphBuilder(choose_free_name("columns", used))
    _feed(before, foreign, columns, names, _TYPES[datatype])
    value = helper.make_tensor_value_info(INPUT_NAME, _TYPES[datatype], ["batch", len(columns)])
    return finish(model, value, before, mapping.rename(names), output_tensor)


def finish(
    model: ModelProto,
    value: ValueInfoProto,
    before: GraphBuilder,
    mapping: OutputMapping,
    output_tensor: str,
) -> bytes:
    """Return the graph with one input, nodes before it, and the output of the bundle.

    Args:
        model: the graph, whose names differ from those of the bundle; changed in place.
        value: the only input.
        before: nodes that compute the inputs of the graph from it.
        mapping: of the output.
        output_tensor: the name of the output of the bundle.
    """
    require_standard_operators(model)
    graph = model.graph
    after = GraphBuilder(choose_free_name("prediction", list_names(graph)))
    add_output(after, mapping, output_tensor, _read_version(model))
    if any(node.op_type == "LabelEncoder" for node in (*before.nodes, *after.nodes)):
        _require_label_encoder(model)
    retained = _find_needed([*before.nodes, *graph.node, *after.nodes], output_tensor)
    used = {name for node in retained for name in list_inputs(node)}
    constants = [*before.constants, *graph.initializer, *after.constants]
    wrapped = helper.make_graph(
        retained,
        "onward",
        [value],
        [helper.make_tensor_value_info(output_tensor, TensorProto.FLOAT, ["batch", mapping.width])],
        [tensor for tensor in constants if tensor.name in used],
        sparse_initializer=[part for part in graph.sparse_initializer if part.values.name in used],
    )
    graph.CopyFrom(wrapped)
    strip(model)
    return bytes(model.SerializeToString(deterministic=True))


def _free_names(model: ModelProto, *names: str) -> dict[str, str]:
    """Rename tensors that have these names, and return the new ones."""
    renamed = {}
    for name in names:
        used = list_names(model.graph)
        if name in used:
            renamed[name] = choose_free_name(name, used)
            rename(model.graph, name, renamed[name])
    return renamed


def _feed(
    builder: GraphBuilder,
    foreign: ForeignGraph,
    columns: Sequence[Feature],
    names: dict[str, str],
    datatype: int,
) -> None:
    """Connect the columns, of this type, to the inputs of the graph, cast to their types."""
    start = 0
    for known in foreign.inputs:
        end = start + (known.width or len(columns))
        if known.type == STRING_TYPE:
            cells = [
                _find_words(
                    builder, _select_columns(builder, start + k, start + k + 1), column.categories
                )
                for k, column in enumerate(columns[start:end])
            ]
            part = builder.add("Concat", *cells, axis=1)
        else:
            part = INPUT_NAME
            if end - start < len(columns):
                part = _select_columns(builder, start, end)
            if known.type != datatype:
                part = builder.add("Cast", part, to=known.type)
        if known.rank == 1:
            part = builder.add("Reshape", part, builder.add_constant(np.array([-1])))
        builder.add("Identity", part, output=names.get(known.name, known.name))
        start = end


def _select_columns(builder: GraphBuilder, start: int, end: int) -> str:
    positions = builder.add_constant(np.arange(start, end, dtype=np.int64))
    return builder.add("Gather", INPUT_NAME, positions, axis=1)


def _find_words(builder: GraphBuilder, positions: str, categories: Sequence[str]) -> str:
    """Return the words at these positions; -1, NaN and unknown positions give the empty word."""
    return builder.add(
        "LabelEncoder",
        builder.add("Cast", positions, to=TensorProto.FLOAT),
        domain=_ML,
        keys_floats=[float(k) for k in range(len(categories))],
        values_strings=list(categories),
        default_string="",
    )


def _find_needed(nodes: Sequence[NodeProto], output_tensor: str) -> list[NodeProto]:
    """Return the nodes that the output depends on, in order."""
    needed, retained = {output_tensor}, []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed |= list_inputs(node)
            retained.append(node)
    return retained[::-1]


def _read_version(model: ModelProto) -> int:
    """Return the version of the standard operators."""
    return int(next(opset.version for opset in model.opset_import if opset.domain == ""))


def _require_label_encoder(model: ModelProto) -> None:
    """Import the operators of ai.onnx.ml in a version whose LabelEncoder maps all types."""
    versions = {opset.domain: opset for opset in model.opset_import}
    if _ML not in versions:
        model.opset_import.append(helper.make_opsetid(_ML, _LABEL_ENCODER_VERSION))
    elif versions[_ML].version < _LABEL_ENCODER_VERSION:
        types = {
            value.name: value.type.tensor_type.elem_type
            for graph in [shape_inference.infer_shapes(model).graph]
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        for node in list_nodes(model.graph):
            if node.op_type == "LabelEncoder" and node.domain == _ML:
                _upgrade_label_encoder(node, types.get(node.input[0]))
        versions[_ML].version = _LABEL_ENCODER_VERSION


def _upgrade_label_encoder(node: NodeProto, kind: int | None) -> None:
    """Write the attributes of the first version, a list of words, as those of the second."""
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    words = attributes.get("classes_strings", [])
    positions = list(range(len(words)))
    if kind == STRING_TYPE:
        default = attributes.get("default_int64", -1)
        changed = {"keys_strings": words, "values_int64s": positions, "default_int64": default}
    elif kind == TensorProto.INT64:
        default = attributes.get("default_string", "_Unused")
        changed = {"keys_int64s": positions, "values_strings": words, "default_string": default}
    else:
        raise ImportRejected(
            "it encodes strings with the first version of ai.onnx.ml. Convert it again with "
            "target_opset={'': 18, 'ai.onnx.ml': 3}."
        )
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(key, value) for key, value in changed.items())
