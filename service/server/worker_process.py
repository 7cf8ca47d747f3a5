"""A worker process: its health checks, and its end if the supervisor ends.

A new process imports this module first, so the module itself imports little.
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

# How long requests in progress may take after the supervisor has ended.
_GRACE_SECONDS = 0.7

_log = logging.getLogger(__name__)


class WorkerProcess(Process):
    """uvicorn's worker process with `Server`, which ends when its supervisor does."""

    logs_address = False
    """Whether it logs the address when it accepts requests, which one worker does for all."""
    has_started = False
    """Whether it accepted requests at the last health check."""
    _missed_checks = 0

    @cached_property
    def server(self) -> Server:
        """The server that runs in the worker."""
        return Server(self.config, logs_address=self.logs_address)

    def target(self, sockets: list[socket] | None = None) -> None:
        """Serve; runs in the worker."""
        threading.Thread(target=_end_with_supervisor, args=[self.server], daemon=True).start()
        super().target(sockets)

    def find_problem(self, max_missed_checks: int) -> str | None:
        """Return why the worker must be replaced, or None; called by the supervisor.

        Never waits: a later call reads the response to this call's health check.

        Args:
            max_missed_checks: how many calls in a row may find no response.
        """
        if not self.process.is_alive():
            return _describe_exit(self.process.exitcode)
        try:
            if not self._missed_checks:
                self.parent_conn.send(b"ping")
            if self.parent_conn.poll():
                self.has_started = self.parent_conn.recv()
                self._missed_checks = 0
                return None
        except (OSError, EOFError):
            return "its connection to the supervisor is broken"
        self._missed_checks += 1
        hangs = self._missed_checks > max_missed_checks
        return "it did not respond to its health checks" if hangs else None


def _end_with_supervisor(server: Server) -> None:
    """Wait until the supervisor ends, even by SIGKILL; then stop the server and exit."""
    supervisor = multiprocessing.parent_process()
    if supervisor is None:
        return
    supervisor.join()
    _log.error("worker ends because its supervisor has ended")
    server.should_exit = True
    time.sleep(_GRACE_SECONDS)
    flush_logs()
    os._exit(1)  # even if it is still importing, loading models or computing


def _describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with exit code {code}"
