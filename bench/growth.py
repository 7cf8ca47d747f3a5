"""Measure how the cost grows with rows, connections and models, and plot ``growth.svg``.

Each point of the three curves is a measurement of the service on one core, with the client on
another. Run it by ``python -m bench.growth``.
"""

import json
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from bench.hostile.requests import ROW
from bench.levels import resident_mib
from bench.load import Measured, load
from bench.page import replace_section
from bench.processes import (
    Running,
    Start,
    have_tools,
    pin_to_load_core,
    service_command,
    started,
)

_MODEL = "admission"
_BUNDLE = Path("models") / _MODEL / "1"
_PLOT = Path(__file__).parent / "growth.svg"
_SIZE_INCHES = (10.0, 3.2)
_ROWS = (1, 10, 100, 1_000, 10_000, 100_000)
_CONNECTIONS = (1, 3, 10, 32, 100, 316, 1_000)
_MODELS = (1, 10, 50, 100, 200)
_SECONDS_PER_POINT = 3
_MIN_REQUESTS = 5
_FLEET_CONNECTIONS = 32
_SMALL_BYTES = 16 * 1024
_READ_BYTES = 256 * 1024

Columns = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Fleet:
    """Measurements of a service with several models.

    Args:
        ready: seconds until it is ready.
        memory: in MiB.
        one: of requests to one of the models.
    """

    ready: float
    memory: float
    one: Measured


def main() -> int:
    """Measure the three curves, and write the tables and the plot."""
    if not have_tools("wrk"):
        return 2
    pin_to_load_core()
    with started(_start()) as service:
        rows = {name: _row_curve(service, *form) for name, form in _FORMS.items()}
        url = f"{service.address}/models/{_MODEL}/predict"
        by_connections = {c: load(url, ROW, c, _SECONDS_PER_POINT) for c in _CONNECTIONS}
    fleets = {count: _fleet(count) for count in _MODELS}
    _draw(rows, by_connections, fleets)
    lines = [*_about_rows(rows), *_about_connections(by_connections), *_about_models(fleets)]
    sys.stdout.write(replace_section("Growth", lines))
    return 0


def _start(*options: str) -> Start:
    return Start(service_command("--drain-seconds", "0", *options))


def _native(rows: Columns) -> tuple[bytes, Mapping[str, str]]:
    names = ("exam_1", "exam_2")
    instances = [dict(zip(names, row, strict=True)) for row in rows.astype(float).tolist()]
    return json.dumps({"instances": instances}).encode(), {"content-type": "application/json"}


def _binary(rows: Columns) -> tuple[bytes, Mapping[str, str]]:
    size = {"binary_data_size": rows.nbytes}
    tensor = {"name": "features", "datatype": "FP32", "shape": rows.shape, "parameters": size}
    document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    head = json.dumps(document).encode()
    length = {"inference-header-content-length": str(len(head))}
    return head + rows.tobytes(), {"content-type": "application/octet-stream", **length}


def _csv(rows: Columns) -> tuple[bytes, Mapping[str, str]]:
    lines = ["exam_1,exam_2", *(f"{one:g},{two:g}" for one, two in rows.tolist())]
    return "\n".join(lines).encode(), {"content-type": "text/csv"}


_FORMS: Mapping[str, tuple[str, Callable[[Columns], tuple[bytes, Mapping[str, str]]]]] = {
    "native JSON": (f"/models/{_MODEL}/predict", _native),
    "v2 binary": (f"/v2/models/{_MODEL}/infer", _binary),
    "CSV": (f"/models/{_MODEL}/predict", _csv),
}


