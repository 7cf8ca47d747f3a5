"""The open connections of one process: their number, their timeouts, and their eviction.

Timeouts and eviction close a connection only while it waits for its client, never while its request
is being processed, so no limit on connections can lose a response.
"""

import asyncio
import logging
import resource
from abc import abstractmethod
from enum import IntEnum
from typing import Any, NamedTuple

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.errors import OnwardError, TooManyConnections
from service.observability.metrics import RequestRecorder
from service.server.transport import (
    GracefulTransport,
    HoldingFlowControl,
    ReceivingProtocol,
    is_reset,
)
from service.settings import Settings

# Files for models, logs, the event loop, the channel between workers and temporary files.
_RESERVED_FILES = 128
_MAX_SWEEP_SECONDS = 1.0
# A new connection beyond the limit evicts one in this number, so that sorting them is rare.
_EVICTED_FRACTION = 16
# Connections idle for less than this are evicted last: their client may be about to send.
_RECENT_SECONDS = 1.0
# How long a client may continue to send after its last response (RFC 9112, section 9.6).
_LINGER_SECONDS = 5.0

_log = logging.getLogger(__name__)


class IdleState(IntEnum):
    """Why a connection waits for its client, in the order of eviction.

    Connections that have never sent a request are evicted before those that have.
    """

    CLOSING = 0
    """The last response has been sent, and the client has not closed its side."""
    BEFORE_FIRST_REQUEST = 1
    IN_REQUEST = 2
    """A request has arrived in part."""
    BETWEEN_REQUESTS = 3
    UNREAD_RESPONSE = 4
    """The client has not read a complete response."""


class IdlePeriod(NamedTuple):
    """The state of a connection that waits for its client, since a time of the event loop."""

    state: IdleState
    since: float


def raise_open_files_limit() -> None:
    """Raise the soft limit of open files, often only 1024, to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS allows less than its hard limit says
        hard = soft
    _log.info("limit of open files", extra={"files": hard if hard >= 0 else "unlimited"})


def available_connections(max_connections: int) -> int:
    """Return the operator's limit, or fewer so that files remain for everything else."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max_connections if files < 0 else max(min(max_connections, files - _RESERVED_FILES), 1)


