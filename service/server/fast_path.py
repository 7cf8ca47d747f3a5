"""The fast path: predictions that need neither a task nor an ASGI scope.

A prediction whose head is known, whose body is small, and whose model is quick is handed to the
application at once (docs/decisions/0019-fast-path.md). Everything else goes through ASGI.
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
from service.api.middleware import CLIENT_LEFT, RESPOND
from service.api.routing import PredictTargets
from service.errors import InvalidRequest
from service.server.connections import Connections
from service.server.framing import body_length
from service.server.limited_protocol import LimitedProtocol, ServerContext
from service.settings import Settings

# A larger body is streamed, decoded in a thread, and gains nothing here.
_MAX_BODY_BYTES = 64 * 1024
# How long a small body may take before it is streamed to ASGI like any other.
_BODY_SECONDS = 1.0
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

    target: PredictTarget
    head: RequestHead
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

    A client writes the same head again and again, and parsing it takes as long as a small model's
    run. So each head is parsed once, and cached by its bytes.

    Args:
        targets: finds what the URLs of predictions name.
        settings: the limits of requests.
    """

    def __init__(self, targets: PredictTargets, settings: Settings) -> None:
        self._targets = targets
        self._max_body_bytes = min(_MAX_BODY_BYTES, settings.max_body_bytes)
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
        target = self._targets.of(collector.url)
        if target is None:
            return None
        return ParsedHead(target, RequestHead(collector.fields, target.query), length)


class _Collector:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))


class FastPath(ServerContext):
    """The parts of an app that its connections use, and the cache of heads.

    Args:
        inference: responds to predictions.
        targets: finds what the URLs of predictions name.
        connections: all that are open.
    """

    def __init__(
        self, inference: FastInference, targets: PredictTargets, connections: Connections
    ) -> None:
        super().__init__(connections, inference.recorder)
        self.inference = inference
        self.heads = RequestHeadCache(targets, connections.settings)
        self.default_headers: list[tuple[bytes, bytes]] = []
        """The server's own headers, of which uvicorn makes a new list each second."""
        self.header_lines = b""
        """The same as they are sent."""


class FastPathProtocol(LimitedProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._fast_path: FastPath = config.loaded_app.fast_path
        super().__init__(self._fast_path, config, server_state, app_state, _loop)
        # A small body that is waited for, and the size of its request.
        self._body: bytearray | None = None
        self._complete_bytes = 0
        # Whether the last request was responded to here, and no other one has begun.
        self._is_idle = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a request whose client left before its small body was complete."""
        if self._body is not None:
            self._fast_path.recorder.count(CLIENT_LEFT)
            self._body = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Respond to a prediction at once where nothing else is in progress."""
        if self._body is not None:
            self._body += data
            if len(self._body) < self._complete_bytes:
                return
            data, self._body = bytes(self._body), None
        elif self._held or not self._is_idle:
            super().data_received(data)
            return
        if self.flow.write_paused:
            self._consume(data)
        elif (taken := self._take_request(data, 0)) < len(data):
            self._consume(data, taken or self._parse_request(data, 0))

    def _take_request(self, data: bytes, start: int) -> int:
        """Respond to a prediction, or wait for the rest of its small body."""
        self._is_idle = False
        matched = self._fast_path.heads.match(data, start)
        if matched is None:
            return 0
        if not self._had_request:
            self._note_request()
        end = matched.end + matched.parsed.content_length
        if end <= len(data):
            return end - start if self._predict(matched, data[matched.end : end]) else 0
        # Most libraries send head and body in two packets.
        self._body, self._complete_bytes = bytearray(data[start:]), end - start
        self._request_since = self.loop.time()
        return len(data) - start

    def _predict(self, matched: MatchedHead, body: bytes) -> bool:
        """Respond to a prediction; False where it must go through ASGI."""
        (target, head, _), request_id, _ = matched
        self._response_due = True
        if self._fast_path.inference.submit(
            target,
            head,
            body,
            self._respond,
            request_id=None if request_id is None else request_id.decode(),
            exclusive=len(self.connections) == 1,
        ):
            return True
        self._response_due = False
        return False

    def _respond(self, response: RawResponse, request_id: bytes) -> None:
        """Write a response of the fast path."""
        self._response_due = False
        if self._raw.is_closing():
            return
        self._write(response, request_id)
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self._held or self._is_shutting_down or self._at_eof or self._rejection is not None:
            self._continue()
        else:
            self._is_idle = True

    def on_headers_complete(self) -> None:
        """Start a request through ASGI, whose response may be written at once."""
        super().on_headers_complete()
        # Not `self.cycle` when it responds: that may be the one of a later, pipelined request.
        self.scope[RESPOND] = partial(self._respond_to_cycle, self.cycle)  # type: ignore[literal-required] # as STATUS_SENT

    def _respond_to_cycle(
        self, cycle: RequestResponseCycle, response: RawResponse, request_id: bytes
    ) -> bool:
        """Write a whole response of ASGI; False where it must be sent in parts."""
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
        ours = (lines, b"x-request-id: ", request_id, b"\r\n\r\n", content)
        self._raw.write(b"".join((STATUS_LINE[status], context.header_lines, *ours)))

    def _has_partial_request(self) -> bool:
        return self._body is not None or super()._has_partial_request()

    def _check_request(self, elapsed: float) -> None:
        if self._body is None:
            super()._check_request(elapsed)
        elif elapsed > _BODY_SECONDS:
            # It is streamed to ASGI like any other.
            data, self._body = bytes(self._body), None
            self._consume(data, self._feed(data, 0))
