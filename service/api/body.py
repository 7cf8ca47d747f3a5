"""Heads and bodies of requests: content negotiation, limits, and compression.

A body is read whole, or in pieces as they arrive.
"""

import asyncio
import io
import re
import zlib
from collections.abc import AsyncIterator, Container, Mapping, Sequence

import orjson
from fastapi import Request, Response
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from service.decompression import WINDOW_BITS, decompress
from service.errors import BodyTooLarge, OnwardError, UnsupportedContent
from service.filetypes import TABLE_FILE_TYPES
from service.limits import UNCOUNTED_BODY_BYTES, RequestQuotas
from service.scoring import Form, TableForm

JSON = "application/json"
SMALL_BODY_BYTES = 6 * 1024
"""Shorter bodies are quick to decode, whatever their content."""
MIN_COMPRESSED_BYTES = 1024
"""Shorter responses are not compressed."""
BINARY = "application/octet-stream"
# The default media type of curl.
FORM = "application/x-www-form-urlencoded"
_NO_ENCODING = ("", "identity")
# The old name (RFC 9110).
_ENCODING_ALIASES = {"x-gzip": "gzip"}
# Clients send a few; a longer list is a mistake or an attack.
_MAX_LIST_ITEMS = 32
# Advice for media types that contain these words.
_HINTS = {
    "sheet": " A spreadsheet goes to POST /models/NAME/predict.",
    "image/": " An image goes to a model of images; GET /models tells which take one.",
}
_MAX_SHOWN_LENGTH = 100
# A kilobyte of semicolons takes milliseconds to parse; the rest of a longer header is ignored.
_MAX_CONTENT_TYPE_LENGTH = 1024
NO_HEADERS: Mapping[str, str] = {}
# From 0 to 1 (RFC 9110).
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
# A body within these limits of arrays, objects and quotation marks is decoded within a millisecond
# or two. Counting them takes a microsecond per kilobyte, so it is skipped for short bodies.
_PIECE_BYTES = 8 * 1024
_MAX_QUICK_CONTAINERS = 1024
_MAX_QUICK_QUOTES = 2048

# The media types of tables in use; the first one of each form is registered.
TABLE_TYPES: Mapping[str, TableForm] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/x-csv": "csv",
    "text/tab-separated-values": "csv",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/x-jsonlines": "ndjson",
    "application/jsonlines": "ndjson",
    "application/json-lines": "ndjson",
}
_RESPONSE_TYPES: Mapping[str, Form] = {**TABLE_TYPES, "application/json": "json"}

HEAD = "onward.head"
"""In an ASGI scope: the `RequestHead` of its request, which the server may have set."""


class RequestHead:
    """The headers and the query of a request.

    Args:
        fields: names in lower case, and values; the first of repeated names is used.
        query: without the question mark.
    """

    __slots__ = (
        "accept_encoding",
        "content_length",
        "content_type",
        "fields",
        "query",
        "table_form",
    )

    def __init__(self, fields: Sequence[tuple[bytes, bytes]], query: bytes = b"") -> None:
        # Heads are cached by `service.server.fast_path`, so attributes are cheaper than lookups.
        self.fields = {name: value.decode("latin-1") for name, value in reversed(fields)}
        self.content_type = self.fields.get(b"content-type")
        self.accept_encoding = self.fields.get(b"accept-encoding")
        length = self.fields.get(b"content-length", "")
        # The server has checked the number.
        self.content_length = int(length) if length.isdecimal() else None
        """The declared length of the body; None if it is chunked."""
        given = self.content_type or JSON
        self.table_form = None if given == JSON else _find_table_form(parse_media_type(given))
        """The form of the table in the body; None if the body is no table."""
        self.query = query


def _find_table_form(media_type: str) -> TableForm | None:
    """Return the form of a table; the text of a table file is CSV."""
    return "csv" if media_type in TABLE_FILE_TYPES else TABLE_TYPES.get(media_type)


