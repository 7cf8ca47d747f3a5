"""Request heads and bodies: media types, limits, decompression, and the forms of tables.

A body is read whole, or in pieces as they arrive.
"""

import asyncio
import io
import re
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import lru_cache

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from service.errors import BodyTooLarge, InvalidRequest, OnwardError, UnsupportedContent
from service.limits import UNCOUNTED_BODY_BYTES, Limits, RequestQuotas
from service.scoring import Form, TableForm

JSON = "application/json"
SMALL_BODY_BYTES = 6 * 1024
"""A shorter body is quick to decode, whatever it holds."""
MIN_COMPRESSED_BYTES = 1024
"""Shorter responses are not compressed."""
BINARY = "application/octet-stream"
# What curl calls every body that is not called otherwise.
FORM = "application/x-www-form-urlencoded"
# RFC 9110: x-gzip is gzip's old name, and a header without a value says nothing.
_SAME_ENCODING = {"x-gzip": "gzip", "": "identity"}
# Clients name at most a few; a longer list is a mistake or an attack.
MOST_LIST_ITEMS = 32
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
_WEIGHT = re.compile(r"[01](?:\.[0-9]{0,3})?")
# Up to these numbers a body is decoded within a millisecond or two, whatever it holds: its bytes,
# its arrays and objects, and its quotation marks. Counting takes a microsecond a kilobyte, which
# short bodies are spared.
_PIECE_BYTES = 8 * 1024
_FEW_CONTAINERS = 1024
_FEW_QUOTES = 2048

# gzip has a header of its own (RFC 1952); deflate, as clients send it, that of zlib (RFC 1950).
WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

# More compressed bytes, which may expand to a thousand times their size, do so in a thread.
_MOST_BYTES_AT_ONCE = 1024
_OUTPUT_BYTES = 64 * 1024
# zlib copies what follows the end of a member. Short pieces bound that for many short members.
_SHORTEST_PIECE_BYTES = 256
_LONGEST_PIECE_BYTES = 16 * 1024

# The names under which people send tables; the first of each form is the registered one.
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
}
# Browsers send about ten.
_MOST_OFFERS = 50
_ANSWER_TYPES: Mapping[str, Form] = {**TABLE_TYPES, "application/json": "json"}

Refusal = Callable[[int], BodyTooLarge]
Fields = Sequence[tuple[bytes, bytes]]


HEAD = "onward.head"
"""In an ASGI scope: the `RequestHead` of its request."""


class RequestHead:
    """The headers and the query of a request.

    Args:
        fields: names in lower case, and values; of a name that comes twice, the first counts.
        query: what follows the question mark.
    """

    __slots__ = ("accept_encoding", "content_type", "fields", "query")

    def __init__(self, fields: Fields, query: bytes = b"") -> None:
        # Heads are cached (`service.server.fast_path`), and read for each request.
        self.fields = {name: value.decode("latin-1") for name, value in reversed(fields)}
        self.content_type = self.fields.get(b"content-type")
        self.accept_encoding = self.fields.get(b"accept-encoding")
        self.query = query


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
    head: RequestHead = request.scope[HEAD]
    encoding = content_encoding(head)
    _require_declared(head, limit, quotas, refusal)
    message = await _next_message(request)
    if encoding == "identity" and not message.get("more_body"):
        content: bytes = message.get("body", b"")
        if len(content) > limit:
            raise refusal(limit)
        quotas.hold_bytes(len(content))
        return content
    # Unlike a list of chunks that are joined, it never holds the body twice.
    body = io.BytesIO()
    size = 0
    arriving = _counted(_pieces(request, message), limit, refusal)
    async for piece in unpacked(arriving, encoding, quotas.limits):
        size += len(piece)
        if size > limit:
            raise refusal(limit)
        quotas.hold_bytes(size)
        body.write(piece)
    return body.getvalue()


async def _next_message(request: Request) -> Message:
    """The next part of a body.

    Raises:
        ClientDisconnect: the client has left.
    """
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


async def _pieces(request: Request, message: Message) -> AsyncIterator[bytes]:
    """The pieces of a body from this message on."""
    while True:
        if piece := message.get("body", b""):
            yield piece
        if not message.get("more_body"):
            return
        message = await _next_message(request)


async def unpacked(
    arriving: AsyncIterator[bytes], encoding: str, limits: Limits | None = None
) -> AsyncIterator[bytes]:
    """The decompressed bytes, in pieces of at most 64 KiB where they were compressed.

    Args:
        arriving: the body as it was sent.
        encoding: ``gzip``, ``deflate`` or ``identity``.
        limits: bounds how much they may expand; None does not.

    Raises:
        InvalidRequest: they are not in that encoding, or end too early.
        DecompressionRatioExceeded: they expand too much.
    """
    if encoding == "identity":
        async for data in arriving:
            yield data
        return
    decompressor = Decompressor(encoding, limits)
    async for data in arriving:
        decompressor.feed(data)
        in_thread = len(data) > _MOST_BYTES_AT_ONCE
        while piece := (
            await asyncio.to_thread(decompressor.read) if in_thread else decompressor.read()
        ):
            yield piece
    decompressor.require_end()


def _require_declared(
    head: RequestHead, limit: int, quotas: RequestQuotas, refusal: Refusal
) -> None:
    """Reject at once a body that says it is too large for the limit, or for what is left of it."""
    declared = head.fields.get(b"content-length", "")
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
    if size <= SMALL_BODY_BYTES:
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


