"""``python -m bench.phases``: where the time of one request goes in the service.

One keep-alive connection sends requests; ``Server-Timing`` of each response has the phases. The
rest of the time is sockets, HTTP, finding the model and counting.
"""

import http.client
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.contestants import OURSELVES, RequestCase, contestants
from bench.page import replace_section
from bench.processes import LOAD_CORE, Post, Start, started
from bench.protocols import BINARY, IMAGE, PLAIN
from bench.workloads import Workload, make_models, workloads

_PHASES = ("decode", "queue", "compute", "encode")
_PHASE = re.compile(r"(\w+);dur=([\d.]+)")
_SECONDS = 1.5
_WARM_REQUESTS = 50


@dataclass(frozen=True)
class Spent:
    """Medians in microseconds: the whole as the client sees it, and each phase."""

    whole: float
    phases: Mapping[str, float]

    @property
    def rest(self) -> float:
        """What no phase accounts for."""
        return self.whole - sum(self.phases.values())


def main() -> int:
    """Measure each request in turn, and write the section."""
    if hasattr(os, "sched_setaffinity") and LOAD_CORE in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        make_models(models)
        by_letter = workloads(models)
        ours = next(it for it in contestants([OURSELVES], models) if it.name == OURSELVES)
        chosen = [one for one in ours.cases if one.protocol in {PLAIN, BINARY, IMAGE}]
        with started(Start(ours.arguments, "/health/ready")) as running:
            spent = {one: _spent(running.address, _post(one, by_letter)) for one in chosen}
    sys.stdout.write(replace_section("Phases", _lines(spent)))
    return 0


def _post(one: RequestCase, by_letter: Mapping[str, Workload]) -> Post:
    return one.how.write(by_letter[one.letter])


def _spent(address: str, post: Post) -> Spent:
    connection = http.client.HTTPConnection(urlsplit(address).netloc)
    for _ in range(_WARM_REQUESTS):
        _once(connection, post)
    wholes, found = [], []
    until = time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        whole, phases = _once(connection, post)
        wholes.append(whole)
        found.append(phases)
    connection.close()
    return Spent(
        statistics.median(wholes),
        {name: statistics.median(one.get(name, 0.0) for one in found) for name in _PHASES},
    )


def _once(connection: http.client.HTTPConnection, post: Post) -> tuple[float, dict[str, float]]:
    began = time.perf_counter()
    connection.request("POST", post.path, post.body, dict(post.headers))
    response = connection.getresponse()
    response.read()
    whole = (time.perf_counter() - began) * 1e6
    if response.status != http.client.OK:
        raise RuntimeError(f"{post.path} responded {response.status}")
    found = _PHASE.findall(response.headers.get("server-timing", ""))
    return whole, {name: float(milliseconds) * 1e3 for name, milliseconds in found}


def _lines(spent: Mapping[RequestCase, Spent]) -> Iterator[str]:
    yield "Made by `python -m bench.phases`: one connection of Python's http.client, medians in"
    yield "microseconds as reported by `Server-Timing`; the rest holds both ends' sockets and HTTP,"
    yield "of which the client's own part is the same in every line but for the body's length."
    yield ""
    yield "| request | decode | queue | compute | encode | in the phases | the rest | whole |"
    yield "|---|---|---|---|---|---|---|---|"
    for one, times in spent.items():
        cells = [*times.phases.values(), sum(times.phases.values()), times.rest, times.whole]
        yield f"| {one.key} | {' | '.join(f'{cell:.0f}' for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(main())
