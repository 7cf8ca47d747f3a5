"""Predictions at the protocol's door are answered as ASGI answers them, however they arrive."""

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

PLAIN = b'{"exam_1": 61, "exam_2": 74}'
BAD = b'{"exam_1": 61, "exam_3": 74}'
V1 = b'{"instances": [[61, 74], [30, 40]]}'
V2 = json.dumps(
    {"inputs": [{"name": "features", "shape": [1, 2], "datatype": "FP32", "data": [61, 74]}]}
).encode()
REQUESTS = {
    "plain": ("/models/admission/predict", PLAIN),
    "plain, many": ("/models/admission/predict", b"[" + PLAIN + b"," + PLAIN + b"]"),
    "plain, version": ("/models/admission/versions/1/predict", PLAIN),
    "plain, parameters": ("/models/admission/predict?top=1", PLAIN),
    "plain, wrong": ("/models/admission/predict", BAD),
    "plain, no JSON": ("/models/admission/predict", b"{"),
    "plain, unknown parameter": ("/models/admission/predict?tpo=1", PLAIN),
    "v1": ("/v1/models/admission:predict", V1),
    "v1, wrong": ("/v1/models/admission:predict", b'{"instances": [[61]]}'),
    "v2": ("/v2/models/admission/infer", V2),
    "v2, wrong": ("/v2/models/admission/infer", V2.replace(b"[1, 2]", b"[2, 2]")),
    "no such model": ("/models/admision/predict", PLAIN),
    "no such version": ("/models/admission/versions/7/predict", PLAIN),
}


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def told(self) -> tuple[int, bytes, str | None, str | None]:
        """What does not depend on when it was asked."""
        kind, version = map(self.headers.get, ("content-type", "x-model-version"))
        return self.status, self.content, kind, version


@contextmanager
def connected(client: httpx.Client) -> Iterator[socket.socket]:
    """A bare connection to the service."""
    url = client.base_url
    with socket.create_connection((url.host, url.port or 0), 10) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield line


