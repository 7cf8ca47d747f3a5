"""``onward models``: the table of models of a running service."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from service.__main__ import main
from service.bundle.policy import change_policy
from service.bundle.store import MODEL
from tests.conftest import StartApp
from tests.models import publish_admission, publish_price

Output = pytest.CaptureFixture[str]


def test_the_table_lists_every_version_with_its_state_and_reason(
    models: Path, start: StartApp, capsys: Output
) -> None:
    """One line per version: aliases, state, device, number of all requests, and the reason."""
    publish_price(models, slope=1.0)
    publish_price(models, slope=2.0)
    change_policy(models / "price", lambda policy: policy.with_alias("stable", 1))
    (publish_admission(models) / MODEL).write_bytes(b"")
    client = start()
    for body in ({"size": 1}, {"size": 2}, {"sise": 2}):
        client.post("/models/price/predict", json=body)

    assert main(["models", "--url", str(client.base_url)]) == 0

    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == [
        "MODEL",
        "VERSION",
        "ALIASES",
        "STATE",
        "DEVICE",
        "REQUESTS",
        "REASON",
    ]
    rows = [line.split(maxsplit=6) for line in lines]
    assert rows[0][:6] == ["admission", "1", "-", "UNAVAILABLE", "cpu", "0"]
    assert rows[0][6].startswith("model.onnx has 0 bytes")
    assert rows[1] == ["price", "2", "-", "READY", "cpu", "0"]
    assert rows[2] == ["price", "1", "stable", "READY", "cpu", "3"]
    assert lines[0].index("UNAVAILABLE") == lines[1].index("READY") == heading.index("STATE")


def test_an_empty_folder_is_reported(start: StartApp, capsys: Output) -> None:
    """Without models, a sentence replaces the table."""
    assert main(["models", "--url", str(start().base_url)]) == 0

    assert capsys.readouterr().out == "There is no model.\n"


def test_the_address_comes_from_the_settings_by_default(
    models: Path, start: StartApp, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command finds a service that was started with the same environment."""
    publish_price(models)
    monkeypatch.setenv("ONWARD_HOST", "0.0.0.0")
    monkeypatch.setenv("ONWARD_PORT", str(start().base_url.port))

    assert main(["models"]) == 0

    assert "price" in capsys.readouterr().out


def test_an_address_without_a_service_is_reported(capsys: Output) -> None:
    """The exit status is 2, and the message has the address, the reason, and what to do."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"

        assert main(["models", "--url", address]) == 2
    assert main(["models", "--url", "file:///etc"]) == 2

    rejected, invalid = capsys.readouterr().err.splitlines()
    assert rejected.startswith(f"{address} cannot list its models:")
    assert "refused" in rejected
    assert "with --url http://HOST:PORT" in rejected
    assert "'file:///etc' is not the address of a service" in invalid


@contextmanager
def http_server(bodies: dict[str, bytes]) -> Iterator[str]:
    """Serve these bodies by path, and 404 for other paths; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = bodies.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        do_POST = do_GET  # noqa: N815 - a name of the base class

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_states_of_several_workers_are_counted_and_control_characters_replaced(
    capsys: Output,
) -> None:
    """A folder's name in a reason cannot send escape sequences to the terminal."""
    entry = {"name": "price", "version": "2", "state": "READY", "reason": "odd \x1b[2J name"}
    metrics = (
        'onward_model_state{model="price",state="READY",version="2"} 3.0\n'
        'onward_model_state{model="price",state="LOADING",version="2"} 1.0\n'
    )
    bodies = {
        "/v2/repository/index": json.dumps([entry]).encode(),
        "/metrics": metrics.encode(),
    }
    with http_server(bodies) as address:
        assert main(["models", "--url", f"{address}/"]) == 0

    _, line = capsys.readouterr().out.splitlines()
    assert "LOADING 1, READY 3" in line
    assert line.endswith("odd ?[2J name")


@pytest.mark.parametrize("metrics", [b"<html></html>", b"a{b", b"{"])
def test_without_metrics_the_models_are_listed(metrics: bytes, capsys: Output) -> None:
    """A proxy may respond to the path of the metrics with a page of its own."""
    entry = {"name": "price", "version": "2", "state": "READY", "reason": ""}
    bodies = {"/v2/repository/index": json.dumps([entry]).encode(), "/metrics": metrics}
    with http_server(bodies) as address:
        assert main(["models", "--url", address]) == 0

    assert capsys.readouterr().out.splitlines()[1].split() == ["price", "2", *"-", "READY", *"-0"]


@pytest.mark.parametrize("index", [b"", b"hello", b"[1]", b"{}", b'[{"name": "price"}]'])
def test_a_response_of_another_server_is_reported(index: bytes, capsys: Output) -> None:
    """For any response there is a message without a traceback."""
    with http_server({"/v2/repository/index": index}) as address:
        code = main(["models", "--url", address])

    assert code == 2
    assert "is not an index of models" in capsys.readouterr().err


def test_a_server_without_an_index_is_reported(capsys: Output) -> None:
    """The message has the status code."""
    with http_server({}) as address:
        assert main(["models", "--url", address]) == 2

    assert "it responds with status 404" in capsys.readouterr().err
