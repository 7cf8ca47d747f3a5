"""One worker as a process: how it is watched by its supervisor, and how it ends without one.

A new process imports this module before anything else, so it imports little itself.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
from functools import cached_property
from socket import socket

from uvicorn.supervisors.multiprocess import Process

from service.observability.logs import flush_logs
from service.server.sockets import Server

# How long requests in progress may take once the supervisor has ended.
_LAST_SECONDS = 0.7

_log = logging.getLogger(__name__)


class WorkerProcess(Process):
    """uvicorn's worker process with our server, which also ends when its supervisor does."""

    _unanswered_checks = 0

    @cached_property
    def server(self) -> Server:
        """What serves in the worker."""
        return Server(self.config)

    def target(self, sockets: list[socket] | None = None) -> None:
        """Serve; runs in the worker."""
        threading.Thread(target=_end_with_supervisor, args=[self.server], daemon=True).start()
        super().target(sockets)

    def problem(self, most_unanswered_checks: int) -> str | None:
        """Why the worker has to be replaced, None where it need not; for its supervisor.

        Returns at once: the answer to one health check is read by a later call.

        Args:
            most_unanswered_checks: how many calls may find no answer.
        """
        if not self.process.is_alive():
            return _ending(self.process.exitcode)
        try:
            if not self._unanswered_checks:
                self.parent_conn.send(b"ping")
            if self.parent_conn.poll():
                self.parent_conn.recv()
                self._unanswered_checks = 0
                return None
        except (OSError, EOFError):
            return "its connection to the supervisor is broken"
        self._unanswered_checks += 1
        hangs = self._unanswered_checks > most_unanswered_checks
        return "it did not answer its health checks" if hangs else None


def _end_with_supervisor(server: Server) -> None:
    """Wait for the supervisor to end, even by SIGKILL; then take no connection, and end."""
    supervisor = multiprocessing.parent_process()
    if supervisor is None:
        return
    supervisor.join()
    _log.error("worker ends because its supervisor has ended")
    server.should_exit = True
    time.sleep(_LAST_SECONDS)
    flush_logs()
    os._exit(1)  # whatever it does: it may still import, load models, or compute


def _ending(code: int | None) -> str:
    """How a process ended, from its exit code."""
    if code is not None and code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with exit code {code}"
