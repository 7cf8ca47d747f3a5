"""The fast path: predictions without a task and an ASGI scope.

A prediction with a small body, for a model that is fast enough, is computed immediately when its
last byte arrives (docs/decisions/0019-fast-path.md). All other requests go through ASGI; those
whose head is cached start there without being parsed.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from service.api.body import HEAD, RequestHead
from service.api.inference import FastInference, PredictTarget, RawResponse, header_lines
from service.api.middleware import BODY_ARRIVED, CLIENT_DISCONNECTED, RESPOND
from service.api.routing import PredictRouter
from service.errors import OnwardError
from service.observability.metrics import request_id_from
from service.server.connections import Connections
from service.server.limited_protocol import (
    LimitedProtocol,
    body_length,
    head_without_upgrade,
)
from service.settings import Settings

# Larger bodies are streamed and decoded in a thread, and would gain nothing.
_MAX_BODY_BYTES = 64 * 1024
# A small body that takes longer to arrive is streamed to ASGI.
_BODY_SECONDS = 1.0
_END = b"\r\n\r\n"
# With the cookies and the token of a browser.
_MAX_HEAD_BYTES = 8 * 1024
_MAX_CACHED_HEADS = 512
# A longer chunked body is parsed in pieces: the parser calls back for each chunk.
_MAX_CHUNKED_BYTES = 8 * 1024
_LAST_CHUNK = b"0\r\n\r\n"
_CHUNKED_HEAD = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
# Headers whose values differ in each request. Only the request id is used, so heads are cached
# without them. A value with other characters is left to the parser.
_VOLATILE = re.compile(
    rb"\r\n(x-request-id|x-correlation-id|traceparent|tracestate|b3|x-b3-\w{1,16}|uber-trace-id"
    rb"|x-amzn-trace-id|x-cloud-trace-context|x-forwarded-for|x-real-ip|cf-ray)"
    rb":[ \t]?([\x21-\x7e]{1,256})(?=\r\n)",
    re.IGNORECASE,
)
_REQUEST_ID = b"x-request-id"


class ParsedHead(NamedTuple):
    """The head of a prediction with a small body."""

    target: PredictTarget
    head: RequestHead
    scope: Mapping[str, Any]
    """What ASGI's scope has of it; without the volatile headers."""
    content_length: int | None
    """The length of the body in bytes; None if it is chunked."""
    is_plain: bool
    """Whether the fast path can decode the body."""


class MatchedHead(NamedTuple):
    """A parsed head that was found in input."""

    parsed: ParsedHead
    volatile: Sequence[tuple[bytes, bytes]]
    """The volatile headers, with names in lower case."""
    end: int
    """The position of the first byte of the body."""

    @property
    def request_id(self) -> str:
        """The client's own request id, or a new one."""
        ids = [value for name, value in self.volatile if name == _REQUEST_ID]
        return request_id_from(ids[0].decode() if ids else None)


