"""Find the range of pixels that a graph takes, from the first step that computes with them.

A graph of images whose input is floating-point numbers does not state their range. Many graphs
normalize pixels themselves, and show by these constants what they take.
"""

import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import BinaryIO, Literal, NamedTuple

from service.bundle.onnx_file import MalformedFile, ProtobufFile, WireField

PixelRange = Literal["0-255", "0-1"]

# The fields that are read, as in `service.bundle.onnx_file`.
_LENGTH = 2
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_TENSOR = 5
_TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_NAME, _TENSOR_BYTES, _TENSOR_DOUBLES = 2, 4, 8, 9, 10
# The formats of `struct` for the types of floating-point numbers, by their number.
_FORMATS = {1: "f", 10: "e", 11: "d"}
# Larger graphs and constants are not read.
_MAX_FIELDS = 100_000
_MAX_CONSTANT_BYTES = 4096

# Operators that do not change the range of the values; colors can be reordered, and sizes changed.
_TRANSPARENT = {
    *("Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"),
    *("Split", "Slice", "Gather", "Concat", "Resize", "Upsample", "Pad"),
}
# Operators that subtract a mean or scale, with the position of the constant among their inputs.
_CONSTANT_OPERANDS = {"Sub": 1, "Add": 1, "Mul": 1, "Div": 1, "BatchNormalization": 3}
_COMMUTATIVE = {"Add", "Mul"}
_OF_SHAPE = {"Shape", "Size"}
# A larger mean, or a smaller factor, is of pixels from 0 to 255.
_MAX_MEAN_OF_SHARES = 1.5
_MAX_FACTOR = 0.02
# The usual means of pixels from 0 to 1: the middle, and that of ImageNet.
_MEANS_OF_SHARES = (0.5,), (0.485, 0.456, 0.406)
_TOLERANCE = 1e-3


class _Node(NamedTuple):
    operator: str
    inputs: Sequence[bytes]
    outputs: Sequence[bytes]
    tensor: WireField | None
    """The value of a constant."""


def find_pixel_range(file: BinaryIO, size: int, input_name: str) -> PixelRange | None:
    """Return the range of pixels that an input takes; None if the graph does not show it.

    A graph that divides its input by about 255 or subtracts a mean above one takes pixels from 0
    to 255. One that subtracts 0.5 or the mean of ImageNet takes pixels from 0 to 1.
    """
    try:
        found = _Reader(ProtobufFile(file, size, _MAX_FIELDS)).read(input_name.encode())
    except MalformedFile:
        return None
    return found


def find_pixel_range_of(content: bytes, input_name: str) -> PixelRange | None:
    """Return the range as `find_pixel_range` does, for the content of a file."""
    return find_pixel_range(BytesIO(content), len(content), input_name)


class _Reader:
    def __init__(self, file: ProtobufFile) -> None:
        self._file = file
        self._initializers: list[WireField] = []

    def read(self, input_name: bytes) -> PixelRange | None:
        """Return what all first steps of the input agree on."""
        graphs = self._group(WireField(0, _LENGTH, 0, 0, self._file.size))[_MODEL_GRAPH]
        if not graphs:
            return None
        graph = self._group(graphs[-1])
        self._initializers = graph[_GRAPH_INITIALIZER]
        nodes = [self._read_node(message) for message in graph[_GRAPH_NODE]]
        constants = {node.outputs[0]: node.tensor for node in nodes if node.tensor and node.outputs}
        found = {self._read_step(node, constants) for node in _find_first_steps(nodes, input_name)}
        return found.pop() if len(found) == 1 else None

    def _read_step(self, node: _Node, constants: Mapping[bytes, WireField]) -> PixelRange | None:
        """Return the range that one node shows."""
        position = _CONSTANT_OPERANDS.get(node.operator)
        if position is None or position >= len(node.inputs):
            return None
        values = self._read_constant(node.inputs[position], constants)
        if not values and node.operator in _COMMUTATIVE:
            values = self._read_constant(node.inputs[0], constants)
        if not values:
            return None
        sizes = [abs(value) for value in values]
        if node.operator == "Mul":
            return "0-255" if 0 < max(sizes) <= _MAX_FACTOR else None
        if node.operator == "Div":
            return "0-255" if min(sizes) >= 1 / _MAX_FACTOR else None
        if min(sizes) > _MAX_MEAN_OF_SHARES:
            return "0-255"
        return "0-1" if node.operator == "Sub" and _are_means_of_shares(values) else None

    def _read_constant(self, name: bytes, constants: Mapping[bytes, WireField]) -> list[float]:
        """Return the numbers of a constant; none if it is large, or not of floating point."""
        if name in constants:
            return self._read_tensor(constants[name], name, any_name=True)
        for message in self._initializers:
            if message.end - message.start <= _MAX_CONSTANT_BYTES:
                values = self._read_tensor(message, name)
                if values:
                    return values
        return []

    def _read_tensor(
        self, message: WireField, name: bytes, *, any_name: bool = False
    ) -> list[float]:
        tensor = self._group(message)
        if not any_name and [self._bytes(each) for each in tensor[_TENSOR_NAME]] != [name]:
            return []
        kind = tensor[_TENSOR_TYPE][-1].value if tensor[_TENSOR_TYPE] else 0
        parts = tensor[_TENSOR_BYTES] or tensor[_TENSOR_FLOATS] or tensor[_TENSOR_DOUBLES]
        if kind not in _FORMATS or any(part.kind != _LENGTH for part in parts):
            return []
        content = b"".join(map(self._bytes, parts))
        width = struct.calcsize(_FORMATS[kind])
        if len(content) % width:
            return []
        return list(struct.unpack(f"<{len(content) // width}{_FORMATS[kind]}", content))

    def _read_node(self, message: WireField) -> _Node:
        node = self._group(message)
        operator = b"".join(map(self._bytes, node[_NODE_OPERATOR])).decode(errors="replace")
        tensors = [
            part
            for attribute in (node[_NODE_ATTRIBUTE] if operator == "Constant" else ())
            for part in self._group(attribute)[_ATTRIBUTE_TENSOR]
        ]
        return _Node(
            operator,
            [self._bytes(each) for each in node[_NODE_INPUT]],
            [self._bytes(each) for each in node[_NODE_OUTPUT]],
            tensors[-1] if tensors else None,
        )

    def _group(self, message: WireField) -> Mapping[int, list[WireField]]:
        """Return the fields of a message by number."""
        grouped: defaultdict[int, list[WireField]] = defaultdict(list)
        for part in self._file.fields(message.start, message.end):
            grouped[part.number].append(part)
        return grouped

    def _bytes(self, part: WireField) -> bytes:
        return self._file.read(part.start, part.end - part.start)


def _find_first_steps(nodes: Sequence[_Node], input_name: bytes) -> Iterator[_Node]:
    """Yield the nodes that compute with an input, after those that retain its range."""
    names = {input_name}
    for node in nodes:
        if names.isdisjoint(node.inputs) or node.operator in _OF_SHAPE:
            continue
        if node.operator in _TRANSPARENT:
            names.update(node.outputs)
        else:
            yield node


def _are_means_of_shares(values: Sequence[float]) -> bool:
    return any(
        len(values) in (1, len(means))
        and all(
            abs(value - mean) <= _TOLERANCE
            for value, mean in zip(values, means * len(values), strict=False)
        )
        for means in _MEANS_OF_SHARES
    )
