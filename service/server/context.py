"""What the connections of one app share."""

from service.api.asking import header_lines
from service.api.middleware import Ledger
from service.server.connections import Connections


class ServerContext:
    """The parts of an app that its connections use.

    Args:
        connections: all that are open.
        ledger: where responses are counted and logged.
    """

    def __init__(self, connections: Connections, ledger: Ledger) -> None:
        self.connections = connections
        self.ledger = ledger
        self._date: tuple[list[tuple[bytes, bytes]], bytes] = [], b""

    def date_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The server's own header lines; uvicorn makes a new list each second."""
        if headers is not self._date[0]:
            self._date = headers, header_lines(headers)
        return self._date[1]
