"""Listening sockets, and the server that accepts connections from them.

The event loop accepts one connection per socket in each turn, and then processes all requests that
have arrived; on a busy loop, a hundred new connections would be accepted one by one over seconds.
So one port has several sockets in the loop. After a turn in which all of them have accepted, the
server accepts the rest of the queue itself: if a flood of connections fills the queue, the kernel
drops those of other clients, which try again only after a second.

If several workers shared these sockets, the first one to run would accept all connections. So each
worker has a queue of its own, and the kernel distributes connections among the queues.
"""

import asyncio
import ctypes
import logging
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from math import ceil
from types import FrameType

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from service.errors import CannotStart
from service.observability.logs import flush_logs
from service.server.transport import is_reset

# More sockets than this bring no measurable gain.
_ACCEPT_SOCKETS = 16
# How many connections the server accepts itself in one turn of the event loop, which takes 0.1 ms
# for each, and how many it takes from the queue, 0.01 ms for each that its client has reset.
_MAX_ACCEPTED_PER_TURN = 128
_MAX_TAKEN_PER_TURN = 1024
# The kernel holds connections that send nothing for no longer; then they have timeouts here.
_MAX_DEFER_SECONDS = 7
# Half of the default limit of connections.
_MAX_SILENT = 1024
# During a shutdown, the last connections are accepted and their first requests read for this long.
# It is counted in turns of the event loop, since a turn in which a model runs may be long.
_SHUTDOWN_TURN_SECONDS = 0.01
_MIN_SHUTDOWN_TURNS = 25
_MAX_SHUTDOWN_TURNS = 50

# A BPF program (<linux/filter.h>): load the byte with TCP's flags; if SYN is set accept 0 bytes of
# the packet, which drops it; otherwise accept all of it.
_DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
_SO_ATTACH_FILTER = 26

_log = logging.getLogger(__name__)


class ReusePortSocket(socket.socket):
    """A bound socket whose copy in another process has its own queue of connections (SO_REUSEPORT).

    A queue gets connections only while its process listens, so none wait for a worker that is
    starting or has died. This socket itself never listens; it only reserves the port.
    """

    def __reduce__(self) -> tuple[Callable[[str, int, int], socket.socket], tuple[str, int, int]]:
        """Pickle the socket as a new one on the same port."""
        host, port = self.getsockname()[:2]
        return _bind_reuse_port, (host, port, _deferred_seconds(self))


def bind_socket(host: str, port: int, defer_seconds: float = 0) -> socket.socket:
    """Bind a socket that does not listen yet, so that the kernel rejects connections until then.

    On Linux, a connection whose client has sent nothing is queued only after a time. Until then it
    takes nothing from this process, however many there are.
    Raise `CannotStart` if the port cannot be bound.

    Args:
        host: address or name.
        port: 0 is any free port.
        defer_seconds: the time, up to seven seconds; the kernel rounds up to 1, 3 or 7.
    """
    return _bind(socket.socket(_family(host)), host, port, ceil(defer_seconds))


def bind_workers_socket(host: str, port: int, defer_seconds: float = 0) -> socket.socket:
    """Bind the socket that is passed to all workers, like `bind_socket`.

    Except on Linux, they share one queue.
    """
    if sys.platform != "linux":
        # Other systems have SO_REUSEPORT too, but send all connections to one of the sockets.
        return bind_socket(host, port)
    return _bind_reuse_port(host, port, ceil(defer_seconds))


def accept_sockets(listening: socket.socket) -> list[socket.socket]:
    """Return the socket and duplicates of it, which all accept from the same queue."""
    return [listening, *(listening.dup() for _ in range(1, _ACCEPT_SOCKETS))]


