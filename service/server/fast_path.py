"""The fast path: predictions that need neither a task nor an ASGI scope.

A prediction whose head is known, whose body is small, and whose model is quick is handed to the
application at once (docs/decisions/0020-fast-path.md). Everything else goes through ASGI.
"""

import asyncio
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from service.api.asking import Answer
from service.api.fast_inference import Door
from service.api.middleware import CLIENT_LEFT
from service.server.connections import Connections
from service.server.context import ServerContext
from service.server.limited_protocol import LimitedProtocol
from service.server.request_head import MatchedHead, RequestHeadCache

# How long a small body may take before it is streamed to ASGI like any other.
_BODY_SECONDS = 1.0


class FastPath(ServerContext):
    """The parts of an app that its connections use, and the cache of heads.

    Args:
        door: responds to predictions.
        connections: all that are open.
    """

    def __init__(self, door: Door, connections: Connections) -> None:
        super().__init__(connections, door.ledger)
        self.door = door
        self.heads = RequestHeadCache(door, connections.settings)


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
        self._body: bytearray | None = None
        self._complete_bytes = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a request whose client left before its small body was complete."""
        if self._body is not None:
            self._fast_path.ledger.count(CLIENT_LEFT)
            self._body = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Add to a small body that is waited for, or process input."""
        if self._body is None:
            super().data_received(data)
        else:
            self._body += data
            if len(self._body) >= self._complete_bytes:
                self._end_body()

    def _take_request(self, data: bytes, start: int) -> int:
        """Respond to a prediction, or wait for the rest of its small body."""
        matched = self._fast_path.heads.match(data, start)
        if matched is None:
            return 0
        self._note_request()
        end = matched.end + matched.parsed.content_length
        if end <= len(data):
            return end - start if self._predict(matched, data[matched.end : end]) else 0
        if not self._fast_path.door.accepts(matched.parsed.target):
            return 0
        # Most libraries send head and body in two packets.
        self._body, self._complete_bytes = bytearray(data[start:]), end - start
        self._request_since = self.loop.time()
        return len(data) - start

    def _predict(self, matched: MatchedHead, body: bytes) -> bool:
        """Respond to a prediction; False where it must go through ASGI."""
        (target, head, _), request_id, _ = matched
        self._response_due = True
        if self._fast_path.door.ask(
            target,
            head,
            body,
            self._respond,
            request_id=None if request_id is None else request_id.decode(),
            alone=len(self.connections) == 1,
        ):
            return True
        self._response_due = False
        return False

    def _respond(self, answer: Answer, request_id: bytes) -> None:
        """Write a response."""
        self._response_due = False
        raw = self._raw
        if raw.is_closing():
            return
        date = self._fast_path.date_lines(self.server_state.default_headers)
        ours = (answer.lines, b"x-request-id: ", request_id, b"\r\n\r\n", answer.content)
        raw.write(b"".join((STATUS_LINE[answer.status], date, *ours)))
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self._held or self._is_shutting_down or self._at_eof or self._rejection is not None:
            self._continue()

    def _has_partial_request(self) -> bool:
        return self._body is not None or super()._has_partial_request()

    def _check_request(self, elapsed: float) -> None:
        if self._body is None:
            super()._check_request(elapsed)
        elif elapsed > _BODY_SECONDS:
            self._end_body(fast=False)

    def _end_body(self, *, fast: bool = True) -> None:
        """Process a request whose body was waited for; if not fast, stream it to ASGI."""
        data, self._body = self._body, None
        if data is None:
            return
        start = 0 if fast else self._feed(bytes(data), 0)
        self._consume(bytes(data[start:]))
