"""Measure the phases of one request in the service.

One keep-alive connection sends requests; ``Server-Timing`` of each response has the phases. The
rest of the time is for sockets, HTTP, finding the model and metrics. Run it by
``python -m bench.phases``.
"""

import http.client
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.page import replace_section
from bench.processes import Post, Running, Start, pin_to_load_core, started
from bench.protocols import BINARY, IMAGE, NATIVE
from bench.servers import OURSELVES, RequestCase, select_servers
from bench.workloads import Workload, make_models, workloads

_PHASES = ("decode", "queue", "compute", "encode")
_PHASE = re.compile(r"(\w+);dur=([\d.]+)")
_SECONDS = 1.5
_WARM_REQUESTS = 50


@dataclass(frozen=True)
class Spent:
    """Median microseconds of a request, as measured by the client, and of each phase."""

    total: float
    phases: Mapping[str, float]

    @property
    def rest(self) -> float:
        """The time outside of all phases."""
        return self.total - sum(self.phases.values())


def main() -> int:
    """Measure each request, and write the section."""
    pin_to_load_core()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        make_models(models)
        by_letter = workloads(models)
        ours = next(it for it in select_servers([OURSELVES], models) if it.name == OURSELVES)
        chosen = [one for one in ours.cases if one.protocol in {NATIVE, BINARY, IMAGE}]
        with started(Start(ours.arguments)) as running:
            spent = {one: _spent(running, _post(one, by_letter)) for one in chosen}
    sys.stdout.write(replace_section("Phases", _lines(spent)))
    return 0


def _post(one: RequestCase, by_letter: Mapping[str, Workload]) -> Post:
    return one.how.write(by_letter[one.letter])


def _spent(running: Running, post: Post) -> Spent:
    connection = http.client.HTTPConnection(*running.endpoint)
    for _ in range(_WARM_REQUESTS):
        _once(connection, post)
    totals, found = [], []
    until = time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        total, phases = _once(connection, post)
        totals.append(total)
        found.append(phases)
    connection.close()
    return Spent(
        statistics.median(totals),
        {name: statistics.median(one.get(name, 0.0) for one in found) for name in _PHASES},
    )


def _once(connection: http.client.HTTPConnection, post: Post) -> tuple[float, dict[str, float]]:
    began = time.perf_counter()
    connection.request("POST", post.path, post.body, dict(post.headers))
    response = connection.getresponse()
    response.read()
    total = (time.perf_counter() - began) * 1e6
    if response.status != http.client.OK:
        raise RuntimeError(f"{post.path} responded {response.status}")
    found = _PHASE.findall(response.headers.get("server-timing", ""))
    return total, {name: float(milliseconds) * 1e3 for name, milliseconds in found}


def _lines(spent: Mapping[RequestCase, Spent]) -> Iterator[str]:
    yield "Made by `python -m bench.phases`: one connection of Python's http.client, medians in"
    yield "microseconds as reported by `Server-Timing`; the rest is sockets and HTTP of both sides."
    yield "The client's part of it differs between the lines only by the length of the body."
    yield ""
    yield "| request | decode | queue | compute | encode | all phases | the rest | total |"
    yield "|---|---|---|---|---|---|---|---|"
    for one, times in spent.items():
        cells = [*times.phases.values(), sum(times.phases.values()), times.rest, times.total]
        yield f"| {one.key} | {' | '.join(f'{cell:.0f}' for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(main())
