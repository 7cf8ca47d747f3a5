"""Signals to a single process, and to the parent of several workers."""

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
    """Start a service with ready workers that scan the models folder only on request."""
    options = ("--models", str(models), "--device", "cpu", "--workers", str(workers))
    with served(*options, "--poll-seconds", "0", **environment) as service:
        service.until_said("Application startup complete", workers)
        yield service


def send_head(service: Served) -> socket.socket:
    """Send the head of a prediction without its body."""
    url = httpx.URL(service.address)
    connection = socket.create_connection((url.host, url.port or 0), timeout=30)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n"
    connection.sendall(head.encode())
    # Before the signal, a worker must accept the connection.
    time.sleep(0.2)
    return connection


@WORKERS
def test_the_address_is_logged_once_when_requests_are_accepted(models: Path, workers: int) -> None:
    """With several workers, too: after the first of them has loaded its models."""
    publish_price(models)

    with serving(models, workers) as service:
        response = httpx.get(f"{service.address}/health/ready")

    before, *others = service.said.split("Uvicorn running on")
    assert "model ready" in before
    assert len(others) == 1
    assert response.status_code == 200


@WORKERS
def test_draining_turns_readiness_false_and_serves_requests(models: Path, workers: int) -> None:
    """All protocols report not ready, liveness is true, and responses close their connections."""
    publish_price(models)

    with (
        serving(models, workers, ONWARD_DRAIN_SECONDS="3") as service,
        # Creating a client takes longer than a request.
        httpx.Client(
            base_url=service.address, limits=httpx.Limits(max_keepalive_connections=0)
        ) as client,
    ):
        before = [client.get(path).status_code for path in READY]
        service.process.send_signal(signal.SIGTERM)
        service.until_said("draining seconds=3.0", workers)
        service.process.send_signal(
            signal.SIGTERM
        )  # some service managers repeat it; it has no effect
        after = [client.get(path) for path in READY]
        status = client.get("/v1/models/price").json()
        alive = [client.get(path).status_code for path in ALIVE]
        response = client.post(PREDICT, json={"size": 2})

    assert before == [200, 200, 200]
    assert [each.status_code for each in after] == [503, 503, 503]
    assert after[0].json() == {"ready": False, "reason": "The service is stopping."}
    assert status["ready"] is False
    assert alive == [200, 200, 200]
    assert (response.json()["value"], response.headers["connection"]) == (4.0, "close")
    assert service.said.count("info    stopped") == workers


@WORKERS
def test_a_request_in_progress_gets_its_response_after_the_port_has_closed(
    models: Path, workers: int
) -> None:
    """Its body arrives when no new connection is accepted any more."""
    publish_price(models)

    with serving(models, workers, ONWARD_DRAIN_SECONDS="0.2") as service:
        connection = send_head(service)
        service.process.send_signal(signal.SIGTERM)
        until(lambda: is_rejected(service))
        connection.sendall(b'{"size": 2}')
        with connection, connection.makefile("rb") as file:
            response = file.read()

    assert response.startswith(b"HTTP/1.1 200 ")
    assert b'"value":4.0' in response


def is_rejected(service: Served) -> bool:
    try:
        httpx.get(f"{service.address}/health/live", timeout=10)
    except httpx.NetworkError:
        return True
    except httpx.RemoteProtocolError:
        pass  # connected just before the port closed
    return False


@WORKERS
def test_sighup_applies_changes_of_the_models_folder(models: Path, workers: int) -> None:
    """Every worker scans it without a restart; a folder that is missing changes nothing."""
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
        versions = [
            httpx.post(f"{service.address}{PREDICT}", json={"size": 2}).json()["model_version"]
            for _ in range(6)
        ]

        assert versions == ["2"] * 6
        assert service.workers == processes


def test_sighup_to_one_worker_reaches_all(models: Path) -> None:
    """A scan of one worker makes the others scan too."""
    publish_price(models, slope=2.0)

    with serving(models, 2) as service:
        publish_price(models, slope=3.0)
        os.kill(service.workers[1], signal.SIGHUP)
        service.until_said("model unloaded", 2)


def test_sigint_stops_without_draining(models: Path) -> None:
    """Ctrl+C on a terminal does not wait for load balancers."""
    publish_price(models)

    with serving(models, 1, ONWARD_DRAIN_SECONDS="600") as service:
        service.process.send_signal(signal.SIGINT)
        service.end()

    assert "info    stopped" in service.said
