"""HTTP/1.1 as uvicorn speaks it, with a door for predictions before its ASGI machinery.

A request that has arrived whole, for a model that is at hand and quick, is answered without a
task, a scope or a response object (docs/decisions/0020-door.md). Everything else goes uvicorn's
own way, as if this were not here.
"""

import asyncio
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from service.api.asking import Answer, header_lines
from service.api.door import Door
from service.api.head import Head
from service.api.heads import Opened, Target

_LOOK_AGAIN_SECONDS = 1.0


class _Nobody:
    """Stands for the event that a request's task would wait for."""

    def set(self) -> None:
        """Wake nobody."""


class _Turn:
    """A request under way here, in the place where uvicorn keeps its own."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.response_complete = True
        self.keep_alive = True
        self.disconnected = False
        self.message_event = _Nobody()


class DoorProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        door = getattr(self.app, "door", None)
        self._door = door if isinstance(door, Door) else None
        self._target: Target | None = None
        self._body = b""
        self._turn = _Turn()
        self._last_answer = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_message = False
        self._asked: Opened | None = None
        self._declined = False
        self._dated: tuple[list[tuple[bytes, bytes]], bytes] = [], b""

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin a request; what only the long way needs is made when that is gone."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = self._in_message = True

    def data_received(self, data: bytes) -> None:
        """Take what has arrived; a body that is not whole by then is waited for the long way."""
        begins = not self._in_message
        if begins and self._ask_known(data):
            return
        super().data_received(data)
        self._declined = False
        if self._asked is not None:
            asked, self._asked = self._asked, None
            if begins and self._door is not None:
                self._door.heads.learn(data, asked)
        if self._target is None:
            return
        if self.transport.is_closing():  # what arrived was no HTTP
            self._target = None
        else:
            self._begin_long_way()

    def on_headers_complete(self) -> None:
        """Keep a prediction back until its body is there."""
        self._in_head = False
        door = None if self._declined else self._door
        if door is not None and self._is_free() and self.parser.get_method() == b"POST":
            self._target = door.target(self.url)
        if self._target is None:
            self._begin_long_way()

    def on_body(self, body: bytes) -> None:
        """Add to the body."""
        if self._target is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """Have the request answered, one way or the other."""
        self._in_message = False
        target, body = self._target, self._body
        if target is None:
            super().on_message_complete()
            return
        if self._is_plain():
            opened = target, Head(self.headers, target.query), body
            self._target, self._body = None, b""
            if self._ask(opened):
                self._asked = opened
                return
            self._target, self._body = target, body
        self._begin_long_way()
        super().on_message_complete()

    def _ask_known(self, data: bytes) -> bool:
        """Have a whole request answered whose head has come before; False of any other."""
        if self._door is None or not self._is_free() or self.transport.is_closing():
            return False
        opened = self._door.heads.opened(data)
        if opened is None:
            return False
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._declined = not self._ask(opened)
        return not self._declined

    def _ask(self, opened: Opened) -> bool:
        """Have a plain request answered; False where it must go the long way."""
        door, turn, before = self._door, self._turn, self.cycle
        turn.response_complete = False
        self.cycle = turn  # type: ignore[assignment] # all that is asked of it is there
        alone = len(self.connections) == 1
        if door is not None and door.ask(opened, self._answered, alone=alone):
            return True
        turn.response_complete = True
        self.cycle = before
        return False

    def _is_free(self) -> bool:
        """Whether nothing is under way, and the caller reads what it is answered."""
        cycle = self.cycle
        return (cycle is None or cycle.response_complete) and not self.flow.write_paused

    def _is_plain(self) -> bool:
        """Whether the request asks for nothing but an answer on a connection that stays."""
        parser = self.parser
        return (
            not self.expect_100_continue
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and parser.get_http_version() == "1.1"
        )

    def _begin_long_way(self) -> None:
        """Give back what was kept."""
        body, self._target, self._body = self._body, None, b""
        url, fields, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(fields)
        super().on_headers_complete()
        if body:
            super().on_body(body)

    def _answered(self, answer: Answer, identity: bytes) -> None:
        turn = self._turn
        turn.response_complete = True
        transport = self.transport
        if transport.is_closing():
            return
        ours = (answer.lines, b"x-request-id: ", identity, b"\r\n\r\n", answer.content)
        transport.write(b"".join((STATUS_LINE[answer.status], self._date_lines(), *ours)))
        if not turn.keep_alive:
            transport.close()
        if self.pipeline or not turn.keep_alive:
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        # One timer for many answers: setting one for each takes as long as reading the request.
        self._last_answer = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def _date_lines(self) -> bytes:
        """The server's own headers, which uvicorn makes anew each second."""
        headers = self.server_state.default_headers
        if headers is not self._dated[0]:
            self._dated = headers, header_lines(headers)
        return self._dated[1]

    def on_response_complete(self) -> None:
        """Note that an answer of the long way is out."""
        self._last_answer = self.loop.time()
        super().on_response_complete()

    def _close_if_idle(self) -> None:
        """Close the connection if nothing has come for so long, else look again later."""
        self._idle_timer = None
        idle = self.loop.time() - self._last_answer
        cycle = self.cycle
        # A head that has come in part is a request, which uvicorn waits for.
        free = (cycle is None or cycle.response_complete) and not self._in_head
        if free and idle >= self.timeout_keep_alive:
            self.timeout_keep_alive_handler()
        else:
            later = max(self.timeout_keep_alive - idle, _LOOK_AGAIN_SECONDS)
            self._idle_timer = self.loop.call_later(later, self._close_if_idle)
