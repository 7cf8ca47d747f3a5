"""The parent process of several workers."""

import logging
import os
import signal
import time
from pathlib import Path
from socket import socket

from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from service.errors import CannotStart
from service.server.worker_process import WorkerProcess
from service.workers.coordination import SCAN
from service.workers.ipc import broadcast

# How often uvicorn's loop checks the workers.
_CHECK_SECONDS = 0.5

_log = logging.getLogger(__name__)


class Supervisor(Multiprocess):
    """Starts the workers, replaces those that end or hang, and forwards signals.

    Differences from uvicorn's supervisor: SIGHUP scans the models folder, the port closes when the
    workers stop, and neither health checks nor a shutdown wait for a worker that hangs.

    Args:
        config: of the server.
        listening: the bound socket that is passed to each worker.
        folder: of the sockets by which the workers communicate.
        health_seconds: how long a worker may take to respond to a health check.
        stop_seconds: how long the workers may take to end after SIGTERM.
    """

    processes: list[WorkerProcess]  # type: ignore[assignment] # a subclass of uvicorn's process

    def __init__(
        self,
        config: Config,
        listening: socket,
        folder: Path,
        *,
        health_seconds: float,
        stop_seconds: float,
    ) -> None:
        super().__init__(config, [listening])
        self._folder = folder
        self._max_missed_checks = round(health_seconds / _CHECK_SECONDS)
        self._stop_seconds = stop_seconds

    def serve(self) -> None:
        """Serve until a signal stops the service; raise `CannotStart` if a worker cannot start."""
        self.run()
        if any(process.exitcode == STARTUP_FAILURE for process in self.processes):
            raise CannotStart("A worker could not start; the log above says why.")

    def init_processes(self) -> None:
        """Start the workers."""
        self.processes = [
            self._start_worker(logs_address=number == 0) for number in range(self.processes_num)
        ]

    def keep_subprocess_alive(self) -> None:
        """Replace each worker that has ended or hangs; stop if one could not start."""
        for index, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            problem = process.find_problem(self._max_missed_checks)
            if problem is None:
                continue
            process.kill()
            process.join()
            if process.exitcode == STARTUP_FAILURE:
                self.should_exit.set()
                return
            _log.error("worker replaced", extra={"worker": process.pid, "reason": problem})
            logs_address = process.logs_address and not process.has_started
            self.processes[index] = self._start_worker(logs_address=logs_address)

    def handle_hup(self) -> None:
        """Make every worker scan the models folder; uvicorn would replace the workers."""
        broadcast(self._folder, SCAN)
        _log.info("scan of the models folder requested")

    def handle_int(self) -> None:
        """Stop without draining; the SIGTERM that follows has no further effect."""
        for process in self.processes:
            if process.process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGINT)
        super().handle_int()

    def handle_ttin(self) -> None:
        """Add a worker."""
        self.processes_num += 1
        self.processes.append(self._start_worker())

    def terminate_all(self) -> None:
        """Stop the workers, and close the port so that new connections are rejected."""
        super().terminate_all()
        for listening in self.sockets:
            listening.close()

    def join_all(self) -> None:
        """Wait for the workers to end, and kill those that do not."""
        deadline = time.monotonic() + self._stop_seconds
        for process in self.processes:
            process.process.join(max(deadline - time.monotonic(), 0.0))
            if process.process.is_alive():
                _log.error("worker ended by force", extra={"worker": process.pid})
                process.kill()
                process.join()

    def _start_worker(self, *, logs_address: bool = False) -> WorkerProcess:
        process = WorkerProcess(self.config, self.sockets)
        process.logs_address = logs_address
        # Otherwise, after an error in this process, it would wait for the worker forever.
        process.process.daemon = True
        process.start()
        return process
