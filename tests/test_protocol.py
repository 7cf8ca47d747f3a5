"""Responses of the fast path equal those of the ASGI path, however the requests arrive."""

import gzip
import json
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.conftest import StartApp
from tests.models import publish_admission, publish_price

NATIVE = b'{"exam_1": 61, "exam_2": 74}'
INVALID = b'{"exam_1": 61, "exam_3": 74}'
V1 = b'{"instances": [[61, 74], [30, 40]]}'
V2 = json.dumps(
    {"inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP32", "data": [61, 74]}]}
).encode()
REQUESTS = {
    "native": ("/models/admission/predict", NATIVE),
    "native, many": ("/models/admission/predict", b"[" + NATIVE + b"," + NATIVE + b"]"),
    "native, version": ("/models/admission/versions/1/predict", NATIVE),
    "native, parameters": ("/models/admission/predict?top=1", NATIVE),
    "native, wrong": ("/models/admission/predict", INVALID),
    "native, no JSON": ("/models/admission/predict", b"{"),
    "native, unknown parameter": ("/models/admission/predict?tpo=1", NATIVE),
    "v1": ("/v1/models/admission:predict", V1),
    "v1, wrong": ("/v1/models/admission:predict", b'{"instances": [[61]]}'),
    "v2": ("/v2/models/admission/infer", V2),
    "v2, wrong": ("/v2/models/admission/infer", V2.replace(b"[1, 2]", b"[2, 2]")),
    "no such model": ("/models/admision/predict", NATIVE),
    "no such version": ("/models/admission/versions/7/predict", NATIVE),
}


class Response(NamedTuple):
    """A response as it was received."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def repeatable(self) -> tuple[int, bytes, str | None, str | None]:
        """The parts that are the same for the same request."""
        media_type, version = map(self.headers.get, ("content-type", "x-model-version"))
        return self.status, self.content, media_type, version


@contextmanager
def connected(client: httpx.Client) -> Iterator[socket.socket]:
    """Open a TCP connection to the service."""
    url = client.base_url
    with socket.create_connection((url.host, url.port or 0), 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def message(path: str, body: bytes, *headers: str, version: str = "1.1") -> bytes:
    """Return the bytes of a POST request."""
    lines = [f"POST {path} HTTP/{version}", "Host: here", "Content-Type: application/json"]
    if not any(header.startswith("Transfer-Encoding") for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def read_responses(connection: socket.socket, count: int = 1) -> Sequence[Response]:
    """Read a number of responses."""
    responses = []
    with closing(connection.makefile("rb")) as file:
        for _ in range(count):
            status = int(file.readline().split()[1])
            while status == 100:
                file.readline()
                status = int(file.readline().split()[1])
            headers = {}
            while (text := file.readline().strip()) != b"":
                name, _, value = text.decode().partition(": ")
                headers[name.lower()] = value
            responses.append(Response(status, headers, file.read(int(headers["content-length"]))))
    return responses


def counts(client: httpx.Client) -> dict[str, float]:
    """Return the number of predictions by outcome."""
    text = client.get("/metrics").text
    by_outcome: dict[str, float] = {}
    for outcome, value in re.findall(
        r'^onward_requests_total{.*outcome="(\w+)".*} (\S+)$', text, re.MULTILINE
    ):
        by_outcome[outcome] = by_outcome.get(outcome, 0) + float(value)
    return by_outcome


def chunked(*pieces: bytes) -> bytes:
    """Encode a body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_in_one_piece_gets_the_same_response_as_in_many(
    models: Path, start: StartApp, name: str
) -> None:
    """A request in one piece takes the fast path, and one in many pieces ASGI."""
    publish_admission(models)
    client = start()
    whole = message(*REQUESTS[name])

    with connected(client) as connection:
        connection.sendall(whole)
        (quick,) = read_responses(connection)
        for offset in range(0, len(whole), 40):
            connection.sendall(whole[offset : offset + 40])
            time.sleep(0.002)
        (slow,) = read_responses(connection)

    assert quick.repeatable == slow.repeatable
    assert ("server-timing" in quick.headers) == (quick.status == 200)
    assert re.fullmatch("[0-9a-f]{32}", quick.headers["x-request-id"])
    assert len(set(counts(client).values())) == 1
    assert sum(counts(client).values()) == 2


