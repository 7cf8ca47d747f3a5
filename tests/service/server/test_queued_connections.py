"""Connections that are reset before they are accepted, with real processes and sockets."""

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


def test_no_prediction_is_computed_for_a_connection_reset_in_the_queue(models: Path) -> None:
    """Other queued clients get their responses."""
    publish_price(models)
    request = message("/models/price/predict", json.dumps({"size": 2}).encode())

    with served("--models", str(models), "--device", "cpu") as service:
        url = httpx.URL(service.address)
        address = url.host, url.port or 0
        service.process.send_signal(signal.SIGSTOP)
        for _ in range(20):
            with socket.create_connection(address, timeout=30) as connection:
                connection.sendall(request)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        patient = socket.create_connection(address, timeout=30)
        patient.sendall(request)
        time.sleep(0.1)
        service.process.send_signal(signal.SIGCONT)
        with patient:
            response = patient.recv(65536)
        metrics = httpx.get(f"{service.address}/metrics").text

    assert response.startswith(b"HTTP/1.1 200 OK")
    assert 'onward_rows_total{model="price",version="1"} 1.0' in metrics
