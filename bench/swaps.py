"""Measure changes of model versions under load, which no client may notice.

Versions are published repeatedly, each of which predicts its own number, while connections send
requests without a pause in all three protocols. Every third version may be broken, and the
service may be killed during the run. Writes a section of ``RESULTS.md``. Run it by
``python -m bench.swaps``.
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
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.levels import descriptors, resident_mib, threads
from bench.page import replace_section
from bench.processes import Running, Start, free_port, service_command, started
from service.bundle.policy import change_policy
from service.bundle.store import EXAMPLES, MANIFEST, MODEL, compute_digest
from tests.models import publish_price

_CONNECTIONS = 64
_WARM_UP_SWAPS = 50
_TIMEOUT_SECONDS = 60.0
_ROWS = (1, 80)  # processed directly and by the batcher
_RETAINED = 4


@dataclass
class Observations:
    """The responses that the clients received."""

    predictions: int = 0
    versions: set[int] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    paused: bool = False
    """Whether the service is down intentionally."""


def main() -> int:
    """Swap versions, and write the results; return 1 if a client got an error."""
    parser = argparse.ArgumentParser(prog="python -m bench.swaps", description=__doc__)
    parser.add_argument("--swaps", type=int, default=500)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--two", action="store_true", help="the same two versions alternately")
    parser.add_argument("--broken", action="store_true", help="every third publication is broken")
    parser.add_argument("--kills", type=int, default=0, help="how often the service is killed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines, errors = asyncio.run(_measure(Path(folder), options))
    kind = f"{options.swaps} swaps, {options.workers} worker(s)"
    kind += ", two versions alternately" if options.two else ""
    kind += ", every third broken" if options.broken else ""
    kind += f", killed {options.kills} times" if options.kills else ""
    sys.stdout.write(replace_section(f"Swaps: {kind}", lines))
    return 1 if errors else 0


class Service:
    """A service that can be restarted at the same port.

    Args:
        models: its folder of models.
        workers: the number of its processes.
    """

    def __init__(self, models: Path, workers: int) -> None:
        self.port = free_port()
        options = ["--models", str(models), "--workers", str(workers)]
        options += ["--poll-seconds", "0.02", "--log-level", "warning"]
        self._start = Start(service_command(*options), core=None, port=self.port)
        self._stack = contextlib.ExitStack()
        self.running = self._stack.enter_context(started(self._start))

    def restart(self) -> None:
        """End the service, and start it again."""
        self.close()
        self.running = self._stack.enter_context(started(self._start))

    def close(self) -> None:
        """End the service."""
        self._stack.close()


async def _measure(models: Path, options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the lines of the section, and the errors of the clients."""
    _change_dates(publish_price(models, slope=1.0))
    service = Service(models, options.workers)
    observed = Observations()
    clients = [asyncio.create_task(_call(service.port, n, observed)) for n in range(_CONNECTIONS)]
    kills = {(n + 1) * options.swaps // (options.kills + 1) for n in range(options.kills)}
    damages = itertools.cycle(_DAMAGES)
    background: set[asyncio.Task[None]] = set()
    usage: list[tuple[float, int]] = []
    began = time.perf_counter()
    for swap in range(1, options.swaps + 1):
        published = _publish_next(models, swap, observed, two=options.two)
        number = int(published.name)
        broken = options.broken and swap % 3 == 0
        if broken:
            copying = next(damages)(published)
            if copying is not None:
                background.add(asyncio.create_task(copying))
        if swap in kills:
            await _restart(service, observed)
        if not broken:
            await _wait_for_version(observed, number)
            _remove_old(models / "price", number)
        if swap == min(_WARM_UP_SWAPS, options.swaps // 2):
            usage.append(_usage(service.running))
    usage.append(_usage(service.running))
    seconds = time.perf_counter() - began
    for task in (*clients, *background):
        task.cancel()
    await asyncio.gather(*clients, *background, return_exceptions=True)
    service.close()
    (before, handles_before), (after, handles_after) = usage
    lines = [
        f"Made by `python -m bench.swaps`: {_CONNECTIONS} connections in three protocols, 1 and",
        "80 rows, without a pause, on the same two cores. Each version predicts its own number,",
        "and its files have random modification times from 1970 to 2106.",
        "",
        "| | |",
        "|---|---|",
        f"| predictions | {observed.predictions:,} in {seconds:,.0f} s |",
        f"| failed, or with mixed versions | {len(observed.errors)} |",
        f"| versions observed | {len(observed.versions)} |",
        f"| memory of the service after {_WARM_UP_SWAPS} swaps | {before:.1f} MiB |",
        f"| at the end | {after:.1f} MiB |",
        f"| files and threads after {_WARM_UP_SWAPS} swaps | {handles_before} |",
        f"| at the end | {handles_after} |",
    ]
    return [*lines, *observed.errors[:10]], observed.errors


def _publish_next(models: Path, swap: int, observed: Observations, *, two: bool) -> Path:
    """Publish the next version: a new one, or the other one of two."""
    number = 1 + swap % 2 if two else 1 + swap
    observed.versions.discard(number)
    folder = models / "price" / str(number)
    if not folder.exists():
        folder = _change_dates(publish_price(models, slope=float(number)))
    if two:
        change_policy(
            models / "price", lambda policy: policy.model_copy(update={"versions": (number,)})
        )
    return folder


async def _call(port: int, first: int, observed: Observations) -> None:
    """Send requests over one connection at a time, in all protocols alternately."""
    for turn in itertools.count(first):
        if observed.paused:
            await asyncio.sleep(0.01)
            continue
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            if not observed.paused:
                observed.errors.append(f"connecting: {error}")
            await asyncio.sleep(0.01)
            continue
        with contextlib.closing(writer):
            for request in range(200):
                if observed.paused or not await _exchange(reader, writer, turn + request, observed):
                    break


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, turn: int, observed: Observations
) -> bool:
    """Send one request; return whether the connection can be used again."""
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
        if not observed.paused:
            observed.errors.append(f"{path}: {error!r}")
        return False
    if status == 200:  # noqa: PLR2004 - OK
        version, values = read(document)
        numbers = {version, *values} - {None}
        if len(numbers) == 1 and len(values) == rows:
            observed.predictions += 1
            observed.versions.add(int(numbers.pop() or 0))
            return True
    observed.errors.append(f"{path}: {status} {str(document)[:200]}")
    return True


def _native(document: Any) -> tuple[float | None, list[float]]:  # noqa: ANN401 - JSON
    return float(document["model_version"]), [row["value"] for row in document["predictions"]]


def _v1(document: Any) -> tuple[float | None, list[float]]:  # noqa: ANN401 - JSON
    return None, [row[0] for row in document["predictions"]]  # v1 responses have no version


def _v2(document: Any) -> tuple[float | None, list[float]]:  # noqa: ANN401 - JSON
    return float(document["model_version"]), document["outputs"][0]["data"]


def _tensor(rows: int) -> dict[str, object]:
    shape = {"name": "features", "shape": [rows, 1], "datatype": "FP32"}
    return {"inputs": [shape | {"data": [1.0] * rows}]}


_PROTOCOLS: Sequence[tuple[str, Callable[[int], Any], Callable[[Any], Any]]] = (
    ("/models/price/predict", lambda rows: {"instances": [{"size": 1}] * rows}, _native),
    ("/v1/models/price:predict", lambda rows: {"instances": [{"size": 1}] * rows}, _v1),
    ("/v2/models/price/infer", _tensor, _v2),
)


def _truncate(folder: Path) -> None:
    (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:-10])


