"""Load a server by wrk on a separate core."""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.processes import JSON, LOAD_CORE, pinned

# At the start of a line: percentages within other lines may end in 99 as well.
_QUANTILE = re.compile(r"^\s*(50|99)%\s+(\S+)", re.MULTILINE)
_WORST = re.compile(r"^\s*Latency\s+\S+\s+\S+\s+(\d\S*)", re.MULTILINE)


@dataclass(frozen=True)
class Measured:
    """One run of wrk: requests a second, and latencies in milliseconds."""

    rate: float
    median: float
    p99: float
    worst: float


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
    """Post a body repeatedly over several connections.

    Args:
        url: the address and path.
        body: matches the headers.
        connections: each sends its next request after the response to the last one.
        seconds: the duration.
        pause_milliseconds: the pause of a connection before each request.
        headers: sent with each request.
        core: of the load generator; None for all cores.

    Raises:
        RuntimeError: a response was not 2xx, so the figure would be invalid.
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
        output = ended.stdout + ended.stderr
        raise RuntimeError(f"{url} did not respond to every request:\n{output}")
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
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr] # wrk prints no other units for runs of seconds
    return float(number) * factors[unit]


def _lua(body: bytes, pause_milliseconds: int, headers: Mapping[str, str]) -> str:
    lines = ['wrk.method = "POST"', f'wrk.body = "{_escaped(body)}"']
    for name, value in headers.items():
        lines.append(f'wrk.headers["{_escaped(name.encode())}"] = "{_escaped(value.encode())}"')
    if pause_milliseconds:
        lines.append(f"function delay() return {pause_milliseconds} end")
    return "\n".join(lines) + "\n"


def _escaped(content: bytes) -> str:
    """Escape every byte, because a body may contain any characters."""
    return "".join(f"\\{byte:03d}" for byte in content)
