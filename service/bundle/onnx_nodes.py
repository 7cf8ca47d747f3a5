"""Read the nodes and constants of an ONNX file's main graph, and replace parts of the file.

It reads the file's bytes as `service.bundle.onnx_file` does, without the onnx package, which the
service does not have. Weights are neither decoded nor copied.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from io import BytesIO
from typing import NamedTuple

from service.bundle.onnx_file import MAX_FIELDS, MalformedFile, ProtobufFile, WireField

_VARINT, _LENGTH = 0, 2
_MODEL_GRAPH, _MODEL_OPSET = 7, 8
_OPSET_DOMAIN = 1
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT, _GRAPH_VALUE = 1, 5, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_TENSOR = 1, 3, 5
_ATTRIBUTE_INTEGERS, _ATTRIBUTE_STRINGS = 8, 9
_TENSOR_TYPE, _TENSOR_NAME = 2, 8
_TENSOR_INT32S, _TENSOR_STRINGS, _TENSOR_INT64S, _TENSOR_RAW = 5, 6, 7, 9
# Skipped in one step on the way to the name.
_TENSOR_VALUES = {4, _TENSOR_INT32S, _TENSOR_STRINGS, _TENSOR_INT64S, 10, 11}
_INT32, _INT64, _STRING = 6, 7, 8
_INTEGER_FORMATS = {_INT32: "<i", _INT64: "<q"}
_VALUE_NAME, _VALUE_TYPE = 1, 2
# Longer constants are weights, not class names or positions of columns.
_MAX_CONSTANT_BYTES = 1_000_000
_SIGN = 1 << 63

Values = Sequence[bytes | int]
"""All strings, or all integers."""


class Node(NamedTuple):
    """A node of the main graph; ``start`` and ``end`` include its tag."""

    operator: str
    domain: str
    inputs: Sequence[bytes]
    outputs: Sequence[bytes]
    attributes: Sequence[WireField]
    start: int
    end: int


class Declaration(NamedTuple):
    """The name and type of an output or an inner tensor; ``start`` and ``end`` include its tag."""

    name: bytes
    has_type: bool
    start: int
    end: int


class Edit(NamedTuple):
    """A part of the file, and its new content."""

    start: int
    end: int
    content: bytes


class MainGraph:
    """The main graph of a file that `service.bundle.onnx_file.inspect_graph` has accepted.

    Raise `MalformedFile` where it is malformed, or has more than one graph.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        """The whole file."""
        self._file = ProtobufFile(BytesIO(content), len(content), MAX_FIELDS)
        self.nodes: list[Node] = []
        self.outputs: list[Declaration] = []
        self.values: list[Declaration] = []
        """Declared types of inner tensors."""
        self._tensors: dict[bytes, WireField] = {}
        self._start, self._graph, self.domains = self._find_graph()
        self._read_graph()

    @cached_property
    def producers(self) -> Mapping[bytes, Node]:
        """The node that computes each tensor."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    @cached_property
    def consumers(self) -> Mapping[bytes, Sequence[Node]]:
        """The nodes that take each tensor."""
        found: dict[bytes, list[Node]] = {}
        for node in self.nodes:
            for name in {*node.inputs}:
                found.setdefault(name, []).append(node)
        return found

    def is_constant(self, name: bytes) -> bool:
        """Return whether a tensor does not depend on the inputs."""
        node = self.producers.get(name)
        return name in self._tensors or not name or (node is not None and _is_constant(node))

    def has_attribute(self, node: Node, name: str) -> bool:
        """Return whether a node has an attribute."""
        return self._find_attribute(node, name) is not None

    def read_attribute(self, node: Node, name: str) -> Values:
        """Return the strings or integers of an attribute; none if the node does not have it."""
        found = self._find_attribute(node, name)
        if found is None:
            return []
        strings: list[bytes] = []
        integers: list[int] = []
        for part in self._fields(found):
            if part.number == _ATTRIBUTE_STRINGS:
                strings.append(self._bytes(part))
            elif part.number in {_ATTRIBUTE_INTEGER, _ATTRIBUTE_INTEGERS}:
                integers.extend(self._integers(part))
        return strings or integers

    def read_constant(self, name: bytes) -> Values:
        """Return a constant's strings or integers; none if it is no constant, or has other values.

        A constant with external data has none either.
        """
        tensor = self._tensors.get(name)
        node = self.producers.get(name)
        if tensor is None and node is not None and _is_constant(node):
            return self._read_constant_node(node)
        return [] if tensor is None else self._read_tensor(tensor)

    def edit(self, edits: Iterable[Edit], domain: bytes | None = None) -> bytes:
        """Return the file with parts of its graph replaced; ``domain`` adds an operator set."""
        pieces: list[bytes | memoryview] = []
        view, position = memoryview(self.content), self._graph.start
        for edit in sorted(edits):
            pieces += [view[position : edit.start], edit.content]
            position = edit.end
        pieces.append(view[position : self._graph.end])
        size = sum(map(len, pieces))
        head = encode_number(_MODEL_GRAPH << 3 | _LENGTH) + encode_number(size)
        opset = b"" if domain is None else encode_field(_MODEL_OPSET, domain)
        return b"".join([view[: self._start], head, *pieces, view[self._graph.end :], opset])

    @property
    def end(self) -> int:
        """The end of the graph, where an edit can append to it."""
        return self._graph.end

    def _find_graph(self) -> tuple[int, WireField, frozenset[bytes]]:
        """Return the start of the graph's tag, the graph, and the domains of the operator sets."""
        position, start = 0, 0
        graphs: list[WireField] = []
        domains: set[bytes] = set()
        for part in self._file.fields(0, self._file.size):
            if part.number == _MODEL_GRAPH:
                graphs.append(part)
                start = position
            elif part.number == _MODEL_OPSET:
                domains.add(self._text(part, _OPSET_DOMAIN))
            position = part.end
        if len(graphs) != 1:
            raise MalformedFile("it has more than one graph")
        return start, graphs[0], frozenset(domains)

    def _read_graph(self) -> None:
        position = self._graph.start
        for part in self._fields(self._graph):
            if part.number == _GRAPH_NODE:
                if node := self._read_node(part, position):
                    self.nodes.append(node)
            elif part.number == _GRAPH_OUTPUT:
                self.outputs.append(self._read_declaration(part, position))
            elif part.number == _GRAPH_VALUE:
                self.values.append(self._read_declaration(part, position))
            elif part.number == _GRAPH_INITIALIZER:
                self._tensors[self._find_name(part)] = part
            position = part.end

    def _read_node(self, message: WireField, start: int) -> Node | None:
        """Read a node; return None for one without inputs or outputs, except constants."""
        texts: dict[int, list[bytes]] = {}
        attributes = []
        for part in self._fields(message):
            if part.number == _NODE_ATTRIBUTE:
                attributes.append(part)
            elif part.kind == _LENGTH:
                texts.setdefault(part.number, []).append(self._bytes(part))
        operator, domain = (
            texts.get(number, [b""])[-1].decode(errors="replace")
            for number in (_NODE_OPERATOR, _NODE_DOMAIN)
        )
        inputs, outputs = texts.get(_NODE_INPUT, []), texts.get(_NODE_OUTPUT, [])
        if not outputs or (operator != "Constant" and not inputs):
            return None
        return Node(operator, domain, inputs, outputs, attributes, start, message.end)

    def _read_declaration(self, message: WireField, start: int) -> Declaration:
        has_type = any(part.number == _VALUE_TYPE for part in self._fields(message))
        return Declaration(self._text(message, _VALUE_NAME), has_type, start, message.end)

    def _find_attribute(self, node: Node, name: str) -> WireField | None:
        for attribute in node.attributes:
            # Writers put the name first, so the values of others are not read.
            for part in self._fields(attribute):
                if part.number == _ATTRIBUTE_NAME:
                    if self._bytes(part) == name.encode():
                        return attribute
                    break
        return None

    def _find_name(self, tensor: WireField) -> bytes:
        parts = self._file.fields(tensor.start, tensor.end, _TENSOR_VALUES)
        return next((self._bytes(part) for part in parts if part.number == _TENSOR_NAME), b"")

    def _read_constant_node(self, node: Node) -> Values:
        for name in ("value_ints", "value_int", "value_strings"):
            if values := self.read_attribute(node, name):
                return values
        attribute = self._find_attribute(node, "value")
        for part in self._fields(attribute) if attribute is not None else ():
            if part.number == _ATTRIBUTE_TENSOR:
                return self._read_tensor(part)
        return []

    def _read_tensor(self, tensor: WireField) -> Values:
        if tensor.end - tensor.start > _MAX_CONSTANT_BYTES:
            return []
        parts: dict[int, list[WireField]] = {}
        for part in self._fields(tensor):
            parts.setdefault(part.number, []).append(part)
        kind = parts[_TENSOR_TYPE][-1].value if _TENSOR_TYPE in parts else 0
        if kind == _STRING:
            return [self._bytes(part) for part in parts.get(_TENSOR_STRINGS, ())]
        if kind not in _INTEGER_FORMATS:
            return []
        if raw := b"".join(map(self._bytes, parts.get(_TENSOR_RAW, ()))):
            return [value for (value,) in struct.iter_unpack(_INTEGER_FORMATS[kind], raw)]
        packed = parts.get(_TENSOR_INT32S if kind == _INT32 else _TENSOR_INT64S, ())
        return [value for part in packed for value in self._integers(part)]

    def _integers(self, part: WireField) -> Sequence[int]:
        """Decode signed integers, alone or packed."""
        if part.kind == _VARINT:
            return [_to_signed(part.value)]
        values, value, shift = [], 0, 0
        for byte in self._bytes(part):
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:  # noqa: PLR2004 - the highest bit says that more bytes follow
                values.append(_to_signed(value))
                value = shift = 0
        return values

    def _text(self, message: WireField, number: int) -> bytes:
        """Return the text in a field of the message; the last one if there are several."""
        texts = [self._bytes(part) for part in self._fields(message) if part.number == number]
        return texts[-1] if texts else b""

    def _fields(self, message: WireField) -> Iterable[WireField]:
        return self._file.fields(message.start, message.end)

    def _bytes(self, part: WireField) -> bytes:
        return self.content[part.start : part.end]


def encode_field(number: int, content: bytes) -> bytes:
    """Encode a text or a message as a field."""
    return encode_number(number << 3 | _LENGTH) + encode_number(len(content)) + content


def encode_number(value: int) -> bytes:
    """Encode an integer that is not negative."""
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits in each byte
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _to_signed(value: int) -> int:
    return (value & (2 * _SIGN - 1)) - 2 * _SIGN if value & _SIGN else value


def _is_constant(node: Node) -> bool:
    return node.operator == "Constant" and not node.domain