def message(path: str, body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: here", "Content-Type: application/json"]
    if not any(header.startswith("Transfer-Encoding") for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def answers(line: socket.socket, count: int = 1) -> Sequence[Answer]:
    """So many answers, in their order."""
    found = []
    with closing(line.makefile("rb")) as file:
        for _ in range(count):
            status = int(file.readline().split()[1])
            while status == 100:
                file.readline()
                status = int(file.readline().split()[1])
            headers = {}
            while (text := file.readline().strip()) != b"":
                name, _, value = text.decode().partition(": ")
                headers[name.lower()] = value
            found.append(Answer(status, headers, file.read(int(headers["content-length"]))))
    return found


def counts(client: httpx.Client) -> dict[str, float]:
    """Predictions by outcome."""
    text = client.get("/metrics").text
    found: dict[str, float] = {}
    for outcome, value in re.findall(
        r'^onward_requests_total{.*outcome="(\w+)".*} (\S+)$', text, re.MULTILINE
    ):
        found[outcome] = found.get(outcome, 0) + float(value)
    return found


def chunked(*pieces: bytes) -> bytes:
    """A body in pieces, each behind its length."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_in_one_piece_is_answered_as_one_in_many(
    models: Path, start: StartApp, name: str
) -> None:
    """In one read it goes through the door, byte by byte through ASGI."""
    publish_admission(models)
    client = start()
    whole = message(*REQUESTS[name])

    with connected(client) as line:
        line.sendall(whole)
        (quick,) = answers(line)
        for place in range(0, len(whole), 40):
            line.sendall(whole[place : place + 40])
            time.sleep(0.002)
        (slow,) = answers(line)

    assert quick.told == slow.told
    assert ("server-timing" in quick.headers) == (quick.status == 200)
    assert re.fullmatch("[0-9a-f]{32}", quick.headers["x-request-id"])
    assert len(set(counts(client).values())) == 1
    assert sum(counts(client).values()) == 2


@pytest.mark.parametrize(
    ("headers", "body", "version"),
    [
        (("Expect: 100-continue",), PLAIN, "1.1"),
        (("Transfer-Encoding: chunked",), chunked(PLAIN), "1.1"),
        (("Transfer-Encoding: chunked",), chunked(PLAIN[:10], PLAIN[10:]), "1.1"),
        (("Content-Encoding: gzip",), gzip.compress(PLAIN), "1.1"),
        (("Connection: close",), PLAIN, "1.1"),
        (("Connection: keep-alive",), PLAIN, "1.0"),
        ((), PLAIN, "1.0"),
    ],
)  # fmt: skip
def test_other_ways_of_sending_are_answered_alike(
    models: Path, start: StartApp, headers: tuple[str, ...], body: bytes, version: str
) -> None:
    """What the door does not know goes on to ASGI, and the answer is the same."""
    publish_admission(models)
    client = start()
    path = "/models/admission/predict"

    with connected(client) as line:
        line.sendall(message(path, PLAIN))
        (usual,) = answers(line)
        line.sendall(message(path, body, *headers, version=version))
        (other,) = answers(line)

    assert other.told == usual.told
    assert usual.status == 200


def test_requests_behind_each_other_are_answered_in_their_order(
    models: Path, start: StartApp
) -> None:
    """Several in one segment, predictions and others mixed."""
    publish_price(models)
    client = start()
    rows = [b'{"size": %d}' % size for size in range(1, 9)]
    sent = [message("/models/price/predict", row) for row in rows]
    sent.insert(3, b"GET /models/price HTTP/1.1\r\nHost: here\r\n\r\n")
    sent.insert(6, message("/models/nobody/predict", rows[0]))

    with connected(client) as line:
        line.sendall(b"".join(sent))
        found = answers(line, len(sent))

    values = [json.loads(answer.content).get("value") for answer in found]
    assert values == [2, 4, 6, None, 8, 10, None, 12, 14, 16]
    assert [answer.status for answer in found] == [200] * 6 + [404] + [200] * 3


def test_an_id_that_the_caller_gives_is_repeated(models: Path, start: StartApp) -> None:
    """At the door as elsewhere; one that would break a header or a log is not."""
    publish_price(models)
    client = start()
    given = [{"x-request-id": word} for word in ("mine-1", "not mine", "x" * 129)]

    found = [
        client.post("/models/price/predict", json={"size": 1}, headers=one).headers["x-request-id"]
        for one in given
    ]

    assert found[0] == "mine-1"
    assert all(re.fullmatch("[0-9a-f]{32}", other) for other in found[1:])


def test_a_caller_that_leaves_harms_nobody(models: Path, start: StartApp) -> None:
    """Many that send and go at once, and one that stays."""
    publish_price(models)
    client = start()

    for _ in range(30):
        with connected(client) as line:
            line.sendall(message("/models/price/predict", b'{"size": 3}') * 3)
    answer = client.post("/models/price/predict", json={"size": 2})

    assert answer.json()["value"] == 4


def test_a_body_above_the_limit_is_refused_however_it_arrives(
    models: Path, start: StartApp
) -> None:
    """The operator's limit holds at the door too."""
    publish_price(models)
    client = start(max_body_bytes=100)
    row = b'{"size": 2}'

    with connected(client) as line:
        line.sendall(message("/models/price/predict", row.ljust(101)))
        (refused,) = answers(line)
    with connected(client) as line:
        line.sendall(message("/models/price/predict", row.ljust(100)))
        (taken,) = answers(line)

    assert (refused.status, json.loads(refused.content)["code"]) == (413, "body_too_large")
    assert taken.status == 200


def test_a_caller_who_does_not_read_is_waited_for(models: Path, start: StartApp) -> None:
    """Answers wait with the caller, not in the service's memory; all come in the end."""
    publish_price(models)
    client = start()
    rows, requests = b"[" + b",".join([b'{"size": 1}'] * 400) + b"]", 600

    with connected(client) as line:
        line.settimeout(0.5)
        sent = 0
        content = message("/models/price/predict", rows) * requests
        try:
            while sent < len(content):
                sent += line.send(content[sent : sent + 65536])
        except TimeoutError:
            pass  # the service reads no more
        line.settimeout(10)
        whole = sent // (len(content) // requests)
        found = answers(line, whole)

    assert whole > 10
    assert {answer.status for answer in found} == {200}


def test_what_is_no_http_closes_the_connection(models: Path, start: StartApp) -> None:
    """Behind a prediction whose body is announced and never comes, too."""
    publish_price(models)
    client = start()

    with connected(client) as line:
        line.sendall(
            message("/models/price/predict", b"nonsense\r\n", "Transfer-Encoding: chunked")
        )
        said = line.recv(1000)
    answer = client.post("/models/price/predict", json={"size": 2})

    assert said.startswith(b"HTTP/1.1 400")
    assert answer.status_code == 200


def test_a_head_that_comes_again_says_the_same(models: Path, start: StartApp) -> None:
    """With other bodies of its length, on other connections, and for good and bad ones."""
    publish_price(models)
    client = start()
    path = "/models/price/predict"
    rows = [b'{"size": %d}' % size for size in range(1, 9)]
    wrong, unread = b'{"size": x}', b'{"siza": 1}'

    found: list[Answer] = []
    for _ in range(2):
        with connected(client) as line:
            for row in (*rows, wrong, unread, rows[0] + b" "):
                line.sendall(message(path, row))
                found += answers(line)

    values = [json.loads(answer.content).get("value") for answer in found]
    assert values == [2, 4, 6, 8, 10, 12, 14, 16, None, None, 2] * 2
    assert [answer.status for answer in found[8:11]] == [400, 400, 200]
    assert len({answer.headers["x-request-id"] for answer in found}) == len(found)
    assert counts(client)["ok"] == 18


def test_a_head_that_comes_again_before_another_body_is_read_anew(
    models: Path, start: StartApp
) -> None:
    """Whose body is cut short, or followed by a second request."""
    publish_price(models)
    client = start()
    path, row = "/models/price/predict", b'{"size": 3}'
    known = message(path, row)

    with connected(client) as line:
        line.sendall(known)
        (first,) = answers(line)
        line.sendall(known[:-4])
        time.sleep(0.05)
        line.sendall(known[-4:])
        (second,) = answers(line)
        line.sendall(known + message(path, b'{"size": 40}'))
        third, fourth = answers(line, 2)

    values = [json.loads(answer.content)["value"] for answer in (first, second, third, fourth)]
    assert values == [6, 6, 6, 80]


@pytest.mark.parametrize("place", [20, 45, 70])
def test_the_end_of_a_head_is_no_head(models: Path, start: StartApp, place: int) -> None:
    """Though a request once arrived in two parts, and was answered."""
    publish_price(models)
    client = start()
    whole = message("/models/price/predict", b'{"size": 3}')

    with connected(client) as line:
        line.sendall(whole[:place])
        time.sleep(0.05)
        line.sendall(whole[place:])
        (taken,) = answers(line)
        line.sendall(whole[place:])
        said = line.recv(1000)

    assert taken.status == 200
    assert said.startswith(b"HTTP/1.1 400")


def test_a_chunked_body_teaches_no_head(models: Path, start: StartApp) -> None:
    """What stands between its pieces is no row, however often it comes."""
    publish_price(models)
    client = start()
    whole = message("/models/price/predict", chunked(b'{"size": 3}'), "Transfer-Encoding: chunked")

    with connected(client) as line:
        for _ in range(3):
            line.sendall(whole)
            (answer,) = answers(line)
            assert json.loads(answer.content)["value"] == 6


def test_what_serves_now_answers_a_head_from_before(models: Path, start: StartApp) -> None:
    """A head is remembered, not which version it met."""
    publish_price(models)
    client = start(poll_seconds=0.05)
    whole = message("/models/price/predict", b'{"size": 3}')

    with connected(client) as line:
        line.sendall(whole)
        (before,) = answers(line)
        publish_price(models, slope=3)
        for _ in range(100):
            time.sleep(0.05)
            line.sendall(whole)
            (after,) = answers(line)
            if after.headers["x-model-version"] == "2":
                break

    told = [(a.headers["x-model-version"], json.loads(a.content)["value"]) for a in (before, after)]
    assert told == [("1", 6), ("2", 9)]