def _row_curve(
    service: Running, path: str, write: Callable[[Columns], tuple[bytes, Mapping[str, str]]]
) -> list[float]:
    """The median milliseconds of a request, by its number of rows."""
    random = np.random.default_rng(1)
    curve = []
    with socket.create_connection(service.endpoint) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for count in _ROWS:
            body, content_headers = write(
                random.uniform(30, 100, (count, 2)).round(2).astype(np.float32)
            )
            headers = {"host": service.host, "content-length": str(len(body)), **content_headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            request = f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body
            times: list[float] = []
            deadline = time.monotonic() + _SECONDS_PER_POINT / 2
            while len(times) < _MIN_REQUESTS or time.monotonic() < deadline:
                times.append(_exchange(connection, request) * 1e3)
            curve.append(statistics.median(times))
    return curve


def _exchange(connection: socket.socket, request: bytes) -> float:
    """Send a request and read its response; return the seconds.

    Raises:
        RuntimeError: the response is not 200, or ends early.
    """
    began = time.perf_counter()
    if len(request) < _SMALL_BYTES:
        connection.sendall(request)
        _receive(connection)
        return time.perf_counter() - began
    # The service responds to a table while the table is being sent.
    sending = threading.Thread(target=connection.sendall, args=(request,))
    sending.start()
    _receive(connection)
    sending.join()
    return time.perf_counter() - began


def _receive(connection: socket.socket) -> None:
    """Read one response, up to its Content-Length or its last chunk."""
    response = b""
    while b"\r\n\r\n" not in response:
        response += _receive_piece(connection)
    head, _, beginning = response.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(response.decode())
    (length,) = [
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    ] or [-1]
    size, end = len(beginning), beginning[-5:]
    while size < length if length >= 0 else end != b"0\r\n\r\n":
        piece = _receive_piece(connection)
        size += len(piece)
        end = (end + piece)[-5:]


def _receive_piece(connection: socket.socket) -> bytes:
    piece = connection.recv(_READ_BYTES)
    if not piece:
        raise RuntimeError("the service closed the connection within a response")
    return piece


def _fleet(count: int) -> Fleet:
    """Measure a service with several copies of one model."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, count + 1):
            home = Path(folder) / f"m{number}" / "1"
            shutil.copytree(_BUNDLE, home)
            manifest = json.loads((home / "manifest.json").read_text())
            (home / "manifest.json").write_text(json.dumps(manifest | {"name": f"m{number}"}))
        with started(_start("--models", folder)) as service:
            memory = resident_mib([service.process])
            one = load(
                f"{service.address}/models/m1/predict", ROW, _FLEET_CONNECTIONS, _SECONDS_PER_POINT
            )
    return Fleet(service.ready_seconds, memory, one)


def _about_rows(rows: Mapping[str, Sequence[float]]) -> Iterator[str]:
    yield "Made by `python -m bench.growth`: the service on one core, the client on another."
    yield ""
    yield "![Cost as work grows: rows per request, connections, models](growth.svg)"
    yield ""
    yield "### Rows per request"
    yield ""
    yield f"Median milliseconds of a request to {_MODEL} over one connection."
    yield ""
    yield f"| rows | {' | '.join(rows)} |"
    yield f"|{'---|' * (1 + len(rows))}"
    for index, count in enumerate(_ROWS):
        cells = " | ".join(f"{curve[index]:,.3g}" for curve in rows.values())
        yield f"| {count:,} | {cells} |"
    yield ""
    last = ", ".join(f"{c[-1] / _ROWS[-1] * 1e3:.2g} µs in {name}" for name, c in rows.items())
    yield "Up to about ten rows, a request costs as much as one without rows; from a thousand"
    yield f"rows on, only the rows matter: {last}."
    yield "The cost of a row does not depend on their number, since each row is read and written"
    yield "once. The formats differ in the amount of text per number; a binary request contains no"
    yield "text, so its cost is the cost of the model."
    yield ""


def _about_connections(by_connections: Mapping[int, Measured]) -> Iterator[str]:
    yield "### Connections"
    yield ""
    yield "One row per request; each connection sends the next request after the response."
    yield ""
    yield "| connections | requests/s | p50 ms | p99 ms | worst ms |"
    yield "|---|---|---|---|---|"
    for count, found in by_connections.items():
        times = f"{found.median:.2f} | {found.p99:.1f} | {found.worst:.1f}"
        yield f"| {count:,} | {found.rate:,.0f} | {times} |"
    yield ""
    yield "A few connections use the whole core; beyond them the rate is constant and the latency"
    yield "grows with their number, because each waits for all others. If p50 grows less, some"
    yield "connections were not accepted before the end of the measurement: the event loop accepts"
    yield "sixteen new connections per iteration, and an iteration responds to all waiting"
    yield "requests. So the slowest requests are first requests."
    yield ""


def _about_models(fleets: Mapping[int, Fleet]) -> Iterator[str]:
    yield "### Models"
    yield ""
    yield f"Copies of {_MODEL}, all loaded and tested; {_FLEET_CONNECTIONS} connections send"
    yield "requests to one of them."
    yield ""
    yield "| models | ready after s | memory MiB | requests/s of one | p99 ms |"
    yield "|---|---|---|---|---|"
    for count, fleet in fleets.items():
        cells = f"{fleet.one.rate:,.0f} | {fleet.one.p99:.1f}"
        yield f"| {count} | {fleet.ready:.2f} | {fleet.memory:.0f} | {cells} |"
    yield ""
    few, many = fleets[_MODELS[0]], fleets[_MODELS[-1]]
    added = _MODELS[-1] - _MODELS[0]
    each = (many.memory - few.memory) / added * 1024
    start = (many.ready - few.ready) / added * 1e3
    yield f"An idle model of this size takes {each:,.0f} KiB, ONNX Runtime's session half of it,"
    yield f"and {start:.1f} ms of the start; a larger one also needs memory for its weights."
    yield "A request finds its model by name in a dictionary, so its cost does not depend on the"
    yield "number of models, except for the scan of each folder every two seconds."


def _draw(
    rows: Mapping[str, Sequence[float]],
    by_connections: Mapping[int, Measured],
    fleets: Mapping[int, Fleet],
) -> None:
    # Text is stored as text, and the same figures always give the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "onward", "font.size": 8})
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    rows_axes, connections_axes, models_axes = figure.subplots(1, 3)
    for name, curve in rows.items():
        rows_axes.plot(_ROWS, curve, marker=".", label=name)
    rows_axes.set(xscale="log", yscale="log", xlabel="rows per request", ylabel="ms")
    for name, figures in (
        ("p50", [found.median for found in by_connections.values()]),
        ("p99", [found.p99 for found in by_connections.values()]),
    ):
        connections_axes.plot(list(by_connections), figures, marker=".", label=name)
    connections_axes.set(xscale="log", yscale="log", xlabel="connections", ylabel="ms")
    memory = [fleet.memory for fleet in fleets.values()]
    models_axes.plot(list(fleets), memory, marker=".", label="memory, MiB")
    rates = [fleet.one.rate / 100 for fleet in fleets.values()]
    models_axes.plot(list(fleets), rates, marker=".", label="hundred requests/s of one")
    models_axes.set(xlabel="models", ylim=(0, None))
    for axes in (rows_axes, connections_axes, models_axes):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(_PLOT, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
