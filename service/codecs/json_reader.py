"""Reads JSON: whole documents, or only the numbers of a request.

orjson reads documents, and its errors become sentences that say what to send. simdjson hands out
all numbers of an array at once, without a Python object for each of them. That part reports no
errors: anything but plain numbers in the right positions is None, and is then read by orjson
(docs/decisions/0020-simdjson.md).
"""

import re
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from service.engine.tensors import DTYPES
from service.errors import InvalidRequest
from service.filetypes import recognised

try:
    import simdjson
except ImportError:  # there is none for every version of Python
    simdjson = None  # type: ignore[assignment] # checked below

# A first line of words between separators, and another line.
_TABLE = re.compile(rb"[\w ]++(?:[,;\t][\w ]*+)++\r?\n.")
# Where the first line of a table ends, at the latest.
_LONGEST_FIRST_LINE = 4096
# Far below Python's recursion limit, and above the 64 axes that an array may have.
_MOST_LEVELS = 100
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

Numbers = npt.NDArray[np.float64]

_INSTANCES = "instances"
# What the library raises where the text or what it holds is anything else.
_DOUBTS = (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError)
# What numbers are made of, and white space; what is left is the shape.
_IN_NUMBERS = b"0123456789+-.eE \t\r\n"
_MOST_REMEMBERED = 4096
# In rows of numbers there are quotation marks nowhere but around one key, which comes first.
_LAST_QUOTE = 64
# Up to so many rows are looked at one by one.
_FEW = 8
# Of a shorter text orjson makes objects sooner than simdjson gives numbers.
_SHORTEST = 256
# A parser keeps room for the longest text that it has read.
_LONGEST_KEPT = 64 * 1024
# By the kind of an element type: what its numbers are read as.
_READ_AS = {"f": ("d", np.float64), "i": ("i", np.int64), "u": ("u", np.uint64)}
# The brackets of inputs, shape and data.
_BRACKETS_OF_TENSOR = 3


def may_hold_booleans(body: bytes) -> bool:
    """Whether a boolean can be among the values of a JSON body."""
    # A single letter is found ten times as fast as a word.
    return (b"u" in body and b"true" in body) or (b"l" in body and b"false" in body)


def parse_json(body: bytes, example: Callable[[], bytes]) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Parse, or say what is wrong and what would be right.

    Args:
        body: what was sent.
        example: makes a body that this endpoint takes.

    Raises:
        InvalidRequest: it is empty, not JSON, or nested too deeply.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        wanted = f"Send for example {example().decode()}"
        if not body or body.isspace():
            raise InvalidRequest(f"The body is empty. {wanted}") from None
        kind = recognised(body)
        reason = f"The body is {kind}, not JSON." if kind else f"The body is not JSON: {error}."
        if _TABLE.match(body[:_LONGEST_FIRST_LINE]):
            reason += " A table is sent with the header Content-Type: text/csv."
        if any(token in body for token in (b"NaN", b"Infinity")):
            reason += " JSON has no NaN or Infinity; send null where a value may be missing."
        raise InvalidRequest(f"{reason} {wanted}") from None
    if len(body) > 2 * _MOST_LEVELS:
        _require_shallow(body, document)
    return document


def _require_shallow(body: bytes, document: object) -> None:
    """Reject arrays and objects nested too deeply for functions that call themselves.

    Args:
        body: JSON, as it was sent.
        document: what the body holds.

    Raises:
        InvalidRequest: there are more than `_MOST_LEVELS` levels.
    """
    if body.count(b"[") + body.count(b"{") <= _MOST_LEVELS:
        return
    # Each replacement takes away the innermost level of all that is left.
    brackets = body.translate(None, _NOT_BRACKETS)
    for _ in range(_MOST_LEVELS):
        outer = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(outer) == len(brackets):
            break
        brackets = outer
    # Brackets within strings are left over too, so what is left is only a suspicion.
    if brackets and _levels(document) > _MOST_LEVELS:
        raise InvalidRequest(
            f"The body nests arrays and objects more than {_MOST_LEVELS} levels deep; send rows "
            "or tensors as the documentation shows them."
        )


def _levels(document: Any) -> int:  # noqa: ANN401 - JSON is any of its types
    """How deeply arrays and objects are nested; counts to one above `_MOST_LEVELS`."""
    level = [document]
    for depth in range(_MOST_LEVELS + 1):
        level = [one for one in level if isinstance(one, dict | list)]
        if not level:
            return depth
        level = list(
            chain.from_iterable(it.values() if isinstance(it, dict) else it for it in level)
        )
    return _MOST_LEVELS + 1


