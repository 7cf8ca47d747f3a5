"""Common HTTP clients get predictions with their default settings, for small and large bodies.

Clients in other languages are tested by ``python -m bench.clients``; this module repeats the bytes
of their first requests.
"""

import asyncio
import http.client
import io
import json
import socket
import urllib.request
from collections.abc import Callable, Iterator, Mapping

import aiohttp
import httpx
import pytest
import requests

from tests.models import publish_admission
from tests.processes import served

PATH = "/models/admission/predict"
JSON = {"Content-Type": "application/json"}
SMALL = b'{"exam_1": 61, "exam_2": 74}'
# More than a megabyte, most of it spaces: the transfer is tested here, not the model.
LARGE = json.dumps({"instances": [[61.0, 74.0]] * 2000}, indent=60).encode()
BODIES = {"small": SMALL, "large": LARGE}

# A client takes a URL, a body, and whether to send it in chunks, and returns status and body.
Client = Callable[[str, bytes, bool], tuple[int, bytes]]


def pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 50_000):
        yield body[start : start + 50_000]


def with_urllib(url: str, body: bytes, chunked: bool) -> tuple[int, bytes]:  # noqa: FBT001 - see Client
    request = urllib.request.Request(url, pieces(body) if chunked else body, JSON)
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.status, response.read()


def with_http_client(url: str, body: bytes, chunked: bool) -> tuple[int, bytes]:  # noqa: FBT001 - see Client
    where = httpx.URL(url)
    connection = http.client.HTTPConnection(where.host, where.port, timeout=30)
    try:
        sent = pieces(body) if chunked else body
        connection.request("POST", where.path, sent, JSON, encode_chunked=chunked)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def with_requests(url: str, body: bytes, chunked: bool) -> tuple[int, bytes]:  # noqa: FBT001 - see Client
    sent = pieces(body) if chunked else body
    response = requests.post(url, data=sent, headers=JSON, timeout=30)
    return response.status_code, response.content


def with_httpx(url: str, body: bytes, chunked: bool) -> tuple[int, bytes]:  # noqa: FBT001 - see Client
    sent = pieces(body) if chunked else body
    response = httpx.post(url, content=sent, headers=JSON, timeout=30)
    return response.status_code, response.content


def with_aiohttp(url: str, body: bytes, chunked: bool) -> tuple[int, bytes]:  # noqa: FBT001 - see Client
    async def send() -> tuple[int, bytes]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                url, data=io.BytesIO(body), headers=JSON, chunked=chunked or None
            ) as response,
        ):
            return response.status, await response.read()

    return asyncio.run(send())


def with_aiohttp_expecting(url: str, body: bytes, chunked: bool) -> tuple[int, bytes]:  # noqa: FBT001 - see Client
    async def send() -> tuple[int, bytes]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                url, data=io.BytesIO(body), headers=JSON, chunked=chunked or None, expect100=True
            ) as response,
        ):
            return response.status, await response.read()

    return asyncio.run(send())


CLIENTS: Mapping[str, Client] = {
    "urllib": with_urllib,
    "http.client": with_http_client,
    "requests": with_requests,
    "httpx": with_httpx,
    "aiohttp": with_aiohttp,
    "aiohttp, Expect": with_aiohttp_expecting,
}

# Headers that JDK's HttpClient and `curl --http2` add to their first request.
UPGRADES = {
    "JDK": (
        "Connection: Upgrade, HTTP2-Settings",
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        "Upgrade: h2c",
        "User-Agent: Java-http-client/17.0.15",
    ),
    "curl": (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        "User-Agent: curl/7.88.1",
    ),
    "websocket": ("Connection: keep-alive, Upgrade", "Upgrade: websocket"),
    "several": ("Connection: upgrade", "Upgrade: foo/1, h2c"),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service of one model, in a process of its own."""
    models = tmp_path_factory.mktemp("models")
    publish_admission(models)
    with (
        served("--device", "cpu", "--models", str(models)) as running,
        httpx.Client(base_url=running.address, timeout=30) as client,
    ):
        yield client


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("size", BODIES)
@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_predicts_with_its_defaults(
    service: httpx.Client, name: str, size: str, *, chunked: bool
) -> None:
    """Twice in a row: the second request may find the first one's connection."""
    body = BODIES[size]
    right = service.post(PATH, content=body, headers=JSON)

    found = [CLIENTS[name](str(service.base_url.join(PATH)), body, chunked) for _ in range(2)]

    assert right.status_code == 200
    assert found == [(200, right.content)] * 2


@pytest.mark.parametrize("split", [False, True], ids=["one packet", "two packets"])
@pytest.mark.parametrize("size", BODIES)
@pytest.mark.parametrize("name", UPGRADES)
def test_an_upgrade_is_ignored(service: httpx.Client, name: str, size: str, *, split: bool) -> None:
    """The response is HTTP/1.1, sent once, and the connection stays open."""
    body = BODIES[size]
    lines = [f"POST {PATH} HTTP/1.1", "Host: here", "Content-Type: application/json"]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", *UPGRADES[name], "", ""]).encode()
    right = service.post(PATH, content=body, headers=JSON)

    with _connected(service) as line:
        if split:
            line.sendall(head)
            # Long enough for the head to be read separately.
            assert not _is_readable(line, 0.1)
            line.sendall(body)
        else:
            line.sendall(head + body)
        first = _response(line)
        line.sendall(head.replace(b"Connection: ", b"X-Was: ") + body)
        second = _response(line)
        extra = _is_readable(line, 0.1)

    assert first == (200, right.content)
    assert second == first
    assert not extra


@pytest.mark.parametrize("size", BODIES)
def test_a_client_that_expects_100_continue_waits_for_it_and_no_longer(
    service: httpx.Client, size: str
) -> None:
    """The service sends 100 Continue, which curl expects for bodies of a megabyte."""
    body = BODIES[size]
    lines = [f"POST {PATH} HTTP/1.1", "Host: here", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", "Expect: 100-continue"]
    right = service.post(PATH, content=body, headers=JSON)

    with _connected(service) as line:
        line.sendall("\r\n".join([*lines, "", ""]).encode())
        interim = line.recv(1000)
        line.sendall(body)
        final = _response(line)

    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert final == (200, right.content)


def _connected(service: httpx.Client) -> socket.socket:
    line = socket.create_connection((service.base_url.host, service.base_url.port or 0), 30)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


def _response(line: socket.socket) -> tuple[int, bytes]:
    response = http.client.HTTPResponse(line)
    try:
        response.begin()
        return response.status, response.read()
    finally:
        response.close()


def _is_readable(line: socket.socket, seconds: float) -> bool:
    """Whether data or the end of the stream arrives within some seconds."""
    patience = line.gettimeout()
    line.settimeout(seconds)
    try:
        line.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return False
    finally:
        line.settimeout(patience)
    return True