@pytest.mark.parametrize(
    ("headers", "body", "version"),
    [
        (("Expect: 100-continue",), NATIVE, "1.1"),
        (("Transfer-Encoding: chunked",), chunked(NATIVE), "1.1"),
        (("Transfer-Encoding: chunked",), chunked(NATIVE[:10], NATIVE[10:]), "1.1"),
        (("Transfer-Encoding: chunked",), b"1;a=b\r\n{\r\n" + chunked(NATIVE[1:]), "1.1"),
        (("Transfer-Encoding: chunked",), chunked(NATIVE)[:-2] + b"x: y\r\n\r\n", "1.1"),
        (("Upgrade: h2c", "Connection: Upgrade"), NATIVE, "1.1"),
        (("Upgrade: h2c", "Transfer-Encoding: chunked"), chunked(NATIVE), "1.1"),
        (("Content-Encoding: identity", "X-Forwarded-For: 10.0.0.1"), NATIVE, "1.1"),
        (("Content-Encoding: identity", "Transfer-Encoding: chunked"), chunked(NATIVE), "1.1"),
        (("Content-Encoding: gzip",), gzip.compress(NATIVE), "1.1"),
        (("Cookie: " + "a" * 10_000,), NATIVE, "1.1"),
        (("Connection: close",), NATIVE, "1.1"),
        (("Connection: keep-alive",), NATIVE, "1.0"),
        ((), NATIVE, "1.0"),
    ],
)  # fmt: skip
def test_other_requests_for_the_same_prediction_get_the_same_response(
    models: Path, start: StartApp, headers: tuple[str, ...], body: bytes, version: str
) -> None:
    """Framing, encoding and other headers do not change the response."""
    publish_admission(models)
    client = start()
    path = "/models/admission/predict"

    with connected(client) as connection:
        connection.sendall(message(path, NATIVE))
        (usual,) = read_responses(connection)
        connection.sendall(message(path, body, *headers, version=version))
        (other,) = read_responses(connection)

    assert other.repeatable == usual.repeatable
    assert usual.status == 200


def test_pipelined_requests_get_their_responses_in_order(models: Path, start: StartApp) -> None:
    """One segment contains predictions and other requests."""
    publish_price(models)
    client = start()
    rows = [b'{"size": %d}' % size for size in range(1, 9)]
    sent = [message("/models/price/predict", row) for row in rows]
    sent.insert(3, b"GET /models/price HTTP/1.1\r\nHost: here\r\n\r\n")
    sent.insert(6, message("/models/nobody/predict", rows[0]))

    with connected(client) as connection:
        connection.sendall(b"".join(sent))
        responses = read_responses(connection, len(sent))

    values = [json.loads(response.content).get("value") for response in responses]
    assert values == [2, 4, 6, None, 8, 10, None, 12, 14, 16]
    assert [response.status for response in responses] == [200] * 6 + [404] + [200] * 3


def test_the_request_id_of_a_client_is_repeated(models: Path, start: StartApp) -> None:
    """An id that is too long or has a space is replaced."""
    publish_price(models)
    client = start()
    given = [{"x-request-id": word} for word in ("mine-1", "not mine", "x" * 129)]

    responses = [
        client.post("/models/price/predict", json={"size": 1}, headers=one).headers["x-request-id"]
        for one in given
    ]

    assert responses[0] == "mine-1"
    assert all(re.fullmatch("[0-9a-f]{32}", other) for other in responses[1:])


def test_clients_that_disconnect_do_not_affect_others(models: Path, start: StartApp) -> None:
    """Many clients send requests and disconnect immediately."""
    publish_price(models)
    client = start()

    for _ in range(30):
        with connected(client) as connection:
            connection.sendall(message("/models/price/predict", b'{"size": 3}') * 3)
    response = client.post("/models/price/predict", json={"size": 2})

    assert response.json()["value"] == 4


