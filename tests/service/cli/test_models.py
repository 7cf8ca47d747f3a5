"""``onward models``: what an operator reads of a running service."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from service.__main__ import main
from service.bundle.policy_file import change_policy
from service.bundle.store import MODEL
from tests.conftest import StartApp
from tests.models import publish_admission, publish_price

Said = pytest.CaptureFixture[str]


def test_the_table_tells_what_serves_and_why_the_rest_does_not(
    models: Path, start: StartApp, capsys: Said
) -> None:
    """A line a version: aliases, state, device, requests of every outcome, and the reason."""
    publish_price(models, slope=1.0)
    publish_price(models, slope=2.0)
    change_policy(models / "price", lambda policy: policy.moved("stable", 1))
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
    told = [line.split(maxsplit=6) for line in lines]
    assert told[0][:6] == ["admission", "1", "-", "UNAVAILABLE", "cpu", "0"]
    assert told[0][6].startswith("model.onnx has 0 bytes")
    assert told[1] == ["price", "2", "-", "READY", "cpu", "0"]
    assert told[2] == ["price", "1", "stable", "READY", "cpu", "3"]
    assert lines[0].index("UNAVAILABLE") == lines[1].index("READY") == heading.index("STATE")


def test_an_empty_folder_is_told(start: StartApp, capsys: Said) -> None:
    """No table, a sentence."""
    assert main(["models", "--url", str(start().base_url)]) == 0

    assert capsys.readouterr().out == "There is no model.\n"


def test_the_settings_name_the_service(
    models: Path, start: StartApp, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a service that was started by the environment no address is needed."""
    publish_price(models)
    monkeypatch.setenv("ONWARD_HOST", "0.0.0.0")
    monkeypatch.setenv("ONWARD_PORT", str(start().base_url.port))

    assert main(["models"]) == 0

    assert "price" in capsys.readouterr().out


def test_where_no_service_is_a_sentence_says_so(capsys: Said) -> None:
    """Exit code 2, the address, the reason, and what to do."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"

        assert main(["models", "--url", address]) == 2
    assert main(["models", "--url", "file:///etc"]) == 2

    refused, strange = capsys.readouterr().err.splitlines()
    assert refused.startswith(f"{address} cannot be asked for its models:")
    assert "refused" in refused
    assert "with --url http://HOST:PORT" in refused
    assert "'file:///etc' is no address of a service" in strange


@contextmanager
def answering(bodies: dict[str, bytes]) -> Iterator[str]:
    """A server of these paths, and of no others; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = bodies.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        do_POST = do_GET  # noqa: N815 - as the base class calls it

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_workers_that_differ_are_told_and_nothing_steers_the_terminal(capsys: Said) -> None:
    """Over several workers the states are counted; what a folder is called stays text."""
    entry = {"name": "price", "version": "2", "state": "READY", "reason": "odd \x1b[2J name"}
    metrics = (
        'onward_model_state{model="price",state="READY",version="2"} 3.0\n'
        'onward_model_state{model="price",state="LOADING",version="2"} 1.0\n'
    )
    bodies = {
        "/v2/repository/index": json.dumps([entry]).encode(),
        "/metrics": metrics.encode(),
    }
    with answering(bodies) as address:
        assert main(["models", "--url", f"{address}/"]) == 0

    _, line = capsys.readouterr().out.splitlines()
    assert "LOADING 1, READY 3" in line
    assert line.endswith("odd ?[2J name")


@pytest.mark.parametrize("index", [b"", b"hello", b"[1]", b"{}", b'[{"name": "price"}]'])
def test_another_server_is_told_from_ours(index: bytes, capsys: Said) -> None:
    """Whatever it answers, there is a sentence and no trace."""
    with answering({"/v2/repository/index": index}) as address:
        code = main(["models", "--url", address])

    assert code == 2
    assert "is no index of models" in capsys.readouterr().err


def test_a_server_without_an_index_is_told(capsys: Said) -> None:
    """404 is named."""
    with answering({}) as address:
        assert main(["models", "--url", address]) == 2

    assert "it answers 404" in capsys.readouterr().err
