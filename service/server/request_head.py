"""Heads of requests that may take the fast path, parsed once and cached by their bytes.

A client writes the same head again and again, and parsing it takes as long as a small model's run.
"""

import re
from typing import NamedTuple

import httptools

from service.api.fast_inference import MAX_BODY_BYTES, Door, Target
from service.api.head import Head
from service.errors import InvalidRequest
from service.server.framing import body_length
from service.settings import Settings

_END = b"\r\n\r\n"
_MAX_HEAD_BYTES = 2048
_MAX_CACHED_HEADS = 512
# With one of these, a request needs more than its body and a response.
_UNSUPPORTED = (b"expect", b"transfer-encoding", b"content-encoding", b"upgrade", b"trailer")
# Headers that clients and proxies set anew for each request. Nothing but the id is read here, so
# a head is cached without them. Other characters than these are left to the parser.
_VOLATILE = re.compile(
    rb"\r\n(x-request-id|x-correlation-id|traceparent|tracestate|b3|x-b3-\w{1,16}|uber-trace-id"
    rb"|x-amzn-trace-id|x-cloud-trace-context|x-forwarded-for|x-real-ip|cf-ray)"
    rb":[ \t]?([\x21-\x7e]{1,256})(?=\r\n)",
    re.IGNORECASE,
)
_REQUEST_ID = b"x-request-id"


class ParsedHead(NamedTuple):
    """The head of a prediction that may take the fast path."""

    target: Target
    head: Head
    content_length: int


class MatchedHead(NamedTuple):
    """A parsed head as found at the start of some input.

    ``request_id`` is the client's, and ``end`` the position of the first byte of the body.
    """

    parsed: ParsedHead
    request_id: bytes | None
    end: int


class RequestHeadCache:
    """Finds and parses the heads of predictions; for use by all connections of an app.

    Args:
        door: tells which URLs are predictions.
        settings: the limits of requests.
    """

    def __init__(self, door: Door, settings: Settings) -> None:
        self._door = door
        self._max_body_bytes = min(MAX_BODY_BYTES, settings.max_body_bytes)
        self._max_headers = settings.max_headers
        self._max_url_bytes = settings.max_url_bytes
        self._cached: dict[bytes, ParsedHead | None] = {}

    def match(self, data: bytes, start: int) -> MatchedHead | None:
        """The head that starts here; None of anything that the fast path does not take.

        Args:
            data: input from a client.
            start: the position of the first byte of a request.
        """
        if not data.startswith(b"POST ", start):
            return None
        end = data.find(_END, start, start + _MAX_HEAD_BYTES) + len(_END)
        if end < len(_END):
            return None
        raw = data[start:end]
        request_id = None
        try:
            parsed = self._cached[raw]
        except KeyError:
            parsed, request_id = self._without_volatile_headers(raw)
        return None if parsed is None else MatchedHead(parsed, request_id, end)

    def _without_volatile_headers(self, raw: bytes) -> tuple[ParsedHead | None, bytes | None]:
        """The head, cached without the headers that change, and the client's request id."""
        parts = _VOLATILE.split(raw)  # text, name, value, text, name, value, ..., text
        key = b"".join(parts[::3])
        pairs = zip(parts[1::3], parts[2::3], strict=True)
        request_id = next((value for name, value in pairs if name.lower() == _REQUEST_ID), None)
        if key in self._cached:
            parsed = self._cached[key]
        else:
            parsed = self._parse(key)
            if len(self._cached) >= _MAX_CACHED_HEADS:
                self._cached.clear()
            self._cached[key] = parsed
        return parsed, request_id

    def _parse(self, raw: bytes) -> ParsedHead | None:
        collector = _Collector()
        parser = httptools.HttpRequestParser(collector)
        try:
            parser.feed_data(raw)
            length = body_length(collector.fields, parser.get_http_version())
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, InvalidRequest):
            return None
        if (
            length is None
            or length > self._max_body_bytes
            or parser.get_http_version() != "1.1"
            or len(collector.fields) > self._max_headers
            or len(collector.url) > self._max_url_bytes
            or not parser.should_keep_alive()
            or any(name in _UNSUPPORTED for name, _ in collector.fields)
        ):
            return None
        target = self._door.target(collector.url)
        if target is None:
            return None
        return ParsedHead(target, Head(collector.fields, target.query), length)


class _Collector:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))
