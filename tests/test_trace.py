"""A request runs code of few files, so that its path can be followed easily."""

import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import pytest

from tests import request_traces

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


@pytest.fixture(scope="module")
def traces() -> Mapping[str, Mapping[str, object]]:
    """By request and number of packets: the status of the response, and the calls."""
    program = [sys.executable, request_traces.__file__]
    root = Path(request_traces.__file__).parents[1]
    done = subprocess.run(
        program, cwd=root, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout, done.stderr
    found: dict[str, dict[str, object]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("request_name", BUDGETS)
def test_a_request_stays_within_its_budget(
    traces: Mapping[str, Mapping[str, object]], request_name: str
) -> None:
    """A reader can follow a prediction from the socket to the session and back."""
    calls = traces[request_name]["calls"]
    assert isinstance(calls, list)
    visited = [file for file, _ in groupby(call.partition(":")[0] for call in calls)]
    most_files, most_transitions = BUDGETS[request_name]

    assert traces[request_name]["status"] == 200
    assert len(set(visited)) <= most_files, sorted(set(visited))
    assert len(visited) - 1 <= most_transitions, visited
