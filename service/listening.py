"""How the service listens: a port, and many who take connections from it.

The event loop takes one new connection from a socket in each of its turns, and a turn answers all
that wait; while the loop is busy, a hundred callers that come at once would come in one by one,
over seconds. So one port has several sockets in the loop, and each takes one. Not where several
workers share a port: there the first to wake would take them all.
"""

import socket

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from service.errors import CannotStart

# More than this many at once bring nothing that could be measured.
_TAKERS = 16


def bound(host: str, port: int) -> socket.socket:
    """A socket that has the port and does not listen yet, so that callers are refused.

    Raises:
        CannotStart: the port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise CannotStart(
            f"Cannot listen on {host} port {port}: {error.strerror}; end what listens there, "
            "or choose another with --port or ONWARD_PORT."
        ) from error
    return found


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
