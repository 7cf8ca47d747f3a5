"""``python -m bench.tables``: a million rows over HTTP, compared with pandas' reading them.

The table streams to the service and back; its memory is measured meanwhile, and so are
the latencies of small requests, which must not wait for it.
"""

import shutil
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

from bench.load import LOAD_CORE, Running, pinned, running
from bench.page import replace_section

_ROWS = 1_000_000
_BAD_CELLS = 10
_WRITTEN_AT_ONCE = 50_000
_MODELS = ("california_linear", "california_mlp")
_ONE_ROW = {"exam_1": 45, "exam_2": 85}
_PAUSE_SECONDS = 0.02
_IDLE_SECONDS = 5
_READINGS = _PASSAGES = 3
_PATIENCE_SECONDS = 600.0
_FORGET_THE_PEAK = "5"  # what Linux calls it
_PANDAS = (
    "import sys, time, pandas\n"
    "started = time.perf_counter()\n"
    "pandas.read_csv(sys.argv[1])\n"
    "print(time.perf_counter() - started)"
)


@dataclass(frozen=True)
class Passage:
    """One table through the service: seconds, and its resident memory in MiB before and at most."""

    seconds: float
    before: float
    peak: float


def main() -> int:
    """Measure each model in turn, and write the table into ``RESULTS.md``."""
    if shutil.which("curl") is None:
        sys.stderr.write("The client curl is missing, which reads while it sends.\n")
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
    yield f"pandas reads the file, and no more, in {reading:.2f} s: {_ROWS / reading:,.0f} rows/s."
    yield ""
    yield "| model | client | seconds | rows/s | times pandas' reading | service's memory, MiB |"
    yield "|---|---|---|---|---|---|"
    latencies: dict[str, list[float]] = {}
    options = ["--device", "cpu", "--port", "{port}"]
    with running(["-m", "service", *options], "/health/ready") as service:
        with _small_requests(service) as latencies["nothing else"]:
            time.sleep(_IDLE_SECONDS)
        for model in _MODELS:
            with _small_requests(service) as latencies[f"a table through {model}"]:
                runs = [_passed(service, model, table, _by_curl) for _ in range(_PASSAGES)]
            passage = min(runs, key=lambda run: run.seconds)
            yield _row(f"{model} | curl, reads while it sends", passage, reading)
        passage = _passed(service, _MODELS[0], table, _by_httpx)
        yield _row(f"{_MODELS[0]} | httpx, sends all, then reads", passage, reading)
    yield ""
    yield "| one-row predictions during | requests | p50 ms | p99 ms | worst ms |"
    yield "|---|---|---|---|---|"
    for background, times in latencies.items():
        p50, p99 = statistics.median(times), float(np.quantile(times, 0.99))
        yield f"| {background} | {len(times)} | {p50:.1f} | {p99:.1f} | {max(times):.1f} |"


def _row(who: str, passage: Passage, reading: float) -> str:
    rate, times = _ROWS / passage.seconds, passage.seconds / reading
    memory = f"{passage.before:.0f} before, {passage.peak:.0f} at most"
    return f"| {who} | {passage.seconds:.1f} | {rate:,.0f} | {times:.1f} | {memory} |"


def write_table(path: Path) -> None:
    """A million rows within what the models were trained on, and some cells that are no number."""
    random = np.random.default_rng(1)
    categories = ["<1H OCEAN", "INLAND", "NEAR OCEAN", "NEAR BAY"]
    bad = set(random.choice(_ROWS, _BAD_CELLS, replace=False).tolist())
    with path.open("w") as file:
        file.write(
            "longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,"
            "households,median_income,ocean_proximity\n"
        )
        for start in range(0, _ROWS, _WRITTEN_AT_ONCE):
            columns = [
                random.uniform(low, high, _WRITTEN_AT_ONCE).round(digits).tolist()
                for low, high, digits in (
                    *((-124, -115, 2), (33, 41, 2), (1, 52, 0), (2, 9000, 0), (1, 1800, 0)),
                    *((3, 5000, 0), (1, 1700, 0), (0.5, 15, 4)),
                )
            ]
            words = [
                categories[index] for index in random.integers(0, len(categories), _WRITTEN_AT_ONCE)
            ]
            for row, cells in enumerate(zip(*columns, words, strict=True), start):
                text = ",".join(map(str, cells))
                file.write(f"west{text[4:]}\n" if row in bad else f"{text}\n")


def _pandas_seconds(path: Path) -> float:
    command = pinned(LOAD_CORE, [sys.executable, "-c", _PANDAS, str(path)])
    runs = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(_READINGS)
    ]
    return min(runs)


def _passed(
    service: Running, model: str, table: Path, send: Callable[[str, Path, Path], None]
) -> Passage:
    """Send the table, receive the output, and check that it has every row.

    Raises:
        RuntimeError: some row has no prediction, so the figure would be invalid.
    """
    output = table.with_suffix(".output")
    Path(f"/proc/{service.process}/clear_refs").write_text(_FORGET_THE_PEAK)
    before = memory(service, "VmRSS")
    started = time.perf_counter()
    send(f"{service.address}/models/{model}/predict", table, output)
    seconds = time.perf_counter() - started
    with output.open() as file:
        lines = failed = 0
        for line in file:
            lines += 1
            failed += "Line " in line
    if (lines, failed) != (1 + _ROWS, _BAD_CELLS):
        raise RuntimeError(f"{lines} lines came back, {failed} of them with an error")
    return Passage(seconds, before, memory(service, "VmHWM"))


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
            "POST", url, content=content, headers=headers, timeout=_PATIENCE_SECONDS
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
        with httpx.Client(base_url=service.address, timeout=_PATIENCE_SECONDS) as client:
            while not ended.wait(_PAUSE_SECONDS):
                started = time.perf_counter()
                client.post("/models/admission/predict", json=_ONE_ROW).raise_for_status()
                times.append((time.perf_counter() - started) * 1e3)

    sender = threading.Thread(target=send_rows)
    sender.start()
    try:
        yield times
    finally:
        ended.set()
        sender.join()


def memory(service: Running, kind: str) -> float:
    """Resident memory now (``VmRSS``), or at most (``VmHWM``), in MiB."""
    status = Path(f"/proc/{service.process}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith(f"{kind}:")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
