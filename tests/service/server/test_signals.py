"""Signals as service managers send them, to one process and to the parent of several workers."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.models import publish_price
from tests.processes import Served, served, until

PREDICT = "/models/price/predict"
READY = ("/health/ready", "/v2/health/ready", "/v2/models/price/ready")
ALIVE = ("/health/live", "/v2/health/live", "/")
WORKERS = pytest.mark.parametrize("workers", [1, 2])


@contextmanager
def serving(models: Path, workers: int, **environment: str) -> Iterator[Served]:
    """A service with so many workers, all of them ready, that never looks by itself."""
    options = ("--models", str(models), "--device", "cpu", "--workers", str(workers))
    with served(*options, "--poll-seconds", "0", **environment) as service:
        service.until_said("Application startup complete", workers)
        yield service


def half_a_request(service: Served) -> socket.socket:
    """A connection over which the head of a prediction has been sent, and no body."""
    url = httpx.URL(service.address)
    caller = socket.create_connection((url.host, url.port or 0), timeout=30)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n"
    caller.sendall(head.encode())
    # Taken up by a worker, not waiting in the port's queue, when the signal comes.
    time.sleep(0.2)
    return caller


@WORKERS
def test_a_stop_turns_readiness_false_and_answers_what_comes_meanwhile(
    models: Path, workers: int
) -> None:
    """Not ready in every dialect, alive, still predicting, and callers are told to reconnect."""
    publish_price(models)

    with serving(models, workers, ONWARD_DRAIN_SECONDS="3") as service:
        before = [httpx.get(f"{service.address}{path}").status_code for path in READY]
        service.process.send_signal(signal.SIGTERM)
        service.until_said("draining seconds=3.0", workers)
        service.process.send_signal(signal.SIGTERM)  # as some managers do; it changes nothing
        after = [httpx.get(f"{service.address}{path}") for path in READY]
        status = httpx.get(f"{service.address}/v1/models/price").json()
        alive = [httpx.get(f"{service.address}{path}").status_code for path in ALIVE]
        answer = httpx.post(f"{service.address}{PREDICT}", json={"size": 2})

    assert before == [200, 200, 200]
    assert [answer.status_code for answer in after] == [503, 503, 503]
    assert after[0].json() == {"ready": False, "reason": "The service is stopping."}
    assert status["ready"] is False
    assert alive == [200, 200, 200]
    assert (answer.json()["value"], answer.headers["connection"]) == (4.0, "close")
    assert service.said.count("info    stopped") == workers


@WORKERS
def test_a_request_in_flight_is_answered_after_the_port_has_closed(
    models: Path, workers: int
) -> None:
    """Its body comes when nobody else can connect any more, and so does its answer."""
    publish_price(models)

    with serving(models, workers, ONWARD_DRAIN_SECONDS="0.2") as service:
        caller = half_a_request(service)
        service.process.send_signal(signal.SIGTERM)
        until(lambda: refused(service))
        caller.sendall(b'{"size": 2}')
        with caller, caller.makefile("rb") as answered:
            answer = answered.read()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"value":4.0' in answer


def refused(service: Served) -> bool:
    try:
        httpx.get(f"{service.address}/health/live", timeout=10)
    except httpx.NetworkError:
        return True
    except httpx.RemoteProtocolError:
        pass  # connected at the very moment of closing
    return False


@WORKERS
def test_sighup_takes_over_what_is_new_in_the_folder(models: Path, workers: int) -> None:
    """Every worker looks, none is restarted, and a folder that is away changes nothing."""
    publish_price(models, slope=2.0)

    with serving(models, workers) as service:
        processes = service.workers
        away = models.parent / "away"
        models.rename(away)
        service.process.send_signal(signal.SIGHUP)
        service.until_said("models folder cannot be read", workers)
        away.rename(models)
        publish_price(models, slope=3.0)
        service.process.send_signal(signal.SIGHUP)
        service.until_said("model unloaded", workers)
        answers = [
            httpx.post(f"{service.address}{PREDICT}", json={"size": 2}).json()["model_version"]
            for _ in range(6)
        ]

        assert answers == ["2"] * 6
        assert service.workers == processes


def test_sighup_to_one_worker_reaches_all(models: Path) -> None:
    """Whoever looks, all look."""
    publish_price(models, slope=2.0)

    with serving(models, 2) as service:
        publish_price(models, slope=3.0)
        os.kill(service.workers[1], signal.SIGHUP)
        service.until_said("model unloaded", 2)


def test_a_terminals_interrupt_stops_at_once(models: Path) -> None:
    """People who press Ctrl+C wait for no load balancer."""
    publish_price(models)

    with serving(models, 1, ONWARD_DRAIN_SECONDS="600") as service:
        service.process.send_signal(signal.SIGINT)
        service.end()

    assert "info    stopped" in service.said