class RequestHeadCache:
    """Parsed request heads by their bytes, shared by the connections of an app.

    Clients send the same head again and again, and parsing it takes as long as running a small
    model. So each head is parsed once.
    """

    def __init__(self, router: PredictRouter, settings: Settings) -> None:
        self._router = router
        self._settings = settings
        self.max_body_bytes = min(_MAX_BODY_BYTES, settings.max_body_bytes)
        self._cached: dict[bytes, ParsedHead | None] = {}

    def match(self, data: bytes, start: int) -> MatchedHead | None:
        """Find the head of a request that starts here; None if the request must go through ASGI."""
        if not data.startswith(b"POST ", start):
            return None
        end = data.find(_END, start, start + _MAX_HEAD_BYTES) + len(_END)
        if end < len(_END):
            return None
        raw = data[start:end]
        volatile: Sequence[tuple[bytes, bytes]] = ()
        try:
            parsed = self._cached[raw]
        except KeyError:
            parsed, volatile = self._match_without_volatile_headers(raw)
        return None if parsed is None else MatchedHead(parsed, volatile, end)

    def _match_without_volatile_headers(
        self, raw: bytes
    ) -> tuple[ParsedHead | None, Sequence[tuple[bytes, bytes]]]:
        """Look up or parse a head without its volatile headers; return it with them."""
        parts = _VOLATILE.split(raw)  # text, name, value, text, name, value, ..., text
        key = b"".join(parts[::3])
        names, values = parts[1::3], parts[2::3]
        volatile = [(name.lower(), value) for name, value in zip(names, values, strict=True)]
        if key in self._cached:
            parsed = self._cached[key]
        else:
            parsed = self._parse(key)
            if len(self._cached) >= _MAX_CACHED_HEADS:
                self._cached.clear()
            self._cached[key] = parsed
        if parsed is not None:
            headers = len(parsed.scope["headers"]) + len(volatile)
            parsed = parsed if headers <= self._settings.max_headers else None
        return parsed, volatile

    def _parse(self, raw: bytes) -> ParsedHead | None:
        settings, collector = self._settings, _Collector()
        parser = httptools.HttpRequestParser(collector)
        try:
            parser.feed_data(raw)
            version = parser.get_http_version()
            length = body_length(collector.fields, version)
        except httptools.HttpParserUpgrade:
            return self._parse(head_without_upgrade(parser, collector.url, collector.fields))
        except (httptools.HttpParserError, OnwardError):
            return None
        if (
            (length or 0) > self.max_body_bytes
            or version != "1.1"
            or len(collector.fields) > settings.max_headers
            or len(collector.url) > settings.max_url_bytes
            or not parser.should_keep_alive()
            or not collector.url.isascii()
        ):
            return None
        path, _, query = collector.url.partition(b"?")
        found = self._router.find(unquote(path.decode()))
        if found is None:
            return None
        head = RequestHead(collector.fields, query)
        if head.table_form is not None or b"expect" in head.fields:
            return None  # tables are streamed
        scope = {
            "method": "POST",
            "path": found.target.path,
            "raw_path": path,
            "query_string": query,
            "headers": collector.fields,
        }
        is_plain = b"content-encoding" not in head.fields
        return ParsedHead(found.target, head, scope, length, is_plain)


class _Collector:
    """The parser's callbacks, which collect the URL, the headers and the body."""

    def __init__(self) -> None:
        self.url = self.body = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.messages = self.complete_messages = 0

    def on_message_begin(self) -> None:
        self.messages += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete_messages += 1


def decode_chunks(data: bytes, start: int) -> bytes | None:
    """Decode a small chunked body from a position to the end of the data.

    Return None if it ends elsewhere, has trailers, or is not valid.
    """
    if len(data) - start > _MAX_CHUNKED_BYTES or not data.endswith(_LAST_CHUNK):
        return None
    collector = _Collector()
    try:
        httptools.HttpRequestParser(collector).feed_data(_CHUNKED_HEAD + data[start:])
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    # A trailer cannot end like the last chunk, since it has a colon.
    return collector.body if collector.messages == collector.complete_messages == 1 else None


class FastPath:
    """What all connections of an app share."""

    def __init__(
        self, inference: FastInference, router: PredictRouter, connections: Connections
    ) -> None:
        self.inference = inference
        self.connections = connections
        self.heads = RequestHeadCache(router, connections.settings)
        self.default_headers: list[tuple[bytes, bytes]] = []
        """The server's own headers; uvicorn makes a new list every second."""
        self.header_lines = b""
        """These headers as they are sent."""


