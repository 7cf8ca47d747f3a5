"""How the service listens: a port, and many who take connections from it.

The event loop takes one new connection from a socket in each of its turns, and a turn answers all
that wait; while the loop is busy, a hundred callers that come at once would come in one by one,
over seconds. So one port has several sockets in the loop, and each takes one.

Of several workers the first to wake would so take them all, and leave the others idle. So each of
them has a queue of its own, and the kernel shares callers out among those that listen.
"""

import socket
import sys
from collections.abc import Callable

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from service.errors import CannotStart

# More than this many at once bring nothing that could be measured.
_TAKERS = 16


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


class Server(uvicorn.Server):
    """uvicorn's, which tells its address as soon as it answers there."""

    def serve_on(self, listening: socket.socket) -> None:
        """Serve until told to stop.

        Raises:
            SystemExit: the application could not start; its log says why.
        """
        self.run(takers(listening))
        if not self.started:
            raise SystemExit(STARTUP_FAILURE)

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