def _flip_bit(folder: Path) -> None:
    content = bytearray((folder / MODEL).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / MODEL).write_bytes(content)


def _change_example(folder: Path) -> None:
    """Change an expected output of the examples, with a matching digest."""
    examples = json.loads((folder / EXAMPLES).read_text())
    examples["output"]["data"][0] += 1
    (folder / EXAMPLES).write_text(json.dumps(examples))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][EXAMPLES] = compute_digest((folder / EXAMPLES).read_bytes()).model_dump()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _remove_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def _link_to_itself(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder)


async def _copy_slowly(folder: Path) -> None:
    """Write a model file slowly for ten seconds, and never completely."""
    content = (folder / MODEL).read_bytes()
    for share in range(10):
        with contextlib.suppress(FileNotFoundError):  # old versions are removed
            (folder / MODEL).write_bytes(content[: len(content) * share // 10])
        await asyncio.sleep(1)


_DAMAGES: Sequence[Callable[[Path], Any]] = (
    _truncate,
    _flip_bit,
    _change_example,
    _copy_slowly,
    _remove_manifest,
    _link_to_itself,
)


def _change_dates(folder: Path) -> Path:
    """Set random modification times, as if the clock had been changed."""
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


async def _wait_for_version(observed: Observations, version: int) -> None:
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while version not in observed.versions:
        if time.monotonic() > deadline:
            raise RuntimeError(f"version {version} was not served; {observed.errors[:3]}")
        await asyncio.sleep(0.002)


async def _restart(service: Service, observed: Observations) -> None:
    """Kill the service, and start it again."""
    observed.paused = True
    for process in service.running.processes:
        os.kill(process, signal.SIGKILL)
    await asyncio.to_thread(service.restart)
    observed.paused = False


def _usage(service: Running) -> tuple[float, int]:
    """Memory in MiB, and the number of open files and threads, of all processes of a service."""
    handles = 0
    for process in service.processes:
        files = [it for it in descriptors(process) if not it.startswith("socket:")]
        handles += len(files) + threads(process)
    return resident_mib(service.processes), handles


if __name__ == "__main__":
    sys.exit(main())
