"""Routes and logs for operators: readiness, metrics, request ids, failed models."""

import logging
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartApp
from tests.models import publish_admission, publish_price
from tests.processes import served


def test_ready_is_false_with_nothing_to_serve(start: StartApp) -> None:
    """A service with an empty folder is alive and not ready, in both protocols."""
    client = start()

    assert client.get("/health/live").status_code == 200
    for path in ("/health/ready", "/v2/health/ready"):
        response = client.get(path)
        assert response.status_code == 503
        assert response.json() == {"ready": False, "reason": "No model serves."}


def test_ready_is_true_while_one_model_serves(models: Path, start: StartApp) -> None:
    """Another model that failed does not make the service unready."""
    publish_price(models)
    (publish_admission(models) / "model.onnx").write_bytes(b"")

    assert start().get("/health/ready").json() == {"ready": True}


def test_the_reason_of_a_failed_model_is_reported_everywhere(
    models: Path, start: StartApp, caplog: pytest.LogCaptureFixture
) -> None:
    """Log, model page, list, prediction and metric have the same reason."""
    caplog.set_level(logging.INFO)
    (publish_admission(models) / "model.onnx").write_bytes(b"")
    publish_price(models)
    client = start()
    reason = "model.onnx has 0 bytes"

    page = client.get("/models/admission")
    predicted = client.post("/models/admission/predict", json={})
    protocol = client.get("/v2/models/admission/ready")

    assert page.status_code == 200
    assert page.json()["ready"] is False
    assert page.json()["reason"].startswith(reason)
    assert page.json()["versions"][0]["state"] == "UNAVAILABLE"
    assert predicted.status_code == 503
    assert reason in predicted.json()["error"]
    assert predicted.headers["retry-after"]
    assert (protocol.status_code, protocol.json()["ready"]) == (503, False)
    assert any(reason in str(vars(record).get("reason")) for record in caplog.records)
    ready = 'onward_model_ready{device="cpu",model="admission",version="1"} 0.0'
    assert ready in client.get("/metrics").text
    assert client.post("/models/price/predict", json={"size": 1}).status_code == 200


def test_metrics_count_every_request(models: Path, start: StartApp) -> None:
    """Requests by outcome, rows, runs and phases add up to what this client sent."""
    publish_price(models)
    client = start()
    for rows in (1, 2, 3):
        client.post("/models/price/predict", json=[{"size": 1}] * rows)
    client.post("/models/price/predict", json={"siez": 1})
    client.post("/models/zebra/predict", json={})

    text = client.get("/metrics").text

    labels = 'model="price",version="1"'
    assert (
        'onward_requests_total{model="price",outcome="ok",protocol="native",version="1"} 3.0'
        in text
    )
    assert 'outcome="invalid_input"' in text
    assert 'onward_requests_total{model="",outcome="model_not_found",protocol="native"' in text
    assert "zebra" not in text
    assert f"onward_rows_total{{{labels}}} 6.0" in text
    assert f"onward_batch_rows_sum{{{labels}}} 6.0" in text
    for phase in ("decode", "queue", "compute", "encode"):
        assert (
            f'onward_phase_seconds_count{{model="price",phase="{phase}",version="1"}} 3.0' in text
        )
    assert 'onward_responses_total{status="200"} 3.0' in text
    assert 'onward_device_info{actual="cpu",requested="cpu"} 1.0' in text


def test_a_clients_request_id_is_repeated(models: Path, start: StartApp) -> None:
    """Predictions and errors have the id."""
    publish_price(models)
    client = start()

    for path in ("/models", "/models/zebra", "/nowhere"):
        assert (
            client.get(path, headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
        )


@pytest.mark.parametrize("unsafe", ["", "with space", "x" * 200, "caf\xe9"])
def test_an_unsafe_or_missing_request_id_is_replaced(start: StartApp, unsafe: str) -> None:
    """Ids that could forge or inflate log lines are not repeated."""
    response = start().get("/models", headers={b"x-request-id": unsafe.encode("latin-1")})

    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


def test_the_root_serves_clients_and_browsers(start: StartApp) -> None:
    """Programs get JSON, and browsers a page."""
    client = start()

    program = client.get("/")
    browser = client.get("/", headers={"accept": "text/html,*/*"})

    assert program.json()["status"] == "alive"
    assert (browser.status_code, browser.headers["content-type"]) == (
        200,
        "text/html; charset=utf-8",
    )
    assert program.headers["vary"] == browser.headers["vary"] == "accept"
    assert client.head("/").status_code == 200


@pytest.mark.parametrize(("wanted", "lines"), [("all", 2), ("errors", 1), ("none", 0)])
def test_requests_are_logged_according_to_the_setting(
    start: StartApp, caplog: pytest.LogCaptureFixture, wanted: str, lines: int
) -> None:
    """`all` logs every request, `errors` those of 400 and above, `none` none."""
    caplog.set_level(logging.INFO)
    client = start(log_requests=wanted)
    client.get("/models")
    client.get("/nowhere")

    logged = [vars(record) for record in caplog.records if record.message == "request"]

    assert len(logged) == lines
    if logged:
        assert (logged[-1]["path"], logged[-1]["status"]) == ("/nowhere", 404)
        assert logged[-1]["code"] == "not_found"
        assert not any("code" in line for line in logged[:-1])


def test_the_log_line_of_a_failed_prediction_has_its_code(models: Path) -> None:
    """On the fast path, too; the values of the request are not logged."""
    publish_price(models)

    with served("--models", str(models), "--device", "cpu") as service:
        url = f"{service.address}/models/price/predict"
        assert httpx.post(url, json={"size": "secret"}).json()["code"] == "invalid_input"
        assert httpx.post(url, content=b"{").json()["code"] == "invalid_request"

    lines = [line for line in service.said.splitlines() if " request method=POST" in line]
    assert ["code=invalid_input" in lines[0], "code=invalid_request" in lines[1]] == [True, True]
    assert "secret" not in service.said


def test_a_disconnect_during_a_body_is_not_a_server_error(models: Path, start: StartApp) -> None:
    """It is counted as 499, without a trace in the log."""
    publish_price(models)
    client = start()
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
        head = "POST /models/price/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b'{"size"')

    def counted() -> str:
        return client.get("/metrics").text

    until(lambda: 'onward_responses_total{status="499"} 1.0' in counted())
    assert 'status="500"' not in counted()


def test_an_incomplete_body_times_out(models: Path, start: StartApp) -> None:
    """A client that sends half a body gets 408; the deadline has not started."""
    publish_price(models)
    client = start(deadline_seconds=0.2, body_seconds=0.4)
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
        head = "POST /models/price/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b'{"size"')

        response = connection.recv(100)

    assert response.startswith(b"HTTP/1.1 408 ")


def until(holds: Callable[[], bool]) -> None:
    """Wait for something to become true; fail if it does not."""
    for _ in range(200):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/models"]
)
def test_head_requests_have_the_status_of_get(models: Path, start: StartApp, path: str) -> None:
    """HEAD has the status and the headers of GET, and no body."""
    empty = start()
    publish_price(models)

    for client in (empty, start()):
        head, got = client.head(path), client.get(path)

        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
