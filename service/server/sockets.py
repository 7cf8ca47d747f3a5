"""How the service listens: a port, and many who take connections from it.

The event loop takes one new connection from a socket in each of its turns, and a turn answers all
that wait; while the loop is busy, a hundred callers that come at once would come in one by one,
over seconds. So one port has several sockets in the loop, and each takes one.

Of several workers the first to wake would so take them all, and leave the others idle. So each of
them has a queue of its own, and the kernel shares callers out among those that listen.
"""

import asyncio
import ctypes
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from service.errors import CannotStart
from service.observability.logs import flush_logs

# More than this many at once bring nothing that could be measured.
_TAKERS = 16
# For so long the last connections of a stop are taken, and their first requests read. Counted in
# turns of the event loop, for one may be long where a model runs in it.
_LAST_TURN_SECONDS = 0.01
_LAST_TURNS = 25
_MOST_LAST_TURNS = 50

# Of <linux/filter.h>: load the byte of TCP's flags; where SYN is set take 0 bytes of the packet,
# that is, drop it; else all of it.
_DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
_SO_ATTACH_FILTER = 26


class SharedPort(socket.socket):
    """A port of which every process that is given this gets a queue of callers for itself.

    A queue takes part from when its process listens until that ends, so callers wait neither for
    one that is starting nor for one that has died. The first one never listens: it keeps the
    port, whoever comes and goes.
    """

    def __reduce__(self) -> tuple[Callable[[str, int], socket.socket], tuple[str, int]]:
        """What another process gets, instead of this very socket: another one of the port."""
        return _shared, self.getsockname()[:2]


def bound(host: str, port: int) -> socket.socket:
    """A socket that has the port and does not listen yet, so that callers are refused.

    Raises:
        CannotStart: the port cannot be had.
    """
    return _bound(socket.socket(_family(host)), host, port)


def port_of_workers(host: str, port: int) -> socket.socket:
    """What several workers are given to listen at; not on Linux, they share one queue.

    Raises:
        CannotStart: the port cannot be had.
    """
    # Others have the option too, and send all callers to one of the sockets.
    return _shared(host, port) if sys.platform == "linux" else bound(host, port)


def takers(listening: socket.socket) -> list[socket.socket]:
    """The socket and its like: one port and one queue of callers, and each takes from it."""
    return [listening, *(listening.dup() for _ in range(1, _TAKERS))]


def stop_queueing(listening: socket.socket) -> None:
    """Let no more connections into the queue of a port; those that are in it can still be taken.

    On Linux exactly, by a filter of packets that open a connection. Their senders try again after a
    second, and find the port closed. Elsewhere the queue is made as short as it can be.
    """
    if sys.platform != "linux":
        listening.listen(0)
        return
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN)
    held = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(held))
    listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def has_queued(listening: Iterable[socket.socket]) -> bool:
    """Whether a connection waits in the queue of one of the ports."""
    waiting = select.poll()
    for one in listening:
        waiting.register(one, select.POLLIN)
    return bool(waiting.poll(0))


class Server(uvicorn.Server):
    """uvicorn's; it logs its address once it answers there, and resets no connection at a stop."""

    def serve_on(self, listening: socket.socket) -> None:
        """Serve until told to stop.

        Raises:
            SystemExit: the application could not start; its log says why.
        """
        self.run(takers(listening))
        if not self.started:
            raise SystemExit(STARTUP_FAILURE)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; while models are still loading there is nothing to finish, so end at once."""
        if not self.started:
            flush_logs()
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, which ends the process by the signal; all is logged by then."""
        with super().capture_signals():
            yield
            flush_logs()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port, answer what is in progress, and close every connection.

        A port that is closed resets the connections that are in its queue: clients have opened
        them, and often sent their requests already. So no more come in, then those are taken and
        have time to send, and only then uvicorn closes the port and whatever is idle.
        """
        for listening in sockets or ():
            stop_queueing(listening)
        for turn in range(_MOST_LAST_TURNS):
            if turn >= _LAST_TURNS and not has_queued(sockets or ()):
                break
            await asyncio.sleep(_LAST_TURN_SECONDS)
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, which leaves the message to whoever made the sockets."""
        await super().startup(sockets)
        if self.started and sockets:
            self._log_started_message(sockets)


def _shared(host: str, port: int) -> socket.socket:
    made = SharedPort(_family(host))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return _bound(made, host, port)


def _bound(made: socket.socket, host: str, port: int) -> socket.socket:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise CannotStart(
            f"Cannot listen on {host} port {port}: {error.strerror}; end what listens there, "
            "or choose another with --port or ONWARD_PORT."
        ) from error
    return made


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
