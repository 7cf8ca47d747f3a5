"""Loads new versions in a separate process first, in case one crashes the process.

The sandbox detects only crashes and loads that never end. Any other problem is found when the
service itself loads the version afterwards.
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
"""A load that takes longer is regarded as endless."""

_IDLE_SECONDS = 10.0
_ROOT = Path(__file__).parents[2]


class LoadSandbox:
    """A process that loads versions; it starts with the first and ends when it is idle.

    ``threads`` is the number of intra-op threads of one run, as in the service.
    """

    def __init__(self, threads: int, timeout_seconds: float = LOAD_TIMEOUT_SECONDS) -> None:
        self._threads = threads
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._idle: threading.Timer | None = None
        self._passed: dict[tuple[str, str], Fingerprint] = {}

    def check(self, candidate: Candidate, device: str) -> None:
        """Load a version in the process, unless it has passed with the same files; blocks.

        Raise `LoadFailed` if the process crashed or the load did not end.
        """
        key = candidate.name, candidate.version
        with self._lock:
            if self._passed.get(key) == candidate.fingerprint:
                return
            process = self._ensure_started()
            timeout = threading.Timer(self._timeout_seconds, process.kill)
            timeout.daemon = True
            timeout.start()
            passed = _load(process, candidate, device, self._threads)
            timed_out = not timeout.is_alive()
            timeout.cancel()
            if not passed:
                self._end()
                raise LoadFailed(self._describe_exit(process.returncode, timed_out=timed_out))
            self._passed[key] = candidate.fingerprint
            self._end_when_idle()

    def close(self) -> None:
        """End the process immediately."""
        if (process := self._process) is not None:
            process.kill()
        with self._lock:
            self._end()

    def _ensure_started(self) -> "subprocess.Popen[bytes]":
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
            _wait_for_reply(self._process)  # the start must not count as time of the load
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

    def _describe_exit(self, code: int, *, timed_out: bool) -> str:
        if timed_out:
            return f"it is not loaded after {self._timeout_seconds:g} s in its own process"
        killed = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"loading it crashes the process ({killed})"


def _load(
    process: "subprocess.Popen[bytes]", candidate: Candidate, device: str, threads: int
) -> bool:
    """Load a version in the process; return whether the process still runs afterwards."""
    request = [candidate.name, candidate.version, str(candidate.folder), device, threads]
    if process.stdin is None:
        return False
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
    except OSError:
        return False
    return _wait_for_reply(process)


def _wait_for_reply(process: "subprocess.Popen[bytes]") -> bool:
    """Wait for a line from the process; return False if it ends instead."""
    return process.stdout is not None and bool(process.stdout.readline())