async def read_body(request: Request, limit: int, quotas: RequestQuotas) -> bytes:
    """Read the whole body, and decompress it.

    The limit in bytes applies before and after decompression; the quotas hold the bytes as they
    arrive.

    Raises:
        BodyTooLarge: its declared, received or decompressed size exceeds ``limit``.
        TooManyBytesInFlight: the bodies of all requests would take too much memory.
        DecompressionRatioExceeded: it expands too much.
        UnsupportedContent: it has another encoding than gzip and deflate.
        InvalidRequest: it is not valid data of its encoding.
        ClientDisconnect: the client has disconnected.
    """
    head: RequestHead = request.scope[HEAD]
    encoding = content_encoding(head)
    _require_declared(head.content_length, limit, quotas)
    message = await _next_message(request)
    if encoding is None and not message.get("more_body"):
        content: bytes = message.get("body", b"")
        if len(content) > limit:
            raise BodyTooLarge(limit)
        quotas.hold_bytes(len(content))
        return content
    pieces = _pieces(request, message, limit)
    if encoding is not None:
        pieces = decompress(pieces, encoding, quotas.limits)
    return await join_pieces(pieces, limit, quotas)


async def join_pieces(pieces: AsyncIterator[bytes], limit: int, quotas: RequestQuotas) -> bytes:
    """Return the pieces of a body as one; the quotas hold the bytes as they arrive.

    Raises:
        BodyTooLarge: they exceed ``limit``, in bytes.
        TooManyBytesInFlight: the bodies of all requests would take too much memory.
    """
    # Joining a list of pieces would hold the body twice.
    body = io.BytesIO()
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit:
            raise BodyTooLarge(limit)
        quotas.hold_bytes(size)
        body.write(piece)
    return body.getvalue()


async def _next_message(request: Request) -> Message:
    """Receive the next part of a body; raise `ClientDisconnect` if there is none."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


async def _pieces(request: Request, message: Message, limit: int) -> AsyncIterator[bytes]:
    """Yield the pieces of a body as sent, starting with this message, up to the limit."""
    size = 0
    while True:
        if piece := message.get("body", b""):
            size += len(piece)
            if size > limit:
                raise BodyTooLarge(limit)
            yield piece
        if not message.get("more_body"):
            return
        message = await _next_message(request)


def _require_declared(size: int | None, limit: int, quotas: RequestQuotas) -> None:
    """Reject a body whose declared size exceeds the limit or the rest of the quota."""
    if size is None:
        return
    if size > limit:
        raise BodyTooLarge(limit)
    quota = quotas.limits.body_bytes
    if size > UNCOUNTED_BODY_BYTES and quota.used + size > quota.limit:
        raise quota.reject()


def is_quick_to_decode(body: bytes) -> bool:
    """Return whether decoding a body takes at most a millisecond or two."""
    size = len(body)
    if size <= SMALL_BODY_BYTES:
        return True
    if size > UNCOUNTED_BODY_BYTES:
        return False
    containers = quotes = 0
    # In pieces, because many values are usually found early.
    for start in range(0, size, _PIECE_BYTES):
        end = start + _PIECE_BYTES
        containers += body.count(b"[", start, end) + body.count(b"{", start, end)
        quotes += body.count(b'"', start, end)
        if containers > _MAX_QUICK_CONTAINERS or quotes > _MAX_QUICK_QUOTES:
            return False
    return True


def content_encoding(head: RequestHead) -> str | None:
    """Return ``gzip`` or ``deflate``, or None if a body is not compressed.

    Raise `UnsupportedContent` for any other encoding.
    """
    encoding = head.fields.get(b"content-encoding", "").strip().lower()
    if encoding in _NO_ENCODING:
        return None
    encoding = _ENCODING_ALIASES.get(encoding, encoding)
    if encoding not in WINDOW_BITS:
        shown = encoding[:_MAX_SHOWN_LENGTH]
        raise UnsupportedContent("Content-Encoding", shown, ["gzip", "deflate", "nothing"])
    return encoding


def require_media_type(content_type: str | None, accepted: tuple[str, ...]) -> None:
    """Raise `UnsupportedContent` if a Content-Type header has none of the accepted media types.

    A request without the header passes. Media types may be ranges such as ``image/*``.
    """
    if content_type is not None and not is_accepted(content_type, accepted):
        given = parse_media_type(content_type)[:_MAX_SHOWN_LENGTH]
        hint = next((hint for word, hint in _HINTS.items() if word in given), "")
        # Forms are accepted only because curl declares every body one.
        advised = [each for each in accepted if each != FORM]
        raise UnsupportedContent("Content-Type", given, advised, hint)


def is_accepted(content_type: str, accepted: tuple[str, ...]) -> bool:
    """Return whether a Content-Type header has one of the accepted media types."""
    given = parse_media_type(content_type)
    return given in accepted or f"{given.partition('/')[0]}/*" in accepted


def parse_media_type(item: str) -> str:
    """Return the media type or the encoding without its parameters, in lower case."""
    return item.partition(";")[0].strip().lower()


def compress(content: bytes, accepted: str | None) -> tuple[bytes, Mapping[str, str]]:
    """Compress a response if it is large enough and the header ``Accept-Encoding`` allows it.

    Return the content, and the headers of its encoding.
    """
    if accepted is None or len(content) < MIN_COMPRESSED_BYTES:
        return content, NO_HEADERS
    offers = {_accepted_encoding(offer) for offer in _split_list(accepted)}
    for encoding, window_bits in WINDOW_BITS.items():
        if encoding in offers:
            headers = {"content-encoding": encoding, "vary": "accept-encoding"}
            return zlib.compress(content, zlib.Z_BEST_SPEED, window_bits), headers
    return content, NO_HEADERS


def json_response(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(content), status, headers, media_type=JSON)


def _split_list(header: str) -> list[str]:
    """Split a header that is a list, such as ``Accept``; only the first items are returned."""
    return header.split(",", _MAX_LIST_ITEMS)[:_MAX_LIST_ITEMS]


def _accepted_encoding(offer: str) -> str | None:
    """Return the encoding of an item of Accept-Encoding; None if its weight is zero."""
    encoding = parse_media_type(offer)
    return _ENCODING_ALIASES.get(encoding, encoding) if _weight(offer) else None


def parse_parameter(content_type: str, name: str) -> str | None:
    """Return a parameter of a Content-Type header; None if it has none or an empty one."""
    value = parse_options_header(content_type[:_MAX_CONTENT_TYPE_LENGTH])[1].get(name.encode())
    return value.decode("latin-1") if value else None


def response_form(accept: str, default: Form) -> Form:
    """Return the supported form with the highest weight in an Accept header, else the default."""
    best = preferred_type(accept, (*_RESPONSE_TYPES, "*/*"))
    return default if best is None else _RESPONSE_TYPES.get(best, default)