def test_a_body_above_the_limit_is_rejected_before_the_fast_path(
    models: Path, start: StartApp
) -> None:
    """A body of exactly the limit is accepted."""
    publish_price(models)
    client = start(max_body_bytes=100)
    row = b'{"size": 2}'

    with connected(client) as connection:
        connection.sendall(message("/models/price/predict", row.ljust(101)))
        (rejected,) = read_responses(connection)
    with connected(client) as connection:
        connection.sendall(message("/models/price/predict", row.ljust(100)))
        (accepted,) = read_responses(connection)

    assert (rejected.status, json.loads(rejected.content)["code"]) == (413, "body_too_large")
    assert accepted.status == 200


def test_the_service_stops_reading_from_a_client_that_does_not_read(
    models: Path, start: StartApp
) -> None:
    """Its responses are not stored in memory; it gets all of them once it reads."""
    publish_price(models)
    client = start()
    rows, requests = b"[" + b",".join([b'{"size": 1}'] * 400) + b"]", 600

    with connected(client) as connection:
        connection.settimeout(0.5)
        sent = 0
        content = message("/models/price/predict", rows) * requests
        try:
            while sent < len(content):
                sent += connection.send(content[sent : sent + 65536])
        except TimeoutError:
            pass  # the service reads no more
        connection.settimeout(10)
        whole = sent // (len(content) // requests)
        responses = read_responses(connection, whole)

    assert whole > 10
    assert {response.status for response in responses} == {200}


def test_invalid_http_closes_the_connection(models: Path, start: StartApp) -> None:
    """The connection with invalid bytes is closed, and other ones are not affected."""
    publish_price(models)
    client = start()

    with connected(client) as connection:
        connection.sendall(
            message("/models/price/predict", b"nonsense\r\n", "Transfer-Encoding: chunked")
        )
        received = connection.recv(1000)
    response = client.post("/models/price/predict", json={"size": 2})

    assert received.startswith(b"HTTP/1.1 400")
    assert response.status_code == 200


def test_a_cached_head_serves_other_bodies_and_connections(models: Path, start: StartApp) -> None:
    """The bodies are valid and invalid ones of the same length."""
    publish_price(models)
    client = start()
    path = "/models/price/predict"
    rows = [b'{"size": %d}' % size for size in range(1, 9)]
    wrong, unread = b'{"size": x}', b'{"siza": 1}'

    responses: list[Response] = []
    for _ in range(2):
        with connected(client) as connection:
            for row in (*rows, wrong, unread, rows[0] + b" "):
                connection.sendall(message(path, row))
                responses += read_responses(connection)

    values = [json.loads(response.content).get("value") for response in responses]
    assert values == [2, 4, 6, 8, 10, 12, 14, 16, None, None, 2] * 2
    assert [response.status for response in responses[8:11]] == [400, 400, 200]
    assert len({response.headers["x-request-id"] for response in responses}) == len(responses)
    assert counts(client)["ok"] == 18


def test_a_cached_head_may_precede_a_partial_body_or_a_second_request(
    models: Path, start: StartApp
) -> None:
    """Each request gets its own response."""
    publish_price(models)
    client = start()
    path, row = "/models/price/predict", b'{"size": 3}'
    known = message(path, row)

    with connected(client) as connection:
        connection.sendall(known)
        (first,) = read_responses(connection)
        connection.sendall(known[:-4])
        time.sleep(0.05)
        connection.sendall(known[-4:])
        (second,) = read_responses(connection)
        connection.sendall(known + message(path, b'{"size": 40}'))
        third, fourth = read_responses(connection, 2)

    values = [json.loads(response.content)["value"] for response in (first, second, third, fourth)]
    assert values == [6, 6, 6, 80]


