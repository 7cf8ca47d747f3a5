"""ONNX files: checked before they are read, and the facts that the service needs of their graph.

The files are protobuf messages, described in
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; the numbers of fields are from there.
Weights are skipped, so that a file of any size is checked with little memory, and one that cannot
be a graph is refused before it is read.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import BinaryIO, NamedTuple

from service.bundle.errors import NotOnnx

_VARINT, _FIXED_64, _LENGTH, _FIXED_32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED_64: 8, _FIXED_32: 4}
_KINDS = {_VARINT, _FIXED_64, _LENGTH, _FIXED_32}
_CONTINUES = 0x80
_LONGEST_VARINT = 10
# A tag and a number or length behind it.
_LONGEST_HEAD = 2 * _LONGEST_VARINT
_HIGHEST_FIELD = 2**29 - 1
_WINDOW_BYTES = 64 * 1024

MAX_ONNX_BYTES = 2**31 - 1
"""Protobuf's own limit."""
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
# Repeated numbers, which are skipped in one step: a tree ensemble has millions of them.
_MODEL_NUMBERS = {1, 5}
_ATTRIBUTE_NUMBERS = {7, 8}
_TENSOR_NUMBERS = {4, 5, 7}
_LONGEST_NAME = 64 * 1024
# The graphs of large language models have some hundred thousand.
_MOST_FIELDS = 1_000_000
# As deep as protobuf's own reader goes.
_MOST_LEVELS = 100
# What they compute, and for how long, is up to the values that they are given.
_UNBOUNDED = {"Loop", "Scan", "If", "SequenceMap", "NonMaxSuppression", "ImageDecoder"}
# Operators whose output's size is given by the values of these inputs; None stands for all.
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
# What they compute is given by the shape of their input.
_OF_SHAPE = {"Shape", "Size"}


class Malformed(Exception):
    """Bytes that are not the message that they should be; the message says why."""


class WireField(NamedTuple):
    """One field: its number, its value if that is a whole number, and where its content lies."""

    number: int
    value: int
    start: int
    end: int


class ProtobufFile:
    """An open file of protobuf messages.

    It is read a window at a time and never mapped into memory: where another process cuts the file
    short meanwhile, reading a mapped one ends the process by SIGBUS.

    Args:
        file: to be read from its start.
        size: its bytes.
        most_fields: that are read before the file is refused.
    """

    def __init__(self, file: BinaryIO, size: int, most_fields: int) -> None:
        self.size = size
        self._file = file
        self._most_fields = most_fields
        self._fields_read = 0
        self._start = 0
        self._window = b""

    def read(self, start: int, length: int) -> bytes:
        """So many bytes; fewer where the file ends."""
        offset = start - self._start
        if offset < 0 or offset + length > len(self._window):
            self._file.seek(start)
            self._window = self._file.read(max(length, _WINDOW_BYTES))
            self._start, offset = start, 0
        return self._window[offset : offset + length]

    def fields(self, start: int, end: int, repeated: Collection[int] = ()) -> Iterator[WireField]:
        """The fields of a message.

        Args:
            start: of the message in the file.
            end: of the message in the file.
            repeated: numbers of fields of which only the first of a run is wanted.

        Raises:
            Malformed: the bytes are not a message.
        """
        position = start
        while position < end:
            self._fields_read += 1
            if self._fields_read > self._most_fields:
                raise Malformed(f"it has more than {self._most_fields:,} fields")
            kind, field = self._field(position, end)
            yield field
            key, position = (field.number << 3) | kind, field.end
            if field.number in repeated:
                position = self._behind_run(position, end, key, kind)

    def _field(self, position: int, end: int) -> tuple[int, WireField]:
        """The kind of a field, and the field, which ends before the end of its message."""
        head = self.read(position, min(_LONGEST_HEAD, end - position))
        key, used = _varint(head, 0, position)
        number, kind = key >> 3, key & 7
        if not 0 < number <= _HIGHEST_FIELD or kind not in _KINDS:
            raise Malformed(f"byte {position:,} does not begin a field")
        value = 0
        if kind in _FIXED_BYTES:
            begins = behind = position + used + _FIXED_BYTES[kind]
        else:
            value, used = _varint(head, used, position)
            begins = behind = position + used
            if kind == _LENGTH:
                value, behind = 0, begins + value
        if behind > end:
            raise Malformed(
                f"a field at byte {position:,} ends after its message; is it truncated?"
            )
        return kind, WireField(number, value, begins, behind)

    def _behind_run(self, start: int, end: int, key: int, kind: int) -> int:
        """Where the first field begins that is not another number of the same field."""
        position = start
        pattern = _run_of(key, kind)
        while pattern is not None and position < end and self.read(position, 1) == bytes([key]):
            found = pattern.match(self.read(position, min(_WINDOW_BYTES, end - position)))
            if not found or not found.end():
                break
            position += found.end()
        return position


