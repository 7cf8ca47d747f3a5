"""Limits and timeouts of connections, over real sockets."""

import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartApp
from tests.models import counting_loop, publish_bare, publish_price
from tests.test_protocol import Response, chunked, connected, message, read_responses

PATH = "/models/price/predict"
ROW = b'{"size": 2}'
GET_LIVE = b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n"
# Counting to this number takes a few hundred milliseconds, even on the fastest machine.
STEPS = 200_000


def slow_call(steps: int = STEPS) -> bytes:
    """Return a request whose model counts to a number."""
    tensor = {"name": "steps", "shape": [1], "datatype": "INT64", "data": [steps]}
    return message("/v2/models/slow/infer", json.dumps({"inputs": [tensor]}).encode())


SLOW = slow_call()


def rejected(client: httpx.Client) -> dict[str, float]:
    """Return the number of rejected requests and connections by reason."""
    text = client.get("/metrics").text
    samples = re.findall(
        r'^onward_rejected_requests_total{reason="(\w+)"} (\S+)$', text, re.MULTILINE
    )
    return {reason: float(count) for reason, count in samples}


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def is_closed(connection: socket.socket) -> bool:
    """Read until the server closes the connection."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def error_of(connection: socket.socket) -> tuple[int, str, str | None]:
    """Read an error; return its status, code and Connection header."""
    (response,) = read_responses(connection)
    document = json.loads(response.content)
    assert document["error"]
    return response.status, document["code"], response.headers.get("connection")


@pytest.mark.parametrize(
    ("sent", "settings", "code"),
    [
        (b"", {"first_request_seconds": 0.2}, "first_request_timeout"),
        (b"\r\n\r\n", {"first_request_seconds": 0.2}, "first_request_timeout"),
    ],
)
def test_a_connection_without_a_request_is_closed(
    models: Path, start: StartApp, sent: bytes, settings: dict[str, float], code: str
) -> None:
    """Empty lines are not a request."""
    publish_price(models)
    client = start(**settings)

    with connected(client) as connection:
        connection.sendall(sent)
        assert is_closed(connection)

    assert rejected(client)[code] == 1


@pytest.mark.parametrize("sent", [b"P", b"POST /models", message(PATH, ROW)[:60]])
def test_a_partial_head_gets_408(models: Path, start: StartApp, sent: bytes) -> None:
    """The timeout applies to any part of a head."""
    publish_price(models)
    client = start(head_seconds=0.2)

    with connected(client) as connection:
        connection.sendall(sent)
        found = error_of(connection)
        closed = is_closed(connection)

    assert found == (408, "head_timeout", "close")
    assert closed
    assert rejected(client) == {"head_timeout": 1}


def test_a_head_that_arrives_byte_by_byte_has_the_same_timeout(
    models: Path, start: StartApp
) -> None:
    """A byte does not restart the timeout."""
    publish_price(models)
    client = start(head_seconds=0.3)

    with connected(client) as connection:
        for byte in message(PATH, ROW)[:40]:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
        found = error_of(connection)

    assert found == (408, "head_timeout", "close")
    assert rejected(client) == {"head_timeout": 1}


STALLED_BODIES = {
    "a small body, not begun": message(PATH, ROW)[: -len(ROW)],
    "a small body, cut short": message(PATH, ROW)[:-3],
    "a large body": message(PATH, ROW * 10_000)[:5000],
    "a chunked body": message(PATH, b"5\r\n{", "Transfer-Encoding: chunked"),
    "a table": message(PATH, b"size\n1\n2").replace(b"application/json", b"text/csv")[:-2],
    "an index request": message("/v2/repository/index", b'{"ready": true}')[:-3],
}


@pytest.mark.parametrize("name", STALLED_BODIES)
def test_a_body_that_stops_arriving_gets_408(models: Path, start: StartApp, name: str) -> None:
    """This holds for every kind of body."""
    publish_price(models)
    client = start(body_seconds=0.4)

    with connected(client) as connection:
        connection.sendall(STALLED_BODIES[name])
        found = error_of(connection)
        closed = is_closed(connection)

    assert found == (408, "body_stalled", "close")
    assert closed
    assert rejected(client) == {"body_stalled": 1}


def test_a_body_slower_than_the_minimum_rate_gets_408(models: Path, start: StartApp) -> None:
    """Single bytes are not enough progress."""
    publish_price(models)
    client = start(body_seconds=0.5, min_body_bytes_per_second=1000)

    with connected(client) as connection:
        connection.sendall(message(PATH, b" " * 100_000)[:500])
        for _ in range(60):
            connection.sendall(b" ")
            time.sleep(0.02)
        found = error_of(connection)

    assert found == (408, "body_stalled", "close")
    assert rejected(client) == {"body_stalled": 1}


def test_a_slow_body_that_keeps_its_rate_may_take_longer_than_the_deadline(
    models: Path, start: StartApp
) -> None:
    """The deadline starts when the request has arrived."""
    publish_price(models)
    client = start(deadline_seconds=0.5, body_seconds=0.5, min_body_bytes_per_second=1000)
    body = ROW.ljust(100_000)
    whole = message(PATH, body)

    with connected(client) as connection:
        for offset in range(0, len(whole), 4000):
            connection.sendall(whole[offset : offset + 4000])
            time.sleep(0.05)
        (response,) = read_responses(connection)

    assert response.status == 200


def test_an_idle_connection_is_closed_after_its_timeout(models: Path, start: StartApp) -> None:
    """This holds after requests of the fast path and of ASGI."""
    publish_price(models)
    client = start(keep_alive_seconds=1)

    for request in (message(PATH, ROW), GET_LIVE):
        with connected(client) as connection:
            connection.sendall(request)
            read_responses(connection)
            time.sleep(0.5)
            connection.sendall(request)  # half of the timeout has passed
            (again,) = read_responses(connection)
            assert again.status == 200
            assert is_closed(connection)

    assert rejected(client) == {}


def test_no_timeout_closes_a_connection_whose_request_is_processed(
    models: Path, start: StartApp
) -> None:
    """All timeouts are shorter than the request takes."""
    publish_bare(models, "slow", counting_loop())
    client = start(
        head_seconds=0.02,
        body_seconds=0.02,
        keep_alive_seconds=0.02,
        first_request_seconds=0.02,
        write_seconds=0.02,
    )

    with connected(client) as connection:
        connection.sendall(SLOW)
        (response,) = read_responses(connection)

    assert json.loads(response.content)["outputs"][0]["data"] == [STEPS]


def test_a_response_that_is_not_read_closes_the_connection(models: Path, start: StartApp) -> None:
    """It is closed after a timeout without progress."""
    publish_price(models)
    client = start(write_seconds=0.3)
    rows = b"[" + b",".join([ROW] * 4000) + b"]"

    with connected(client) as connection:
        connection.settimeout(5)
        with pytest.raises(ConnectionError):  # noqa: PT012 - while it sends
            for _ in range(1000):
                connection.sendall(message(PATH, rows))

    assert rejected(client)["write_timeout"] == 1


def test_a_slow_reader_gets_all_of_a_long_response(models: Path, start: StartApp) -> None:
    """Progress in each interval is enough."""
    publish_price(models)
    client = start(write_seconds=0.5)
    table = b"size\n" + b"2\n" * 300_000
    request = message(PATH, table).replace(b"application/json", b"text/csv")

    with connected(client) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.sendall(request)
        received, size = b"", 0
        while not received.endswith(b"0\r\n\r\n"):
            time.sleep(0.002)
            data = connection.recv(65536)
            assert data
            received = (received + data)[-100:]
            size += len(data)

    assert size > 300_000 * len("2,4,\n")


def test_unread_responses_of_all_clients_are_limited(models: Path, start: StartApp) -> None:
    """The client that has read nothing for longest is disconnected first."""
    publish_price(models)
    client = start(max_unread_bytes=150_000)
    rows = b"[" + b",".join([ROW] * 5000) + b"]"

    with connected(client) as first, connected(client) as second:
        for connection in (first, second):
            connection.settimeout(1)
            with pytest.raises((TimeoutError, ConnectionError)):  # noqa: PT012 - while it sends
                for _ in range(400):
                    connection.sendall(message(PATH, rows))
        until(lambda: rejected(client).get("unread_responses", 0) >= 1)
        response = client.post(PATH, json={"size": 2})

    assert response.json()["value"] == 4


def test_a_new_connection_replaces_an_idle_one(models: Path, start: StartApp) -> None:
    """The connection that has been idle longest is closed, and the others serve requests."""
    publish_price(models)
    client = start(max_connections=4)
    url = client.base_url
    connections = [socket.create_connection((url.host, url.port or 0), 5) for _ in range(4)]
    for connection in connections:
        connection.sendall(GET_LIVE)
        read_responses(connection)
        time.sleep(0.01)  # the clock of the event loop counts milliseconds

    response = client.get("/health/live")

    assert response.status_code == 200
    assert is_closed(connections[0])
    connections[3].sendall(GET_LIVE)
    assert read_responses(connections[3])[0].status == 200
    assert rejected(client)["connection_evicted"] == 1
    for connection in connections:
        connection.close()


def test_a_flood_of_silent_connections_closes_none_that_has_served_a_request(
    start: StartApp,
) -> None:
    """The oldest silent connection is closed, even if others have been idle for longer."""
    client = start(max_connections=8)
    url = client.base_url
    served = socket.create_connection((url.host, url.port or 0), 5)
    served.sendall(GET_LIVE)
    read_responses(served)
    time.sleep(1.1)

    flood = [socket.create_connection((url.host, url.port or 0), 5) for _ in range(30)]
    until(lambda: rejected(client).get("connection_evicted", 0) >= 23)

    served.sendall(GET_LIVE)
    assert read_responses(served)[0].status == 200
    for connection in (served, *flood):
        connection.close()


def test_a_new_connection_replaces_one_that_sends_slowly(models: Path, start: StartApp) -> None:
    """Partial heads and bodies do not block other clients."""
    publish_price(models)
    client = start(max_connections=4)
    url = client.base_url
    connections = [socket.create_connection((url.host, url.port or 0), 5) for _ in range(8)]
    for number, connection in enumerate(connections):
        try:
            connection.sendall(message(PATH, ROW)[: 20 if number % 2 else -3])
        except OSError:
            continue  # evicted already

    for _ in range(8):
        with httpx.Client(base_url=url) as other:
            assert other.post(PATH, json={"size": 2}).json()["value"] == 4
    for connection in connections:
        connection.close()


def test_a_connection_beyond_the_limit_gets_503_if_all_are_busy(
    models: Path, start: StartApp
) -> None:
    """No connection whose request is being processed is closed."""
    publish_bare(models, "slow", counting_loop())
    client = start(max_connections=2)
    url = client.base_url

    with connected(client) as first, connected(client) as second:
        for connection in (first, second):
            connection.sendall(SLOW)
        time.sleep(0.05)
        with socket.create_connection((url.host, url.port or 0), 5) as third:
            third.sendall(GET_LIVE)
            found = error_of(third)
            closed = is_closed(third)
        served = [read_responses(connection)[0].status for connection in (first, second)]

    assert found == (503, "too_many_connections", "close")
    assert closed
    assert served == [200, 200]
    assert rejected(client)["too_many_connections"] == 1


def test_a_half_closed_client_gets_its_response(models: Path, start: StartApp) -> None:
    """`nc -N` closes its side after sending; this holds for fast and slow requests and tables."""
    publish_price(models)
    publish_bare(models, "slow", counting_loop())
    client = start()
    table = message(PATH, b"size\n1\n2\n").replace(b"application/json", b"text/csv")

    for request, expected in (
        (message(PATH, ROW), b'"value":4.0'),
        (SLOW, b"[%d]" % STEPS),
        (table, b"2,4.0,"),
        (GET_LIVE, b'"live":true'),
    ):
        with connected(client) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while data := connection.recv(65536):
                received += data
        assert expected in received


def test_a_client_that_disconnects_during_a_slow_request_is_detected(
    models: Path, start: StartApp
) -> None:
    """The request is counted with status 499, though a half-close looks the same at first."""
    publish_bare(models, "slow", counting_loop())
    client = start()

    with connected(client) as connection:
        connection.sendall(slow_call(60 * STEPS))
        time.sleep(0.1)
    until(lambda: 'status="499"' in client.get("/metrics").text)

    assert client.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"hello\r\n\r\n", 400, "invalid_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "invalid_request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "invalid_request"),
        (b"CONNECT here:80 HTTP/1.1\r\nHost: here:80\r\n\r\n", 501, "not_implemented"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid_request"),
        (b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"a" * 9000), 414, "url_too_long"),
        (b"GET /%b" % (b"a" * 9000), 414, "url_too_long"),
        (b"GET / HTTP/1.1\r\nX: %b\r\n\r\n" % (b"a" * 66_000), 431, "head_too_large"),
        (b"GET / HTTP/1.1\r\nX: %b" % (b"a" * 66_000), 431, "head_too_large"),
        (b"GET / HTTP/1.1\r\n%b\r\n" % (b"X: a\r\n" * 101), 431, "too_many_headers"),
        (message(PATH, b"1\r\n{\r\n0\r\nX: %b" % (b"a" * 600_000), "Transfer-Encoding: chunked"),
         431, "head_too_large"),
        (message(PATH, b"1;%b" % (b"a" * 66_000), "Transfer-Encoding: chunked"),
         431, "head_too_large"),
    ],
)  # fmt: skip
def test_invalid_input_gets_the_error_contract(
    models: Path, start: StartApp, sent: bytes, status: int, code: str
) -> None:
    """There is one response, counted once, and the connection is closed."""
    publish_price(models)
    client = start()

    with connected(client) as connection:
        connection.sendall(sent)
        found = error_of(connection)
        closed = is_closed(connection)

    assert found == (status, code, "close")
    assert closed
    assert f'onward_responses_total{{status="{status}"}} 1.0' in client.get("/metrics").text
    limits = {"head_too_large", "too_many_headers", "url_too_long"}
    assert rejected(client) == ({code: 1} if code in limits else {})


@pytest.mark.parametrize("name", ["h2c", "websocket", "anything/1.0"])
@pytest.mark.parametrize("split", [False, True])
def test_an_upgrade_is_ignored_and_the_body_is_read(
    models: Path, start: StartApp, name: str, *, split: bool
) -> None:
    """The requests have a length, a chunked body, or no body."""
    publish_price(models)
    client = start()
    extra = (f"Upgrade: {name}", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMA")
    get = GET_LIVE[:-2] + "\r\n".join([*extra, "", ""]).encode()
    sent = [
        message(PATH, ROW, *extra),
        message(PATH, chunked(ROW[:4], ROW[4:]), "Transfer-Encoding: chunked", *extra),
        get,
        message(PATH, ROW),
    ]

    with connected(client) as connection:
        for request in sent:
            if split:
                end = request.index(b"\r\n\r\n") + 4
                connection.sendall(request[:end])
                time.sleep(0.02)
                connection.sendall(request[end:])
            else:
                connection.sendall(request)
        found = read_responses(connection, 4)

    assert [response.status for response in found] == [200] * 4
    assert [json.loads(response.content).get("value") for response in found] == [4, 4, None, 4]


def test_a_request_inside_the_body_of_an_upgrade_is_not_executed(
    models: Path, start: StartApp
) -> None:
    """The body belongs to the first request, which gets one response."""
    publish_price(models)
    client = start()
    inside = message(PATH, ROW)

    with connected(client) as connection:
        connection.sendall(message(PATH, inside, "Upgrade: foo", "Connection: upgrade") + GET_LIVE)
        first, second = read_responses(connection, 2)

    assert first.status == 400
    assert json.loads(second.content) == {"live": True}


def test_trailers_are_not_headers(models: Path, start: StartApp) -> None:
    """They do not change the response, and the connection is closed after it."""
    publish_price(models)
    client = start()
    trailers = [
        "Content-Type: text/csv",
        "X-Request-Id: trailer",
        "Content-Encoding: gzip",
        "Inference-Header-Content-Length: 3",
        "Accept: text/csv",
        "X-Client-Id: somebody",
    ]
    body = chunked(ROW)[:-2] + "\r\n".join([*trailers, "", ""]).encode()

    with connected(client) as connection:
        connection.sendall(message(PATH, body, "Transfer-Encoding: chunked", "X-Request-Id: head"))
        (response,) = read_responses(connection)
        closed = is_closed(connection)

    assert response.status == 200
    assert json.loads(response.content)["value"] == 4
    assert response.headers["x-request-id"] == "head"
    assert response.headers["connection"] == "close"
    assert closed


def test_an_early_response_to_a_small_body_keeps_the_connection(
    models: Path, start: StartApp
) -> None:
    """A 404 is sent before the body arrives, and the next request gets its response."""
    publish_price(models)
    client = start()
    request = message("/models/nobody/predict", ROW * 1000)

    with connected(client) as connection:
        connection.sendall(request[:200])
        (early,) = read_responses(connection)
        time.sleep(0.05)
        connection.sendall(request[200:])
        connection.sendall(message(PATH, ROW))
        (next_one,) = read_responses(connection)

    assert early.status == 404
    assert json.loads(next_one.content)["value"] == 4


@pytest.mark.parametrize("before", [b"", message(PATH, ROW)])
def test_an_upload_that_is_rejected_early_gets_its_response(
    models: Path, start: StartApp, before: bytes
) -> None:
    """The client continues to send, and the response is not lost by a reset."""
    publish_price(models)
    client = start(max_body_bytes=100_000)
    size = 20_000_000
    head = message(PATH, b"", f"Content-Length: {size}").replace(b"Content-Length: 0\r\n", b"")

    with connected(client) as connection:
        if before:
            connection.sendall(before)
            read_responses(connection)
        connection.sendall(head)
        for _ in range(size // 100_000):
            connection.sendall(b"x" * 100_000)
        found = error_of(connection)
        closed = is_closed(connection)

    assert found == (413, "body_too_large", "close")
    assert closed


def test_a_rejected_expectation_gets_no_body(models: Path, start: StartApp) -> None:
    """The client sends only its head, and gets the error without sending the body."""
    publish_price(models)
    client = start(max_body_bytes=1000)

    with connected(client) as connection:
        connection.sendall(message(PATH, ROW * 1000, "Expect: 100-continue")[:150])
        found = error_of(connection)
        closed = is_closed(connection)

    assert found == (413, "body_too_large", "close")
    assert closed


def test_pipelined_requests_are_not_read_while_their_responses_are_unread(
    models: Path, start: StartApp
) -> None:
    """The service reads only as much as the buffers of the sockets hold."""
    publish_price(models)
    client = start()
    missing = b"GET /nothing HTTP/1.1\r\nHost: here\r\n\r\n"

    for request in (message(PATH, b"[" + b",".join([ROW] * 500) + b"]"), missing, GET_LIVE):
        with connected(client) as connection:
            connection.settimeout(0.5)
            sent, content = 0, request * (20_000_000 // len(request))
            with pytest.raises(TimeoutError):  # noqa: PT012 - the service reads no more
                while sent < len(content):
                    sent += connection.send(content[sent : sent + 65536])
            assert sent < len(content)
            connection.settimeout(10)
            found = read_responses(connection, min(sent // len(request), 2000))
        assert len({response.status for response in found}) == 1


def test_headers_that_change_with_each_request_are_not_cached(
    models: Path, start: StartApp
) -> None:
    """Each request id is repeated, in one packet and in two."""
    publish_price(models)
    client = start()
    found: list[Response] = []

    with connected(client) as connection:
        for number in range(6):
            trace = f"traceparent: 00-{number:032x}-{number:016x}-01"
            whole = message(
                PATH, ROW, trace, f"X-Request-ID: mine-{number}", f"X-Real-IP: {number}"
            )
            end = whole.index(b"\r\n\r\n") + 4 if number % 2 else len(whole)
            connection.sendall(whole[:end])
            time.sleep(0.02)
            connection.sendall(whole[end:])
            found += read_responses(connection)

    assert [response.headers["x-request-id"] for response in found] == [
        f"mine-{i}" for i in range(6)
    ]
    assert {response.status for response in found} == {200}


def test_a_request_id_is_not_used_for_the_next_request(models: Path, start: StartApp) -> None:
    """The same head without an id gets a new id."""
    publish_price(models)
    client = start()

    with connected(client) as connection:
        connection.sendall(message(PATH, ROW, "X-Request-Id: mine"))
        (first,) = read_responses(connection)
        connection.sendall(message(PATH, ROW))
        (second,) = read_responses(connection)

    assert first.headers["x-request-id"] == "mine"
    assert re.fullmatch("[0-9a-f]{32}", second.headers["x-request-id"])


def test_requests_beyond_the_limit_get_429_immediately(models: Path, start: StartApp) -> None:
    """Predictions that are computed inline do not count."""
    publish_price(models)
    publish_bare(models, "slow", counting_loop())
    client = start(max_concurrent_requests=1)
    long = [{"size": 2}] * 3000

    with connected(client) as connection:
        connection.sendall(SLOW)
        time.sleep(0.05)
        quick = client.post(PATH, json={"size": 2})
        busy = [
            client.post(PATH, json=long),
            client.post(PATH, json=long + long),
            client.post("/v2/models/slow/infer", content=slow_call(1).partition(b"\r\n\r\n")[2]),
        ]
        read_responses(connection)
        free = client.post(PATH, json=long)

    assert quick.json()["value"] == 4
    assert {response.status_code for response in busy} == {429}
    assert {response.json()["code"] for response in busy} == {"too_many_requests"}
    assert {response.headers["retry-after"] for response in busy} == {"1"}
    assert free.status_code == 200
    assert rejected(client)["too_many_requests"] == 3


def test_the_response_to_a_table_over_http_1_0_is_not_chunked(
    models: Path, start: StartApp
) -> None:
    """An HTTP/1.0 client would read chunk headers as a part of the table."""
    publish_price(models)
    client = start()
    table = b"size\n" + b"2\n" * 50_000
    request = message(PATH, table, version="1.0").replace(b"application/json", b"text/csv")

    with connected(client) as connection:
        connection.sendall(request)
        (response,) = read_responses(connection)
        closed = is_closed(connection)

    assert response.status == 200
    assert "transfer-encoding" not in response.headers
    assert response.content.count(b"\n") == 50_001
    assert closed


def test_a_client_may_send_all_of_a_table_before_it_reads(models: Path, start: StartApp) -> None:
    """Sending takes longer than a response may stay unread."""
    publish_price(models)
    client = start(write_seconds=0.4)
    table = b"size\n" + b"2\n" * 400_000
    request = message(PATH, table).replace(b"application/json", b"text/csv")
    last = b""

    with connected(client) as connection:
        for offset in range(0, len(request), 20_000):
            connection.sendall(request[offset : offset + 20_000])
            time.sleep(0.03)
        while not last.endswith(b"0\r\n\r\n"):
            data = connection.recv(1 << 20)
            assert data
            last = (last + data)[-10:]


def test_silent_connections_do_not_block_other_clients(models: Path, start: StartApp) -> None:
    """A connection that serves requests is not closed if many connections are opened."""
    publish_price(models)
    client = start(max_connections=20)
    url = client.base_url
    connections = []

    with connected(client) as connection:
        for _ in range(10):
            connection.sendall(message(PATH, ROW))
            (response,) = read_responses(connection)
            assert response.status == 200
            connections += [
                socket.create_connection((url.host, url.port or 0), 5) for _ in range(20)
            ]
        until(lambda: rejected(client).get("connection_evicted", 0) >= 100)
        for each in connections:
            each.close()
