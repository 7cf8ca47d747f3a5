"""``python -m bench.workers``: what a second worker brings on two cores, and whether it agrees.

Nothing is pinned: two workers and the load generator share the cores, as they would in a container
of two. One worker may use both cores as well, but its interpreter uses one at a time.
"""

import http.client
import json
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from urllib.parse import urlsplit

import numpy as np

from bench.load import Measured, load, running
from bench.page import replace_section

_WORKERS = (1, 2)
_ROUNDS = 3
_SECONDS = 4
_CONNECTIONS = 32
_BAR = 1.3
# So many fresh connections that both workers take some of them; `_answers` sees to it.
_ASKED = 64
_ADMISSION, _DIGITS = "/models/admission/predict", "/models/digits_conv/predict"
_ROW = {"exam_1": 45, "exam_2": 85}


def main() -> int:
    """Measure each request by turns, and compare every answer that was fetched beside."""
    if shutil.which("wrk") is None:
        sys.stderr.write("The load generator wrk is missing; Debian's package is 'wrk'.\n")
        return 2
    requests = _requests()
    runs: dict[str, dict[int, list[Measured]]] = {
        name: {workers: [] for workers in _WORKERS} for name in requests
    }
    with ExitStack() as stack:
        addresses = {}
        for workers in _WORKERS:
            command = ["-m", "service", "--device", "cpu", "--port", "{port}"]
            command += ["--workers", str(workers)]
            started = stack.enter_context(running(command, "/health/ready", None))
            addresses[workers] = started.address
        same = {name: _same(addresses, *request) for name, request in requests.items()}
        for _ in range(_ROUNDS):
            for name, (path, body) in requests.items():
                for workers, address in addresses.items():
                    found = load(address + path, body, _CONNECTIONS, _SECONDS, core=None)
                    runs[name][workers].append(found)
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
        "digits_conv, one picture": (_DIGITS, {"instances": [digit]}),
    }
    return {name: (path, json.dumps(body).encode()) for name, (path, body) in bodies.items()}


def _same(addresses: Mapping[int, str], path: str, body: bytes) -> int:
    """How many answers of all workers were compared.

    Raises:
        RuntimeError: some differ, by as little as a bit.
    """
    answers = [answer for address in addresses.values() for answer in _answers(address, path, body)]
    if len(set(answers)) != 1:
        raise RuntimeError(f"{path} is answered in {len(set(answers))} ways: {set(answers)}")
    return len(answers)


def _answers(address: str, path: str, body: bytes) -> Iterator[bytes]:
    """Ask over connections that are all open at once, so that no worker takes all of them."""
    place = urlsplit(address).netloc
    with ExitStack() as stack:
        open_at_once = []
        for _ in range(_ASKED):
            connection = http.client.HTTPConnection(place)
            stack.callback(connection.close)
            connection.request("POST", path, body, {"content-type": "application/json"})
            open_at_once.append(connection)
        for connection in open_at_once:
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != http.HTTPStatus.OK:
                raise RuntimeError(f"{path} was answered by {answer.status}: {content!r}")
            yield content


def _lines(
    runs: Mapping[str, Mapping[int, list[Measured]]], same: Mapping[str, int]
) -> Iterator[str]:
    yield f"Made by `python -m bench.workers`: wrk with {_CONNECTIONS} connections shares the cores"
    yield f"with the service, nothing pinned; {_ROUNDS} rounds of {_SECONDS} s by turns, medians."
    yield f"The bar is {_BAR} times one worker. {sum(same.values())} answers over fresh connections"
    yield "to both services were compared: for each request they are the same to the last bit."
    yield ""
    yield "| request | one worker, requests/s | p99 ms | two workers, requests/s | p99 ms | ratio |"
    yield "|---|---|---|---|---|---|"
    for name, measured in runs.items():
        rates, tails = (
            {
                workers: statistics.median(getattr(run, figure) for run in found)
                for workers, found in measured.items()
            }
            for figure in ("rate", "p99")
        )
        cells = " | ".join(f"{rates[w]:,.0f} | {tails[w]:.1f}" for w in _WORKERS)
        yield f"| {name} | {cells} | {rates[2] / rates[1]:.2f} |"


if __name__ == "__main__":
    sys.exit(main())
