"""The names of tensors in a graph and in the subgraphs of If, Loop and Scan."""

from collections.abc import Iterator

from onnx import GraphProto, NodeProto


def list_subgraphs(node: NodeProto) -> list[GraphProto]:
    """Return the graphs that the node executes."""
    return [
        graph
        for attribute in node.attribute
        for graph in ((attribute.g,) if attribute.HasField("g") else attribute.graphs)
    ]


def list_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Return every node, including those of subgraphs."""
    for node in graph.node:
        yield node
        for inner in list_subgraphs(node):
            yield from list_nodes(inner)


def list_names(graph: GraphProto) -> set[str]:
    """Return the names of all tensors, including those of subgraphs."""
    names = {tensor.name for tensor in (*graph.input, *graph.output, *graph.initializer)}
    names.update(tensor.values.name for tensor in graph.sparse_initializer)
    for node in graph.node:
        names.update(node.input, node.output)
        for inner in list_subgraphs(node):
            names |= list_names(inner)
    return names - {""}


def list_inputs(node: NodeProto) -> set[str]:
    """Return every input of a node, including the tensors that its subgraphs use."""
    names = set(node.input)
    for inner in list_subgraphs(node):
        names.update(value.name for value in inner.output)
        names.update(*(list_inputs(step) for step in inner.node))
    return names - {""}


def rename(graph: GraphProto, old: str, new: str) -> None:
    """Rename a tensor in the graph and in every subgraph."""
    sparse = [tensor.values for tensor in graph.sparse_initializer]
    for value in (*graph.input, *graph.output, *graph.initializer, *sparse, *graph.value_info):
        if value.name == old:
            value.name = new
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
        for inner in list_subgraphs(node):
            rename(inner, old, new)


def choose_free_name(name: str, used: set[str]) -> str:
    """Return the name, followed by as many underscores as make it differ from the others.

    It also differs from the beginning of other names up to a slash.
    """
    while any(other == name or other.startswith(f"{name}/") for other in used):
        name += "_"
    return name