class Connection(HttpToolsProtocol, ReceivingProtocol):
    """The protocol of one connection with timeouts; subclasses process its requests."""

    transport: GracefulTransport
    flow: HoldingFlowControl

    def __init__(
        self,
        open_connections: "Connections",
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._open_connections = open_connections
        self._settings = open_connections.settings
        self._recorder = open_connections.recorder
        # Whether the client has closed its side, and whether it has sent a part of a body since the
        # last check of the timeouts.
        self._at_eof = self._has_body_progress = False
        # The size of the unread output, and since when, as a time of the event loop.
        self._unread_mark = (0, self.loop.time())

    @abstractmethod
    def find_idle_period(self) -> IdlePeriod | None:
        """Return what the connection waits for; None while a request is processed."""

    @abstractmethod
    def _check_request(self, elapsed: float) -> None:
        """Apply the timeouts of a partial request, which began ``elapsed`` seconds ago."""

    @abstractmethod
    def _reject(self, error: OnwardError) -> None:
        """Send an error, and close the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's type of it
        """Set up the connection, or reject it if there are too many.

        Unlike uvicorn, read the addresses only for requests that need them: in a flood of
        connections they take a sixth of the processor time.
        """
        self.connections.add(self)
        self.scheme = "http"
        self._raw = transport
        self.transport = GracefulTransport(self, transport)
        self.flow = HoldingFlowControl(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and is_reset(connection):
            transport.abort()  # by its client, while it was queued
        elif not self._open_connections.add(self):
            self._reject(TooManyConnections(self._open_connections.max_connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection."""
        self._open_connections.remove(self)
        super().connection_lost(exc)
        self.transport.detach()

    def pause_writing(self) -> None:
        """Record that the client has not read its response."""
        super().pause_writing()
        self._open_connections.note_unread(self, self._raw.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Record that the client has read its response."""
        self._open_connections.note_read(self)
        self._unread_mark = (0, self.loop.time())
        super().resume_writing()

    def check_timeouts(self, now: float) -> None:
        """Close or reject the connection if one of its timeouts has passed."""
        if self._raw.is_closing():
            return
        if self._unread_seconds(now) > self._settings.write_seconds:
            self.evict("write_timeout")
        elif (idle := self.find_idle_period()) is None:
            self._probe()
        else:
            self._check_idle(idle.state, now - idle.since)

    def _unread_seconds(self, now: float) -> float:
        """Return how long the client has neither read its response nor sent more of its body."""
        size, since = self._unread_mark
        left = self._raw.get_write_buffer_size()
        if left == size and left and not self._has_body_progress:
            return now - since
        self._unread_mark = (left, now)
        self._has_body_progress = False
        return 0.0

    def _check_idle(self, state: IdleState, elapsed: float) -> None:
        settings = self._settings
        if state is IdleState.CLOSING and elapsed > _LINGER_SECONDS:
            self._raw.abort()
        elif state is IdleState.BEFORE_FIRST_REQUEST and elapsed > settings.first_request_seconds:
            self.evict("first_request_timeout")
        elif state is IdleState.BETWEEN_REQUESTS and elapsed > settings.keep_alive_seconds:
            self._raw.close()
        elif state is IdleState.IN_REQUEST:
            self._check_request(elapsed)

    def _probe(self) -> None:
        """Send an interim response after a half-close; a client that is no longer there resets."""
        cycle = self.cycle
        if not self._at_eof or self.pipeline or cycle is None or cycle.response_started:
            return
        if cycle.scope["http_version"] == "1.1" and not cycle.response_complete:
            self._raw.write(b"HTTP/1.1 102 Processing\r\n\r\n")

    def evict(self, reason: str) -> None:
        """Close the connection immediately, and count the reason."""
        self._recorder.metrics.count_rejection(reason)
        self.transport.abort()


class Connections:
    """All connections of one app. Not thread-safe: for use on its event loop."""

    def __init__(self, settings: Settings, recorder: RequestRecorder) -> None:
        self.settings = settings
        self.recorder = recorder
        self.max_connections = available_connections(settings.max_connections)
        self._open: set[Connection] = set()
        self._before_first_request: dict[Connection, None] = {}
        self._unread: dict[Connection, int] = {}
        self._unread_bytes = 0
        self._sweep_seconds = min(_MAX_SWEEP_SECONDS, _shortest_timeout(settings) / 4)
        self._is_sweeping = False

    def add(self, connection: Connection) -> bool:
        """Add a new connection, and evict others if there are too many.

        Returns False if all others are processing requests; then this one must be rejected.
        """
        has_room = len(self._open) < self.max_connections or self._evict()
        self._open.add(connection)
        self._before_first_request[connection] = None
        if not self._is_sweeping:
            self._is_sweeping = True
            self._schedule_sweep()
        return has_room

    def note_first_request(self, connection: Connection) -> None:
        """Record that a connection has begun its first request."""
        self._before_first_request.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """Remove a closed connection."""
        self._open.discard(connection)
        self._before_first_request.pop(connection, None)
        self.note_read(connection)

    def note_unread(self, connection: Connection, size: int) -> None:
        """Record that a client has not read a number of bytes of its responses.

        If the total of all clients exceeds its limit, those that have read nothing for longest are
        disconnected.
        """
        self.note_read(connection)
        self._unread[connection] = size
        self._unread_bytes += size
        while self._unread_bytes > self.settings.max_unread_bytes:
            longest = next(iter(self._unread))
            self.note_read(longest)
            longest.evict("unread_responses")

    def note_read(self, connection: Connection) -> None:
        """Record that a client has read the bytes of `note_unread`."""
        self._unread_bytes -= self._unread.pop(connection, 0)

    def _evict(self) -> bool:
        """Close some of the idle connections; return False if there are none."""
        if len(self._before_first_request) > self.max_connections // 2:
            # In a flood of connections, find the oldest without sorting all of them.
            oldest = next(iter(self._before_first_request))
            self.remove(oldest)
            oldest.evict("connection_evicted")
            return True
        recent = asyncio.get_running_loop().time() - _RECENT_SECONDS
        candidates = [
            (idle, connection)
            for connection in self._open
            if (idle := connection.find_idle_period()) is not None
        ]
        # With enumeration members as keys, sorting takes several times as long as with integers.
        candidates.sort(
            key=lambda pair: (pair[0].since > recent, int(pair[0].state), pair[0].since)
        )
        evicted = candidates[: max(len(self._open) // _EVICTED_FRACTION, 1)]
        for _, connection in evicted:
            self._open.discard(connection)
            connection.evict("connection_evicted")
        return bool(evicted)

    def _schedule_sweep(self) -> None:
        asyncio.get_running_loop().call_later(self._sweep_seconds, self._sweep)

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self._open):
            try:
                connection.check_timeouts(now)
            except Exception:  # noqa: BLE001 - an error of one connection must not stop the others' timeouts
                _log.exception("checking the timeouts of a connection failed")
        if self._open:
            self._schedule_sweep()
        else:
            self._is_sweeping = False


def _shortest_timeout(settings: Settings) -> float:
    return min(
        settings.first_request_seconds,
        settings.head_seconds,
        settings.body_seconds,
        settings.keep_alive_seconds,
        settings.write_seconds,
    )