def rows_of_numbers(body: bytes) -> Numbers | None:
    """The rows ``[rows, numbers]`` of a body that is nothing but rows of as many numbers each.

    They are an array of arrays, bare or under ``instances``.
    """
    if simdjson is None or len(body) < _SHORTEST or body.find(b'"', _LAST_QUOTE) >= 0:
        return None
    try:
        return _rows(body)
    except _DOUBTS:
        return None


def numbers_under(body: bytes, key: str) -> Numbers | None:
    """The flat array under a key ``[1, numbers]``, in a body that has nothing else."""
    if simdjson is None or len(body) < _SHORTEST or body.count(b"[") != 1:
        return None
    try:
        document = _parsed(body)
        return _all_of(document[key])[None] if len(document) == 1 else None
    except _DOUBTS:
        return None


def request_of_tensor(text: bytes) -> Mapping[str, Any] | None:
    """A request of the Open Inference Protocol as JSON's reader has it, but for its one tensor.

    That has an array as its ``data``: of 64-bit floating point, or integers where its ``datatype``
    is one of integers.
    """
    is_long = len(text) >= _SHORTEST
    if simdjson is None or not is_long or text.count(b"[") != _BRACKETS_OF_TENSOR:
        return None
    try:
        return _request(text)
    except _DOUBTS:
        return None


def _rows(body: bytes) -> Numbers | None:
    document = _parsed(body)
    bare = isinstance(document, simdjson.Array)
    if not bare and len(document) != 1:
        return None
    rows = document if bare else document[_INSTANCES]
    count = len(rows)
    if body.count(b"[") != count + 1:
        return None  # one of the rows, or something in it, is no array or is one too many
    if count > _FEW:
        numbers = _all_of(rows)
        width = len(numbers) // max(count, 1)
        head, tail = (b"", b"") if bare else (b'{"instancs":', b"}")  # less what numbers have
        if body.translate(None, _IN_NUMBERS) != head + _shape(count, width) + tail:
            return None
        return numbers.reshape(count, width)
    widths = {len(row) for row in rows}
    if len(widths) != 1 or 0 in widths:
        return None
    return _all_of(rows).reshape(count, widths.pop())


def _request(text: bytes) -> Mapping[str, Any] | None:
    document = _parsed(text)
    (tensor,) = document["inputs"]
    letter, dtype = _READ_AS[DTYPES[tensor["datatype"]].kind]
    data = np.frombuffer(tensor["data"].as_buffer(of_type=letter), dtype)
    fields = {key: _plain(tensor[key]) for key in tensor if key != "data"}
    around = {key: _plain(document[key]) for key in document if key != "inputs"}
    if len(fields) + 1 != len(tensor) or len(around) + 1 != len(document):
        return None  # a key comes twice, of which the last one counts
    return around | {"inputs": [fields | {"data": data}]}


class _Parsers(threading.local):
    """One for each thread."""

    def __init__(self) -> None:
        self.kept = simdjson.Parser()


_PARSERS = None if simdjson is None else _Parsers()


def _parsed(text: bytes) -> Any:  # noqa: ANN401 - JSON is any of its types
    if not text.startswith((b"{", b"[")):
        raise ValueError  # orjson says what it thinks of a byte-order mark
    if _PARSERS is None or len(text) > _LONGEST_KEPT:
        return simdjson.Parser().parse(text)
    return _PARSERS.kept.parse(text)


def _all_of(array: Any) -> Numbers:  # noqa: ANN401 - as above
    return np.frombuffer(array.as_buffer(of_type="d"))


def _plain(value: Any) -> Any:  # noqa: ANN401 - as above
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _shape(rows: int, width: int) -> bytes:
    """What is left of so many rows without their numbers."""
    # A caller chooses how many there are, so that only short ones are remembered.
    short = rows * width <= _MOST_REMEMBERED
    return _remembered_shape(rows, width) if short else _written_shape(rows, width)


def _written_shape(rows: int, width: int) -> bytes:
    row = b"[" + b"," * (width - 1) + b"]"
    return b"[" + b",".join([row] * rows) + b"]"


_remembered_shape = lru_cache(maxsize=64)(_written_shape)