def preferred_type(accept: str, supported: Container[str]) -> str | None:
    """Return the supported media type with the highest weight in an Accept header.

    The first of equal ones is preferred. None if the header has no supported type, or only with
    weight zero.
    """
    best, best_weight = None, 0.0
    for offer in _split_list(accept):
        media_type, weight = parse_media_type(offer), _weight(offer)
        if media_type in supported and weight > best_weight:
            best, best_weight = media_type, weight
    return best


def _weight(offer: str) -> float:
    """Return the weight of an item of Accept or Accept-Encoding; zero if it is invalid."""
    for parameter in offer.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            text = value.strip()
            return float(text) if _WEIGHT.fullmatch(text) else 0.0
    return 1.0


class StreamedBody:
    """A request body that is received while its first pieces are processed."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._received: asyncio.Queue[Message | OnwardError] = asyncio.Queue(1)

    async def receive_until_disconnect(self) -> None:
        """Receive the body, one piece ahead of `pieces`; return when the client disconnects."""
        while True:
            try:
                message = await self._receive()
            except OnwardError as error:  # the body has stalled; `pieces` raises the error
                await self._received.put(error)
                await asyncio.Event().wait()
            if message["type"] == "http.disconnect":
                return
            await self._received.put(message)
            await self._received.join()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the pieces of the body; raise `BodyStalled` if it arrives too slowly."""
        has_more = True
        while has_more:
            received = await self._received.get()
            self._received.task_done()
            if isinstance(received, OnwardError):
                raise received
            has_more = received.get("more_body", False)
            if piece := received.get("body"):
                yield piece