def content_encoding(head: RequestHead) -> str:
    """``gzip``, ``deflate`` or ``identity``.

    Raises:
        UnsupportedContent: the body is compressed by another way.
    """
    encoding = head.fields.get(b"content-encoding", "").strip().lower()
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
    """The encoding that an item of Accept-Encoding accepts; None where its weight is zero."""
    encoding, _, parameters = offer.replace(" ", "").lower().partition(";")
    has_others = parameters and not parameters.startswith("q=")
    return None if has_others or not _weight(offer) else _SAME_ENCODING.get(encoding, encoding)


class Decompressor:
    """Decompresses one body in time that is linear in its bytes.

    Args:
        encoding: ``gzip`` or ``deflate``.
        limits: bounds how much the body may expand; None does not.
    """

    def __init__(self, encoding: str, limits: Limits | None = None) -> None:
        self._encoding = encoding
        self._limits = limits
        self._stream = zlib.decompressobj(WINDOW_BITS[encoding])
        self._data = b""
        self._position = 0
        self._pending = b""
        self._piece_bytes = _LONGEST_PIECE_BYTES
        self._read_bytes = self._written_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take the next compressed bytes; those before must have been read to their end."""
        self._data, self._position = data, 0

    def read(self) -> bytes:
        """The next at most 64 KiB of decompressed bytes; none once all that was fed is read.

        Raises:
            InvalidRequest: the bytes are not in this encoding, or go on after its end.
            DecompressionRatioExceeded: they expand too much.
        """
        while self._pending or self._position < len(self._data):
            output = self._decompress(self._next_piece())
            if output:
                self._written_bytes += len(output)
                if self._limits is not None:
                    self._limits.require_ratio(self._read_bytes, self._written_bytes)
                return output
        return b""

    def require_end(self) -> None:
        """Require that the compressed data is complete.

        Raises:
            InvalidRequest: it is not.
        """
        if not self._stream.eof:
            raise InvalidRequest(
                f"The body's {self._encoding} data ends too early; send all of it."
            )

    def _next_piece(self) -> bytes:
        if self._pending:
            return self._pending
        piece = self._data[self._position : self._position + self._piece_bytes]
        self._position += len(piece)
        self._read_bytes += len(piece)
        self._piece_bytes = min(2 * self._piece_bytes, _LONGEST_PIECE_BYTES)
        return piece

    def _decompress(self, piece: bytes) -> bytes:
        if self._stream.eof:
            if self._encoding != "gzip":
                raise InvalidRequest(
                    f"The body goes on after the end of its {self._encoding} data."
                )
            # RFC 1952: a gzip file may have several members, one after the other.
            self._stream = zlib.decompressobj(WINDOW_BITS[self._encoding])
        stream = self._stream
        try:
            output = stream.decompress(piece, _OUTPUT_BYTES)
        except zlib.error as error:
            raise InvalidRequest(
                f"The body is not {self._encoding} to its end, as its header says: {error}."
            ) from None
        self._pending = stream.unconsumed_tail
        if stream.eof:
            # What follows this member is read again, in a shorter piece.
            unused = len(stream.unused_data)
            self._position -= unused
            self._read_bytes -= unused
            self._piece_bytes = _SHORTEST_PIECE_BYTES
        return output


def charset_of(content_type: str) -> str | None:
    """The encoding that a Content-Type names."""
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"') or None
    return None


def answer_form(accept: str, given: Form) -> Form:
    """The form that an Accept header likes best; that of the rows where it likes none of ours."""
    best, liking = given, 0.0
    for offer in accept.split(",", _MOST_OFFERS)[:_MOST_OFFERS]:
        weight = _weight(offer)
        form = _ANSWER_TYPES.get(media_type_of(offer), given)
        if media_type_of(offer) in (*_ANSWER_TYPES, "*/*") and weight > liking:
            best, liking = form, weight
    return best


def _weight(offer: str) -> float:
    """The weight of an item of Accept or Accept-Encoding; zero where it is not valid (RFC 9110)."""
    for parameter in offer.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            text = value.strip()
            is_valid = _WEIGHT.fullmatch(text) is not None and float(text) <= 1
            return float(text) if is_valid else 0.0
    return 1.0


class Incoming:
    """The body of one request, received while what has arrived of it is worked on.

    Args:
        receive: of the request.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._changed = asyncio.Condition()
        self._piece: bytes | None = None
        self._ended = False
        self._error: OnwardError | None = None

    async def until_disconnect(self) -> None:
        """Receive the body, one piece ahead of `pieces`; returns when the client has left."""
        while True:
            try:
                message = await self._receive()
            except OnwardError as error:  # the body has stalled; `pieces` says so in its place
                async with self._changed:
                    self._error = error
                    self._changed.notify_all()
                await asyncio.Event().wait()
            if message["type"] == "http.disconnect":
                return
            async with self._changed:
                self._piece = message.get("body", b"")
                self._ended = not message.get("more_body", False)
                self._changed.notify_all()
                await self._changed.wait_for(lambda: self._piece is None)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body by the piece.

        Raises:
            BodyStalled: it arrives too slowly.
        """
        while True:
            async with self._changed:
                await self._changed.wait_for(self._has_changed)
                piece, self._piece = self._piece, None
                self._changed.notify_all()
            if piece:
                yield piece
            elif self._error is not None:
                raise self._error
            elif piece is None:
                return

    def _has_changed(self) -> bool:
        return self._piece is not None or self._ended or self._error is not None
