"""The open connections of one process: how many there may be, and how long each may wait.

A connection is closed by a timeout only while it waits for its client. One whose request is being
processed is never closed, so a limit on connections cannot lose a response.
"""

import asyncio
import logging
from enum import IntEnum
from typing import NamedTuple, Protocol

from service.limits import CountRejection
from service.server.open_files import available_connections
from service.settings import Settings

_LONGEST_SWEEP_INTERVAL = 1.0
# Each new connection beyond the limit evicts this part of all, so that sorting them is rare.
_EVICTED_PART = 16
# Who has waited for less may be about to go on, and is evicted last.
_RECENT_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Wait(IntEnum):
    """What a connection waits for its client to do, in the order of eviction.

    A connection that has served a request is worth more than one that never sent any.
    """

    TO_CLOSE = 0
    """The last response is out and the connection is closing."""
    FOR_FIRST_REQUEST = 1
    FOR_REQUEST = 2
    """A request has arrived in part."""
    FOR_NEXT_REQUEST = 3
    FOR_READING = 4
    """The client leaves a complete response unread."""


class Waiting(NamedTuple):
    """What a connection waits for, and since when in the event loop's seconds."""

    wait: Wait
    since: float


class Connection(Protocol):
    """A connection as this module sees it."""

    def waiting(self) -> Waiting | None:
        """What it waits for; None while a request is processed or a response is sent."""

    def check(self, now: float) -> None:
        """Act on every timeout that has passed.

        Args:
            now: the event loop's time in seconds.
        """

    def evict(self, reason: str) -> None:
        """Close the connection at once, and count the reason."""


class Connections:
    """All connections of one app; only for use on its event loop.

    Args:
        settings: the limits and timeouts.
        count: called with the reason of each connection that is closed or rejected early.
    """

    def __init__(self, settings: Settings, count: CountRejection) -> None:
        self.settings = settings
        self.count = count
        self.max_connections = available_connections(settings.max_connections)
        self._open: set[Connection] = set()
        self._without_request: dict[Connection, None] = {}
        self._unread: dict[Connection, int] = {}
        self._unread_bytes = 0
        self._sweep_interval = min(_LONGEST_SWEEP_INTERVAL, _shortest_timeout(settings) / 4)
        self._is_sweeping = False

    def add(self, connection: Connection) -> bool:
        """Take in a new connection; one that waits for its client makes room if there is none.

        Returns:
            False where every connection has a request in progress: this one must be rejected.
        """
        has_room = len(self._open) < self.max_connections or self._evict()
        self._open.add(connection)
        self._without_request[connection] = None
        if not self._is_sweeping:
            self._is_sweeping = True
            self._schedule_sweep()
        return has_room

    def have_request(self, connection: Connection) -> None:
        """Note that the first request of a connection has begun."""
        self._without_request.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self._open.discard(connection)
        self._without_request.pop(connection, None)
        self.read(connection)

    def unread(self, connection: Connection, size: int) -> None:
        """Note that a client leaves so many bytes of its responses unread.

        Where all clients together leave too many, those who have read nothing for longest are
        disconnected.
        """
        self.read(connection)
        self._unread[connection] = size
        self._unread_bytes += size
        while self._unread_bytes > self.settings.max_unread_bytes:
            longest = next(iter(self._unread))
            self.read(longest)
            longest.evict("unread_responses")

    def read(self, connection: Connection) -> None:
        """Note that a client has read what `unread` noted."""
        self._unread_bytes -= self._unread.pop(connection, 0)

    def _evict(self) -> bool:
        """Close the connections that can best be spared; False where there is none."""
        if len(self._without_request) > self.max_connections // 2:
            # A flood of connections; the oldest of it is found without looking at all of them.
            oldest = next(iter(self._without_request))
            self.remove(oldest)
            oldest.evict("connection_evicted")
            return True
        recent = asyncio.get_running_loop().time() - _RECENT_SECONDS
        waiting = [(found, each) for each in self._open if (found := each.waiting()) is not None]
        # Plain numbers: comparing enumerations takes most of the time of sorting thousands.
        waiting.sort(key=lambda pair: (pair[0].since > recent, int(pair[0].wait), pair[0].since))
        spared = waiting[: max(len(self._open) // _EVICTED_PART, 1)]
        for _, connection in spared:
            self._open.discard(connection)
            connection.evict("connection_evicted")
        return bool(spared)

    def _schedule_sweep(self) -> None:
        asyncio.get_running_loop().call_later(self._sweep_interval, self._sweep)

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self._open):
            try:
                connection.check(now)
            except Exception:  # noqa: BLE001 - one connection must not end the timeouts of others
                _log.exception("timeout of a connection failed")
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
