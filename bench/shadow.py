"""Measure the cost of a shadowed candidate for the clients.

Two services of the same model run at the same time; one of them has a candidate that gets a copy of
every request. Each round measures both, at half load and at full load. Run it by
``python -m bench.shadow``.
"""

import json
import shutil
import statistics
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.load import Measured, load
from bench.page import replace_section
from bench.processes import Start, have_tools, service_command, started

_MODELS = Path("models")
_ROUNDS = 7
_SECONDS = 3
_CONNECTIONS = 32
_NAMES = ("admission", "california_mlp")


@dataclass
class Runs:
    """The measurements of one model in both services."""

    report: Mapping[str, Any] = field(default_factory=dict)
    half: list[tuple[Measured, Measured]] = field(default_factory=list)
    full: list[tuple[Measured, Measured]] = field(default_factory=list)


def main() -> int:
    """Measure both services alternately, so that other load affects both equally."""
    if not have_tools("wrk"):
        return 2
    with tempfile.TemporaryDirectory() as folder:
        measured = {name: _measured(Path(folder) / name, name) for name in _NAMES}
    sys.stdout.write(replace_section("Shadow traffic", _lines(measured)))
    return 0


def _measured(folder: Path, name: str) -> Runs:
    runs = Runs()
    with ExitStack() as stack:
        addresses = []
        for shadow in (False, True):
            models = folder / ("with" if shadow else "without")
            _publish(models, name, shadow=shadow)
            start = Start(service_command("--poll-seconds", "0", "--models", str(models)))
            addresses.append(stack.enter_context(started(start)).address)
        body = json.dumps(_row(addresses[0], name)).encode()
        pause = _pause(_post(addresses[0], name, body, 0).rate)
        for _ in range(_ROUNDS):
            runs.half.append(_pair(lambda it: _post(it, name, body, pause), addresses))
        runs.report = _get(f"{addresses[1]}/models/{name}/versions/candidate/shadow")
        for _ in range(_ROUNDS):
            runs.full.append(_pair(lambda it: _post(it, name, body, 0), addresses))
    return runs


def _publish(models: Path, name: str, *, shadow: bool) -> None:
    """Publish the shipped model twice; both services load both versions."""
    home = models / name
    for version in ("1", "2"):
        shutil.copytree(_MODELS / name / "1", home / version)
    policy = {"aliases": {"stable": 1, "candidate": 2}}
    (home / "policy.json").write_text(
        json.dumps(policy | ({"shadow": {"candidate": 1}} if shadow else {}))
    )


def _row(address: str, name: str) -> Mapping[str, Any]:
    features = _get(f"{address}/models/{name}")["features"]
    return {feature["name"]: feature["example"] for feature in features}


def _get(url: str) -> Any:  # noqa: ANN401 - JSON
    with urllib.request.urlopen(url) as response:  # noqa: S310 - our own server's address
        return json.load(response)


def _post(address: str, name: str, body: bytes, pause: int) -> Measured:
    return load(f"{address}/models/{name}/predict", body, _CONNECTIONS, _SECONDS, pause)


def _pause(rate: float) -> int:
    """The pause of each connection in milliseconds, so that all together send half of a rate."""
    return round(_CONNECTIONS / (rate / 2) * 1000)


def _pair(measure: Callable[[str], Measured], addresses: list[str]) -> tuple[Measured, Measured]:
    without, shadowed = (measure(address) for address in addresses)
    return without, shadowed


def _lines(measured: Mapping[str, Runs]) -> Iterator[str]:
    yield f"Made by `python -m bench.shadow`: wrk with {_CONNECTIONS} connections on one core, two"
    yield "services on another, one of them with a candidate that gets a copy of every request;"
    yield f"{_ROUNDS} rounds of {_SECONDS} s, medians of the ratios with to without; other load on"
    yield "the machine affects both equally."
    yield ""
    yield "| model | load | requests/s without | with | ratio | p50 ratio | p99 ratio | compared |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, runs in measured.items():
        counted = runs.report["requests"]
        share = counted["compared"] / max(1, sum(counted.values()))
        for load_name, pairs, compared in (
            ("half", runs.half, f"{share:.0%}"),
            ("full", runs.full, ""),
        ):
            rates = [statistics.median(pair[index].rate for pair in pairs) for index in (0, 1)]
            yield (
                f"| {name} | {load_name} | {rates[0]:,.0f} | {rates[1]:,.0f} "
                f"| {_ratio(pairs, 'rate'):.3f} | {_ratio(pairs, 'median'):.2f} "
                f"| {_ratio(pairs, 'p99'):.2f} | {compared} |"
            )


def _ratio(pairs: list[tuple[Measured, Measured]], figure: str) -> float:
    ratios = [getattr(shadowed, figure) / getattr(without, figure) for without, shadowed in pairs]
    return float(statistics.median(ratios))


if __name__ == "__main__":
    sys.exit(main())
