"""Start servers on one core, and send requests to them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.levels import process_tree, proportional_mib

SERVER_CORE = 0
LOAD_CORE = 1
# Determined before `pin_to_load_core` leaves this process one of them.
_MANY_CORES = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02
_HOST = "127.0.0.1"
JSON: Mapping[str, str] = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Post:
    """A POST request."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)


@dataclass(frozen=True)
class Running:
    """A running server: its port, the id of its process, and the seconds until it was ready."""

    port: int
    process: int
    ready_seconds: float = 0.0
    host: str = _HOST

    @property
    def address(self) -> str:
        """The URL of the server, without a path."""
        return f"http://{self.host}:{self.port}"

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port, the address of a socket."""
        return self.host, self.port

    @property
    def memory_mib(self) -> float:
        """Private memory of its processes, and their share of common memory."""
        return proportional_mib(self.processes)

    @property
    def processes(self) -> set[int]:
        """The ids of all its processes."""
        return process_tree(self.process)


@dataclass(frozen=True)
class Start:
    """How a server is started.

    Args:
        arguments: the command after the interpreter; ``{port}`` becomes the port.
        probe: a path or request whose status is 200 when the server is ready.
        python: the interpreter.
        environment: variables in addition to those of this process.
        log: a file for its output; None discards standard error.
        core: the core it is pinned to; None for all cores.
        port: None for a free port.
    """

    arguments: Sequence[str]
    probe: str | Post = "/health/ready"
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None
    core: int | None = SERVER_CORE
    port: int | None = None


def service_command(*options: str) -> tuple[str, ...]:
    """The arguments of the interpreter that start this service on the CPU."""
    return ("-m", "service", "--device", "cpu", "--port", "{port}", *options)


@contextmanager
def started(how: Start) -> Iterator[Running]:
    """Start a server; it and all of its processes end with the block.

    Raises:
        RuntimeError: it ended, or was not ready in time.
    """
    port = how.port or free_port()
    command = [how.python, *(part.format(port=port) for part in how.arguments)]
    began = time.monotonic()
    process = _spawn(pinned(how.core, command), how)
    running = Running(port, process.pid)
    try:
        _wait(process, running.address, how.probe)
        yield replace(running, ready_seconds=time.monotonic() - began)
    finally:
        _end(process)


def free_port() -> int:
    """A port that no process listens on."""
    with socket.socket() as found:
        found.bind((_HOST, 0))
        port: int = found.getsockname()[1]
        return port


def have_tools(*names: str) -> bool:
    """Whether these programs are installed; writes a message if one is not."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        sys.stderr.write(f"Install {' and '.join(missing)} first.\n")
    return not missing


def exit_on_sigterm() -> None:
    """Exit with status 1 on SIGTERM, so that the servers that were started end too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def pin_to_load_core() -> None:
    """Pin this process to the core of the clients if the machine has several cores."""
    if _MANY_CORES:
        os.sched_setaffinity(0, {LOAD_CORE})


def pinned(core: int | None, command: list[str]) -> list[str]:
    """Pin a command to one core if the machine has several."""
    if core is None or not _MANY_CORES:
        return command
    return ["taskset", "-c", str(core), *command]


def send(address: str, post: Post) -> tuple[bytes, Mapping[str, str]]:
    """Send a request once; return the body of the response and its headers, names in lower case.

    Raises:
        RuntimeError: the response is an error, which the message contains.
    """
    request = urllib.request.Request(address + post.path, post.body, dict(post.headers))  # noqa: S310 - our own server's address
    try:
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - as above
            return response.read(), {
                name.lower(): value for name, value in response.headers.items()
            }
    except urllib.error.HTTPError as error:
        text = error.read()[:200].decode(errors="replace")
        raise RuntimeError(f"{post.path} responded {error.code}: {text}") from error


def _spawn(command: list[str], how: Start) -> subprocess.Popen[bytes]:
    environment = os.environ | how.environment
    if how.log is None:
        return subprocess.Popen(
            command, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
        )
    with how.log.open("ab") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, start_new_session=True
        )


def _wait(process: subprocess.Popen[bytes], address: str, probe: str | Post) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode} before it was ready")
        with suppress(OSError, RuntimeError):
            if isinstance(probe, Post):
                send(address, probe)
            else:
                urllib.request.urlopen(address + probe, timeout=1).close()  # noqa: S310 - as above
            return
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"{address} did not respond within {_START_SECONDS:g} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    tree = process_tree(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    # Also end processes that it has left running.
    for left in tree | process_tree(process.pid):
        with suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)
    process.wait()
