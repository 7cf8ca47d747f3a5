"""Inspect ONNX files before they are read: their structure, external weights, operators.

The files are protobuf messages, described in
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, which defines the field numbers.
Weights are skipped, so files of any size are inspected with little memory.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from service.bundle.errors import InvalidOnnxFile

_VARINT, _FIXED_64, _LENGTH, _FIXED_32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED_64: 8, _FIXED_32: 4}
_LONGEST_WORD = 31
# Regular expressions of a value after its tag; those of any length only for short ones.
_VALUE_PATTERNS = {
    _VARINT: rb"[\x80-\xff]{0,9}[\x00-\x7f]",
    _FIXED_64: b".{8}",
    _FIXED_32: b".{4}",
    _LENGTH: b"(?:%b)"
    % b"|".join(
        re.escape(bytes([length])) + b".{%d}" % length for length in range(_LONGEST_WORD + 1)
    ),
}
_CONTINUES = 0x80
_LONGEST_VARINT = 10
# A tag and the number or length after it.
_LONGEST_HEAD = 2 * _LONGEST_VARINT
_MAX_FIELD_NUMBER = 2**29 - 1
_WINDOW_BYTES = 64 * 1024

MAX_ONNX_BYTES = 2**31 - 1
"""The limit of protobuf."""
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTION = 7, 20, 25
_TRAINING_GRAPHS = {1, 2}
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_SPARSE = 1, 5, 11, 15
_FUNCTION_NODE = 7
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = {5, 10}, {6, 11}, {22, 23}
_SPARSE_TENSORS = {1, 2}
_TENSOR_NAME, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8, 13, 14
_EXTERNAL = 1
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VALUE_INFO_NAME = 1
# Fields with repeated numbers or words, skipped in one step: a tree ensemble has millions of them.
_MODEL_FIELD_NUMBERS = {1, 5}
_ATTRIBUTE_NUMBERS = {7, 8, 9}
_TENSOR_NUMBERS = {4, 5, 6, 7}
_LONGEST_NAME = 64 * 1024
MAX_FIELDS = 1_000_000
"""The most fields of a file; the graphs of large language models have some hundred thousand."""
# The limit of protobuf's own reader.
_MAX_LEVELS = 100
# Operators whose running time depends on the values of their inputs.
_UNBOUNDED = {"Loop", "Scan", "If", "SequenceMap", "NonMaxSuppression", "ImageDecoder"}
# Operators the size of whose output depends on the values of these inputs; None is all inputs.
_SIZED_BY: Mapping[str, Collection[int] | None] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": None,
    "OneHot": (1,),
    "Pad": (1,),
    "Range": None,
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Tile": (1,),
    "Upsample": (1,),
}
# Operators whose output depends only on the shape of their input.
_OF_SHAPE = {"Shape", "Size"}


class MalformedFile(Exception):
    """The bytes are not a valid message; the exception's text says why."""


class WireField(NamedTuple):
    """A field: its number, wire type, value if that is an integer, and position of its content."""

    number: int
    kind: int
    value: int
    start: int
    end: int


class ProtobufFile:
    """An open file of protobuf messages.

    It is read in windows and not mapped into memory: if another process truncates the file, reading
    mapped memory ends this process by SIGBUS.

    Args:
        file: the file, from its start.
        size: its size in bytes.
        max_fields: how many fields are read at most; files with more are rejected.
    """

    def __init__(self, file: BinaryIO, size: int, max_fields: int) -> None:
        self.size = size
        self._file = file
        self._max_fields = max_fields
        self._fields_read = 0
        self._start = 0
        self._window = b""

    def read(self, start: int, length: int) -> bytes:
        """Return a number of bytes; fewer at the end of the file."""
        offset = start - self._start
        if offset < 0 or offset + length > len(self._window):
            self._file.seek(start)
            self._window = self._file.read(max(length, _WINDOW_BYTES))
            self._start, offset = start, 0
        return self._window[offset : offset + length]

    def fields(self, start: int, end: int, repeated: Collection[int] = ()) -> Iterator[WireField]:
        """Yield the fields of a message between two positions in the file.

        Only the first field of each run is yielded of those whose numbers are ``repeated``. Raise
        `MalformedFile` if the bytes are not a message.
        """
        position = start
        while position < end:
            self._fields_read += 1
            if self._fields_read > self._max_fields:
                raise MalformedFile(f"it has more than {self._max_fields:,} fields")
            field = self._read_field(position, end)
            yield field
            position = field.end
            if field.number in repeated:
                position = self._skip_run(field, end)

    def _read_field(self, position: int, end: int) -> WireField:
        """Read a field, which must end within its message."""
        head = self.read(position, min(_LONGEST_HEAD, end - position))
        key, used = _read_varint(head, 0, position)
        number, kind = key >> 3, key & 7
        if not 0 < number <= _MAX_FIELD_NUMBER or kind not in _VALUE_PATTERNS:
            raise MalformedFile(f"byte {position:,} does not begin a field")
        value = 0
        if kind in _FIXED_BYTES:
            content_start = content_end = position + used + _FIXED_BYTES[kind]
        else:
            value, used = _read_varint(head, used, position)
            content_start = content_end = position + used
            if kind == _LENGTH:
                value, content_end = 0, content_start + value
        if content_end > end:
            raise MalformedFile(
                f"a field at byte {position:,} ends after its message; is it truncated?"
            )
        return WireField(number, kind, value, content_start, content_end)

    def _skip_run(self, field: WireField, end: int) -> int:
        """Return the position after a run of numbers or short words of the same field."""
        tag = bytes([field.number << 3 | field.kind])
        run = re.compile(b"(?:%b%b)*+" % (re.escape(tag), _VALUE_PATTERNS[field.kind]), re.DOTALL)
        position = field.end
        while position < end and self.read(position, 1) == tag:
            found = run.match(self.read(position, min(_WINDOW_BYTES, end - position)))
            if not found or not found.end():
                break
            position += found.end()
        return position


