"""``python -m bench.swaps``: versions change under load, and no client may notice anything else.

Versions are published over and over, each predicting its own number, while connections send
requests without a pause in all three protocols. Every third publication may be broken, and the
service killed on the way. Writes a section of ``RESULTS.md``.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.page import replace_section
from service.bundle.policy import change_policy
from service.bundle.store import EXAMPLES, MANIFEST, MODEL, digest_of
from tests.models import publish_price

_CONNECTIONS = 64
_WARM_UP_SWAPS = 50
_PATIENCE_SECONDS = 60.0
_ROWS = (1, 80)  # on the fast path, and by the batcher
_RETAINED = 4


@dataclass
class Seen:
    """What the clients received."""

    predictions: int = 0
    versions: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    paused: bool = False
    """While the service is down on purpose."""


def main() -> int:
    """Swap versions, and report; 1 if a client noticed something."""
    parser = argparse.ArgumentParser(prog="python -m bench.swaps", description=__doc__)
    parser.add_argument("--swaps", type=int, default=500)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--two", action="store_true", help="the same two versions by turns")
    parser.add_argument("--broken", action="store_true", help="every third publication is broken")
    parser.add_argument("--kills", type=int, default=0, help="times the service is killed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(_measure(Path(folder), options))
    kind = f"{options.swaps} swaps, {options.workers} worker(s)"
    kind += ", two versions in turn" if options.two else ""
    kind += ", every third broken" if options.broken else ""
    kind += f", killed {options.kills} times" if options.kills else ""
    sys.stdout.write(replace_section(f"Swaps: {kind}", report.lines))
    return 1 if report.faults else 0


@dataclass(frozen=True)
class Report:
    """The section's lines, and what went wrong."""

    lines: Sequence[str]
    faults: Sequence[str]


async def _measure(models: Path, options: argparse.Namespace) -> Report:
    _dated(publish_price(models, slope=1.0))
    port = _free_port()
    service = _started(models, port, options.workers)
    seen = Seen()
    clients = [asyncio.create_task(_call(port, n, seen)) for n in range(_CONNECTIONS)]
    kills = {(n + 1) * options.swaps // (options.kills + 1) for n in range(options.kills)}
    breaking = itertools.cycle(_BREAKINGS)
    background: set[asyncio.Task[None]] = set()
    memory: list[tuple[int, int]] = []
    started = time.perf_counter()
    for swap in range(1, options.swaps + 1):
        published = _publish_next(models, swap, seen, two=options.two)
        number = int(published.name)
        broken = options.broken and swap % 3 == 0
        if broken:
            slow = next(breaking)(published)
            if slow is not None:
                background.add(asyncio.create_task(slow))
        if swap in kills:
            service = await _killed_and_started(service, models, port, options.workers, seen)
        if not broken:
            await _until_seen(seen, number)
            _remove_old(models / "price", number)
        if swap == min(_WARM_UP_SWAPS, options.swaps // 2):
            memory.append(_taken(service))
    memory.append(_taken(service))
    seconds = time.perf_counter() - started
    for task in (*clients, *background):
        task.cancel()
    await asyncio.gather(*clients, *background, return_exceptions=True)
    service.terminate()
    service.wait()
    (before, handles_before), (after, handles_after) = memory
    lines = [
        f"Made by `python -m bench.swaps`: {_CONNECTIONS} connections in three protocols, 1 and",
        "80 rows, without a pause, on the same two cores; each version predicts its own number,",
        "and its files have modification times from 1970 to 2106.",
        "",
        "| | |",
        "|---|---|",
        f"| predictions | {seen.predictions:,} in {seconds:,.0f} s |",
        f"| failed, or of mixed versions | {len(seen.faults)} |",
        f"| versions seen | {len(seen.versions)} |",
        f"| memory of the service after {_WARM_UP_SWAPS} swaps | {before / 1024:.1f} MiB |",
        f"| at the end | {after / 1024:.1f} MiB |",
        f"| files and threads after {_WARM_UP_SWAPS} swaps | {handles_before} |",
        f"| at the end | {handles_after} |",
    ]
    return Report([*lines, *seen.faults[:10]], seen.faults)


def _publish_next(models: Path, swap: int, seen: Seen, *, two: bool) -> Path:
    """The next version: a new one, or of two the other one."""
    number = 1 + swap % 2 if two else 1 + swap
    seen.versions.discard(number)
    folder = models / "price" / str(number)
    if not folder.exists():
        folder = _dated(publish_price(models, slope=float(number)))
    if two:
        change_policy(
            models / "price", lambda policy: policy.model_copy(update={"versions": (number,)})
        )
    return folder


async def _call(port: int, first: int, seen: Seen) -> None:
    """Send requests over one connection, in all protocols by turns."""
    for turn in itertools.count(first):
        if seen.paused:
            await asyncio.sleep(0.01)
            continue
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            if not seen.paused:
                seen.faults.append(f"connecting: {error}")
            await asyncio.sleep(0.01)
            continue
        with contextlib.closing(writer):
            for request in range(200):
                if seen.paused or not await _exchange(reader, writer, turn + request, seen):
                    break


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, turn: int, seen: Seen
) -> bool:
    """One request; whether the connection can be used for another."""
    path, body, read = _PROTOCOLS[turn % len(_PROTOCOLS)]
    rows = _ROWS[turn // len(_PROTOCOLS) % len(_ROWS)]
    content = json.dumps(body(rows)).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    try:
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        received = await reader.readuntil(b"\r\n\r\n")
        status = int(received.split(maxsplit=2)[1])
        found = next(
            line for line in received.split(b"\r\n") if line.startswith(b"content-length:")
        )
        document = json.loads(await reader.readexactly(int(found.split(b":")[1])))
    except (OSError, asyncio.IncompleteReadError) as error:
        if not seen.paused:
            seen.faults.append(f"{path}: {error!r}")
        return False
    if status == 200:  # noqa: PLR2004 - the only one that is right
        version, values = read(document)
        numbers = {version, *values} - {None}
        if len(numbers) == 1 and len(values) == rows:
            seen.predictions += 1
            seen.versions.add(int(numbers.pop() or 0))
            return True
    seen.faults.append(f"{path}: {status} {str(document)[:200]}")
    return True


def _plain(document: Any) -> tuple[float | None, list[float]]:  # noqa: ANN401 - JSON
    return float(document["model_version"]), [row["value"] for row in document["predictions"]]


def _v1(document: Any) -> tuple[float | None, list[float]]:  # noqa: ANN401 - JSON
    return None, [row[0] for row in document["predictions"]]  # v1 responses have no version


def _v2(document: Any) -> tuple[float | None, list[float]]:  # noqa: ANN401 - JSON
    return float(document["model_version"]), document["outputs"][0]["data"]


def _tensor(rows: int) -> dict[str, object]:
    shape = {"name": "features", "shape": [rows, 1], "datatype": "FP32"}
    return {"inputs": [shape | {"data": [1.0] * rows}]}


_PROTOCOLS: Sequence[tuple[str, Callable[[int], Any], Callable[[Any], Any]]] = (
    ("/models/price/predict", lambda rows: {"instances": [{"size": 1}] * rows}, _plain),
    ("/v1/models/price:predict", lambda rows: {"instances": [{"size": 1}] * rows}, _v1),
    ("/v2/models/price/infer", _tensor, _v2),
)


def _truncate(folder: Path) -> None:
    (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:-10])


def _spoil(folder: Path) -> None:
    content = bytearray((folder / MODEL).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / MODEL).write_bytes(content)


def _fail(folder: Path) -> None:
    """Expect another output than the graph gives, with matching digests."""
    examples = json.loads((folder / EXAMPLES).read_text())
    examples["output"]["data"][0] += 1
    (folder / EXAMPLES).write_text(json.dumps(examples))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][EXAMPLES] = digest_of((folder / EXAMPLES).read_bytes()).model_dump()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _forget_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def _loop(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder)


