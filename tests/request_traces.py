"""A program for test_trace that writes the calls of the service for each request as JSON.

It serves the shipped models in its main thread. A second thread sends each request several times
over a socket, and records which functions of ``service/`` the shortest one calls.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from service import __main__ as entry  # noqa: E402 - the path is set before it

SERVICE = str(ROOT / "service")
_ROW = b'{"exam_1": 61, "exam_2": 74}'
_INSTANCES = b'{"instances": [[61, 74]]}'
_TENSOR = (
    b'{"inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP32", "data": [61, 74]}]}'
)
_TABLE = b"exam_1,exam_2\n" + b"61,74\n" * 300
REQUESTS = {
    "native": ("/models/admission/predict", "application/json", _ROW),
    "v1": ("/v1/models/admission:predict", "application/json", _INSTANCES),
    "v2": ("/v2/models/admission/infer", "application/json", _TENSOR),
    "table": ("/models/admission/predict", "text/csv", _TABLE),
}
_WARM_UP_REQUESTS = 3
# Timers of connections may run during one of them; the shortest trace contains none.
_TRACED_REQUESTS = 3
# Calls of the service after a response belong to its request too.
_QUIET_SECONDS = 0.15
_PACKET_GAP_SECONDS = 0.02


class Trace:
    """Records the calls of functions of the service while it is active."""

    def __init__(self) -> None:
        self.active = False
        self.calls: list[str] = []

    def profile(self, frame: FrameType, event: str, _: object) -> None:
        """Record a call; a callback of `sys.setprofile`."""
        file = frame.f_code.co_filename
        if self.active and event == "call" and file.startswith(SERVICE):
            self.calls.append(f"{file.removeprefix(SERVICE)[1:-3]}:{frame.f_code.co_name}")


def send(connection: socket.socket, head: bytes, body: bytes, packets: int) -> bytes:
    """Send one request, and return the response."""
    if packets == 1:
        connection.sendall(head + body)
    else:
        connection.sendall(head)
        time.sleep(_PACKET_GAP_SECONDS)
        connection.sendall(body)
    time.sleep(_QUIET_SECONDS)
    return connection.recv(1 << 20)


def trace_request(trace: Trace, port: int, name: str, packets: int) -> dict[str, object]:
    """The status and the calls of one request."""
    path, media_type, body = REQUESTS[name]
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {media_type}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_WARM_UP_REQUESTS):
            send(connection, head, body, packets)
        traces = []
        for _ in range(_TRACED_REQUESTS):
            trace.calls = []
            trace.active = True
            response = send(connection, head, body, packets)
            trace.active = False
            traces.append(trace.calls)
    return {"status": int(response[9:12]), "calls": min(traces, key=len)}


def trace_all(trace: Trace, port: int) -> None:
    """Trace every request, write the result, and stop the service."""
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        traces = {
            f"{name}, {packets}": trace_request(trace, port, name, packets)
            for name in REQUESTS
            for packets in (1, 2)
        }
        sys.stdout.write(json.dumps(traces))
        sys.stdout.flush()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Serve and trace."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    trace = Trace()
    threading.Thread(target=trace_all, args=(trace, port), daemon=True).start()
    sys.setprofile(trace.profile)
    threading.setprofile(trace.profile)
    options = ("--device", "cpu", "--poll-seconds", "0", "--log-level", "error")
    entry.main(["--port", str(port), *options])


if __name__ == "__main__":
    main()
