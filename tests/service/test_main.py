"""``python -m service`` as an operator starts it."""

import re
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.models import publish_price
from tests.processes import refused, served


def test_a_service_of_its_own_process_serves_and_stops_when_told(models: Path) -> None:
    """SIGTERM ends it in good order."""
    publish_price(models)

    with served("--models", str(models), "--device", "cpu") as service:
        answer = httpx.post(f"{service.address}/models/price/predict", json={"size": 2})

    assert answer.json()["value"] == 4.0
    assert "info    stopped" in service.said
    assert service.process.returncode == -signal.SIGTERM


def test_a_demanded_gpu_that_is_missing_stops_the_start(models: Path) -> None:
    """The sentence names the device, a library by its file name, and what to do."""
    said = refused("--models", str(models), "--device", "cuda", CUDA_VISIBLE_DEVICES="")

    assert "Device 'cuda' was requested" in said
    assert re.search(r"lib\w+\.so|sees no GPU|driver reports", said)
    assert "--device auto" in said


def test_auto_starts_quietly_on_the_cpu(models: Path) -> None:
    """None of ONNX Runtime's alarming lines reaches the operator; log and metric tell the truth."""
    publish_price(models)

    with served("--models", str(models), CUDA_VISIBLE_DEVICES="") as service:
        metrics = httpx.get(f"{service.address}/metrics").text
        device = httpx.get(f"{service.address}/models").json()["device"]

    assert "device chosen requested=auto actual=cpu reason=" in service.said
    assert 'onward_device_info{actual="cpu",requested="auto"} 1.0' in metrics
    assert (device["requested"], device["actual"]) == ("auto", "cpu")
    for alarm in ("Failed to load", "onnxruntime:", "\033["):
        assert alarm not in service.said


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--port", "eighty"), "--port (ONWARD_PORT) is 'eighty'"),
        (("--device", "tpu"), "--device (ONWARD_DEVICE) is 'tpu'"),
        (("--models", "nowhere"), "folder 'nowhere' does not exist"),
        (("--host", "192.0.2.1"), "Cannot listen on 192.0.2.1 port 8000"),
    ],
)
def test_wrong_options_are_named(option: tuple[str, str], sentence: str) -> None:
    """Exit code 2, the option, its setting and the value."""
    assert sentence in refused(*option)


def test_a_taken_port_is_told_before_any_model_is_loaded(models: Path) -> None:
    """The sentence names address and port, and the setting that changes it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        said = refused("--models", str(models), "--port", port)

    assert f"port {port}" in said
    assert "ONWARD_PORT" in said
    assert "device chosen" not in said


def test_a_misspelt_setting_is_told_with_the_nearest() -> None:
    """A variable that has no effect does not pass in silence."""
    said = refused("--models", "nowhere", ONWARD_WORKER="2", ONWARD_DATA="x")

    assert "ONWARD_WORKER is not a setting and has no effect; did you mean ONWARD_WORKERS?" in said
    assert "ONWARD_DATA" not in said


def test_a_wrong_setting_is_named_by_its_variable() -> None:
    """What came from the environment is told as such."""
    assert "(ONWARD_WORKERS) is '-1'" in refused(ONWARD_WORKERS="-1")
