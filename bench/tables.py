"""Measure predictions for a million rows over HTTP, compared with reading them by pandas.

The table is streamed to the service and back. The memory of the service is measured at the same
time, and the latencies of small requests, which must not wait for the table. Run it by
``python -m bench.tables``.
"""

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from bench.hostile.requests import PREDICT, ROW
from bench.levels import peak_mib, reset_peak, resident_mib
from bench.page import replace_section
from bench.processes import (
    JSON,
    LOAD_CORE,
    Running,
    Start,
    have_tools,
    pinned,
    service_command,
    started,
)

_ROWS = 1_000_000
_BAD_CELLS = 10
_WRITTEN_ROWS = 50_000
_MODELS = ("california_linear", "california_mlp")
_PAUSE_SECONDS = 0.02
_IDLE_SECONDS = 5
_REPETITIONS = 3
_TIMEOUT_SECONDS = 600.0
_PANDAS = (
    "import sys, time, pandas\n"
    "started = time.perf_counter()\n"
    "pandas.read_csv(sys.argv[1])\n"
    "print(time.perf_counter() - started)"
)


@dataclass(frozen=True)
class TableRun:
    """The seconds of one table, and the service's resident memory in MiB before and at most."""

    seconds: float
    before: float
    peak: float


def main() -> int:
    """Measure each model, and write the table into ``RESULTS.md``."""
    if not have_tools("curl"):
        return 2
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        write_table(table)
        reading = _pandas_seconds(table)
        sys.stdout.write(replace_section("Tables", _lines(table, reading)))
    return 0


def _lines(table: Path, reading: float) -> Iterator[str]:
    megabytes = table.stat().st_size / 1e6
    yield f"Made by `python -m bench.tables`: {_ROWS:,} rows of nine features, {megabytes:.0f} MB,"
    yield f"{_BAD_CELLS} of them with a bad cell; the service on one core, the client on another."
    yield f"pandas only reads the file, in {reading:.2f} s: {_ROWS / reading:,.0f} rows/s."
    yield ""
    yield "| model | client | seconds | rows/s | relative to pandas | service's memory, MiB |"
    yield "|---|---|---|---|---|---|"
    latencies: dict[str, list[float]] = {}
    with started(Start(service_command())) as service:
        with _small_requests(service) as latencies["nothing else"]:
            time.sleep(_IDLE_SECONDS)
        for model in _MODELS:
            with _small_requests(service) as latencies[f"a table through {model}"]:
                runs = [
                    _predict_table(service, model, table, _by_curl) for _ in range(_REPETITIONS)
                ]
            run = min(runs, key=lambda it: it.seconds)
            yield _row(f"{model} | curl, reads while it sends", run, reading)
        run = _predict_table(service, _MODELS[0], table, _by_httpx)
        yield _row(f"{_MODELS[0]} | httpx, sends all, then reads", run, reading)
    yield ""
    yield "| one-row predictions during | requests | p50 ms | p99 ms | worst ms |"
    yield "|---|---|---|---|---|"
    for background, times in latencies.items():
        p50, p99 = statistics.median(times), float(np.quantile(times, 0.99))
        yield f"| {background} | {len(times)} | {p50:.1f} | {p99:.1f} | {max(times):.1f} |"


def _row(model_and_client: str, run: TableRun, reading: float) -> str:
    rate, times = _ROWS / run.seconds, run.seconds / reading
    memory = f"{run.before:.0f} before, {run.peak:.0f} at most"
    return f"| {model_and_client} | {run.seconds:.1f} | {rate:,.0f} | {times:.1f} | {memory} |"


def write_table(path: Path) -> None:
    """Write a million rows within the training range, with some invalid cells."""
    random = np.random.default_rng(1)
    categories = ["<1H OCEAN", "INLAND", "NEAR OCEAN", "NEAR BAY"]
    bad = set(random.choice(_ROWS, _BAD_CELLS, replace=False).tolist())
    with path.open("w") as file:
        file.write(
            "longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,"
            "households,median_income,ocean_proximity\n"
        )
        for start in range(0, _ROWS, _WRITTEN_ROWS):
            columns = [
                random.uniform(low, high, _WRITTEN_ROWS).round(digits).tolist()
                for low, high, digits in (
                    *((-124, -115, 2), (33, 41, 2), (1, 52, 0), (2, 9000, 0), (1, 1800, 0)),
                    *((3, 5000, 0), (1, 1700, 0), (0.5, 15, 4)),
                )
            ]
            words = [
                categories[index] for index in random.integers(0, len(categories), _WRITTEN_ROWS)
            ]
            for row, cells in enumerate(zip(*columns, words, strict=True), start):
                text = ",".join(map(str, cells))
                file.write(f"west{text[4:]}\n" if row in bad else f"{text}\n")


def _pandas_seconds(path: Path) -> float:
    command = pinned(LOAD_CORE, [sys.executable, "-c", _PANDAS, str(path)])
    runs = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(_REPETITIONS)
    ]
    return min(runs)


def _predict_table(
    service: Running, model: str, table: Path, send: Callable[[str, Path, Path], None]
) -> TableRun:
    """Send the table, receive the output, and check that it has every row.

    Raises:
        RuntimeError: a row has no prediction, so the figure would be invalid.
    """
    output = table.with_suffix(".output")
    reset_peak([service.process])
    before = resident_mib([service.process])
    began = time.perf_counter()
    send(f"{service.address}/models/{model}/predict", table, output)
    seconds = time.perf_counter() - began
    with output.open() as file:
        lines = failed = 0
        for line in file:
            lines += 1
            failed += "Line " in line
    if (lines, failed) != (1 + _ROWS, _BAD_CELLS):
        raise RuntimeError(f"{lines} lines were received, {failed} of them with an error")
    return TableRun(seconds, before, peak_mib([service.process]))


def _by_curl(url: str, table: Path, output: Path) -> None:
    command = ["curl", "-s", "-X", "POST", "-H", "content-type: text/csv"]
    command += ["-T", str(table), "-o", str(output), url]
    subprocess.run(pinned(LOAD_CORE, command), check=True)


def _by_httpx(url: str, table: Path, output: Path) -> None:
    headers = {"content-type": "text/csv"}
    with (
        table.open("rb") as content,
        output.open("wb") as file,
        httpx.stream(
            "POST", url, content=content, headers=headers, timeout=_TIMEOUT_SECONDS
        ) as response,
    ):
        for piece in response.iter_bytes():
            file.write(piece)


@contextmanager
def _small_requests(service: Running) -> Iterator[list[float]]:
    """Request predictions of one row repeatedly; yield the latencies in milliseconds."""
    times: list[float] = []
    ended = threading.Event()

    def send_rows() -> None:
        with httpx.Client(base_url=service.address, timeout=_TIMEOUT_SECONDS) as client:
            while not ended.wait(_PAUSE_SECONDS):
                began = time.perf_counter()
                client.post(PREDICT, content=ROW, headers=JSON).raise_for_status()
                times.append((time.perf_counter() - began) * 1e3)

    sender = threading.Thread(target=send_rows)
    sender.start()
    try:
        yield times
    finally:
        ended.set()
        sender.join()


if __name__ == "__main__":
    sys.exit(main())
