"""Request bodies: read within the operator's limit, checked for media type, parsed as JSON."""

import asyncio
import re
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any

import orjson
from fastapi import Request

from service.api.signatures import recognised
from service.errors import BodyTooLarge, InvalidRequest, UnsupportedContent

JSON = "application/json"
_WORTH_COMPRESSING = 1024
# A larger packed body, which may hold a thousand times its size, is unpacked in a thread.
_MOST_BYTES_AT_ONCE = 4096
# Above it Python lets go of its lock while it joins bytes, which takes a millisecond a megabyte.
_MOST_BYTES_JOINED_AT_ONCE = 1024 * 1024
# What follows a member is copied, so a body of many small ones is unpacked piece by piece.
_PIECE_BYTES = 16 * 1024
BINARY = "application/octet-stream"
# What curl calls every body that is not called otherwise.
FORM = "application/x-www-form-urlencoded"
# gzip has a header of its own; deflate, as clients send it, that of zlib.
WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
# RFC 9110: x-gzip is gzip's old name, and a header without a value says nothing.
_SAME_ENCODING = {"x-gzip": "gzip", "": "identity"}
# A first line of words between separators, and another line.
_TABLE = re.compile(rb"[\w ]+(?:[,;\t][\w ]*)+\r?\n.")
# What else to do with media types that hold these words.
_HINTS = {
    "sheet": " Save a spreadsheet as CSV and send text/csv.",
    "image/": " A picture goes to a model of pictures; GET /models tells which take an image.",
}
_LONGEST_REMEMBERED = 128
_NO_HEADERS: Mapping[str, str] = {}
# Far below Python's recursion limit, and above the 64 axes that an array may have.
_MOST_LEVELS = 100
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_WEIGHT = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")

Refusal = Callable[[int], BodyTooLarge]


async def read_body(request: Request, limit: int, refusal: Refusal = BodyTooLarge) -> bytes:
    """The whole body, decompressed.

    Args:
        request: not yet read.
        limit: in bytes, sent and decompressed.
        refusal: makes the error of a body above the limit, which it is given.

    Raises:
        BodyTooLarge: it is, says that it is, or unpacks to, more than ``limit`` bytes.
        UnsupportedContent: it is compressed by another way than gzip and deflate.
        InvalidRequest: it is not what its encoding says.
    """
    encoding = content_encoding(request)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise refusal(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise refusal(limit)
        chunks.append(chunk)
    body = await _joined(chunks, size)
    if encoding == "identity":
        return body
    if size > _MOST_BYTES_AT_ONCE:
        content = await asyncio.to_thread(_decompressed, body, encoding, limit)
    else:
        content = _decompressed(body, encoding, limit)
    if len(content) > limit:
        raise refusal(limit)
    return content


async def _joined(chunks: list[bytes], size: int) -> bytes:
    """The chunks as one; of a large body in a thread, where joining lets others run meanwhile."""
    if size > _MOST_BYTES_JOINED_AT_ONCE:
        return await asyncio.to_thread(b"".join, chunks)
    return b"".join(chunks)


def content_encoding(request: Request) -> str:
    """``gzip``, ``deflate`` or ``identity``.

    Raises:
        UnsupportedContent: the body is compressed by another way.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    encoding = _SAME_ENCODING.get(encoding, encoding)
    if encoding not in WINDOW_BITS and encoding != "identity":
        raise UnsupportedContent("Content-Encoding", encoding, ["gzip", "deflate", "nothing"])
    return encoding


def require_media_type(content_type: str | None, accepted: tuple[str, ...]) -> None:
    """Refuse other media types; a request that names none is taken at its word.

    Args:
        content_type: the header.
        accepted: a type, or all of a kind, as in ``image/*``.

    Raises:
        UnsupportedContent: the body is said to be something else.
    """
    if content_type is not None and not is_accepted(content_type, accepted):
        given = media_type_of(content_type)
        hint = next((what for sign, what in _HINTS.items() if sign in given), "")
        raise UnsupportedContent("Content-Type", given, accepted, hint)


def is_accepted(content_type: str, accepted: tuple[str, ...]) -> bool:
    """Whether a header names a media type that is read, as `require_media_type` has it."""
    if len(content_type) > _LONGEST_REMEMBERED:
        return _is_accepted(content_type, accepted)
    return _remembered_acceptance(content_type, accepted)


def _is_accepted(content_type: str, accepted: tuple[str, ...]) -> bool:
    given = _media_type(content_type)
    return given in accepted or f"{given.partition('/')[0]}/*" in accepted


_remembered_acceptance = lru_cache(maxsize=256)(_is_accepted)


def media_type_of(content_type: str) -> str:
    """The type without its parameters, in lower case."""
    if len(content_type) > _LONGEST_REMEMBERED:
        return _media_type(content_type)
    return _remembered_media_type(content_type)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


_remembered_media_type = lru_cache(maxsize=256)(_media_type)


def compressed(content: bytes, accepted: str | None) -> tuple[bytes, Mapping[str, str]]:
    """The content as the caller accepts it, with the headers that say so; small ones stay plain.

    Args:
        content: of the answer.
        accepted: the header ``Accept-Encoding``.
    """
    if accepted is None or len(content) < _WORTH_COMPRESSING:
        return content, _NO_HEADERS
    offers = {_offered(offer) for offer in accepted.split(",")}
    for encoding, window_bits in WINDOW_BITS.items():
        if encoding in offers:
            pack = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, window_bits)
            headers = {"content-encoding": encoding, "vary": "accept-encoding"}
            return pack.compress(content) + pack.flush(), headers
    return content, _NO_HEADERS


def _offered(offer: str) -> str | None:
    """The encoding that a part of Accept-Encoding accepts; None where its weight is nothing."""
    encoding, _, weight = offer.replace(" ", "").lower().partition(";")
    stated = _WEIGHT.fullmatch(weight or "q=1")
    if stated is None or not 0 < float(stated[1]) <= 1:
        return None
    return _SAME_ENCODING.get(encoding, encoding)


def _decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """What a body unpacks to; a byte above the limit where that is more.

    Raises:
        InvalidRequest: it is not what its encoding says, ends too early, or is followed by more.
    """
    unpack = zlib.decompressobj(WINDOW_BITS[encoding])
    parts: list[bytes] = []
    size = place = 0
    while place < len(body) and size <= limit:
        if unpack.eof:
            if encoding != "gzip":
                raise InvalidRequest(f"The body goes on after the end of its {encoding} data.")
            # RFC 1952: a gzip file may have several members, one after the other.
            unpack = zlib.decompressobj(WINDOW_BITS[encoding])
        piece = body[place : place + _PIECE_BYTES]
        try:
            # Never more than the limit is unpacked, however small the body looks.
            parts.append(unpack.decompress(piece, limit + 1 - size))
        except zlib.error as error:
            raise InvalidRequest(
                f"The body is not {encoding} to its end, as its header says: {error}."
            ) from None
        size += len(parts[-1])
        place += len(piece) - len(unpack.unused_data)
    if size <= limit and not unpack.eof:
        raise InvalidRequest(f"The body's {encoding} data ends too early; send all of it.")
    return b"".join(parts)


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
        if not body.strip():
            raise InvalidRequest(f"The body is empty. {wanted}") from None
        kind = recognised(body)
        reason = f"The body is {kind}, not JSON." if kind else f"The body is not JSON: {error}."
        if _TABLE.match(body):
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
