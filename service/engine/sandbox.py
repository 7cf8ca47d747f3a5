"""New versions are loaded in a separate process first, so that one that crashes it harms nobody.

That process detects only crashes and loads that never end; everything else the service finds out
for itself when it loads the version afterwards.
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

LOAD_TIMEOUT_SECONDS = 300.0
"""A load that takes longer is taken for one that never ends."""

_IDLE_SECONDS = 10.0
_ROOT = Path(__file__).parents[2]


class LoadSandbox:
    """The process, started for the first version to check and ended when it is idle.

    Args:
        threads: of one run, as in the service.
        timeout_seconds: after which a load is taken for one that never ends.
    """

    def __init__(self, threads: int, timeout_seconds: float = LOAD_TIMEOUT_SECONDS) -> None:
        self._threads = threads
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._idle: threading.Timer | None = None
        self._passed: dict[tuple[str, str], Fingerprint] = {}

    def check(self, candidate: Candidate, device: str) -> None:
        """Load a version there, unless it has passed with the same files; blocks.

        Raises:
            LoadFailed: the process ended, or had to be killed.
        """
        key = candidate.name, candidate.version
        with self._lock:
            if self._passed.get(key) == candidate.fingerprint:
                return
            process = self._started()
            timeout = threading.Timer(self._timeout_seconds, process.kill)
            timeout.daemon = True
            timeout.start()
            passed = _load(process, candidate, device, self._threads)
            timed_out = not timeout.is_alive()
            timeout.cancel()
            if not passed:
                self._end()
                raise LoadFailed(self._exit_reason(process.returncode, timed_out=timed_out))
            self._passed[key] = candidate.fingerprint
            self._end_when_idle()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if (process := self._process) is not None:
            process.kill()
        with self._lock:
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
            _responds(self._process)  # once it runs; its start must not count for the model's time
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

    def _exit_reason(self, code: int, *, timed_out: bool) -> str:
        if timed_out:
            return f"it is not loaded after {self._timeout_seconds:g} s, tried in its own process"
        killed = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"loading it ends the process that tries ({killed})"


def _load(
    process: "subprocess.Popen[bytes]", candidate: Candidate, device: str, threads: int
) -> bool:
    """Whether the process is still there after the load."""
    request = [candidate.name, candidate.version, str(candidate.folder), device, threads]
    if process.stdin is None:
        return False
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
    except OSError:
        return False
    return _responds(process)


def _responds(process: "subprocess.Popen[bytes]") -> bool:
    """Whether the process writes a line before it ends."""
    return process.stdout is not None and bool(process.stdout.readline())
