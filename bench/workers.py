"""``python -m bench.workers``: throughput of a second worker on two cores, and equal responses.

Nothing is pinned: two workers and the load generator share the cores, as they would in a container
of two. One worker may use both cores as well, but its interpreter uses one at a time.
"""

import json
import shutil
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import numpy as np

from bench.contestants import EMPTY_APP
from bench.load import Measured, Running, load, running
from bench.page import replace_section

_WORKERS = (1, 2)
_ROUNDS = 3
_SECONDS = 3
# As many as the other measurements have, and as many for each of two workers.
_CONNECTIONS = (32, 64)
_BAR = 1.3
_REQUESTS_PER_WORKER = 20
_PATIENCE_SECONDS = 30.0
# By request and connections, then by workers.
Runs = dict[tuple[str, int], dict[int, list[Measured]]]

_EMPTY = "an empty ASGI app"
_ADMISSION, _DIGITS = "/models/admission/predict", "/models/digits_conv/predict"
_ROW = {"exam_1": 45, "exam_2": 85}


def main() -> int:
    """Measure each request in turn, and compare the responses of all workers."""
    if shutil.which("wrk") is None:
        sys.stderr.write("The load generator wrk is missing; Debian's package is 'wrk'.\n")
        return 2
    requests = _requests()
    runs: Runs = {
        (name, connections): {workers: [] for workers in _WORKERS}
        for name in (_EMPTY, *requests)
        for connections in _CONNECTIONS
    }
    with ExitStack() as stack:
        services, floors = {}, {}
        for workers in _WORKERS:
            command = ["-m", "service", "--device", "cpu", "--port", "{port}"]
            command += ["--workers", str(workers)]
            services[workers] = stack.enter_context(running(command, "/health/ready", None))
            _until_all_serve(services[workers], workers)
            empty = [*EMPTY_APP, "--workers", str(workers)]
            floors[workers] = stack.enter_context(running(empty, "/", None))
        same = {name: _same(services, *request) for name, request in requests.items()}
        for _ in range(_ROUNDS):
            for (name, connections), found in runs.items():
                path, body = requests.get(name, ("/", b"{}"))
                for workers, service in (floors if name == _EMPTY else services).items():
                    url = service.address + path
                    found[workers].append(load(url, body, connections, _SECONDS, core=None))
    sys.stdout.write(replace_section("Workers", _lines(runs, same)))
    return 0


def _requests() -> Mapping[str, tuple[str, bytes]]:
    random = np.random.default_rng(1)
    rows = random.uniform(30, 100, (256, 2)).round(2).tolist()
    table = [dict(zip(("exam_1", "exam_2"), row, strict=True)) for row in rows]
    digit = random.integers(0, 256, 784).tolist()
    bodies: dict[str, tuple[str, object]] = {
        "admission, one row": (_ADMISSION, _ROW),
        "admission, 256 rows": (_ADMISSION, {"instances": table}),
        "digits_conv, one image": (_DIGITS, {"instances": [digit]}),
    }
    return {name: (path, json.dumps(body).encode()) for name, (path, body) in bodies.items()}


def _until_all_serve(service: Running, workers: int) -> None:
    """Wait for the last worker; the first that is ready responds for the service.

    Raises:
        RuntimeError: it does not come.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    wanted = f'onward_model_state{{model="digits_conv",state="READY",version="1"}} {workers}.0'
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{service.address}/metrics") as response:  # noqa: S310 - our own server's address
            if wanted in response.read().decode():
                return
        time.sleep(0.1)
    raise RuntimeError(f"not all of {workers} workers serve")


def _same(services: Mapping[int, Running], path: str, body: bytes) -> int:
    """How many responses of all workers were compared.

    Raises:
        RuntimeError: some differ, by as little as a bit.
    """
    # Each over a connection of its own, which the kernel gives to one worker or another.
    responses = [
        _response(service.address, path, body)
        for workers, service in services.items()
        for _ in range(_REQUESTS_PER_WORKER * workers)
    ]
    if len(set(responses)) != 1:
        raise RuntimeError(
            f"{path} has {len(set(responses))} different responses: {set(responses)}"
        )
    return len(responses)


def _response(address: str, path: str, body: bytes) -> bytes:
    request = urllib.request.Request(  # noqa: S310 - our own server's address
        address + path, body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as response:  # noqa: S310 - as above
        content: bytes = response.read()
        return content


def _lines(runs: Runs, same: Mapping[str, int]) -> Iterator[str]:
    yield "Made by `python -m bench.workers`: wrk shares the cores with the service, nothing"
    yield f"pinned; {_ROUNDS} rounds of {_SECONDS} s in turn, medians."
    yield f"The bar is {_BAR} times one worker. {sum(same.values())} responses, each over a"
    yield "connection of its own, were compared: those to each request are the same to the bit."
    yield "With 32 connections, each of two workers reads about ten requests in one turn of its"
    yield "loop, with 64 about twenty, and these share the cost of a run; one worker reads all."
    yield "wrk uses ten microseconds of the same cores for each request."
    yield "The first line is uvicorn with an empty application: the most that the machine can do."
    yield ""
    yield "| request | connections | one worker, 1/s | p99 ms | two workers, 1/s | p99 ms | ratio |"
    yield "|---|---|---|---|---|---|---|"
    for (name, connections), measured in runs.items():
        rates, tails = (
            {
                workers: statistics.median(getattr(run, figure) for run in found)
                for workers, found in measured.items()
            }
            for figure in ("rate", "p99")
        )
        cells = " | ".join(f"{rates[w]:,.0f} | {tails[w]:.1f}" for w in _WORKERS)
        yield f"| {name} | {connections} | {cells} | {rates[2] / rates[1]:.2f} |"


if __name__ == "__main__":
    sys.exit(main())
