"""``python -m service`` as an operator starts it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.models import publish_price

ROOT = Path(__file__).parents[2]


class Served:
    """A service in a process of its own, with everything it said."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self.address = self._address()

    def _address(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(r"running on (http://\S+)", line):
                return found[1]
        raise AssertionError("".join(self.lines))

    @property
    def said(self) -> str:
        return "".join(self.lines)


@contextmanager
def served(*options: str, **environment: str) -> Iterator[Served]:
    """Serve on a free port until the block ends, then stop by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "--port", "0", *options],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    service = Served(process)
    try:
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=20)
        service.lines.append(rest)


def refused(*options: str, **environment: str) -> str:
    """What the service says when it does not start, with exit code 2 and no traceback."""
    ended = subprocess.run(
        [sys.executable, "-m", "service", *options],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_service_of_its_own_process_serves_and_stops_when_told(models: Path) -> None:
    """SIGTERM ends it in good order."""
    publish_price(models)

    with served("--models", str(models), "--device", "cpu") as service:
        answer = httpx.post(f"{service.address}/models/price/predict", json={"size": 2})

    assert answer.json()["value"] == 4.0
    assert "info    stopped" in service.said
    assert service.process.returncode == -signal.SIGTERM


def test_several_workers_serve_and_add_their_metrics_up(models: Path) -> None:
    """Whichever worker answers /metrics, it tells the requests of all."""
    publish_price(models)
    options = ("--models", str(models), "--device", "cpu", "--workers", "2")

    with served(*options) as service:
        address = service.address
        until_ready(address)
        for _ in range(40):
            # A connection each, so that both workers take some.
            assert httpx.post(f"{address}/models/price/predict", json={"size": 2}).is_success
        texts = {httpx.get(f"{address}/metrics").text for _ in range(4)}

    counts = [re.findall(r"onward_rows_total\{[^}]*\} (\S+)", text) for text in texts]
    assert all(sum(map(float, found)) == 40 for found in counts)


def test_a_demanded_gpu_that_is_missing_stops_the_start(models: Path) -> None:
    """The sentence names the device, a library by its file name, and what to do."""
    said = refused("--models", str(models), "--device", "cuda", CUDA_VISIBLE_DEVICES="")

    assert "Device 'cuda' was demanded" in said
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
    assert "(ONWARD_WORKERS) is '0'" in refused(ONWARD_WORKERS="0")


def until_ready(address: str) -> None:
    """Wait until a service whose workers start after it listens answers."""
    for _ in range(200):
        try:
            if httpx.get(f"{address}/health/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("never ready")
