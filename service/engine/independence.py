"""Whether the rows of someone else's graph may be answered together.

A bundle's maker proves that; of a bare graph nobody says it. So its operators are read from the
file, and where each is one of a feed-forward network's, it is asked rows by chance, alone and
among others: every bit must be the same. Those operators mix rows always or never, not for some
values alone, so that chance would show it.
"""

from collections.abc import Iterator

import numpy as np

from service.engine.datatypes import Array, Arrays
from service.engine.session import Session

# None of them chooses among rows, or decides anything by comparing them.
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
# Fields of ONNX's messages, and of those of a node the ones that say what it computes.
_GRAPH, _FUNCTIONS, _NODE, _OPERATOR, _DOMAIN = 7, 25, 1, 4, 7
_LENGTHS = 2
_FIXED_BYTES = {1: 8, 5: 4}

_ROWS = 8
_SIZES = (2, 3, 7, 8, 32)
# Weights may be made for numbers of any of these sizes.
_SCALES = (1.0, 0.1, 100.0)


def rows_are_independent(session: Session, model: bytes) -> bool:
    """Whether a row of the graph's one input is answered the same to the bit among any others.

    Args:
        session: of the graph.
        model: the content of ``model.onnx``.
    """
    kinds = session.rows
    if kinds is None or len(kinds[0]) != 1 or not _is_feed_forward(model):
        return False
    ((_, row),) = kinds[0]
    try:
        told = [_agree(session, rows) for rows in _by_chance(row)]
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors share no narrower base
        return False  # by chance there was a row that it does not take
    # Rows that are all answered alike say nothing.
    return all(same for same, _ in told) and any(differ for _, differ in told)


def probe(session: Session) -> Array | None:
    """A row of the graph's one input, to be timed; None where it has another form."""
    kinds = session.rows
    if kinds is None or len(kinds[0]) != 1:
        return None
    ((_, row),) = kinds[0]
    return next(_by_chance(row))[:1]


def _by_chance(row: Array) -> Iterator[Array]:
    """Rows of the input's own shape and datatype."""
    random = np.random.default_rng(1)
    shape = (_ROWS, *row.shape[1:])
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


def _is_feed_forward(model: bytes) -> bool:
    """Whether all that the graph computes is a feed-forward network's."""
    try:
        fields = list(_fields(memoryview(model)))
        graphs = [content for number, content in fields if number == _GRAPH]
        if len(graphs) != 1 or any(number == _FUNCTIONS for number, _ in fields):
            return False
        return all(_is_known(content) for number, content in _fields(graphs[0]) if number == _NODE)
    except (IndexError, ValueError):
        return False


def _is_known(node: memoryview) -> bool:
    operator, domain = "", b""
    for number, content in _fields(node):
        if number == _OPERATOR:
            operator = bytes(content).decode()
        elif number == _DOMAIN:
            domain = bytes(content)
    return operator in _FEED_FORWARD and domain in _DOMAINS


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a protobuf message that have a length, and their contents.

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
            _, place = _varint(message, place)
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
