"""A server with prepared responses, which records what it receives."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson


@dataclass(frozen=True)
class Prepared:
    """A response."""

    status: int = 200
    body: object = field(default_factory=lambda: {"models": []})
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else orjson.dumps(self.body)


@dataclass(frozen=True)
class Received:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Scripted:
    """A running server: its address and the requests that it has received."""

    url: str
    received: list[Received]


class _Handler(BaseHTTPRequestHandler):
    """Sends the next response; its server has them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _read(self) -> bytes:
        if self.headers["transfer-encoding"] != "chunked":
            return self.rfile.read(int(self.headers["content-length"] or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _respond(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        assert isinstance(self.server, _Server)
        received, responses = self.server.received, self.server.responses
        received.append(Received(self.command, self.path, headers, self._read()))
        response = responses[min(len(received), len(responses)) - 1]
        self.send_response(response.status)
        defaults = {
            "content-type": "application/json",
            "content-length": str(len(response.content)),
        }
        for name, value in {**defaults, **response.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(response.content)


class _Server(ThreadingHTTPServer):
    """Has the responses, and records the requests."""

    def __init__(self, port: int, responses: Sequence[Prepared]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.responses = responses
        self.received: list[Received] = []


@contextmanager
def scripted(responses: Sequence[Prepared], port: int = 0) -> Iterator[Scripted]:
    """Serve these responses in order, and the last one from then on."""
    server = _Server(port, responses)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Scripted(f"http://127.0.0.1:{server.server_port}", server.received)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
