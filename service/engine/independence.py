"""Whether the rows of someone else's graph may be answered together.

A bundle's maker proves that; of a bare graph nobody says it. So its operators are read from the
file: each must be one of a feed-forward network's, and leave the axis of rows where it is. What
passes is asked rows by chance, alone and among others, and every bit must be the same. A reshape
that mixes rows would show there.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from service.engine.datatypes import Array, Arrays
from service.engine.session import Session

# None of them decides anything by comparing rows.
_NAMES = """
Abs Add AveragePool BatchNormalization Cast Celu Clip Concat Constant ConstantOfShape Conv
ConvTranspose Cos Div Dropout Elu Erf Exp Expand Flatten Gather Gelu Gemm GlobalAveragePool
GlobalMaxPool HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization
LeakyRelu Log LogSoftmax MatMul MaxPool Mish Mul Neg PRelu Pad Pow Reciprocal Relu Reshape Selu
Shape Sigmoid Sin Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Tanh Transpose
Unsqueeze LinearClassifier LinearRegressor Normalizer SVMClassifier SVMRegressor Scaler
TreeEnsembleClassifier TreeEnsembleRegressor
"""
_FEED_FORWARD = frozenset(_NAMES.split())
_DOMAINS = {b"", b"ai.onnx", b"ai.onnx.ml"}
# Those that could take rows apart, put them together or turn them into something else.
_MOVING = {"Slice", "Split", "Pad", "Expand", "Squeeze", "Unsqueeze"}
# Those whose attribute may name the axis of rows.
_ALONG_AN_AXIS = {"Concat", "Flatten", "Softmax", "LogSoftmax", "LayerNormalization"}
# Those whose inputs are all of rows, where one is.
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Pow", "Concat"}

# Fields of ONNX's messages, by their numbers.
_GRAPH, _FUNCTIONS = 7, 25
_NODE, _INITIALIZER, _INPUT = 1, 5, 11
_INPUT_NAME, _INITIALIZER_NAME = 1, 8
_TAKEN, _MADE, _OPERATOR, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7
_NAME, _NUMBER, _SUBGRAPHS, _NUMBERS = 1, 3, {6, 11}, 8
_LENGTHS = 2
_FIXED_BYTES = {1: 8, 5: 4}

_ROWS = 8
_SIZES = (2, 3, 7, 8, 32)
# Weights may be made for numbers of any of these sizes.
_SCALES = (1.0, 0.1, 100.0)
# In a row; larger ones take long, and gain little from company.
_MOST_NUMBERS = 1 << 20


def rows_are_independent(session: Session) -> bool:
    """Whether a row of the graph's one input is answered the same to the bit among any others.

    Args:
        session: of a graph that `is_feed_forward`, and takes the row that `probe` gives.
    """
    row = _row_of(session)
    if row is None:
        return False
    told = [_agree(session, rows) for rows in _by_chance(row, _ROWS)]
    # Rows that are all answered alike say nothing.
    return all(same for same, _ in told) and any(differ for _, differ in told)


def probe(session: Session) -> Array | None:
    """A row of the graph's one input, to be timed; None where it has another form, or is large."""
    row = _row_of(session)
    return None if row is None else next(_by_chance(row, 1))


def _row_of(session: Session) -> Array | None:
    """The one input without rows."""
    kinds = session.rows
    if kinds is None or len(kinds[0]) != 1:
        return None
    ((_, row),) = kinds[0]
    return row if np.prod(row.shape[1:]) <= _MOST_NUMBERS else None


def _by_chance(row: Array, count: int) -> Iterator[Array]:
    """Rows of the input's own shape and datatype."""
    random = np.random.default_rng(1)
    shape = (count, *row.shape[1:])
    for scale in _SCALES:
        if row.dtype.kind == "f":
            yield (scale * random.normal(size=shape)).astype(row.dtype)
        else:
            # Of whole numbers, which may be places in a table, only the first two are sure.
            most = 256 if row.dtype == np.uint8 and len(shape) > 2 else 2  # noqa: PLR2004 - pixels
            yield random.integers(0, most, shape).astype(row.dtype)


def _agree(session: Session, rows: Array) -> tuple[bool, bool]:
    """Whether these rows are answered alike alone and together, and whether they differ at all."""
    alone = [session.run((row[None],)) for row in rows]
    for size in _SIZES:
        places = np.arange(size) % _ROWS
        together = session.run((rows[places],))
        if not all(_is_row(together, at, size, alone[place]) for at, place in enumerate(places)):
            return False, False
    bits = {tuple(output.tobytes() for output in answer) for answer in alone}
    return True, len(bits) > 1