async def _copy_slowly(folder: Path) -> None:
    """Hold a graph that grows for ten seconds and never becomes whole."""
    content = (folder / MODEL).read_bytes()
    for share in range(10):
        with contextlib.suppress(FileNotFoundError):  # it is removed when it is old
            (folder / MODEL).write_bytes(content[: len(content) * share // 10])
        await asyncio.sleep(1)


_BREAKINGS: Sequence[Callable[[Path], Any]] = (
    *(_truncate, _spoil, _fail, _copy_slowly, _forget_manifest, _loop),
)


def _dated(folder: Path) -> Path:
    """As if the clock had been moved."""
    for path in folder.iterdir():
        date = random.randrange(2**32)  # noqa: S311 - nothing secret depends on it
        os.utime(path, (date, date))
    return folder


def _remove_old(home: Path, newest: int) -> None:
    for path in home.iterdir():
        if path.name.isdecimal() and int(path.name) <= newest - _RETAINED:
            if path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path)


async def _until_seen(seen: Seen, version: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while version not in seen.versions:
        if time.monotonic() > deadline:
            raise RuntimeError(f"version {version} never served; {seen.faults[:3]}")
        await asyncio.sleep(0.002)


async def _killed_and_started(
    service: "subprocess.Popen[bytes]", models: Path, port: int, workers: int, seen: Seen
) -> "subprocess.Popen[bytes]":
    seen.paused = True
    for process in _family(service.pid):
        os.kill(process, signal.SIGKILL)
    service.wait()
    again = await asyncio.to_thread(_started, models, port, workers)
    seen.paused = False
    return again


def _started(models: Path, port: int, workers: int) -> "subprocess.Popen[bytes]":
    options = {"models": models, "port": port, "workers": workers, "poll-seconds": 0.02}
    options |= {"device": "cpu", "log-level": "warning"}
    words = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    process = subprocess.Popen([sys.executable, "-m", "service", *words], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1).close()
            return process
        time.sleep(0.02)
    raise RuntimeError("the service did not start")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _family(process: int) -> list[int]:
    """A process and all that come from it."""
    family = [process]
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has just ended
            for child in (task / "children").read_text().split():
                family += _family(int(child))
    return family


def _taken(service: "subprocess.Popen[bytes]") -> tuple[int, int]:
    """Kibibytes in memory, and the number of open files and threads, of all its processes."""
    memory = handles = 0
    for process in _family(service.pid):
        home = Path(f"/proc/{process}")
        memory += int((home / "status").read_text().split("VmRSS:")[1].split()[0])
        own = [path for path in (home / "fd").iterdir() if not _is_socket(path)]
        handles += len(own) + sum(1 for _ in (home / "task").iterdir())
    return memory, handles


def _is_socket(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.readlink().name.startswith("socket:")
    return True


if __name__ == "__main__":
    sys.exit(main())
