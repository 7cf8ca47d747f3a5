"""Start servers on one core, and measure their start-up time and the memory of all processes."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

SERVER_CORE = 0
LOAD_CORE = 1
# Determined before a measurement pins this process to one of them.
_MANY_CORES = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02
_FIRST_ERROR = 400
_SHARE = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
JSON: Mapping[str, str] = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Post:
    """A POST request, which is sent repeatedly."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)


@dataclass(frozen=True)
class Running:
    """A server's address, the id of its process, and how many seconds it took to be ready."""

    address: str
    process: int
    ready_seconds: float = 0.0

    @property
    def memory_mib(self) -> float:
        """Private memory of its processes, and their share of common memory."""
        return sum(_proportional(process) for process in self.processes) / 1024

    @property
    def processes(self) -> set[int]:
        """The ids of all its processes."""
        return _family(self.process)


@dataclass(frozen=True)
class Start:
    """How a server is started.

    Args:
        arguments: the command after the interpreter; ``{port}`` becomes a free port.
        probe: a path or request whose status is 200 when the server is ready.
        python: the interpreter.
        environment: variables in addition to those of this process.
        log: a file for its output; None discards standard error.
        core: the core it is pinned to; None for all cores.
    """

    arguments: Sequence[str]
    probe: str | Post
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None
    core: int | None = SERVER_CORE


@contextmanager
def started(how: Start) -> Iterator[Running]:
    """Start a server pinned to one core; it and all of its processes end with the block.

    Raises:
        RuntimeError: it ended, or was not ready in time.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [how.python, *(part.format(port=port) for part in how.arguments)]
    address = f"http://127.0.0.1:{port}"
    began = time.monotonic()
    process = _spawn(pinned(how.core, command), how)
    try:
        _wait(process, address, how.probe)
        yield Running(address, process.pid, time.monotonic() - began)
    finally:
        _end(process)


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
            raise RuntimeError(f"it ended with {process.returncode} instead of becoming ready")
        with suppress(OSError, RuntimeError):
            if isinstance(probe, Post):
                send(address, probe)
            else:
                urllib.request.urlopen(address + probe, timeout=1).close()  # noqa: S310 - as above
            return
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"{address} did not respond within {_START_SECONDS:g} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    family = _family(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    # Also end processes that it has left running.
    for left in family | _family(process.pid):
        with suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)
    process.wait()


def _family(first: int) -> set[int]:
    """A process, those of its session, and all running descendants."""
    parents: dict[int, int] = {}
    family = set()
    for entry in Path("/proc").glob("[0-9]*"):
        process = int(entry.name)
        with suppress(OSError):
            # After the name, which can contain anything: state, parent, group and session.
            _, parent, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            parents[process] = int(parent)
            if int(session) == first:
                family.add(process)
    while found := {it for it, parent in parents.items() if parent in family} - family:
        family |= found
    return family


def _proportional(process: int) -> int:
    """Proportional set size in KiB; a process that has ended meanwhile takes none."""
    with suppress(OSError):
        found = _SHARE.search(Path(f"/proc/{process}/smaps_rollup").read_text())
        return int(found[1]) if found else 0
    return 0