def _is_row(together: Arrays, at: int, size: int, alone: Arrays) -> bool:
    """Whether what was answered to a row among others is finite, and what it was alone."""
    return all(
        len(output) == size
        and one.dtype.kind in "fiub"
        and bool(np.isfinite(one).all())
        and output[at : at + 1].tobytes() == one.tobytes()
        for output, one in zip(together, alone, strict=True)
    )


class _Node(NamedTuple):
    """An operator at work: the tensors that it takes and makes, and its attributes of integers."""

    operator: str
    taken: Sequence[bytes]
    made: Sequence[bytes]
    attributes: Mapping[bytes, Sequence[int]]

    def leaves_rows(self, rows: set[bytes]) -> bool:
        """Whether each row stays by itself, and where it was.

        Args:
            rows: the tensors that have them.
        """
        of_rows = [name in rows for name in self.taken]
        if not any(of_rows) or self.operator == "Shape":
            return True
        if self.operator == "Gather":
            return not of_rows[0]
        if any(of_rows[1:]) and self.operator not in _ELEMENTWISE:
            return False  # weights, a shape or a bound that depends on rows
        moved = (
            self.operator in _MOVING
            or (self.operator == "Transpose" and self._integer(b"perm", 1) != 0)
            or (self.operator in _ALONG_AN_AXIS and self._integer(b"axis", 1) == 0)
            or (self.operator == "Gemm" and self._integer(b"transA", 0) != 0)
        )
        return not moved

    def _integer(self, name: bytes, default: int) -> int:
        """An attribute, or the first of several that it is."""
        return self.attributes.get(name, (default,))[0]


def is_feed_forward(model: bytes) -> bool:
    """Whether all that a graph computes is a feed-forward network's, and leaves rows in place.

    Args:
        model: the content of ``model.onnx``.
    """
    try:
        fields = list(_messages(memoryview(model)))
        graphs = [content for number, content in fields if number == _GRAPH]
        if len(graphs) != 1 or any(number == _FUNCTIONS for number, _ in fields):
            return False
        (content,) = graphs
        graph = list(_messages(content))
        constant = {_name_in(it, _INITIALIZER_NAME) for at, it in graph if at == _INITIALIZER}
        rows = {_name_in(it, _INPUT_NAME) for at, it in graph if at == _INPUT} - constant
        for node in (_node(it) for at, it in graph if at == _NODE):
            if node is None or not node.leaves_rows(rows):
                return False
            if node.operator != "Shape" and not rows.isdisjoint(node.taken):
                rows.update(node.made)
    except (IndexError, ValueError):
        return False
    return True


def _node(message: memoryview) -> _Node | None:
    """A node of a known operator; None of any other, or one that holds a graph."""
    operator, domain = "", b""
    taken: list[bytes] = []
    made: list[bytes] = []
    attributes: dict[bytes, Sequence[int]] = {}
    for number, content in _messages(message):
        if number == _OPERATOR:
            operator = bytes(content).decode()
        elif number == _DOMAIN:
            domain = bytes(content)
        elif number == _ATTRIBUTE:
            fields = list(_fields(content))
            if any(at in _SUBGRAPHS for at, _ in fields):
                return None
            attributes[_name_in(content, _NAME)] = _numbers(fields)
        elif number in (_TAKEN, _MADE):
            (taken if number == _TAKEN else made).append(bytes(content))
    known = operator in _FEED_FORWARD and domain in _DOMAINS
    return _Node(operator, taken, made, attributes) if known else None


def _numbers(fields: Sequence[tuple[int, memoryview | int]]) -> Sequence[int]:
    """An attribute's integer or integers, packed or not."""
    found: list[int] = []
    for number, content in fields:
        if number in (_NUMBER, _NUMBERS) and isinstance(content, int):
            found.append(content)
        elif number == _NUMBERS and not isinstance(content, int):
            place = 0
            while place < len(content):
                value, place = _varint(content, place)
                found.append(value)
    return found or (-1,)


def _name_in(message: memoryview, number: int) -> bytes:
    return next((bytes(content) for at, content in _messages(message) if at == number), b"")


def _messages(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields that have a length."""
    for number, content in _fields(message):
        if not isinstance(content, int):
            yield number, content


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a protobuf message by number: whole numbers, and what has a length.

    Raises:
        IndexError: it is cut short within a number.
        ValueError: it is cut short elsewhere, or is none.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == _LENGTHS:
            length, place = _varint(message, place)
            if place + length > len(message):
                raise ValueError(length)
            yield number, message[place : place + length]
            place += length
        elif kind == 0:
            value, place = _varint(message, place)
            yield number, value
        elif kind in _FIXED_BYTES:
            place += _FIXED_BYTES[kind]
        else:
            raise ValueError(kind)


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a number has no such bit
            return value, place
