"""``python -m bench``: measure the service beside an empty ASGI app, into ``RESULTS.md``."""

import json
import platform
import shutil
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import version

from bench.load import Measured, load, server
from bench.page import replace_section

_ROUNDS = 3
_SECONDS = 3
_CONNECTIONS = 32
_FLOOR = "empty ASGI app"

_ROW = {"exam_1": 45, "exam_2": 85}
_TENSOR = {"name": "features", "datatype": "FP32"}
_REQUESTS = {
    "plain, one row": ("/models/admission/predict", _ROW),
    "plain, 256 rows": ("/models/admission/predict", {"instances": [_ROW] * 256}),
    "v2 JSON, one row": (
        "/v2/models/admission/infer",
        {"inputs": [_TENSOR | {"shape": [1, 2], "data": [45, 85]}]},
    ),
    "v2 JSON, 256 rows": (
        "/v2/models/admission/infer",
        {"inputs": [_TENSOR | {"shape": [256, 2], "data": [45, 85] * 256}]},
    ),
}


def main() -> int:
    """Measure every request in turn, round by round, so that drift falls on all alike."""
    if shutil.which("wrk") is None:
        sys.stderr.write("The load generator wrk is missing; Debian's package is 'wrk'.\n")
        return 2
    runs: dict[str, list[Measured]] = {name: [] for name in (_FLOOR, *_REQUESTS)}
    floor_command = ["-m", "uvicorn", "bench.floor:app", "--no-access-log", "--port", "{port}"]
    service_command = ["-m", "service", "--device", "cpu", "--port", "{port}"]
    with ExitStack() as stack:
        floor = stack.enter_context(server(floor_command, "/"))
        service = stack.enter_context(server(service_command, "/health/ready"))
        for _ in range(_ROUNDS):
            row = json.dumps(_ROW).encode()
            runs[_FLOOR].append(load(floor, row, _CONNECTIONS, _SECONDS))
            for name, (path, body) in _REQUESTS.items():
                content = json.dumps(body).encode()
                runs[name].append(load(service + path, content, _CONNECTIONS, _SECONDS))
    sys.stdout.write(replace_section("Serving", _lines(runs)))
    return 0


def _lines(runs: dict[str, list[Measured]]) -> Iterator[str]:
    floor = _median(runs[_FLOOR]).rate
    yield f"Made by `make bench`: wrk with {_CONNECTIONS} connections on one core, the server on"
    yield f"another, {_ROUNDS} rounds of {_SECONDS} s, medians by rate."
    libraries = ("fastapi", "uvicorn", "onnxruntime-gpu", "orjson")
    named = ", ".join(f"{name} {version(name)}" for name in libraries)
    yield f"Python {platform.python_version()}, {named}; {platform.machine()}."
    yield ""
    yield "| request | share of the empty app | requests/s | p50 ms | p99 ms |"
    yield "|---|---|---|---|---|"
    for name, measured in runs.items():
        middle = _median(measured)
        share = f"{middle.rate / floor:.0%}"
        yield f"| {name} | {share} | {middle.rate:,.0f} | {middle.median:.2f} | {middle.p99:.1f} |"


def _median(runs: list[Measured]) -> Measured:
    middle = statistics.median_low(run.rate for run in runs)
    return next(run for run in runs if run.rate == middle)


if __name__ == "__main__":
    sys.exit(main())
