"""Measure the throughput of a second worker on two cores, and compare the responses.

No process is pinned: two workers and the load generator share the cores, as in a container with
two. One worker may use both cores too, but its interpreter uses one at a time. Run it by
``python -m bench.workers``.
"""

import json
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import numpy as np

from bench.hostile.requests import DIGIT, PREDICT, ROW
from bench.load import Measured, load
from bench.page import replace_section
from bench.processes import (
    Post,
    Running,
    Start,
    have_tools,
    send,
    service_command,
    started,
)
from bench.servers import EMPTY_APP

_WORKERS = (1, 2)
_ROUNDS = 3
_SECONDS = 3
# The number of the other measurements, and twice as many for two workers.
_CONNECTIONS = (32, 64)
_TARGET = 1.3
_REQUESTS_PER_WORKER = 20
_TIMEOUT_SECONDS = 30.0
# By request and connections, then by workers.
Runs = dict[tuple[str, int], dict[int, list[Measured]]]

_EMPTY = "an empty ASGI app"


def main() -> int:
    """Measure each request, and compare the responses of all workers."""
    if not have_tools("wrk"):
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
            option = "--workers", str(workers)
            start = Start(service_command(*option), core=None)
            services[workers] = stack.enter_context(started(start))
            _wait_for_workers(services[workers], workers)
            start = Start((*EMPTY_APP, *option), "/", core=None)
            floors[workers] = stack.enter_context(started(start))
        compared = {name: _compare(services, *request) for name, request in requests.items()}
        for _ in range(_ROUNDS):
            for (name, connections), found in runs.items():
                path, body = requests.get(name, ("/", b"{}"))
                for workers, service in (floors if name == _EMPTY else services).items():
                    url = service.address + path
                    found[workers].append(load(url, body, connections, _SECONDS, core=None))
    sys.stdout.write(replace_section("Workers", _lines(runs, compared)))
    return 0


def _requests() -> Mapping[str, tuple[str, bytes]]:
    random = np.random.default_rng(1)
    rows = random.uniform(30, 100, (256, 2)).round(2).tolist()
    table = [dict(zip(("exam_1", "exam_2"), row, strict=True)) for row in rows]
    digit = random.integers(0, 256, 784).tolist()
    bodies: dict[str, tuple[str, object]] = {
        "admission, one row": (PREDICT, json.loads(ROW)),
        "admission, 256 rows": (PREDICT, {"instances": table}),
        "digits_conv, one image": (DIGIT, {"instances": [digit]}),
    }
    return {name: (path, json.dumps(body).encode()) for name, (path, body) in bodies.items()}


def _wait_for_workers(service: Running, workers: int) -> None:
    """Wait until all workers are ready; the first one responds to ``/health/ready``.

    Raises:
        RuntimeError: a worker is not ready in time.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    metric = f'onward_model_state{{model="digits_conv",state="READY",version="1"}} {workers}.0'
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{service.address}/metrics") as response:  # noqa: S310 - our own server's address
            if metric in response.read().decode():
                return
        time.sleep(0.1)
    raise RuntimeError(f"not all of {workers} workers are ready")


def _compare(services: Mapping[int, Running], path: str, body: bytes) -> int:
    """Compare the responses of all workers, and return their number.

    Raises:
        RuntimeError: some responses differ.
    """
    # Each request has its own connection, which the kernel assigns to one of the workers.
    responses = [
        send(service.address, Post(path, body))[0]
        for workers, service in services.items()
        for _ in range(_REQUESTS_PER_WORKER * workers)
    ]
    if len(set(responses)) != 1:
        raise RuntimeError(
            f"{path} has {len(set(responses))} different responses: {set(responses)}"
        )
    return len(responses)


def _lines(runs: Runs, compared: Mapping[str, int]) -> Iterator[str]:
    yield "Made by `python -m bench.workers`: wrk shares the cores with the service, no process is"
    yield f"pinned; {_ROUNDS} rounds of {_SECONDS} s, medians. The target is {_TARGET} times one"
    yield f"worker. {sum(compared.values())} responses, each over a separate connection, were"
    yield "compared: all responses to a request are identical. With 32 connections, each of two"
    yield "workers reads about ten requests in one iteration of its event loop, with 64 about"
    yield "twenty, and these share the cost of a run; one worker reads all. wrk uses ten"
    yield "microseconds of the same cores for each request. The first line is uvicorn with an"
    yield "empty application: the maximum of the machine."
    yield ""
    yield "| request | connections | one worker, 1/s | p99 ms | two workers, 1/s | p99 ms | ratio |"
    yield "|---|---|---|---|---|---|---|"
    for (name, connections), measured in runs.items():
        rates, p99s = (
            {
                workers: statistics.median(getattr(run, figure) for run in found)
                for workers, found in measured.items()
            }
            for figure in ("rate", "p99")
        )
        cells = " | ".join(f"{rates[w]:,.0f} | {p99s[w]:.1f}" for w in _WORKERS)
        yield f"| {name} | {connections} | {cells} | {rates[2] / rates[1]:.2f} |"


if __name__ == "__main__":
    sys.exit(main())
