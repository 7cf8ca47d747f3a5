"""Serve the outputs of any graph as tensors with class names, by replacing parts of its file.

scikit-learn's converters end a classifier with ZipMap: a list with a map from class to probability
for each row. Building it takes several times as long as the prediction, and its order is that of
the map, not of the graph. The tensor before it has the same numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from service.bundle.class_names import ZIP_MAP, find_class_names, find_columns, read_zip_map
from service.bundle.onnx_file import MalformedFile
from service.bundle.onnx_nodes import (
    Declaration,
    Edit,
    MainGraph,
    Node,
    encode_field,
    encode_number,
)

_GRAPH_NODE, _GRAPH_OUTPUT = 1, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4
_VALUE_NAME, _VALUE_TYPE = 1, 2
# A tensor of float32 with a free axis and one of a known length.
_TYPE_TENSOR, _TENSOR_ELEMENT, _TENSOR_SHAPE, _SHAPE_AXIS, _AXIS_LENGTH = 1, 1, 2, 1, 1
_FLOAT = 1
# Identity is in all opsets; this one is added to a file that has only another domain's operators.
_STANDARD_OPSET = b"\x10\x0d"
_STANDARD_DOMAINS = {b"", b"ai.onnx"}


@dataclass(frozen=True)
class TensorGraph:
    """A graph whose outputs are tensors, and the class names of each output that has some."""

    content: bytes = field(repr=False)
    labels: Mapping[str, Sequence[str]]


def expose_tensors(content: bytes) -> TensorGraph:
    """Return a graph with tensors for outputs, and with the class names of their columns.

    A ZipMap becomes the tensor of its input, under the same name and in the graph's own order. If
    the columns of a tensor with class names are outputs one by one, the tensor is added as the last
    output. A list of tensors becomes its tensors. Everything else remains as it is.
    """
    try:
        return _expose(MainGraph(content))
    except MalformedFile:
        return TensorGraph(content, {})  # ONNX Runtime decides whether it can be served


def drop_declared_types(content: bytes) -> bytes:
    """Return a graph without the declared types of its outputs and inner tensors.

    ONNX Runtime infers them, and rejects a graph that declares others.
    """
    try:
        graph = MainGraph(content)
    except MalformedFile:
        return content
    edits = [Edit(value.start, value.end, b"") for value in graph.values]
    edits += [
        Edit(output.start, output.end, _declare(output.name))
        for output in graph.outputs
        if output.has_type
    ]
    return graph.edit(edits)


def _expose(graph: MainGraph) -> TensorGraph:
    names = find_class_names(graph)
    outputs = {output.name: output for output in graph.outputs}
    labels = {name: names[name] for name in outputs if name in names}
    edits: list[Edit] = []
    for node in graph.nodes:
        if output := outputs.get(node.outputs[0]):
            # No operator takes the maps, so they are only used as an output.
            if node.operator == ZIP_MAP and (classes := read_zip_map(graph, node)):
                labels[output.name] = classes
                edits += _replace_map(node, output, len(classes))
            elif node.operator == "SequenceConstruct":
                edits.append(_replace_list(node, output, outputs))
    for source in find_columns(graph, names):
        labels[source] = names[source]
        if source not in outputs:
            edits.append(Edit(graph.end, graph.end, _declare(source, len(names[source]))))
    content = graph.content
    if edits:
        has_standard = not _STANDARD_DOMAINS.isdisjoint(graph.domains)
        content = graph.edit(edits, None if has_standard else _STANDARD_OPSET)
    by_output = {name.decode(errors="replace"): classes for name, classes in labels.items()}
    return TensorGraph(content, by_output)


def _replace_map(node: Node, output: Declaration, classes: int) -> Iterator[Edit]:
    """Replace a ZipMap by a node that copies its input, and the declaration of its output."""
    copy = [
        encode_field(_NODE_INPUT, node.inputs[0]),
        encode_field(_NODE_OUTPUT, output.name),
        encode_field(_NODE_OPERATOR, b"Identity"),
    ]
    yield Edit(node.start, node.end, encode_field(_GRAPH_NODE, b"".join(copy)))
    yield Edit(output.start, output.end, _declare(output.name, classes))


def _replace_list(node: Node, output: Declaration, outputs: Mapping[bytes, Declaration]) -> Edit:
    """Replace an output that is a list of tensors by those that are no outputs yet."""
    tensors = [name for name in dict.fromkeys(node.inputs) if name not in outputs]
    return Edit(output.start, output.end, b"".join(map(_declare, tensors)))


def _declare(name: bytes, columns: int = 0) -> bytes:
    """Encode the declaration of an output, with its type only if the number of columns is given."""
    value = encode_field(_VALUE_NAME, name)
    if columns:
        length = encode_number(_AXIS_LENGTH << 3) + encode_number(columns)
        axes = encode_field(_SHAPE_AXIS, b"") + encode_field(_SHAPE_AXIS, length)
        tensor = encode_number(_TENSOR_ELEMENT << 3) + encode_number(_FLOAT)
        tensor += encode_field(_TENSOR_SHAPE, axes)
        value += encode_field(_VALUE_TYPE, encode_field(_TYPE_TENSOR, tensor))
    return encode_field(_GRAPH_OUTPUT, value)
