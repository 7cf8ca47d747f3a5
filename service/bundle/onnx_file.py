"""ONNX files: checked before they are read, and what the service needs to know of their graph.

The files are protobuf messages, described in
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; the numbers of fields are from there.
Weights are skipped, so that a file of any size is checked with little memory, and one that cannot
be a graph is refused before it is read.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from service.bundle.disk import open_regular, read_exactly
from service.bundle.errors import NotOnnx
from service.bundle.protobuf import Field, Malformed, ProtobufFile

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


def read_onnx(path: Path) -> OnnxFile:
    """Read an ONNX file, once its size and its structure show that it can be one.

    Raises:
        NotOnnx: it is too large or malformed.
        BundleError: it is missing, or cannot be read.
    """
    with open_regular(path) as (file, size):
        return onnx_file(file, size, path.name)


def onnx_file(file: BinaryIO, size: int, name: str) -> OnnxFile:
    """The same of an open file of so many bytes.

    Raises:
        NotOnnx: it is too large or malformed.
        BundleError: it cannot be read.
    """
    if size > MAX_ONNX_BYTES:
        raise NotOnnx(
            f"{name} has {size:,} bytes, and an ONNX file at most {MAX_ONNX_BYTES:,}; save it with "
            "its weights in files of their own (external data)"
        )
    facts = facts_of(file, size, name)
    return OnnxFile(read_exactly(file, size, name), facts)


def facts_of(file: BinaryIO, size: int, name: str) -> GraphFacts:
    """What an open ONNX file of so many bytes says about its graph.

    Raises:
        NotOnnx: it is malformed.
    """
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

    def _main_graph(self, graph: Field) -> None:
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

    def _subgraph(self, graph: Field, level: int) -> None:
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

    def _node(self, message: Field, level: int, *, main: bool = False) -> _Node:
        operator = b""
        inputs: list[bytes] = []
        outputs: list[bytes] = []
        attributes: list[Field] = []
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

    def _attribute(self, attribute: Field, level: int, weights: set[str]) -> bool:
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

    def _sparse(self, tensor: Field) -> None:
        for part in self._fields(tensor):
            if part.number in _SPARSE_TENSORS:
                self._tensor(part, self._nested_weights)

    def _tensor(self, tensor: Field, weights: set[str]) -> bytes:
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
        self, messages: Sequence[Field], numbers: Collection[int], wanted: Collection[int]
    ) -> Iterator[Field]:
        """The wanted fields of the messages of these numbers."""
        for message in messages:
            if message.number in numbers:
                yield from (part for part in self._fields(message) if part.number in wanted)

    def _fields(self, message: Field, repeated: Collection[int] = ()) -> Iterator[Field]:
        return self._file.fields(message.start, message.end, repeated)

    def _text_in(self, message: Field, number: int) -> bytes:
        """The text that a field of the message holds."""
        texts = [self._text(part) for part in self._fields(message) if part.number == number]
        return texts[-1] if texts else b""

    def _text(self, part: Field) -> bytes:
        length = part.end - part.start
        if length > _LONGEST_NAME:
            raise Malformed(f"it has a name of {length:,} bytes")
        return self._file.read(part.start, length)
