"""Servers started on one core and loaded by wrk on another."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER_CORE = 0
LOAD_CORE = 1
_START_SECONDS = 30.0
# At a line's start: shares within other lines may end in 99 as well.
_QUANTILE = re.compile(r"^\s*(50|99)%\s+(\S+)", re.MULTILINE)
_WORST = re.compile(r"^\s*Latency\s+\S+\s+\S+\s+(\d\S*)", re.MULTILINE)


@dataclass(frozen=True)
class Measured:
    """One run of wrk: requests a second, and latencies in milliseconds."""

    rate: float
    median: float
    p99: float
    worst: float


@dataclass(frozen=True)
class Running:
    """A server's address, and the id of its process."""

    address: str
    process: int


@contextmanager
def server(arguments: Sequence[str], probe: str) -> Iterator[str]:
    """The address of what `running` starts."""
    with running(arguments, probe) as started:
        yield started.address


@contextmanager
def running(
    arguments: Sequence[str], probe: str, core: int | None = SERVER_CORE
) -> Iterator[Running]:
    """Start ``python …`` pinned to one core, until ``probe`` answers.

    Args:
        arguments: the command after the interpreter; ``{port}`` becomes a free port.
        probe: a path that answers 200 when the server is ready.
        core: None lets it run on all of them.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, *(part.format(port=port) for part in arguments)]
    process = subprocess.Popen(pinned(core, command), stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address + probe)
        yield Running(address, process.pid)
    finally:
        process.terminate()
        process.wait()


def load(  # noqa: PLR0913 - what wrk is told; grouping it would only rename it
    url: str,
    body: bytes,
    connections: int,
    seconds: int,
    pause_milliseconds: int = 0,
    *,
    core: int | None = LOAD_CORE,
) -> Measured:
    """Post ``body`` over and over from ``connections`` connections.

    Args:
        url: where.
        body: JSON.
        connections: each sends its next request when it has the answer.
        seconds: how long.
        pause_milliseconds: and when it has rested for so long.
        core: of the load generator; None lets it run on all of them.

    Raises:
        RuntimeError: some answer was not 2xx, so the figure would be worth nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(_lua(body, pause_milliseconds))
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "20s",
            "--latency",
            "-s",
        ]
        ended = subprocess.run(
            pinned(core, [*command, str(script), url]),
            capture_output=True,
            text=True,
            check=True,
        )
    if "Non-2xx" in ended.stdout or "Socket errors" in ended.stdout:
        raise RuntimeError(f"{url} did not answer every request:\n{ended.stdout}")
    return _parse(ended.stdout)


def _parse(text: str) -> Measured:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    quantiles = {q: _milliseconds(v) for q, v in _QUANTILE.findall(text)}
    worst = _WORST.search(text)
    if rate is None or worst is None:
        raise RuntimeError(f"wrk said what is not understood:\n{text}")
    return Measured(float(rate[1]), quantiles["50"], quantiles["99"], _milliseconds(worst[1]))


def _milliseconds(text: str) -> float:
    factors = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr] # wrk prints no other unit in seconds-long runs
    return float(number) * factors[unit]


def _lua(body: bytes, pause_milliseconds: int) -> str:
    # Byte by byte, because a JSON body may hold whatever ends a Lua string.
    escaped = "".join(f"\\{byte:03d}" for byte in body)
    return (
        f'wrk.method = "POST"\nwrk.body = "{escaped}"\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
        + (f"function delay() return {pause_milliseconds} end\n" if pause_milliseconds else "")
    )


def pinned(core: int | None, command: list[str]) -> list[str]:
    """The command on one core, where there are two or more to choose from."""
    many = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1
    if core is None or not many:
        return command
    return ["taskset", "-c", str(core), *command]


def _wait(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - our own server's address
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{url} did not answer within {_START_SECONDS:g} s")
