"""Parse JSON: whole documents, or only the numbers of a request.

orjson parses documents, and its errors become messages with a hint. simdjson returns all numbers of
an array at once, without a Python object for each of them. Its functions report no errors: they
return None for anything but plain numbers in the expected positions, which orjson then parses
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
from service.filetypes import describe_file_type

try:
    import simdjson
except ImportError:  # it is not available for every version of Python
    simdjson = None  # type: ignore[assignment] # checked below

# A first line of words between separators, and another line.
_TABLE = re.compile(rb"[\w ]++(?:[,;\t][\w ]*+)++\r?\n.")
# The end of the first line of a table is searched within this length.
_LONGEST_FIRST_LINE = 4096
# Far below Python's recursion limit, and above the 64 axes that an array may have.
_MAX_LEVELS = 100
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

Numbers = npt.NDArray[np.float64]

_INSTANCES = "instances"
# The errors of simdjson for text or values of any other kind.
_PARSE_ERRORS = (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError)
# The characters of numbers, and white space; the other characters are the shape.
_NUMBER_CHARACTERS = b"0123456789+-.eE \t\r\n"
_MAX_CACHED_NUMBERS = 4096
# Rows of numbers have quotation marks only around one key, at the beginning.
_LAST_QUOTE = 64
# Up to this number, rows are checked one by one.
_MAX_ROWS_CHECKED_SINGLY = 8
# orjson parses a shorter text faster than simdjson.
_SHORTEST = 256
# A parser keeps the memory for the longest text that it has parsed.
_LONGEST_REUSED = 64 * 1024
# By the kind of an element type: the type in which its numbers are parsed.
_READ_AS = {"f": ("d", np.float64), "i": ("i", np.int64), "u": ("u", np.uint64)}
# The brackets of inputs, shape and data.
_BRACKETS_OF_TENSOR = 3


def may_hold_booleans(body: bytes) -> bool:
    """Return whether a JSON body can contain a boolean."""
    # A single letter is found ten times as fast as a word.
    return (b"u" in body and b"true" in body) or (b"l" in body and b"false" in body)


def parse_json(body: bytes, example: Callable[[], bytes]) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Parse a JSON body; ``example`` returns a valid one, for the message of an error.

    Raise `InvalidRequest` if the body is empty, not JSON, or nested too deeply.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        wanted = f"Send for example {example().decode()}"
        if not body or body.isspace():
            raise InvalidRequest(f"The body is empty. {wanted}") from None
        kind = describe_file_type(body)
        reason = f"The body is {kind}, not JSON." if kind else f"The body is not JSON: {error}."
        if _TABLE.match(body[:_LONGEST_FIRST_LINE]):
            reason += " A table is sent with the header Content-Type: text/csv."
        if any(token in body for token in (b"NaN", b"Infinity")):
            reason += " JSON has no NaN or Infinity; send null where a value may be missing."
        raise InvalidRequest(f"{reason} {wanted}") from None
    if len(body) > 2 * _MAX_LEVELS:
        _require_shallow(body, document)
    return document


def _require_shallow(body: bytes, document: object) -> None:
    """Reject arrays and objects nested too deeply for recursive functions."""
    if body.count(b"[") + body.count(b"{") <= _MAX_LEVELS:
        return
    # Each replacement removes the innermost level of the brackets that are left.
    brackets = body.translate(None, _NOT_BRACKETS)
    for _ in range(_MAX_LEVELS):
        outer = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(outer) == len(brackets):
            break
        brackets = outer
    # Brackets within strings are left too, so the levels of the document are counted.
    if brackets and _levels(document) > _MAX_LEVELS:
        raise InvalidRequest(
            f"The body nests arrays and objects more than {_MAX_LEVELS} levels deep; send rows "
            "or tensors as the documentation shows them."
        )


def _levels(document: Any) -> int:  # noqa: ANN401 - JSON is any of its types
    """Return the levels of nested arrays and objects; counts to one above `_MAX_LEVELS`."""
    level = [document]
    for depth in range(_MAX_LEVELS + 1):
        level = [one for one in level if isinstance(one, dict | list)]
        if not level:
            return depth
        level = list(
            chain.from_iterable(it.values() if isinstance(it, dict) else it for it in level)
        )
    return _MAX_LEVELS + 1


def parse_number_rows(body: bytes) -> Numbers | None:
    """Parse a body of only an array of rows of numbers, bare or under ``instances``.

    The result is ``[rows, numbers]``, or None for any other body.
    """
    if simdjson is None or len(body) < _SHORTEST or body.find(b'"', _LAST_QUOTE) >= 0:
        return None
    try:
        return _parse_rows(body)
    except _PARSE_ERRORS:
        return None


def parse_numbers_under(body: bytes, key: str) -> Numbers | None:
    """Parse a body of only a flat array under this key into ``[1, numbers]``; else None."""
    if simdjson is None or len(body) < _SHORTEST or body.count(b"[") != 1:
        return None
    try:
        document = _parse(body)
        return _to_numbers(document[key])[None] if len(document) == 1 else None
    except _PARSE_ERRORS:
        return None


def parse_tensor_request(text: bytes) -> Mapping[str, Any] | None:
    """Parse a request of the Open Inference Protocol with one tensor of numbers.

    Returns:
        The document with an array as ``data``: 64-bit integers for an integer ``datatype``, else
        64-bit floating point. None for any other request.
    """
    is_long = len(text) >= _SHORTEST
    if simdjson is None or not is_long or text.count(b"[") != _BRACKETS_OF_TENSOR:
        return None
    try:
        return _parse_request(text)
    except _PARSE_ERRORS:
        return None


def _parse_rows(body: bytes) -> Numbers | None:
    document = _parse(body)
    bare = isinstance(document, simdjson.Array)
    if not bare and len(document) != 1:
        return None
    rows = document if bare else document[_INSTANCES]
    count = len(rows)
    if body.count(b"[") != count + 1:
        return None  # a row is not an array, or contains one
    if count > _MAX_ROWS_CHECKED_SINGLY:
        numbers = _to_numbers(rows)
        width = len(numbers) // max(count, 1)
        # Without the characters of numbers, of which "e" is one.
        head, tail = (b"", b"") if bare else (b'{"instancs":', b"}")
        if body.translate(None, _NUMBER_CHARACTERS) != head + _shape(count, width) + tail:
            return None
        return numbers.reshape(count, width)
    widths = {len(row) for row in rows}
    if len(widths) != 1 or 0 in widths:
        return None
    return _to_numbers(rows).reshape(count, widths.pop())


def _parse_request(text: bytes) -> Mapping[str, Any] | None:
    document = _parse(text)
    (tensor,) = document["inputs"]
    letter, dtype = _READ_AS[DTYPES[tensor["datatype"]].kind]
    data = np.frombuffer(tensor["data"].as_buffer(of_type=letter), dtype)
    fields = {key: _to_python(tensor[key]) for key in tensor if key != "data"}
    others = {key: _to_python(document[key]) for key in document if key != "inputs"}
    if len(fields) + 1 != len(tensor) or len(others) + 1 != len(document):
        return None  # a key is repeated, and orjson takes the last one
    return others | {"inputs": [fields | {"data": data}]}


class _Parsers(threading.local):
    """A reused parser for each thread."""

    def __init__(self) -> None:
        self.reused = simdjson.Parser()


_PARSERS = None if simdjson is None else _Parsers()


def _parse(text: bytes) -> Any:  # noqa: ANN401 - JSON is any of its types
    if not text.startswith((b"{", b"[")):
        raise ValueError  # orjson reports a byte-order mark
    if _PARSERS is None or len(text) > _LONGEST_REUSED:
        return simdjson.Parser().parse(text)
    return _PARSERS.reused.parse(text)


def _to_numbers(array: Any) -> Numbers:  # noqa: ANN401 - as above
    return np.frombuffer(array.as_buffer(of_type="d"))


def _to_python(value: Any) -> Any:  # noqa: ANN401 - as above
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _shape(rows: int, width: int) -> bytes:
    """Return the JSON of these rows without their numbers."""
    # Clients choose the number of rows, so only short shapes are cached.
    is_short = rows * width <= _MAX_CACHED_NUMBERS
    return _cached_shape(rows, width) if is_short else _build_shape(rows, width)


def _build_shape(rows: int, width: int) -> bytes:
    row = b"[" + b"," * (width - 1) + b"]"
    return b"[" + b",".join([row] * rows) + b"]"


_cached_shape = lru_cache(maxsize=64)(_build_shape)
