"""The parent of several workers."""

import logging
from pathlib import Path
from socket import socket

from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from service.errors import CannotStart
from service.workers.channel import tell
from service.workers.control import LOOK

_log = logging.getLogger(__name__)


class Supervisor(Multiprocess):
    """Starts the workers, replaces those that die, and passes on what it is told.

    Where it differs from uvicorn's: SIGHUP, and that the port closes with the last worker's.

    Args:
        config: the server's.
        listening: bound; what each worker is given to listen at.
        folder: where the workers listen to each other.
    """

    def __init__(self, config: Config, listening: socket, folder: Path) -> None:
        super().__init__(config, [listening])
        self._folder = folder

    def serve(self) -> None:
        """Serve until told to stop.

        Raises:
            CannotStart: a worker could not start, and no other would.
        """
        host, port = self.sockets[0].getsockname()[:2]
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        _log.info("Uvicorn running on http://%s (Press CTRL+C to quit)", where)
        self.run()
        if any(process.exitcode == STARTUP_FAILURE for process in self.processes):
            raise CannotStart("A worker could not start; the log above says why.")

    def handle_hup(self) -> None:
        """Have every worker look at the models folder; uvicorn would replace each of them."""
        tell(self._folder, LOOK)
        _log.info("workers told to look at the models folder")

    def terminate_all(self) -> None:
        """Stop the workers; what comes after them is refused, not left waiting for nobody."""
        super().terminate_all()
        for listening in self.sockets:
            listening.close()