def log_address(host: str, port: int) -> None:
    """Log the address of the service, as uvicorn does for sockets that it binds itself."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    _log.info("Uvicorn running on http://%s (Press CTRL+C to quit)", address)


def stop_queueing(listening: socket.socket) -> None:
    """Admit no more connections to the queue of a port; those in it can still be accepted.

    On Linux, a filter drops the packets that open a connection. Their senders retry after a second,
    when the port is closed. On other systems the queue is made as short as possible.
    """
    if sys.platform != "linux":
        listening.listen(0)
        return
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN)
    buffer = ctypes.create_string_buffer(program, len(program))
    program_header = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(buffer))
    listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program_header)


def has_queued_connections(listening: Iterable[socket.socket]) -> bool:
    """Return whether the queue of one of the sockets has a connection."""
    poll = select.poll()
    for queue in listening:
        poll.register(queue, select.POLLIN)
    return bool(poll.poll(0))


class Server(uvicorn.Server):
    """uvicorn's server; it accepts whole queues, logs its address, and resets no connection.

    Args:
        config: of the server.
        max_silent: open connections beyond which queued ones that have sent nothing are closed.
        logs_address: whether to log the address when it accepts requests.
    """

    def __init__(
        self, config: uvicorn.Config, max_silent: int = _MAX_SILENT, *, logs_address: bool = True
    ) -> None:
        super().__init__(config)
        self._logs_address = logs_address
        self._max_silent = max_silent
        # Connections of this turn of the event loop, and tasks that are about to read from one.
        self._accepted_in_turn = 0
        self._accepting: set[asyncio.Task[object]] = set()

    def serve_on(self, listening: socket.socket) -> None:
        """Serve until a signal stops the server; exit if the application could not start."""
        self.run([listening])
        if not self.started:
            raise SystemExit(STARTUP_FAILURE)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the shutdown; before startup has finished, end the process immediately."""
        if not self.started:
            flush_logs()
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Flush the log before uvicorn raises the signal again, which ends the process."""
        with super().capture_signals():
            yield
            flush_logs()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port, finish the requests in progress, and close all connections.

        Closing a port resets the connections in its queue, whose clients have often sent their
        requests already. So the queue is closed first, then its connections are accepted and get
        time to send, and only then does uvicorn close the port and idle connections.
        """
        for listening in sockets or ():
            stop_queueing(listening)
        for turn in range(_MAX_SHUTDOWN_TURNS):
            if turn >= _MIN_SHUTDOWN_TURNS and not has_queued_connections(sockets or ()):
                break
            await asyncio.sleep(_SHUTDOWN_TURN_SECONDS)
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and log the address, which uvicorn does not do for sockets that it is given."""
        if not sockets:
            await super().startup(sockets)
            return
        self._listening = sockets[0]
        self._protocol_class: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        self.config.http_protocol_class = self._count_accepted  # type: ignore[assignment] # uvicorn only calls it
        await super().startup(accept_sockets(self._listening))
        if self.started and self._logs_address:
            log_address(*self._listening.getsockname()[:2])

    def _count_accepted(self, **arguments: object) -> asyncio.Protocol:
        """Create the protocol of a new connection, with uvicorn's arguments."""
        if not self._accepted_in_turn:
            create = partial(self._count_accepted, **arguments)
            asyncio.get_running_loop().call_soon(self._accept_rest, create)
        self._accepted_in_turn += 1
        return self._protocol_class(**arguments)

    def _accept_rest(self, create_protocol: Callable[[], asyncio.Protocol]) -> None:
        """Accept the rest of the queue if each socket has accepted a connection in this turn."""
        all_accepted = self._accepted_in_turn >= _ACCEPT_SOCKETS
        self._accepted_in_turn = 0
        if not all_accepted:
            return
        loop = asyncio.get_running_loop()
        # A deferred connection that still has sent nothing has been silent for seconds, so in a
        # flood of connections it would be the first to be evicted.
        is_flood = len(self.server_state.connections) >= self._max_silent
        closes_silent = is_flood and _deferred_seconds(self._listening) > 0
        queued = islice(_queued_connections(self._listening), _MAX_TAKEN_PER_TURN)
        wanted = (each for each in queued if not _close_unwanted(each, silent=closes_silent))
        for connection in islice(wanted, _MAX_ACCEPTED_PER_TURN):
            task = loop.create_task(loop.connect_accepted_socket(create_protocol, connection))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)


def _queued_connections(listening: socket.socket) -> Iterator[socket.socket]:
    """Accept connections until the queue is empty or closed, or no more files can be open."""
    with suppress(OSError):
        while True:
            connection, _ = listening.accept()
            connection.settimeout(0)
            yield connection


def _close_unwanted(connection: socket.socket, *, silent: bool) -> bool:
    """Close a connection that was reset, or optionally one that has sent nothing.

    Returns:
        Whether it was closed.
    """
    is_unwanted = is_reset(connection) or (silent and not _has_sent(connection))
    if is_unwanted:
        connection.close()
    return is_unwanted


def _has_sent(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except OSError:  # nothing has arrived, or the connection has been reset
        return False


def _bind_reuse_port(host: str, port: int, defer_seconds: int) -> socket.socket:
    unbound = ReusePortSocket(_family(host))
    unbound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return _bind(unbound, host, port, defer_seconds)


def _bind(unbound: socket.socket, host: str, port: int, defer_seconds: int) -> socket.socket:
    unbound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "linux":
        held = min(defer_seconds, _MAX_DEFER_SECONDS)
        unbound.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, held)
    try:
        unbound.bind((host, port))
    except OSError as error:
        unbound.close()
        raise CannotStart(
            f"Cannot listen on {host} port {port}: {error.strerror}; stop the process that uses "
            "it, or choose another port with --port or ONWARD_PORT."
        ) from error
    return unbound


def _deferred_seconds(bound: socket.socket) -> int:
    if sys.platform != "linux":
        return 0
    return bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
