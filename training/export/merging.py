"""Merge the graphs of several models into one, which returns the mean of their outputs."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir
from onnx import GraphProto, ModelProto, ValueInfoProto, helper
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    IdentityEliminationPass,
    RemoveUnusedNodesPass,
)

from training.data.table import Float32s
from training.export.graph_builder import GraphBuilder
from training.export.graph_names import list_names, list_nodes, rename
from training.onnx_files import strip


def merge(graphs: Sequence[bytes], weights: Sequence[float], output: str) -> bytes:
    """Return a graph with the inputs of each and the weighted mean of the outputs.

    Args:
        graphs: ONNX, with the same inputs and one output, in the same operator sets.
        weights: of each graph.
        output: the name of the output of each, and of the result.
    """
    models = [onnx.load_from_string(graph) for graph in graphs]
    for k, model in enumerate(models):
        _add_prefix(model.graph, f"member_{k}/")
    builder = GraphBuilder("mean")
    outputs = [model.graph.output[0] for model in models]
    _add_mean(builder, outputs, np.array(weights, dtype=np.float32), output)

    merged = ModelProto()
    merged.CopyFrom(models[0])
    merged.ir_version = max(model.ir_version for model in models)
    versions = {one.domain: one.version for model in models for one in model.opset_import}
    del merged.opset_import[:]
    merged.opset_import.extend(helper.make_opsetid(*one) for one in sorted(versions.items()))
    result = onnx.ValueInfoProto()
    result.CopyFrom(models[0].graph.output[0])
    result.name = output
    graph = helper.make_graph(
        [*(node for model in models for node in model.graph.node), *builder.nodes],
        "onward",
        list(models[0].graph.input),
        [result],
        [*(one for model in models for one in model.graph.initializer), *builder.constants],
    )
    merged.graph.CopyFrom(graph)
    merged = _join_equal_nodes(merged)
    strip(merged)
    onnx.checker.check_model(merged, full_check=True)
    return bytes(merged.SerializeToString(deterministic=True))


def _add_mean(
    builder: GraphBuilder, values: Sequence[ValueInfoProto], weights: Float32s, output: str
) -> None:
    """Add the nodes that compute the weighted mean of values, ``[batch, outputs]``."""
    names = [value.name for value in values]
    if values[0].type.tensor_type.shape.dim[1].dim_value == 1:
        joined = builder.add("Concat", *names, axis=1)
        factors = builder.add_constant(weights[:, np.newaxis])
        builder.add("MatMul", joined, factors, output=output)
        return
    parts = [
        builder.add("Mul", name, builder.add_constant(weight))
        for name, weight in zip(names, weights[:, np.newaxis], strict=True)
    ]
    builder.add("Sum", *parts, output=output)


def _join_equal_nodes(model: ModelProto) -> ModelProto:
    """Compute what several members have in common once, such as the encoding of columns."""
    graph = onnx_ir.from_proto(model)
    onnx_ir.passes.Sequential(
        IdentityEliminationPass(),
        DeduplicateInitializersPass(),
        CommonSubexpressionEliminationPass(),
        RemoveUnusedNodesPass(),
    )(graph)
    joined: ModelProto = onnx_ir.to_proto(graph)
    return joined


def _add_prefix(graph: GraphProto, prefix: str) -> None:
    """Rename all tensors but the inputs, also in subgraphs, which `onnx.compose` does not."""
    for name in sorted(list_names(graph) - {value.name for value in graph.input}):
        rename(graph, name, f"{prefix}{name}")
    for node in list_nodes(graph):
        node.ClearField("name")
