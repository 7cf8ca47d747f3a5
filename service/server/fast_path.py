"""The fast path: predictions without a task and an ASGI scope.

A prediction with a small body, for a model that is fast enough, is computed immediately when its
last byte arrives (docs/decisions/0019-fast-path.md). All other requests go through ASGI.
"""

import asyncio
import re
from functools import partial
from typing import Any, NamedTuple

import httptools
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from service.api.body import RequestHead
from service.api.inference import FastInference, PredictTarget, RawResponse, header_lines
from service.api.middleware import CLIENT_DISCONNECTED, RESPOND
from service.api.routing import PredictTargets
from service.errors import InvalidRequest
from service.observability.metrics import request_id_from
from service.server.connections import Connections
from service.server.limited_protocol import LimitedProtocol, body_length
from service.settings import Settings

# Larger bodies are streamed and decoded in a thread, and would gain nothing.
_MAX_BODY_BYTES = 64 * 1024
# A small body that takes longer to arrive is streamed to ASGI.
_BODY_SECONDS = 1.0
_END = b"\r\n\r\n"
_MAX_HEAD_BYTES = 2048
_MAX_CACHED_HEADS = 512
# Headers of requests that only the ASGI path supports.
_UNSUPPORTED = (b"expect", b"transfer-encoding", b"content-encoding", b"upgrade", b"trailer")
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
    """The head of a prediction that can take the fast path."""

    target: PredictTarget
    head: RequestHead
    content_length: int


class MatchedHead(NamedTuple):
    """A parsed head that was found in input."""

    parsed: ParsedHead
    request_id: bytes | None
    """The client's own request id."""
    end: int
    """The position of the first byte of the body."""


class RequestHeadCache:
    """Parsed request heads by their bytes, shared by the connections of an app.

    Clients send the same head again and again, and parsing it takes as long as running a small
    model. So each head is parsed once.
    """

    def __init__(self, targets: PredictTargets, settings: Settings) -> None:
        self._targets = targets
        self._settings = settings
        self._cached: dict[bytes, ParsedHead | None] = {}

    def match(self, data: bytes, start: int) -> MatchedHead | None:
        """Find the head of a request that starts here; None if the request must go through ASGI."""
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
            parsed, request_id = self._match_without_volatile_headers(raw)
        return None if parsed is None else MatchedHead(parsed, request_id, end)

    def _match_without_volatile_headers(self, raw: bytes) -> tuple[ParsedHead | None, bytes | None]:
        """Look up or parse a head without its volatile headers; return it with the request id."""
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
        settings, collector = self._settings, _Collector()
        parser = httptools.HttpRequestParser(collector)
        try:
            parser.feed_data(raw)
            length = body_length(collector.fields, parser.get_http_version())
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, InvalidRequest):
            return None
        if (
            length is None
            or length > min(_MAX_BODY_BYTES, settings.max_body_bytes)
            or parser.get_http_version() != "1.1"
            or len(collector.fields) > settings.max_headers
            or len(collector.url) > settings.max_url_bytes
            or not parser.should_keep_alive()
            or any(name in _UNSUPPORTED for name, _ in collector.fields)
        ):
            return None
        target = self._targets.find(collector.url)
        if target is None:
            return None
        head = RequestHead(collector.fields, target.query)
        # Tables are streamed.
        return ParsedHead(target, head, length) if head.table_form is None else None


class _Collector:
    """The parser's callbacks, which collect the URL and the headers."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))


class FastPath:
    """What all connections of an app share."""

    def __init__(
        self, inference: FastInference, targets: PredictTargets, connections: Connections
    ) -> None:
        self.inference = inference
        self.connections = connections
        self.heads = RequestHeadCache(targets, connections.settings)
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
        end = matched.end + matched.parsed.content_length
        if end <= len(data):
            return end - start if self._predict(matched, data[matched.end : end]) else 0
        # Most client libraries send head and body in two packets.
        self._partial, self._complete_bytes = bytearray(data[start:]), end - start
        self._request_since = self.loop.time()
        return len(data) - start

    def _predict(self, matched: MatchedHead, body: bytes) -> bool:
        """Compute a prediction; return False if it must go through ASGI."""
        (target, head, _), request_id, _ = matched
        self._fast_response_due = True
        if self._fast_path.inference.submit(
            target,
            head,
            body,
            self._respond,
            request_id=request_id_from(None if request_id is None else request_id.decode()),
            exclusive=len(self.connections) == 1,
        ):
            return True
        self._fast_response_due = False
        return False

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
