"""Measure servers in alternating rounds, and the floor before and after each request."""

import platform
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.environments import interpreter, versions
from bench.hostile.requests import ROW
from bench.load import Measured, load
from bench.processes import Post, Running, Start, send, started
from bench.results import Figure, Latency, Results, Server
from bench.servers import BenchmarkedServer, RequestCase
from bench.workloads import Workload

_MODELS_SECONDS = 15.0
_POLL_SECONDS = 0.02
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4


@dataclass(frozen=True)
class Plan:
    """The rounds, the seconds of each measurement, and the numbers of connections.

    Requests are measured with ``connections[0]`` in every round, with the others in the first.
    """

    rounds: int
    seconds: int
    connections: Sequence[int]
    cache: Path


@dataclass
class Runs:
    """The measurements of one server so far; ``shares`` are its rates divided by the floor's."""

    versions: dict[str, str]
    python: str
    measured: dict[str, dict[int, list[Measured]]] = field(default_factory=dict)
    shares: dict[str, list[float]] = field(default_factory=dict)
    ready: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    not_measured: dict[str, str] = field(default_factory=dict)


class Comparison:
    """Measures all servers."""

    def __init__(self, workloads: Mapping[str, Workload], plan: Plan) -> None:
        self._workloads = workloads
        self._plan = plan
        self._runs: dict[str, Runs] = {}
        self._missing: dict[str, str] = {}
        self._floor = ""

    def run(self, servers: Sequence[BenchmarkedServer]) -> Results:
        """Measure the servers alternately, so that other load affects all servers equally."""
        (floor, *_) = servers
        with started(self._start(floor, sys.executable)) as running:
            self._floor = running.address
            for number in range(self._plan.rounds):
                for server in servers:
                    if server.name not in self._missing:
                        self._measure_server(server, number)
        return self._results(servers)

    def _measure_server(self, server: BenchmarkedServer, number: int) -> None:
        """Measure one server in one round; one that does not start is not measured again."""
        _log(f"round {number + 1}: {server.name}")
        try:
            runs = self._find_runs(server)
            with started(self._start(server, runs.python)) as running:
                models_seconds = self._wait_for_models(running, server)
                runs.ready.append(running.ready_seconds + models_seconds)
                first = self._post(server.cases[0])
                self._load(running.address, first, self._plan.connections[0], server.warm_seconds)
                before = self._load_floor()
                for one in server.cases:
                    before = self._measure_share(running, runs, one, before) or before
                for one in server.cases if number == 0 else ():
                    self._measure_others(running, runs, one)
                runs.memory.append(running.memory_mib)
        except RuntimeError as error:
            _log(f"{server.name} is not measured: {error}")
            self._missing[server.name] = str(error)

    def _wait_for_models(self, running: Running, server: BenchmarkedServer) -> float:
        """Wait until the other models respond too, for a limited time; return the seconds."""
        began = time.monotonic()
        for one in [it for it in server.cases if it.protocol == server.cases[0].protocol]:
            while time.monotonic() - began < _MODELS_SECONDS:
                with suppress(RuntimeError, OSError):
                    send(running.address, self._post(one))
                    break
                time.sleep(_POLL_SECONDS)
        return time.monotonic() - began

    def _find_runs(self, server: BenchmarkedServer) -> Runs:
        name = server.name
        if name not in self._runs:
            python = interpreter(name, self._plan.cache)
            self._runs[name] = Runs(versions(name, python), python)
        return self._runs[name]

    def _start(self, server: BenchmarkedServer, python: str) -> Start:
        self._plan.cache.mkdir(parents=True, exist_ok=True)
        return Start(
            server.arguments,
            self._post(server.cases[0]),
            python,
            {"ORT_DISABLE_TELEMETRY": "1", **(server.environment or {})},
            self._plan.cache / f"{server.name}.log",
        )

    def _post(self, one: RequestCase) -> Post:
        return one.how.write(self._workloads[one.letter])

    def _measure_share(
        self, running: Running, runs: Runs, one: RequestCase, before: float
    ) -> float | None:
        """Measure a request, and return the floor's rate after it; None if the figure is invalid.

        Other load on the machine changes within seconds, so the floor is measured before and
        after each request.
        """
        if one.key in runs.not_measured:
            return None
        try:
            self._check(running, one)
            rate = self._measure(running, runs, one)
            after = self._load_floor()
            runs.shares.setdefault(one.key, []).append(rate / statistics.mean([before, after]))
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            _log(f"  {one.key} is invalid: {error}")
            runs.not_measured[one.key] = str(error).strip().partition("\n")[0]
            runs.measured.pop(one.key, None)
            return None
        return after

    def _load_floor(self) -> float:
        post = Post("/", ROW)
        return self._load(self._floor, post, self._plan.connections[0]).rate

    def _check(self, running: Running, one: RequestCase) -> None:
        """Reject a response that differs from the output of ONNX Runtime."""
        workload = self._workloads[one.letter]
        body, headers = send(running.address, self._post(one))
        found = one.how.read(body, headers, workload)
        if not np.allclose(found, workload.expected, rtol=_RELATIVE, atol=_ABSOLUTE):
            raise ValueError(f"expected {workload.expected.ravel()[:3]}, got {found.ravel()[:3]}")

    def _measure(self, running: Running, runs: Runs, one: RequestCase) -> float:
        main = self._plan.connections[0]
        measured = self._load(running.address, self._post(one), main)
        runs.measured.setdefault(one.key, {}).setdefault(main, []).append(measured)
        return measured.rate

    def _measure_others(self, running: Running, runs: Runs, one: RequestCase) -> None:
        """Measure a request with the other numbers of connections."""
        for connections in self._plan.connections[1:] if one.key in runs.measured else ():
            # A server that fails with many connections keeps its figures with fewer.
            try:
                found = self._load(running.address, self._post(one), connections)
                runs.measured[one.key][connections] = [found]
            except RuntimeError as error:
                runs.not_measured[f"{one.key}, {connections} connections"] = str(error).partition(
                    "\n"
                )[0]

    def _load(
        self, address: str, post: Post, connections: int, seconds: int | None = None
    ) -> Measured:
        """Load a server for the planned time unless ``seconds`` is given."""
        duration = seconds or self._plan.seconds
        return load(address + post.path, post.body, connections, duration, headers=post.headers)

    def _results(self, servers: Iterable[BenchmarkedServer]) -> Results:
        present = [it for it in servers if it.name not in self._missing]
        return Results(
            date=time.strftime("%Y-%m-%d", time.gmtime()),
            machine=f"{_processor()}, {platform.system()} {platform.release()}",
            python=platform.python_version(),
            rounds=self._plan.rounds,
            seconds=self._plan.seconds,
            connections=self._plan.connections[0],
            servers=[_server(it, self._runs[it.name]) for it in present],
            missing=self._missing,
        )


def _server(server: BenchmarkedServer, runs: Runs) -> Server:
    return Server(
        name=server.name,
        versions=runs.versions,
        ready_seconds=round(statistics.median(runs.ready), 2),
        memory_mib=round(statistics.median(runs.memory)),
        figures=[
            Figure(
                request=one.request,
                protocol=one.protocol,
                share=round(statistics.median(runs.shares[one.key]), 4),
                by_connections={
                    number: _latency(measured)
                    for number, measured in runs.measured[one.key].items()
                },
            )
            for one in server.cases
            if one.key in runs.measured
        ],
        not_measured=runs.not_measured,
    )


def _latency(runs: Sequence[Measured]) -> Latency:
    """The run with the median rate."""
    rate = statistics.median_low(run.rate for run in runs)
    middle = next(run for run in runs if run.rate == rate)
    return Latency(rate=rate, p50=round(middle.median, 3), p99=round(middle.p99, 2))


def _processor() -> str:
    """The name of the processor and its number of cores."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(named)} cores of {named[0]}" if named else platform.machine()


def _log(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
