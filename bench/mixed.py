"""Measure small predictions while a table is streamed and photographs are uploaded.

32 connections send one digit at a time to an image network, while one client streams a million
rows and another uploads photographs of twelve megapixels, both without a pause. Their throughput
is reported next to the latencies, because latencies would also be low if they had to wait. Run it
by ``python -m bench.mixed``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench.load import Measured, load
from bench.page import replace_section
from bench.processes import (
    LOAD_CORE,
    SERVER_CORE,
    Start,
    have_tools,
    pinned,
    service_command,
    started,
)
from bench.tables import write_table

_CONNECTIONS = 32
_SECONDS = 6
# The time to accept the connections is not measured.
_CONNECT_SECONDS = 0.5
_LIMIT_MILLISECONDS = 25
_MODEL, _PHOTOGRAPHS_MODEL = "digits_conv", "cats_dogs"
_WIDTH, _HEIGHT = 4000, 3000
_SHAPES = (60, 80)
_NOISE = 4.0
_REPETITIONS = 2000
# So that they do not delay the clients whose latencies are measured on the same core.
_LOW_PRIORITY = ["nice", "-n", "19"]
_TABLES = ("california_linear", "california_mlp")
_FORMATS = ("JPEG", "PNG")
_CORES: dict[str, tuple[str, int | None]] = {
    "one": ("Long and short requests", SERVER_CORE),
    "both": ("Long and short requests, the service on both cores", None),
}


@dataclass(frozen=True)
class Background:
    """Other work of the service: a table for a model, photographs in a format."""

    table: str | None = None
    photographs: str | None = None

    def __str__(self) -> str:
        """The name in the results."""
        parts = [f"a table through {self.table}"] if self.table else []
        parts += [f"photographs as {self.photographs}"] if self.photographs else []
        return " and ".join(parts) or "nothing"


_SITUATIONS = (
    Background(),
    *(Background(table) for table in _TABLES),
    *(Background(photographs=kind) for kind in _FORMATS),
    *(Background(table, kind) for table in _TABLES for kind in _FORMATS),
)


def main() -> int:
    """Measure each situation, and write a section for each choice of cores."""
    parser = argparse.ArgumentParser(prog="python -m bench.mixed", description=main.__doc__)
    parser.add_argument(
        "cores", nargs="*", help="of the service: one, both; default: one after the other"
    )
    cores = parser.parse_args().cores or list(_CORES)
    if not have_tools("curl", "wrk"):
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder / "table.csv")
        _write_photographs(folder)
        for which in cores:
            title, core = _CORES[which]
            sys.stdout.write(replace_section(title, _lines(folder, core)))
    return 0


def _write_photographs(folder: Path) -> None:
    """Write blurred shapes with noise, whose files are about as large as those of a camera."""
    random = np.random.default_rng(1)
    colors = random.integers(0, 256, (*_SHAPES, 3), np.uint8)
    shapes = Image.fromarray(colors).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
    noise = random.normal(0, _NOISE, (_HEIGHT, _WIDTH, 1)).astype(np.float32)
    photograph = Image.fromarray((np.asarray(shapes) + noise).clip(0, 255).astype(np.uint8))
    photograph.save(folder / "JPEG", "JPEG", quality=90)
    photograph.save(folder / "PNG", "PNG", compress_level=1)


def _lines(folder: Path, core: int | None) -> Iterator[str]:
    sizes = " and ".join(f"{(folder / kind).stat().st_size / 1e6:.1f} MB" for kind in _FORMATS)
    where = "both cores" if core is None else "one core"
    yield f"Made by `python -m bench.mixed`: wrk with {_CONNECTIONS} connections, each sending one"
    yield f"digit per request to {_MODEL}, {_SECONDS} s each; the service on {where}, the clients"
    yield "on one. One client repeatedly sends a CSV of a million rows and reads the predictions;"
    yield f"another one repeatedly uploads photographs of {_WIDTH} x {_HEIGHT} pixels to"
    yield f"{_PHOTOGRAPHS_MODEL} ({sizes} as {' and '.join(_FORMATS)})."
    yield f"The limit is a p99 of {_LIMIT_MILLISECONDS} ms."
    yield ""
    yield "| other work | requests/s | p50 ms | p99 ms | worst ms | rows/s | photographs/s |"
    yield "|---|---|---|---|---|---|---|"
    with started(Start(service_command(), core=core)) as service:
        for background in _SITUATIONS:
            yield _measured(service.address, background, folder)


def _measured(address: str, background: Background, folder: Path) -> str:
    url, digit = f"{address}/models/{_MODEL}/predict", json.dumps(_digit()).encode()
    with ThreadPoolExecutor() as thread:
        loading = thread.submit(load, url, digit, _CONNECTIONS, _SECONDS)
        time.sleep(_CONNECT_SECONDS)
        with ExitStack() as stack:
            rows = photographs = None
            if background.table:
                rows = stack.enter_context(_streaming(address, background.table, folder))
            if background.photographs:
                photographs = stack.enter_context(
                    _uploading(address, background.photographs, folder)
                )
            found = loading.result()
    return _line(background, found, rows, photographs)


def _line(
    background: Background,
    found: Measured,
    rows: Sequence[float] | None,
    photographs: Sequence[float] | None,
) -> str:
    done = (f"{rows[0]:,.0f}" if rows else "", f"{photographs[0]:.1f}" if photographs else "")
    return (
        f"| {background} | {found.rate:,.0f} | {found.median:.1f} | {found.p99:.1f} "
        f"| {found.worst:.1f} | {done[0]} | {done[1]} |"
    )


def _digit() -> dict[str, list[list[int]]]:
    """A request with the digit one, 28 x 28 pixels, light on dark."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 12:16] = 255
    return {"instances": [pixels.reshape(-1).tolist()]}


