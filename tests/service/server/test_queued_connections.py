"""Connections that change while they wait to be accepted; real processes and sockets."""

import json
import signal
import socket
import struct
import time
from pathlib import Path

import httpx

from tests.models import publish_price
from tests.processes import served
from tests.test_protocol import message

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def test_a_connection_that_was_reset_while_it_was_queued_costs_no_prediction(models: Path) -> None:
    """Its client cannot receive a response; others that were queued get theirs."""
    publish_price(models)
    request = message("/models/price/predict", json.dumps({"size": 2}).encode())

    with served("--models", str(models), "--device", "cpu") as service:
        url = httpx.URL(service.address)
        address = url.host, url.port or 0
        service.process.send_signal(signal.SIGSTOP)
        for _ in range(20):
            with socket.create_connection(address, timeout=30) as line:
                line.sendall(request)
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        patient = socket.create_connection(address, timeout=30)
        patient.sendall(request)
        time.sleep(0.1)
        service.process.send_signal(signal.SIGCONT)
        with patient:
            response = patient.recv(65536)
        metrics = httpx.get(f"{service.address}/metrics").text

    assert response.startswith(b"HTTP/1.1 200 OK")
    assert 'onward_rows_total{model="price",version="1"} 1.0' in metrics
