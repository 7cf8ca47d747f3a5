"""Adapt the converted trees of gradient boosting: mean scores, and the edges of bins."""

from collections.abc import Sequence

import numpy as np
import onnx

from training.data.table import Float32s, Floats
from training.export.graph_builder import GraphBuilder
from training.model.networks import LARGEST_LOGARITHM

_TREES = ("nodes_treeids", "class_treeids", "target_treeids")
_WEIGHTS = ("class_weights", "target_weights")


def join_members(models: Sequence[onnx.ModelProto]) -> None:
    """Let the trees of the first graph return the mean score of all graphs.

    Args:
        models: each with one node of trees, of the same columns and classes.
    """
    nodes = [_find_trees(model) for model in models]
    joined = {attribute.name: attribute for attribute in nodes[0].attribute}
    # ONNX Runtime does not read them.
    nodes[0].attribute.remove(joined.pop("nodes_hitrates"))
    for node in nodes[1:]:
        other = {attribute.name: attribute for attribute in node.attribute}
        first = max(joined["nodes_treeids"].ints) + 1
        for name, attribute in joined.items():
            shift = first if name in _TREES else 0
            if name.startswith(("nodes_", "class_", "target_")):
                attribute.ints.extend(value + shift for value in other[name].ints)
                attribute.floats.extend(other[name].floats)
                attribute.strings.extend(other[name].strings)
    for name in _WEIGHTS:
        if name in joined:
            _assign(joined[name], np.array(joined[name].floats) / len(nodes))
    bases = [onnx.helper.get_node_attr_value(node, "base_values") for node in nodes]
    _assign(joined["base_values"], np.mean(bases, axis=0))


def compare_with_edges(model: onnx.ModelProto, edges: Sequence[Float32s]) -> None:
    """Let trees that were fitted to bins compare columns with the edges of the bins instead."""
    attributes = {attribute.name: attribute for attribute in _find_trees(model).attribute}
    values = attributes["nodes_values"].floats
    columns, modes = attributes["nodes_featureids"].ints, attributes["nodes_modes"].strings
    for position, mode in enumerate(modes):
        # The threshold between numbers and missing values is infinite.
        if mode != b"LEAF" and np.isfinite(values[position]):
            values[position] = edges[columns[position]][int(values[position])]


def append_exponential(model: onnx.ModelProto) -> None:
    """Let a graph whose only output is the logarithm of (1 + value) return the value."""
    output = model.graph.output[0]
    builder = GraphBuilder("value")
    largest, one = (
        builder.add_constant(np.array(number, np.float32)) for number in (LARGEST_LOGARITHM, 1)
    )
    exponential = builder.add("Exp", builder.add("Min", output.name, largest))
    output.name = builder.add("Sub", exponential, one)
    model.graph.node.extend(builder.nodes)
    model.graph.initializer.extend(builder.constants)


def _find_trees(model: onnx.ModelProto) -> onnx.NodeProto:
    nodes: Sequence[onnx.NodeProto] = model.graph.node
    return next(node for node in nodes if node.op_type.startswith("TreeEnsemble"))


def _assign(attribute: onnx.AttributeProto, values: Floats) -> None:
    del attribute.floats[:]
    attribute.floats.extend(values.astype(np.float32).tolist())