@contextmanager
def _streaming(address: str, model: str, folder: Path) -> Iterator[list[float]]:
    """Send the table repeatedly; yield a list that gets the rows per second at the end."""
    request = ["-T", str(folder / "table.csv"), "-X", "POST", "-H", "content-type: text/csv"]
    request.append(f"{address}/models/{model}/predict")
    with _repeated(request, folder / "rows") as rates:
        yield rates


@contextmanager
def _uploading(address: str, kind: str, folder: Path) -> Iterator[list[float]]:
    """Send the photograph repeatedly; yield a list that gets the images per second at the end."""
    request = ["-T", str(folder / kind), "-X", "POST", "-H", f"content-type: image/{kind.lower()}"]
    # One line for each response; curl would wait before each body for the response to Expect.
    request += ["-H", "expect:", "-w", "\\n"]
    request.append(f"{address}/models/{_PHOTOGRAPHS_MODEL}/predict")
    with _repeated(request, folder / "photographs") as rates:
        yield rates


@contextmanager
def _repeated(request: Sequence[str], lines: Path) -> Iterator[list[float]]:
    """Send a request repeatedly by curl.

    Yields an empty list that gets the number of lines received per second when the block ends.

    Raises:
        RuntimeError: the client ended early, or a request was rejected.
    """
    # Without -N curl buffers responses, which are lost when it is terminated.
    arguments = ["--next", "-s", "-S", "-f", "-N", *request]
    rates: list[float] = []
    began = time.perf_counter()
    with lines.open("wb") as file:
        command = ["curl", *(arguments[1:] + arguments * _REPETITIONS)]
        client = subprocess.Popen(pinned(LOAD_CORE, [*_LOW_PRIORITY, *command]), stdout=file)
        try:
            yield rates
            if client.poll() is not None:
                raise RuntimeError(f"{request[-1]}: the client ended with {client.returncode}")
        finally:
            client.terminate()
            client.wait()
    seconds = time.perf_counter() - began
    with lines.open("rb") as file:
        rates.append(sum(piece.count(b"\n") for piece in file) / seconds)


if __name__ == "__main__":
    sys.exit(main())
