"""``python -m service`` in a separate process."""

import re
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.models import publish_price
from tests.processes import served, startup_error


def test_a_service_serves_until_sigterm(models: Path) -> None:
    """The service responds to requests, and SIGTERM stops it gracefully."""
    publish_price(models)

    with served("--models", str(models), "--device", "cpu") as service:
        response = httpx.post(f"{service.address}/models/price/predict", json={"size": 2})

    assert response.json()["value"] == 4.0
    assert "info    stopped" in service.said
    assert service.process.returncode == -signal.SIGTERM


def test_a_requested_gpu_that_is_missing_prevents_the_start(models: Path) -> None:
    """The message has the device, the reason, and what to do."""
    said = startup_error("--models", str(models), "--device", "cuda", CUDA_VISIBLE_DEVICES="")

    assert "Device 'cuda' was requested" in said
    assert re.search(r"lib\w+\.so|sees no GPU|driver reports", said)
    assert "--device auto" in said


def test_auto_starts_quietly_on_the_cpu(models: Path) -> None:
    """ONNX Runtime's own warnings are not printed; the log and a metric have the device."""
    publish_price(models)

    with served("--models", str(models), CUDA_VISIBLE_DEVICES="") as service:
        metrics = httpx.get(f"{service.address}/metrics").text
        device = httpx.get(f"{service.address}/models").json()["device"]

    assert "device chosen requested=auto actual=cpu reason=" in service.said
    assert 'onward_device_info{actual="cpu",requested="auto"} 1.0' in metrics
    assert (device["requested"], device["actual"]) == ("auto", "cpu")
    (line,) = [line for line in service.said.splitlines() if "device chosen" in line]
    assert len(line) < 180
    for warning in ("Failed to load", "onnxruntime:", "\033["):
        assert warning not in service.said


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--port", "eighty"), "--port (ONWARD_PORT) is 'eighty': it must be a whole number.\n"),
        (("--root-path", "x/"), "is 'x/': it must begin with / and not end with /"),
        (("--max-body-bytes", "1 meter"), "it must be a whole number, or a size such as 64MiB"),
        (("--drain-seconds", "soon"), "is 'soon': it must be a number."),
        (("--device", "tpu"), "--device (ONWARD_DEVICE) is 'tpu'"),
        (("--models", "nowhere"), "folder 'nowhere' does not exist"),
        (("--host", "192.0.2.1"), "Cannot listen on 192.0.2.1 port 8000"),
    ],
)
def test_invalid_options_are_reported(option: tuple[str, str], sentence: str) -> None:
    """The exit status is 2, and the message has the option, its setting and the value."""
    assert sentence in startup_error(*option)


def test_a_port_in_use_is_reported_before_any_model_is_loaded(models: Path) -> None:
    """The message has the address, the port, and the setting that changes it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])

        said = startup_error("--models", str(models), "--port", port)

    assert f"port {port}" in said
    assert "ONWARD_PORT" in said
    assert "device chosen" not in said


def test_a_misspelled_setting_is_reported_with_the_nearest_one() -> None:
    """A variable without effect is logged."""
    said = startup_error("--models", "nowhere", ONWARD_WORKER="2", ONWARD_DATA="x")

    assert "ONWARD_WORKER is not a setting and has no effect; did you mean ONWARD_WORKERS?" in said
    assert "ONWARD_DATA" not in said


def test_an_invalid_setting_is_reported_with_its_variable() -> None:
    """The message has the variable of the environment."""
    assert "(ONWARD_WORKERS) is '-1'" in startup_error(ONWARD_WORKERS="-1")