@pytest.mark.parametrize("offset", [20, 45, 70])
def test_the_end_of_a_head_is_not_cached_as_a_head(
    models: Path, start: StartApp, offset: int
) -> None:
    """A request has arrived in two pieces before, of which only the second is sent again."""
    publish_price(models)
    client = start()
    whole = message("/models/price/predict", b'{"size": 3}')

    with connected(client) as connection:
        connection.sendall(whole[:offset])
        time.sleep(0.05)
        connection.sendall(whole[offset:])
        (accepted,) = read_responses(connection)
        connection.sendall(whole[offset:])
        received = connection.recv(1000)

    assert accepted.status == 200
    assert received.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "headers", [(), ("Content-Encoding: identity",)], ids=["fast path", "ASGI"]
)
def test_chunked_bodies_with_the_same_head_are_read_to_their_own_end(
    models: Path, start: StartApp, headers: tuple[str, ...]
) -> None:
    """Chunks that look like the end, and requests that follow at once, keep their order."""
    publish_price(models)
    client = start()
    bodies = [chunked(b'{"size": 3}'), chunked(b'{"size": 1', b"0\r\n\r\n", b"}")]
    first, second = [
        message("/models/price/predict", body, "Transfer-Encoding: chunked", *headers)
        for body in bodies
    ]
    pause = second.index(b"0\r\n\r\n\r\n") + 5

    with connected(client) as connection:
        connection.sendall(first)
        responses = [*read_responses(connection)]
        connection.sendall(second[:pause])
        time.sleep(0.02)
        connection.sendall(second[pause:])
        responses += read_responses(connection)
        connection.sendall(first + second + first)
        responses += read_responses(connection, 3)

    assert [json.loads(response.content)["value"] for response in responses] == [6, 20, 6, 20, 6]


def test_an_escaped_path_names_the_same_model(models: Path, start: StartApp) -> None:
    """A percent-encoded letter of a path is decoded."""
    publish_price(models)
    client = start()

    with connected(client) as connection:
        connection.sendall(message("/models/pric%65/predict", b'{"size": 3}'))
        (response,) = read_responses(connection)

    assert json.loads(response.content)["value"] == 6


def test_the_request_id_of_a_cached_head_is_that_of_each_request(
    models: Path, start: StartApp
) -> None:
    """Requests through ASGI whose heads differ only in the id get their own ids."""
    publish_price(models)
    client = start()

    with connected(client) as connection:
        for identity in ("one", "two"):
            headers = ("Content-Encoding: identity", f"X-Request-Id: {identity}")
            connection.sendall(message("/models/price/predict", b'{"size": 3}', *headers))
            (response,) = read_responses(connection)
            assert response.headers["x-request-id"] == identity


def test_the_limit_on_headers_counts_those_that_differ_in_each_request(
    models: Path, start: StartApp
) -> None:
    """Headers that are left out of the key of the head cache count towards the limit."""
    publish_price(models)
    client = start(max_headers=10)
    path, body = "/models/price/predict", b'{"size": 3}'

    with connected(client) as connection:
        connection.sendall(message(path, body))
        (accepted,) = read_responses(connection)
        connection.sendall(message(path, body, *["X-Forwarded-For: 10.0.0.1"] * 9))
        (rejected,) = read_responses(connection)

    assert (accepted.status, rejected.status) == (200, 431)


def test_a_cached_head_uses_the_version_that_serves_now(models: Path, start: StartApp) -> None:
    """The cache does not contain versions."""
    publish_price(models)
    client = start(poll_seconds=0.05)
    whole = message("/models/price/predict", b'{"size": 3}')

    with connected(client) as connection:
        connection.sendall(whole)
        (before,) = read_responses(connection)
        publish_price(models, slope=3)
        for _ in range(100):
            time.sleep(0.05)
            connection.sendall(whole)
            (after,) = read_responses(connection)
            if after.headers["x-model-version"] == "2":
                break

    values = [
        (it.headers["x-model-version"], json.loads(it.content)["value"]) for it in (before, after)
    ]
    assert values == [("1", 6), ("2", 9)]


def test_an_invalid_host_is_reported_with_its_value(models: Path, start: StartApp) -> None:
    """A long one is truncated."""
    publish_price(models)
    client = start()

    spaced = client.get("/models", headers={"host": "a b"})
    long = client.get("/models", headers={"host": "a b" * 1000})

    assert spaced.status_code == long.status_code == 400
    assert "The Host header is 'a b'; send the name of a host" in spaced.json()["error"]
    assert len(long.json()["error"]) < 200
