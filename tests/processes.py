"""Services in processes of their own, as operators start them."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 60


class Served:
    """A service in a process of its own, with everything it said."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._listening.wait(PATIENCE_SECONDS)

    @property
    def address(self) -> str:
        """Where it listens."""
        found = re.search(r"running on (http://\S+)", self.said)
        assert found, self.said
        return found[1]

    @property
    def said(self) -> str:
        """Its log so far."""
        return "".join(self.lines)

    def until_said(self, words: str, times: int = 1) -> None:
        """Wait for a line of the log."""
        until(lambda: self.said.count(words) >= times)

    @property
    def workers(self) -> list[int]:
        """The processes of its workers, where it has several."""
        parent = self.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in _command(int(child))]

    def end(self) -> None:
        """Wait until it has ended, and for its last words."""
        self.process.wait(PATIENCE_SECONDS)
        self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if "running on http" in line:
                self._listening.set()
        self._listening.set()


@contextmanager
def served(*options: str, **environment: str) -> Iterator[Served]:
    """Serve on a free port until the block ends, then stop by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "--port", "0", *options],
        cwd=ROOT,
        env=os.environ | {"ONWARD_DRAIN_SECONDS": "0"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    service = Served(process)
    try:
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        service.end()


def refused(*options: str, **environment: str) -> str:
    """What the service says when it does not start, with exit code 2 and no traceback."""
    ended = subprocess.run(
        [sys.executable, "-m", "service", *options],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr


@contextmanager
def several(models: Path, workers: int, *options: str) -> Iterator[Served]:
    """Serve a folder by several workers, all of them ready."""
    given = ("--models", str(models), "--device", "cpu", "--workers", str(workers))
    with served(*given, *options) as service:
        service.until_said("Application startup complete", workers)
        yield service


@contextmanager
def alone(service: Served, worker: int) -> Iterator[httpx.Client]:
    """A client that only this worker can answer, because the others sleep; be quick."""
    others = [other for other in service.workers if other != worker]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        with httpx.Client(base_url=service.address) as client:
            yield client
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


def until(holds: Callable[[], bool]) -> None:
    """Wait for what happens soon; fail if it does not."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