def _read_varint(head: bytes, used: int, position: int) -> tuple[int, int]:
    """Decode the integer at an offset of a field's first bytes; return it and its end."""
    value = 0
    for shift, byte in enumerate(head[used : used + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < _CONTINUES:
            return value, used + shift + 1
    raise MalformedFile(f"byte {position:,} does not begin a field")


@dataclass(frozen=True)
class GraphSummary:
    """What the service must know about a graph: its external weights, and its running time."""

    weights: frozenset[str] = frozenset()
    """Files, as the graph names them, with external data of its initializers and constants."""
    nested_weights: frozenset[str] = frozenset()
    """Files with external data of its subgraphs, functions and attributes."""
    unbounded: str = ""
    """The first operator whose running time depends on values of the inputs; empty if none."""


@dataclass(frozen=True)
class OnnxFile:
    """The content of an ONNX file, and a summary of its graph."""

    content: bytes = field(repr=False)
    graph: GraphSummary


def inspect_graph(file: BinaryIO, size: int, name: str) -> GraphSummary:
    """Inspect the graph of an open ONNX file, skipping its weights.

    Raise `InvalidOnnxFile` if it is too large or malformed.
    """
    if size > MAX_ONNX_BYTES:
        raise InvalidOnnxFile(
            f"{name} has {size:,} bytes, and an ONNX file at most {MAX_ONNX_BYTES:,}; save it with "
            "its weights in separate files (external data)"
        )
    if not size:
        raise InvalidOnnxFile(f"{name} is empty")
    try:
        return _GraphReader(ProtobufFile(file, size, MAX_FIELDS)).read()
    except MalformedFile as error:
        raise InvalidOnnxFile(f"{name} is not an ONNX file: {error}") from None


class _Node(NamedTuple):
    operator: str
    inputs: Sequence[bytes]
    outputs: Sequence[bytes]
    has_graph: bool

    def is_unbounded(self, variable: Collection[bytes] | None) -> bool:
        """Return whether the running time depends on the values of the graph's inputs.

        ``variable`` are the tensors computed from these values; None is all tensors.
        """
        if self.has_graph or self.operator in _UNBOUNDED:
            return True
        positions = _SIZED_BY.get(self.operator, ())
        return any(
            name and (variable is None or name in variable)
            for position, name in enumerate(self.inputs)
            if positions is None or position in positions
        )


class _GraphReader:
    def __init__(self, file: ProtobufFile) -> None:
        self._file = file
        self._weights: set[str] = set()
        self._nested_weights: set[str] = set()
        self._unbounded = ""

    def read(self) -> GraphSummary:
        """Read the whole file."""
        model = self._group(WireField(0, _LENGTH, 0, 0, self._file.size), _MODEL_FIELD_NUMBERS)
        if not model[_MODEL_GRAPH]:
            raise MalformedFile("it has no graph")
        for graph in model[_MODEL_GRAPH]:
            self._read_graph(graph, 0)
        for function in model[_MODEL_FUNCTION]:
            for message in self._group(function)[_FUNCTION_NODE]:
                self._note_unbounded(self._read_node(message, 1), None)
        for training in model[_MODEL_TRAINING]:
            for graph in self._select(training, _TRAINING_GRAPHS):
                self._read_graph(graph, 1)
        return GraphSummary(
            frozenset(self._weights), frozenset(self._nested_weights), self._unbounded
        )

    def _read_graph(self, message: WireField, level: int) -> None:
        """Collect the weights of a graph, and the unbounded operator of the main one, level 0."""
        if level > _MAX_LEVELS:
            raise MalformedFile(f"its graphs are nested more than {_MAX_LEVELS} levels deep")
        graph = self._group(message)
        weights = self._nested_weights if level else self._weights
        constant = {self._read_tensor(tensor, weights) for tensor in graph[_GRAPH_INITIALIZER]}
        for sparse in graph[_GRAPH_SPARSE]:
            self._read_sparse(sparse)
        inputs = {self._find_text(value, _VALUE_INFO_NAME) for value in graph[_GRAPH_INPUT]}
        # The tensors computed from the values of the inputs; nodes are in topological order.
        variable = inputs - constant
        for each in graph[_GRAPH_NODE]:
            node = self._read_node(each, level)
            if not level:
                self._note_unbounded(node, variable)
            if node.operator not in _OF_SHAPE and not variable.isdisjoint(node.inputs):
                variable.update(node.outputs)

    def _note_unbounded(self, node: _Node, variable: Collection[bytes] | None) -> None:
        if not self._unbounded and node.is_unbounded(variable):
            self._unbounded = node.operator

    def _read_node(self, message: WireField, level: int) -> _Node:
        node = self._group(message)
        operator = self._last_text(node[_NODE_OPERATOR])
        # ONNX Runtime turns constants of the main graph into initializers.
        is_constant = not level and operator == b"Constant"
        weights = self._weights if is_constant else self._nested_weights
        has_graph = [self._read_attribute(each, level, weights) for each in node[_NODE_ATTRIBUTE]]
        return _Node(
            operator.decode(errors="replace"),
            [self._text(each) for each in node[_NODE_INPUT]],
            [self._text(each) for each in node[_NODE_OUTPUT]],
            any(has_graph),
        )

    def _read_attribute(self, attribute: WireField, level: int, weights: set[str]) -> bool:
        """Collect the weights in an attribute; return whether it contains a graph."""
        has_graph = False
        for part in self._fields(attribute, _ATTRIBUTE_NUMBERS):
            if part.number in _ATTRIBUTE_TENSORS:
                self._read_tensor(part, weights)
            elif part.number in _ATTRIBUTE_SPARSE:
                self._read_sparse(part)
            elif part.number in _ATTRIBUTE_GRAPHS:
                has_graph = True
                self._read_graph(part, level + 1)
        return has_graph

    def _read_sparse(self, tensor: WireField) -> None:
        for part in self._select(tensor, _SPARSE_TENSORS):
            self._read_tensor(part, self._nested_weights)

    def _read_tensor(self, message: WireField, weights: set[str]) -> bytes:
        """Return the name of a tensor; if its data is in another file, add that to the weights."""
        tensor = self._group(message, _TENSOR_NUMBERS)
        if tensor[_TENSOR_LOCATION] and tensor[_TENSOR_LOCATION][-1].value == _EXTERNAL:
            entries = {
                self._find_text(entry, _ENTRY_KEY): self._find_text(entry, _ENTRY_VALUE)
                for entry in tensor[_TENSOR_EXTERNAL]
            }
            weights.add(entries.get(b"location", b"").decode(errors="surrogateescape"))
        return self._last_text(tensor[_TENSOR_NAME])

    def _fields(self, message: WireField, repeated: Collection[int] = ()) -> Iterator[WireField]:
        return self._file.fields(message.start, message.end, repeated)

    def _group(
        self, message: WireField, repeated: Collection[int] = ()
    ) -> Mapping[int, Sequence[WireField]]:
        """Return the fields of a message by number."""
        grouped: defaultdict[int, list[WireField]] = defaultdict(list)
        for part in self._fields(message, repeated):
            grouped[part.number].append(part)
        return grouped

    def _select(self, message: WireField, numbers: Collection[int]) -> Iterator[WireField]:
        return (part for part in self._fields(message) if part.number in numbers)

    def _find_text(self, message: WireField, number: int) -> bytes:
        """Return the text in a field of the message; the last one if there are several."""
        return self._last_text(self._group(message)[number])

    def _last_text(self, fields: Sequence[WireField]) -> bytes:
        return self._text(fields[-1]) if fields else b""

    def _text(self, part: WireField) -> bytes:
        length = part.end - part.start
        if length > _LONGEST_NAME:
            raise MalformedFile(f"it has a name of {length:,} bytes")
        return self._file.read(part.start, length)
