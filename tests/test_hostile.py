"""Every hostile client of the bench, briefly: outcomes are allowed, and other clients served."""

import asyncio
import dataclasses
import math
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from bench.hostile.clients import CLIENTS
from bench.hostile.connection import Attack, run_attack
from bench.hostile.victim import Observations, Victim
from tests.processes import PATIENCE_SECONDS, Served, served

_SECONDS = 0.2
# Enough to fill every queue; each takes processor time from the tests that run at the same time.
_MAX_CONNECTIONS = 40
# Each of its connections sends 2.6 MB of requests, which a test need not repeat fifty times.
_FEWER_CONNECTIONS = {"pipelined_unread": 6}
# So short that each is seen to pass, and all else as by default.
_TIMEOUTS = {
    "ONWARD_FIRST_REQUEST_SECONDS": "3",
    "ONWARD_HEAD_SECONDS": "0.3",
    "ONWARD_BODY_SECONDS": "1",
    "ONWARD_WRITE_SECONDS": "0.5",
    "ONWARD_MAX_SPOOL_BYTES": "2000000",
}
# A line of the log; a trace, or what a library writes to standard error, is none.
_EVENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z (info|warning) ")
_FAULTS = re.compile(r'^onward_responses_total{status="500"} (\S+)$', re.MULTILINE)


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    """The shipped models, with timeouts that pass within a test."""
    with served("--device", "cpu", **_TIMEOUTS) as running:
        yield running


@pytest.mark.parametrize("name", CLIENTS)
def test_a_hostile_client_disturbs_nobody_else(service: Served, name: str) -> None:
    """It gets what it may get, another client right predictions; no 500, no trace in the log."""
    said, faults = len(service.lines), _faults(service)

    outcomes, seen = _attacked(service, name)

    assert outcomes
    assert outcomes <= CLIENTS[name].allowed
    assert set(seen.errors) <= CLIENTS[name].victim
    assert seen.waits
    assert service.process.poll() is None
    assert _faults(service) == faults
    assert [line for line in service.lines[said:] if not _EVENT.match(line)] == []


def _attacked(service: Served, name: str) -> tuple[set[str], Observations]:
    """The outcomes of a hostile client, and what a victim saw meanwhile."""
    url = httpx.URL(service.address)
    client = CLIENTS[name]
    connections = min(client.connections, _FEWER_CONNECTIONS.get(name, _MAX_CONNECTIONS))
    client = dataclasses.replace(client, connections=connections)
    attack = Attack(url.host, url.port or 0, math.inf)
    stopped = threading.Event()
    with ThreadPoolExecutor() as threads:
        seeing = threads.submit(Victim(url.host, url.port or 0).call_until, stopped)
        try:
            asyncio.run(run_attack(attack, client, _SECONDS, PATIENCE_SECONDS))
        finally:
            stopped.set()
        seen = seeing.result()
    return set(attack.outcomes), seen


def _faults(service: Served) -> float:
    """How many responses of status 500 there were so far."""
    found = _FAULTS.search(httpx.get(f"{service.address}/metrics", timeout=PATIENCE_SECONDS).text)
    return float(found[1]) if found else 0.0
