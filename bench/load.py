"""Servers on one core loaded by wrk on another."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import JSON, LOAD_CORE, SERVER_CORE, Running, Start, pinned, started

__all__ = [
    "LOAD_CORE",
    "SERVER_CORE",
    "Measured",
    "Running",
    "have_wrk",
    "load",
    "pinned",
    "running",
    "server",
]

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


def have_wrk() -> bool:
    """Whether wrk is installed; writes a message if it is not."""
    if shutil.which("wrk") is None:
        sys.stderr.write("The load generator wrk is missing; Debian's package is 'wrk'.\n")
        return False
    return True


@contextmanager
def server(arguments: Sequence[str], probe: str) -> Iterator[str]:
    """The address of what `running` starts."""
    with running(arguments, probe) as found:
        yield found.address


@contextmanager
def running(
    arguments: Sequence[str], probe: str, core: int | None = SERVER_CORE
) -> Iterator[Running]:
    """Start ``python …`` pinned to one core, until ``probe`` responds.

    Args:
        arguments: the command after the interpreter; ``{port}`` becomes a free port.
        probe: a path whose status is 200 when the server is ready.
        core: None lets it run on all of them.
    """
    with started(Start(arguments, probe, core=core)) as found:
        yield found


def load(  # noqa: PLR0913 - the options of wrk; grouping them would only rename them
    url: str,
    body: bytes,
    connections: int,
    seconds: int,
    pause_milliseconds: int = 0,
    *,
    headers: Mapping[str, str] = JSON,
    core: int | None = LOAD_CORE,
) -> Measured:
    """Post ``body`` over and over from ``connections`` connections.

    Args:
        url: where.
        body: what the headers say it is.
        connections: each sends its next request when it has the response.
        seconds: how long.
        pause_milliseconds: and when it has rested for so long.
        headers: sent with each.
        core: of the load generator; None lets it run on all of them.

    Raises:
        RuntimeError: some response was not 2xx, so the figure would be invalid.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(_lua(body, pause_milliseconds, headers))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
        ended = subprocess.run(
            pinned(core, [*command, "--latency", "-s", str(script), url]),
            capture_output=True,
            text=True,
            check=False,
        )
    if ended.returncode or "Non-2xx" in ended.stdout or "Socket errors" in ended.stdout:
        said = ended.stdout + ended.stderr
        raise RuntimeError(f"{url} did not respond to every request:\n{said}")
    return _parse(ended.stdout)


def _parse(text: str) -> Measured:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    quantiles = {q: _milliseconds(v) for q, v in _QUANTILE.findall(text)}
    worst = _WORST.search(text)
    if rate is None or worst is None:
        raise RuntimeError(f"unknown output of wrk:\n{text}")
    return Measured(float(rate[1]), quantiles["50"], quantiles["99"], _milliseconds(worst[1]))


def _milliseconds(text: str) -> float:
    factors = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr] # wrk prints no other unit in seconds-long runs
    return float(number) * factors[unit]


def _lua(body: bytes, pause_milliseconds: int, headers: Mapping[str, str]) -> str:
    lines = ['wrk.method = "POST"', f'wrk.body = "{_escaped(body)}"']
    for name, value in headers.items():
        lines.append(f'wrk.headers["{_escaped(name.encode())}"] = "{_escaped(value.encode())}"')
    if pause_milliseconds:
        lines.append(f"function delay() return {pause_milliseconds} end")
    return "\n".join(lines) + "\n"


def _escaped(content: bytes) -> str:
    """Byte by byte, because a body may hold whatever ends a Lua string."""
    return "".join(f"\\{byte:03d}" for byte in content)
