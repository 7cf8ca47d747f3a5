"""Request bodies: read within the operator's limits, checked for media type, parsed as JSON."""

import io
import re
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any

import orjson
from fastapi import Request

from service.api.decompression import WINDOW_BITS, unpacked
from service.errors import BodyTooLarge, InvalidRequest, UnsupportedContent
from service.filetypes import recognised
from service.limits import UNCOUNTED_BODY_BYTES, RequestQuotas

JSON = "application/json"
MIN_COMPRESSED_BYTES = 1024
"""Shorter responses are not compressed."""
BINARY = "application/octet-stream"
# What curl calls every body that is not called otherwise.
FORM = "application/x-www-form-urlencoded"
# RFC 9110: x-gzip is gzip's old name, and a header without a value says nothing.
_SAME_ENCODING = {"x-gzip": "gzip", "": "identity"}
# Clients name at most a few; a longer list is a mistake or an attack.
MOST_LIST_ITEMS = 32
# A first line of words between separators, and another line.
_TABLE = re.compile(rb"[\w ]++(?:[,;\t][\w ]*+)++\r?\n.")
# Where the first line of a table ends, at the latest.
_LONGEST_FIRST_LINE = 4096
# What else to do with media types that hold these words.
_HINTS = {
    "sheet": " Save a spreadsheet as CSV and send text/csv.",
    "image/": " An image goes to a model of images; GET /models tells which take one.",
}
_LONGEST_REMEMBERED = 128
_LONGEST_SHOWN = 100
# No service reads a body of more digits than these, and Python converts them in no time.
_MOST_LENGTH_DIGITS = 18
_NO_HEADERS: Mapping[str, str] = {}
# Far below Python's recursion limit, and above the 64 axes that an array may have.
_MOST_LEVELS = 100
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_WEIGHT = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")
# Up to these numbers a body is decoded within a millisecond or two, whatever it holds: its bytes,
# its arrays and objects, and its quotation marks. Counting takes a microsecond a kilobyte, which
# short bodies are spared.
_FEW_BYTES = 6 * 1024
_PIECE_BYTES = 8 * 1024
_FEW_CONTAINERS = 1024
_FEW_QUOTES = 2048

Refusal = Callable[[int], BodyTooLarge]


async def read_body(
    request: Request,
    limit: int,
    quotas: RequestQuotas,
    refusal: Refusal = BodyTooLarge,
) -> bytes:
    """The whole body, decompressed.

    Args:
        request: not yet read.
        limit: in bytes, sent and decompressed.
        quotas: hold the bytes as they arrive.
        refusal: makes the error of a body above the limit, which it is given.

    Raises:
        BodyTooLarge: it is, says that it is, or expands to, more than ``limit`` bytes.
        TooManyBytesInFlight: the bodies of all requests would take too much memory.
        DecompressionRatioExceeded: it expands too much.
        UnsupportedContent: it is compressed by another way than gzip and deflate.
        InvalidRequest: it is not what its encoding says.
    """
    encoding = content_encoding(request)
    _require_declared(request, limit, quotas, refusal)
    # Unlike a list of chunks that are joined, it never holds the body twice.
    body = io.BytesIO()
    size = 0
    arriving = _counted(request.stream(), limit, refusal)
    async for piece in unpacked(arriving, encoding, quotas.limits):
        size += len(piece)
        if size > limit:
            raise refusal(limit)
        quotas.hold_bytes(size)
        body.write(piece)
    return body.getvalue()


def _require_declared(
    request: Request, limit: int, quotas: RequestQuotas, refusal: Refusal
) -> None:
    """Reject at once a body that says it is too large for the limit, or for what is left of it."""
    declared = request.headers.get("content-length", "")
    if not (declared.isascii() and declared.isdecimal()):
        return
    size = int(declared[:_MOST_LENGTH_DIGITS])
    if size > limit:
        raise refusal(limit)
    quota = quotas.limits.body_bytes
    if size > UNCOUNTED_BODY_BYTES and quota.used + size > quota.limit:
        raise quota.rejection()


async def _counted(
    arriving: AsyncIterator[bytes], limit: int, refusal: Refusal
) -> AsyncIterator[bytes]:
    """The same pieces, up to the limit."""
    size = 0
    async for piece in arriving:
        size += len(piece)
        if size > limit:
            raise refusal(limit)
        yield piece


def is_quick_to_decode(body: bytes) -> bool:
    """Whether decoding a body takes a millisecond or two at most, whatever it holds."""
    size = len(body)
    if size <= _FEW_BYTES:
        return True
    if size > UNCOUNTED_BODY_BYTES:
        return False
    containers = quotes = 0
    # In pieces, since many values show early, and counting takes a microsecond a kilobyte.
    for start in range(0, size, _PIECE_BYTES):
        end = start + _PIECE_BYTES
        containers += body.count(b"[", start, end) + body.count(b"{", start, end)
        quotes += body.count(b'"', start, end)
        if containers > _FEW_CONTAINERS or quotes > _FEW_QUOTES:
            return False
    return True


def content_encoding(request: Request) -> str:
    """``gzip``, ``deflate`` or ``identity``.

    Raises:
        UnsupportedContent: the body is compressed by another way.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    encoding = _SAME_ENCODING.get(encoding, encoding)
    if encoding not in WINDOW_BITS and encoding != "identity":
        shown = encoding[:_LONGEST_SHOWN]
        raise UnsupportedContent("Content-Encoding", shown, ["gzip", "deflate", "nothing"])
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
        given = media_type_of(content_type)[:_LONGEST_SHOWN]
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
    if accepted is None or len(content) < MIN_COMPRESSED_BYTES:
        return content, _NO_HEADERS
    offers = {_offered(offer) for offer in list_items(accepted)}
    for encoding, window_bits in WINDOW_BITS.items():
        if encoding in offers:
            pack = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, window_bits)
            headers = {"content-encoding": encoding, "vary": "accept-encoding"}
            return pack.compress(content) + pack.flush(), headers
    return content, _NO_HEADERS


def list_items(header: str) -> list[str]:
    """The first items of a header that is a list, such as ``Accept``."""
    return header.split(",", MOST_LIST_ITEMS)[:MOST_LIST_ITEMS]


def _offered(offer: str) -> str | None:
    """The encoding that a part of Accept-Encoding accepts; None where its weight is nothing."""
    encoding, _, weight = offer.replace(" ", "").lower().partition(";")
    stated = _WEIGHT.fullmatch(weight or "q=1")
    if stated is None or not 0 < float(stated[1]) <= 1:
        return None
    return _SAME_ENCODING.get(encoding, encoding)


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
