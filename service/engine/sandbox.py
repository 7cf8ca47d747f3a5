"""New versions opened in a process of its own first, so that one that crashes it harms nobody.

Only a crash, or a load without end, is told by this process: everything else the service finds
out for itself when it opens the version afterwards.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from service.engine.repository import Candidate, Fingerprint
from service.errors import LoadFailed

PATIENCE_SECONDS = 300.0
"""After which a load is taken for one without end."""

_IDLE_SECONDS = 10.0
_ROOT = Path(__file__).parents[2]


class Rehearsal:
    """The process, started when there is something to try and ended when there is nothing more.

    Args:
        threads: of one run, as the service has them.
        patience_seconds: after which a load is taken for one without end.
    """

    def __init__(self, threads: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._threads = threads
        self._patience_seconds = patience_seconds
        self._one_at_a_time = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._idle: threading.Timer | None = None
        self._survived: dict[tuple[str, str], Fingerprint] = {}

    def try_out(self, candidate: Candidate, device: str) -> None:
        """Open a version over there, unless it was as it lies there now; for a thread to wait on.

        Raises:
            LoadFailed: the process did not survive it.
        """
        key = candidate.name, candidate.version
        with self._one_at_a_time:
            if self._survived.get(key) == candidate.fingerprint:
                return
            process = self._started()
            impatience = threading.Timer(self._patience_seconds, process.kill)
            impatience.daemon = True
            impatience.start()
            survived = _asked(process, candidate, device, self._threads)
            hung = not impatience.is_alive()
            impatience.cancel()
            if not survived:
                self._end()
                raise LoadFailed(self._obituary(process.returncode, hung=hung))
            self._survived[key] = candidate.fingerprint
            self._end_when_idle()

    def close(self) -> None:
        """End the process, and with it whatever it is trying."""
        if (process := self._process) is not None:
            process.kill()
        with self._one_at_a_time:
            self._end()

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._idle is not None:
            self._idle.cancel()
        if self._process is None or self._process.poll() is not None:
            paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service.engine.sandbox_main"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            )
            _heard(self._process)  # that it is there; its start is not the model's time
        return self._process

    def _end_when_idle(self) -> None:
        self._idle = threading.Timer(_IDLE_SECONDS, self.close)
        self._idle.daemon = True
        self._idle.start()

    def _end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.communicate()
            self._process = None

    def _obituary(self, code: int, *, hung: bool) -> str:
        if hung:
            return f"it is not loaded after {self._patience_seconds:g} s, tried in its own process"
        killed = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"loading it ends the process that tries ({killed})"


def _asked(
    process: "subprocess.Popen[bytes]", candidate: Candidate, device: str, threads: int
) -> bool:
    """Whether the process is still there when it has tried."""
    question = [candidate.name, candidate.version, str(candidate.folder), device, threads]
    if process.stdin is None:
        return False
    try:
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()
    except OSError:
        return False
    return _heard(process)


def _heard(process: "subprocess.Popen[bytes]") -> bool:
    """Whether the process says something before it ends."""
    return process.stdout is not None and bool(process.stdout.readline())