class FastPathProtocol(LimitedProtocol):
    """The protocol of one connection, with the fast path."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        context: FastPath = config.loaded_app.fast_path
        super().__init__(context.connections, config, server_state, app_state)
        self._fast_path = context
        self.app = config.loaded_app.entry
        # A request whose small body has arrived in part, and the size of the whole request.
        self._partial: bytearray | None = None
        self._complete_bytes = 0
        # Whether the last response came from the fast path, and no other request has begun.
        self._is_idle = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a request whose client disconnected before its small body was complete."""
        if self._partial is not None:
            self._recorder.metrics.count_response(CLIENT_DISCONNECTED)
            self._partial = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take the fast path if no other request is in progress."""
        if self._partial is not None:
            self._partial += data
            if len(self._partial) < self._complete_bytes:
                return
            data, self._partial = bytes(self._partial), None
        elif self._buffered or not self._is_idle:
            super().data_received(data)
            return
        if self.flow.write_paused:
            self._consume(data)
        elif (consumed := self._take_request(data, 0)) < len(data):
            self._consume(data, consumed or self._feed(data, 0))

    def _take_request(self, data: bytes, start: int) -> int:
        """Compute a prediction, or wait for the rest of its small body."""
        self._is_idle = False
        matched = self._fast_path.heads.match(data, start)
        if matched is None:
            return 0
        if not self._had_request:
            self._note_first_request()
        length = matched.parsed.content_length
        if length is None:
            body = decode_chunks(data, matched.end)
            if body is None or len(body) > self._fast_path.heads.max_body_bytes:
                return 0
            self._start(matched, body)
            return len(data) - start
        end = matched.end + length
        if end <= len(data):
            self._start(matched, data[matched.end : end])
            return end - start
        # Most client libraries send head and body in two packets.
        self._partial, self._complete_bytes = bytearray(data[start:]), end - start
        self._request_since = self.loop.time()
        return len(data) - start

    def _start(self, matched: MatchedHead, body: bytes) -> None:
        """Compute a prediction, or start a request through ASGI."""
        if matched.parsed.is_plain:
            self._fast_response_due = True
            if self._fast_path.inference.submit(
                matched.parsed.target,
                matched.parsed.head,
                body,
                self._respond,
                request_id=matched.request_id,
                exclusive=len(self.connections) == 1,
            ):
                return
            self._fast_response_due = False
        self._start_cycle(matched, body)

    def _start_cycle(self, matched: MatchedHead, body: bytes) -> None:
        """Start a request through ASGI, as uvicorn does after parsing it."""
        _, head, parsed, *_ = matched.parsed
        fields = [*parsed["headers"], *matched.volatile]
        if matched.volatile:
            head = RequestHead(fields, head.query)
        super().on_message_begin()
        self._in_head = False
        scope: dict[str, Any] = self.scope  # type: ignore[assignment] # a TypedDict without our own keys
        cycle = self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=not self._is_shutting_down,
            on_response=self.on_response_complete,
        )
        scope |= {
            **parsed,
            "headers": fields,
            HEAD: head,
            BODY_ARRIVED: True,
            RESPOND: partial(self._respond_to_cycle, cycle),
        }
        self._add_addresses()
        cycle.body += body
        cycle.more_body = False
        cycle.message_event.set()
        self._ignores_input = self._is_shutting_down
        self._start_asgi_task(cycle, self.app)

    def _respond(self, response: RawResponse, request_id: bytes) -> None:
        """Write a response of the fast path."""
        self._fast_response_due = False
        if self._raw.is_closing():
            return
        self._write(response, request_id)
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self._buffered or self._is_shutting_down or self._at_eof or self._rejection is not None:
            self._continue()
        else:
            self._is_idle = True

    def on_headers_complete(self) -> None:
        """Start a request through ASGI, whose response may be written in one piece."""
        super().on_headers_complete()
        # When the app responds, `self.cycle` may belong to a later, pipelined request.
        self.scope[RESPOND] = partial(self._respond_to_cycle, self.cycle)  # type: ignore[literal-required] # see STATUS_SENT

    def _respond_to_cycle(
        self, cycle: RequestResponseCycle, response: RawResponse, request_id: bytes
    ) -> bool:
        """Write a complete response of the ASGI app; return False if it must be sent in parts."""
        if (
            cycle.response_started
            or cycle.disconnected
            or cycle.waiting_for_100_continue
            or not cycle.keep_alive
            or self.flow.write_paused
        ):
            return False
        self._write(response, request_id)
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _write(self, response: RawResponse, request_id: bytes) -> None:
        context, headers = self._fast_path, self.server_state.default_headers
        if headers is not context.default_headers:
            context.default_headers = headers
            context.header_lines = header_lines(headers)
        status, lines, content = response
        parts = (lines, b"x-request-id: ", request_id, b"\r\n\r\n", content)
        self._raw.write(b"".join((STATUS_LINE[status], context.header_lines, *parts)))

    def _has_partial_request(self) -> bool:
        return self._partial is not None or super()._has_partial_request()

    def _check_request(self, elapsed: float) -> None:
        if self._partial is None:
            super()._check_request(elapsed)
        elif elapsed > _BODY_SECONDS:
            # From now on, stream it to ASGI.
            data, self._partial = bytes(self._partial), None
            self._consume(data, self._feed(data, 0))