@cache
def _run_of(key: int, kind: int) -> "re.Pattern[bytes] | None":
    """What matches numbers of a field with a tag of one byte, one after another."""
    if key >= _CONTINUES:
        return None
    tag = re.escape(bytes([key]))
    if kind == _VARINT:
        return re.compile(rb"(?:" + tag + rb"[\x80-\xff]{0,9}[\x00-\x7f])*+", re.DOTALL)
    if kind in _FIXED_BYTES:
        return re.compile(rb"(?:" + tag + b"." * _FIXED_BYTES[kind] + rb")*+", re.DOTALL)
    return None


def _varint(head: bytes, used: int, position: int) -> tuple[int, int]:
    """A whole number, and how many bytes of the head are read with it.

    Args:
        head: the first bytes of a field.
        used: how many of them are read already.
        position: where in the file the field begins.
    """
    value = 0
    for shift, byte in enumerate(head[used : used + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < _CONTINUES:
            return value, used + shift + 1
    raise Malformed(f"byte {position:,} does not begin a field")


@dataclass(frozen=True)
class GraphFacts:
    """What a graph says about its weights and its running time.

    ``weights`` are the files, as the graph names them, of initializers and constants that it keeps
    outside itself; ``nested_weights`` those of its subgraphs, functions and attributes.
    ``unbounded`` is the first operator whose running time depends on the values of the graph's
    inputs and not only on their shapes; empty where there is none.
    """

    weights: frozenset[str] = frozenset()
    nested_weights: frozenset[str] = frozenset()
    unbounded: str = ""


@dataclass(frozen=True)
class OnnxFile:
    """A serialized graph and what was read of it."""

    content: bytes = field(repr=False)
    graph: GraphFacts


def facts_of(file: BinaryIO, size: int, name: str) -> GraphFacts:
    """What an open ONNX file of so many bytes says about its graph; its weights are skipped.

    Raises:
        NotOnnx: it is too large or malformed.
    """
    if size > MAX_ONNX_BYTES:
        raise NotOnnx(
            f"{name} has {size:,} bytes, and an ONNX file at most {MAX_ONNX_BYTES:,}; save it with "
            "its weights in files of their own (external data)"
        )
    if not size:
        raise NotOnnx(f"{name} is empty")
    try:
        return _Reader(ProtobufFile(file, size, _MOST_FIELDS)).facts()
    except Malformed as error:
        raise NotOnnx(f"{name} is not an ONNX file: {error}") from None


@dataclass(frozen=True)
class _Node:
    operator: str
    inputs: Sequence[bytes]
    outputs: Sequence[bytes]
    has_graph: bool

    def is_unbounded(self, variable: Collection[bytes] | None) -> bool:
        """Whether the values of the graph's inputs decide how long this node takes.

        Args:
            variable: the tensors whose values follow from those; None for all tensors.
        """
        if self.has_graph or self.operator in _UNBOUNDED:
            return True
        positions = _SIZED_BY.get(self.operator, ())
        sizes = [
            name
            for position, name in enumerate(self.inputs)
            if name and (positions is None or position in positions)
        ]
        return any(variable is None or name in variable for name in sizes)


class _Reader:
    """Collects the facts of one file."""

    def __init__(self, file: ProtobufFile) -> None:
        self._file = file
        self._weights: set[str] = set()
        self._nested_weights: set[str] = set()
        self._unbounded = ""

    def facts(self) -> GraphFacts:
        """Read the whole file.

        Raises:
            Malformed: it is not an ONNX file.
        """
        model = list(self._file.fields(0, self._file.size, _MODEL_NUMBERS))
        graphs = [each for each in model if each.number == _MODEL_GRAPH]
        if not graphs:
            raise Malformed("it has no graph")
        for graph in graphs:
            self._main_graph(graph)
        for node in self._within(model, {_MODEL_FUNCTION}, {_FUNCTION_NODE}):
            self._note(self._node(node, 1), None)
        for graph in self._within(model, {_MODEL_TRAINING}, _TRAINING_GRAPHS):
            self._subgraph(graph, 1)
        return GraphFacts(
            frozenset(self._weights), frozenset(self._nested_weights), self._unbounded
        )

    def _main_graph(self, graph: WireField) -> None:
        parts = list(self._fields(graph))
        constant = set()
        for part in parts:
            if part.number == _GRAPH_INITIALIZER:
                constant.add(self._tensor(part, self._weights))
            elif part.number == _GRAPH_SPARSE:
                self._sparse(part)
        inputs = [self._text_in(it, _VALUE_INFO_NAME) for it in parts if it.number == _GRAPH_INPUT]
        # The tensors whose values follow from those of the inputs; nodes are in running order.
        variable = set(inputs) - constant
        for part in parts:
            if part.number == _GRAPH_NODE:
                node = self._node(part, 1, main=True)
                self._note(node, variable)
                if node.operator not in _OF_SHAPE and not variable.isdisjoint(node.inputs):
                    variable.update(node.outputs)

    def _note(self, node: _Node, variable: Collection[bytes] | None) -> None:
        if not self._unbounded and node.is_unbounded(variable):
            self._unbounded = node.operator

    def _subgraph(self, graph: WireField, level: int) -> None:
        """Collect what lies within a graph that is not the model's own."""
        if level > _MOST_LEVELS:
            raise Malformed(f"its graphs are nested more than {_MOST_LEVELS} levels deep")
        for part in self._fields(graph):
            if part.number == _GRAPH_NODE:
                self._node(part, level)
            elif part.number == _GRAPH_INITIALIZER:
                self._tensor(part, self._nested_weights)
            elif part.number == _GRAPH_SPARSE:
                self._sparse(part)

    def _node(self, message: WireField, level: int, *, main: bool = False) -> _Node:
        operator = b""
        inputs: list[bytes] = []
        outputs: list[bytes] = []
        attributes: list[WireField] = []
        for part in self._fields(message):
            if part.number == _NODE_OPERATOR:
                operator = self._text(part)
            elif part.number == _NODE_INPUT:
                inputs.append(self._text(part))
            elif part.number == _NODE_OUTPUT:
                outputs.append(self._text(part))
            elif part.number == _NODE_ATTRIBUTE:
                attributes.append(part)
        # The runtime makes initializers of the graph's own constants.
        weights = self._weights if main and operator == b"Constant" else self._nested_weights
        has_graph = [self._attribute(each, level, weights) for each in attributes]
        return _Node(operator.decode(errors="replace"), inputs, outputs, any(has_graph))

    def _attribute(self, attribute: WireField, level: int, weights: set[str]) -> bool:
        """Collect what lies within an attribute; whether that is a graph."""
        has_graph = False
        for part in self._fields(attribute, _ATTRIBUTE_NUMBERS):
            if part.number in _ATTRIBUTE_TENSORS:
                self._tensor(part, weights)
            elif part.number in _ATTRIBUTE_SPARSE:
                self._sparse(part)
            elif part.number in _ATTRIBUTE_GRAPHS:
                has_graph = True
                self._subgraph(part, level + 1)
        return has_graph

    def _sparse(self, tensor: WireField) -> None:
        for part in self._fields(tensor):
            if part.number in _SPARSE_TENSORS:
                self._tensor(part, self._nested_weights)

    def _tensor(self, tensor: WireField, weights: set[str]) -> bytes:
        """A tensor's name; where its values lie in another file, that is added to the weights."""
        name, external = b"", False
        entries: dict[bytes, bytes] = {}
        for part in self._fields(tensor, _TENSOR_NUMBERS):
            if part.number == _TENSOR_NAME:
                name = self._text(part)
            elif part.number == _TENSOR_LOCATION:
                external = part.value == _EXTERNAL
            elif part.number == _TENSOR_EXTERNAL:
                key = self._text_in(part, _ENTRY_KEY)
                entries[key] = self._text_in(part, _ENTRY_VALUE)
        if external:
            weights.add(entries.get(b"location", b"").decode(errors="surrogateescape"))
        return name

    def _within(
        self, messages: Sequence[WireField], numbers: Collection[int], wanted: Collection[int]
    ) -> Iterator[WireField]:
        """The wanted fields of the messages of these numbers."""
        for message in messages:
            if message.number in numbers:
                yield from (part for part in self._fields(message) if part.number in wanted)

    def _fields(self, message: WireField, repeated: Collection[int] = ()) -> Iterator[WireField]:
        return self._file.fields(message.start, message.end, repeated)

    def _text_in(self, message: WireField, number: int) -> bytes:
        """The text that a field of the message holds."""
        texts = [self._text(part) for part in self._fields(message) if part.number == number]
        return texts[-1] if texts else b""

    def _text(self, part: WireField) -> bytes:
        length = part.end - part.start
        if length > _LONGEST_NAME:
            raise Malformed(f"it has a name of {length:,} bytes")
        return self._file.read(part.start, length)
