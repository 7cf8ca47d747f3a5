"""Services and commands, in processes of their own as operators start them, or in this one."""

import contextlib
import io
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from http.client import HTTPConnection
from pathlib import Path
from typing import TextIO

import httpx

from service.__main__ import main

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 60


LISTENING = "running on http"
"""The line of the log after which requests are accepted."""


class Served:
    """A service in a process of its own, with its output."""

    def __init__(self, process: "subprocess.Popen[str]", awaited: str = LISTENING) -> None:
        self.process = process
        self._awaited = awaited
        self.lines: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._listening.wait(PATIENCE_SECONDS)

    @property
    def address(self) -> str:
        """The URL of the service."""
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
        """Wait for the process to end, and for the rest of its output."""
        self.process.wait(PATIENCE_SECONDS)
        self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if self._awaited in line:
                self._listening.set()
        self._listening.set()


@contextmanager
def served(*options: str, awaited: str = LISTENING, **environment: str) -> Iterator[Served]:
    """Serve on a free port from the awaited line of the log to the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "--port", "0", *options],
        cwd=ROOT,
        env=os.environ | {"ONWARD_DRAIN_SECONDS": "0"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    service = Served(process, awaited)
    try:
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        service.end()


def run_command(*words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "service", *words]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, check=False)


def run_here(*words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run a command in this process, which takes a second less than `run_command`."""
    output, errors = io.BytesIO(), io.BytesIO()
    with (
        _restored_logging(),
        tempfile.TemporaryFile("w+") as given,
        _standard_input(given),
        redirect_stdout(io.TextIOWrapper(output, "utf-8", write_through=True)),
        redirect_stderr(io.TextIOWrapper(errors, "utf-8", write_through=True)),
    ):
        given.buffer.write(stdin)
        given.seek(0)
        status = main(words)
        return subprocess.CompletedProcess(words, status, output.getvalue(), errors.getvalue())


@contextmanager
def _restored_logging() -> Iterator[None]:
    """Undo what a command configures, so that later tests see every log message."""
    root, access = logging.getLogger(), logging.getLogger("uvicorn.access")
    level, handlers, was_disabled = root.level, root.handlers.copy(), access.disabled
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        access.disabled = was_disabled


@contextmanager
def _standard_input(file: TextIO) -> Iterator[None]:
    before, sys.stdin = sys.stdin, file
    try:
        yield
    finally:
        sys.stdin = before


def startup_error(*options: str, **environment: str) -> str:
    """Return the error output of a service that does not start: exit code 2, no traceback."""
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


class _Line(httpx.BaseTransport):
    """Sends every request over one connection."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, and wait for the response."""
        path = request.url.raw_path.decode()
        line = self._connection
        line.request(request.method, path, request.read(), dict(request.headers))
        response = line.getresponse()
        return httpx.Response(
            response.status, headers=response.getheaders(), content=response.read()
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@contextmanager
def alone(service: Served, worker: int) -> Iterator[httpx.Client]:
    """A client whose one connection was accepted by this worker."""
    with httpx.Client(base_url=service.address, transport=_Line(_line_to(service, worker))) as own:
        yield own


def _line_to(service: Served, worker: int) -> HTTPConnection:
    """Connect until this worker accepts the connection; other workers get no request."""
    url = httpx.URL(service.address)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        line = HTTPConnection(url.host, url.port, timeout=PATIENCE_SECONDS)
        line.connect()
        # The kernel holds a silent connection for seconds; servers ignore an empty line.
        line.sock.sendall(b"\r\n")
        if _taker(service, line.sock.getsockname()[1]) == worker:
            return line
        line.close()
    raise AssertionError(f"process {worker} accepts no connection")


def _taker(service: Served, client: int) -> int:
    """The worker that accepted the connection from this local port."""
    port = httpx.URL(service.address).port
    ends = re.compile(rf":{port:04X} \w+:{client:04X} 01 (?:\S+ +){{3}}\d+ +\d+ (?!0 )(\d+)")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := ends.search(Path("/proc/net/tcp").read_text()):
            for worker in service.workers:
                if f"socket:[{found[1]}]" in _open_files(worker):
                    return worker
    raise AssertionError("no worker has accepted the connection")


def _open_files(process: int) -> set[str]:
    found = set()
    for file in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(file.readlink()))
    return found


def until(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail if it does not in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("the condition never held")


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
