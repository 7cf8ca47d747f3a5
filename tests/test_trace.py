"""Requests and loads run code of few files, so that their paths can be followed easily."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import pytest

from service.engine.reconciler import Reconciler
from service.engine.registry import Registry
from service.observability.metrics import Metrics
from service.settings import Settings
from tests import request_traces
from tests.models import in_memory, publish_price
from tests.request_traces import Trace

# The maximum files that a request may pass through, and transitions from one file to another, by
# request and number of packets. The ceilings may be lowered, not raised.
BUDGETS: Mapping[str, tuple[int, int]] = {
    "native, 1": (12, 25),
    "native, 2": (12, 25),
    "v1, 1": (12, 25),
    "v1, 2": (12, 25),
    "v2, 1": (12, 25),
    "v2, 2": (12, 25),
    # The number of pieces of a response depends on when the client reads it.
    "table, 1": (20, 300),
    "table, 2": (20, 300),
}
# The maximum files that load a bundle; it may be lowered, not raised.
MAX_LOAD_FILES = 18


def _trace_requests() -> Mapping[str, Mapping[str, object]]:
    """By request and number of packets: the status of the response, and the calls."""
    program = [sys.executable, request_traces.__file__]
    root = Path(request_traces.__file__).parents[1]
    done = subprocess.run(
        program, cwd=root, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout, done.stderr
    found: dict[str, dict[str, object]] = json.loads(done.stdout)
    return found


def test_a_request_stays_within_its_budget(subtests: pytest.Subtests) -> None:
    """A reader can follow a prediction from the socket to the session and back."""
    traces = _trace_requests()
    assert traces.keys() == BUDGETS.keys()
    for name, (most_files, most_transitions) in BUDGETS.items():
        with subtests.test(name):
            calls = traces[name]["calls"]
            assert isinstance(calls, list)
            visited = [file for file, _ in groupby(call.partition(":")[0] for call in calls)]

            assert traces[name]["status"] == 200
            assert len(set(visited)) <= most_files, sorted(set(visited))
            assert len(visited) - 1 <= most_transitions, visited


def test_a_load_stays_within_its_budget(models: Path) -> None:
    """A reader can follow a bundle from the models folder until it is ready."""
    publish_price(models)
    registry = Registry("cpu")
    reconciler = Reconciler(Settings(models=models, device="cpu"), Metrics(), registry)
    trace = Trace()

    async def load() -> None:
        trace.active = True
        await reconciler.start()
        trace.active = False
        assert in_memory(registry, "price").version == "1"
        await reconciler.close()

    sys.setprofile(trace.profile)
    threading.setprofile(trace.profile)
    try:
        asyncio.run(load())
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    files = {call.partition(":")[0] for call in trace.calls}

    assert len(files) <= MAX_LOAD_FILES, sorted(files)
