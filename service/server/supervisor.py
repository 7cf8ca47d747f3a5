"""The parent of several workers."""

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
    """Starts the workers, replaces those that end or hang, and passes on signals.

    Where it differs from uvicorn's: SIGHUP; the port closes with the last worker's; checks and the
    stop never wait for a worker that hangs.

    Args:
        config: the server's.
        listening: bound; what each worker is given to listen at.
        folder: where the workers listen to each other.
        health_seconds: how long a worker may take to answer a health check.
        stop_seconds: how long the workers may take to end after SIGTERM.
    """

    processes: list[WorkerProcess]  # type: ignore[assignment] # of uvicorn's kind of process

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
        self._most_unanswered_checks = round(health_seconds / _CHECK_SECONDS)
        self._stop_seconds = stop_seconds

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

    def init_processes(self) -> None:
        """Start the workers."""
        self.processes = [self._started() for _ in range(self.processes_num)]

    def keep_subprocess_alive(self) -> None:
        """Replace each worker that has ended or hangs; none where one could not start."""
        for place, process in enumerate(self.processes):
            problem = (
                None if self.should_exit.is_set() else process.problem(self._most_unanswered_checks)
            )
            if problem is None:
                continue
            process.kill()
            process.join()
            if process.exitcode == STARTUP_FAILURE:
                self.should_exit.set()
                return
            _log.error("worker replaced", extra={"worker": process.pid, "reason": problem})
            self.processes[place] = self._started()

    def handle_hup(self) -> None:
        """Have every worker look at the models folder; uvicorn would replace each of them."""
        broadcast(self._folder, SCAN)
        _log.info("workers told to look at the models folder")

    def handle_int(self) -> None:
        """Stop without waiting for load balancers; the SIGTERM that follows changes nothing."""
        for process in self.processes:
            if process.process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGINT)
        super().handle_int()

    def handle_ttin(self) -> None:
        """Add a worker."""
        self.processes_num += 1
        self.processes.append(self._started())

    def terminate_all(self) -> None:
        """Stop the workers; what comes after them is refused, not left waiting for nobody."""
        super().terminate_all()
        for listening in self.sockets:
            listening.close()

    def join_all(self) -> None:
        """Wait for the workers to end; one that does not is ended."""
        deadline = time.monotonic() + self._stop_seconds
        for process in self.processes:
            process.process.join(max(deadline - time.monotonic(), 0.0))
            if process.process.is_alive():
                _log.error("worker ended by force", extra={"worker": process.pid})
                process.kill()
                process.join()

    def _started(self) -> WorkerProcess:
        process = WorkerProcess(self.config, self.sockets)
        # Or this process would wait for it for ever, should an error of ours end the supervision.
        process.process.daemon = True
        process.start()
        return process
