"""Random sequences of requests, and the responses that RFC 9112 requires.

A sequence contains valid requests, at most one invalid one, and more bytes after it. Each valid
request has its own id, which its response must repeat: there must be one response for each, in
order, and none for other bytes. Run as a program, the module sends many sequences:

    python -m tests.framing --cases 5000 --port 8000
"""

import argparse
import random
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise, repeat

import h11

PREDICT = "/models/price/predict"
ROW = b'{"size": 2}'
SMUGGLED = b"POST /models/price/predict HTTP/1.1\r\nHost: h\r\nX-Request-Id: smuggled\r\n\r\n"
_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Message:
    """The bytes of one message, and the expected response.

    ``status`` is None if several statuses are correct; ``closes`` means that the server must ignore
    all bytes after it.
    """

    content: bytes
    request_id: str | None
    status: int | None
    closes: bool = False
    method: str = "POST"


@dataclass(frozen=True)
class Response:
    """A response as it was received."""

    status: int
    headers: dict[str, str]
    content: bytes


@dataclass
class Stream:
    """Messages in order, the offsets at which the bytes are split, and the pause at each split."""

    messages: list[Message]
    cuts: list[int] = field(default_factory=list)
    pause_seconds: float = 0.0

    @property
    def content(self) -> bytes:
        """The bytes of all messages."""
        return b"".join(each.content for each in self.messages)

    @property
    def pieces(self) -> list[bytes]:
        """The bytes as they are sent."""
        content, edges = self.content, [0, *self.cuts, None]
        return [content[a:b] for a, b in pairwise(edges) if content[a:b]]


def _head(request_id: str, *lines: str, path: str = PREDICT, method: str = "POST") -> list[str]:
    return [
        f"{method} {path} HTTP/1.1",
        "Host: here",
        "Content-Type: application/json",
        f"X-Request-Id: {request_id}",
        *lines,
    ]


def _message(lines: Sequence[str], body: bytes = b"") -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _chunks(chance: random.Random, body: bytes, trailers: Sequence[str] = ()) -> bytes:
    parts = []
    while body:
        size = chance.randint(1, len(body))
        extension = chance.choice([b"", b"", b";a=b", b';name="quoted"'])
        zeros = b"0" * chance.choice([0, 0, 3])
        parts.append(b"%b%x%b\r\n%b\r\n" % (zeros, size, extension, body[:size]))
        body = body[size:]
    return b"".join([*parts, b"0\r\n", *(f"{line}\r\n".encode() for line in trailers), b"\r\n"])


_TRAILERS = [
    "X-Request-Id: trailer",
    "Content-Type: text/csv",
    "Content-Encoding: gzip",
    "Inference-Header-Content-Length: 3",
    "Host: elsewhere",
    "Connection: close",
]


def _sized(request_id: str, body: bytes, *lines: str, path: str = PREDICT) -> bytes:
    return _message(_head(request_id, f"Content-Length: {len(body)}", *lines, path=path), body)


def _valid(chance: random.Random, request_id: str) -> Message:
    """Create a valid request."""
    upgrade = ("Upgrade: foo", "Connection: upgrade")
    chunked = "Transfer-Encoding: chunked"
    large = b'[%b{"size": 2}]' % (b'{"size": 2},' * chance.randint(1, 9000))
    kinds: Sequence[Callable[[], Message]] = [
        lambda: Message(_sized(request_id, ROW), request_id, 200),
        lambda: Message(_sized(request_id, large), request_id, 200),
        lambda: Message(_sized(request_id, SMUGGLED), request_id, 400),
        lambda: Message(_sized(request_id, SMUGGLED, *upgrade), request_id, 400),
        lambda: Message(_sized(request_id, ROW, *upgrade), request_id, 200),
        lambda: Message(_sized(request_id, ROW, "Expect: 100-continue"), request_id, 200),
        lambda: Message(_sized(request_id, ROW, path=f"http://here{PREDICT}"), request_id, 200),
        lambda: Message(_sized(request_id, ROW, path="/models/nobody/predict"), request_id, 404),
        lambda: Message(_sized(request_id, SMUGGLED, path="/nothing"), request_id, 404),
        lambda: Message(b"\r\n" + _sized(request_id, ROW), request_id, 200),
        lambda: Message(
            _message(_head(request_id, chunked), _chunks(chance, ROW)), request_id, 200
        ),
        lambda: Message(
            _message(_head(request_id, chunked, *upgrade), _chunks(chance, ROW)), request_id, 200
        ),
        lambda: Message(
            _message(_head(request_id, chunked), _chunks(chance, SMUGGLED * 3)), request_id, 400
        ),
        lambda: Message(
            _message(_head(request_id, path="/health/live", method="GET")),
            request_id,
            200,
            method="GET",
        ),
        lambda: Message(
            _message(_head(request_id, path="/health/live", method="HEAD")),
            request_id,
            200,
            method="HEAD",
        ),
        lambda: Message(
            _message(_head(request_id, *upgrade, path="/models", method="GET")),
            request_id,
            200,
            method="GET",
        ),
        lambda: Message(
            _message(_head(request_id, "Content-Length: 3", path="/models", method="GET"), b"GET"),
            request_id,
            200,
            method="GET",
        ),
        lambda: Message(
            _message(_head(request_id, path="/nothing", method="PUT")), request_id, 404
        ),
    ]
    return chance.choice(kinds)()


def _last(chance: random.Random, request_id: str) -> Message:
    """Create a valid request after which the server closes the connection."""
    old = f"POST {PREDICT} HTTP/1.0"
    trailers = chance.sample(_TRAILERS, 2)
    chunked = _head(request_id, "Transfer-Encoding: chunked")
    lines = [old, f"X-Request-Id: {request_id}", f"Content-Length: {len(ROW)}"]
    made = [
        _sized(request_id, ROW, "Connection: close"),
        _message(lines, ROW),
        _message([*lines, "Connection: keep-alive"], ROW),
        _message(chunked, _chunks(chance, ROW, trailers)),
    ]
    return Message(chance.choice(made), request_id, 200, closes=True)


def _invalid(chance: random.Random, request_id: str) -> Message:
    """Create an invalid request, which gets one error; the server ignores all bytes after it."""
    size = f"Content-Length: {len(ROW)}"
    chunked = "Transfer-Encoding: chunked"
    valid_head = _head(request_id, size)
    invalid: Sequence[bytes] = [
        _message([*valid_head, "Content-Length: 3"], ROW),
        _message([*valid_head, size], ROW),
        _message([*valid_head, chunked], ROW),
        _message(_head(request_id, chunked, size), _chunks(chance, ROW)),
        _message(_head(request_id, "Transfer-Encoding: gzip, chunked"), _chunks(chance, ROW)),
        _message(_head(request_id, "Transfer-Encoding: xchunked"), _chunks(chance, ROW)),
        _message(_head(request_id, chunked, chunked), _chunks(chance, ROW)),
        _message(_head(request_id, chunked), _chunks(chance, ROW, ["Content-Length: 7"])),
        _message(_head(request_id, chunked), _chunks(chance, ROW, [chunked])),
        _message(_head(request_id, "Content-Length: +11"), ROW),
        _message(_head(request_id, "Content-Length: -1"), ROW),
        _message(_head(request_id, "Content-Length: 0xb"), ROW),
        _message(_head(request_id, "Content-Length: 11, 11"), ROW),
        _message(_head(request_id, "Content-Length: 99999999999999999999999"), ROW),
        _message([line for line in valid_head if not line.startswith("Host")], ROW),
        _message([*valid_head, "Host: there"], ROW),
        _message([*valid_head[:1], "Host: a b", *valid_head[2:]], ROW),
        _message([*valid_head, "Name : value"], ROW),
        _message([*valid_head, "X: a", " folded"], ROW),
        _message([*valid_head, ": no name"], ROW),
        _message([*valid_head, "no colon"], ROW),
        _message([*valid_head, "X: a\0b"], ROW),
        _message(valid_head, ROW).replace(b"\r\n", b"\n"),
        _message([f"POST {PREDICT} HTTP/1.2", *valid_head[1:]], ROW),
        _message([f"POST {PREDICT} HTTP/2.0", *valid_head[1:]], ROW),
        _message([f"POST {PREDICT}", *valid_head[1:]], ROW),
        _message([f"POST {PREDICT}\x01 HTTP/1.1", *valid_head[1:]], ROW),
        _message(["CONNECT here:80 HTTP/1.1", "Host: here:80"]),
        _message([f"POST {PREDICT} HTTP/1.0", chunked], _chunks(chance, ROW)),
        _message(_head(request_id, chunked), b"g\r\n" + ROW),
        _message(_head(request_id, chunked), b"-1\r\n" + ROW),
        _message(_head(request_id, chunked), b"5\r\n" + ROW + b"\r\n0\r\n\r\n"),
        _message(_head(request_id, chunked), b"ffffffffffffffffff\r\n" + ROW),
        _message([*valid_head, *(f"X-{number}: a" for number in range(200))], ROW),
        _message([*valid_head, "X: " + "a" * 70_000], ROW),
        _message(_head(request_id, size, path="/" + "a" * 9000), ROW),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(40),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"\0" * 20,
    ]
    return Message(chance.choice(invalid), None, None, closes=True)


def sequences(seed: int, count: int) -> Iterator[Stream]:
    """Generate random sequences, split at random offsets."""
    for number in range(count):
        chance = random.Random(f"{seed}/{number}")  # noqa: S311 - repeatable, not secret
        messages = [_valid(chance, f"{number}.{i}") for i in range(chance.randint(1, 5))]
        if chance.random() < 0.7:
            end = _invalid if chance.random() < 0.7 else _last
            messages.append(end(chance, f"{number}.last"))
            messages += [_valid(chance, f"{number}.after") for _ in range(chance.randint(0, 2))]
        stream = Stream(messages)
        size = len(stream.content)
        cuts = chance.choice([0, 0, 1, 3, 10])
        stream.cuts = sorted(chance.randrange(size) for _ in range(cuts))
        if chance.random() < 0.2:  # head and body arrive one after the other
            ends = [match.end() for match in re.finditer(rb"\r\n\r\n", stream.content[:5000])]
            stream.cuts = sorted({*stream.cuts, *ends[:4]} - {size})
            stream.pause_seconds = 0.002
        yield stream


def send(address: tuple[str, int], sequence: Stream) -> list[Response]:
    """Send a sequence, close the client's side, and read all responses."""
    with socket.create_connection(address, _TIMEOUT_SECONDS) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in sequence.pieces:
                line.sendall(piece)
                time.sleep(sequence.pause_seconds)
            line.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has closed the connection; its responses are read below
        received = bytearray()
        try:
            while data := line.recv(65536):
                received += data
        except ConnectionResetError:
            pass
    methods = [each.method for each in sequence.messages]
    return read_responses(bytes(received), methods)


def read_responses(data: bytes, methods: Sequence[str]) -> list[Response]:
    """Parse all complete final responses with h11.

    Args:
        data: the bytes from the server.
        methods: of the requests, since HEAD's responses have no body.
    """
    found: list[Response] = []
    for method in chain(methods, repeat("GET")):
        if not data:
            break
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        try:
            found.append(_next_response(client))
        except h11.RemoteProtocolError:
            break
        data = client.trailing_data[0]
    return found


def _next_response(client: h11.Connection) -> Response:
    """Read the next final response; raise h11's error if it is incomplete."""
    status, headers, content = 0, {}, b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            status = event.status_code
            headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            content += event.data
        elif event is h11.NEED_DATA:
            client.receive_data(b"")  # the end of the stream
    return Response(status, headers, content)


def violations(sequence: Stream, responses: Sequence[Response]) -> list[str]:
    """Compare the responses with the expected ones, and describe the differences."""
    due = []
    for each in sequence.messages:
        due.append(each)
        if each.closes:
            break
    problems = []
    if len(responses) != len(due):
        statuses = [response.status for response in responses]
        problems.append(f"{len(responses)} responses to {len(due)} messages: {statuses}")
    for each, response in zip(due, responses, strict=False):
        got = response.headers.get("x-request-id")
        if each.request_id is None:
            if not 400 <= response.status < 600 or response.headers.get("connection") != "close":
                problems.append(f"no error that closes: {response}")
        elif got != each.request_id or response.status != each.status:
            problems.append(f"{each.request_id} ({each.status}) got {response.status} for {got}")
    return problems


def mutated(seed: int, count: int) -> Iterator[Stream]:
    """Generate random sequences with some bytes changed, removed, or repeated."""
    for number, stream in enumerate(sequences(seed, count)):
        chance = random.Random(f"mutated {seed}/{number}")  # noqa: S311 - as above
        content = bytearray(stream.content)
        for _ in range(chance.randint(1, 4)):
            start = chance.randrange(len(content))
            end = start + chance.randint(0, 8)
            content[start:end] = chance.choice(
                [
                    b"",
                    b"\r\n",
                    b"\n",
                    b" ",
                    b"0",
                    b":",
                    b"\0",
                    b"\r\n\r\n",
                    bytes(content[start:end] * 2),
                ]
            )
        messages = [Message(bytes(content), None, None)]
        yield Stream(messages, [cut for cut in stream.cuts if cut < len(content)])


def requests_by_h11(data: bytes) -> tuple[list[str], bool]:
    """Parse requests with h11 up to the first error, and return their ids.

    Returns:
        The ids of the complete requests, and whether all bytes are requests.
    """
    found: list[str] = []
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    server.receive_data(data)
    server.receive_data(b"")
    request_id = ""
    while True:
        try:
            event = server.next_event()
            if isinstance(event, h11.Request):
                request_id = dict(event.headers).get(b"x-request-id", b"").decode("latin-1")
            elif isinstance(event, h11.EndOfMessage):
                found.append(request_id)
                server.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                server.send(h11.EndOfMessage())
                server.start_next_cycle()
            elif (
                isinstance(event, h11.ConnectionClosed)
                or event is h11.NEED_DATA
                or event is h11.PAUSED
            ):
                return found, True
        except (h11.RemoteProtocolError, h11.LocalProtocolError):
            return found, False


def disagreements(stream: Stream, responses: Sequence[Response]) -> list[str]:
    """Describe responses to bytes that h11 does not parse as a request.

    Requests without a valid id get a new one, and are ignored.
    """
    ids, is_clean = requests_by_h11(stream.content)
    repeated = [response.headers.get("x-request-id", "") for response in responses]
    own = [each for each in repeated if not re.fullmatch("[0-9a-f]{32}", each)]
    ids = [each for each in ids if re.fullmatch(r"[\x21-\x7e]{1,128}", each)]
    if is_clean and own != ids[: len(own)]:
        return [f"responses to {own}, but the requests are {ids}"]
    return []


def main() -> int:
    """Send sequences to a running service that serves the tests' model ``price``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    failed = 0
    address = "127.0.0.1", options.port
    valid = (
        (it, violations(it, send(address, it))) for it in sequences(options.seed, options.cases)
    )
    changed = (
        (it, disagreements(it, send(address, it))) for it in mutated(options.seed, options.cases)
    )
    for number, (sequence, problems) in enumerate(chain(valid, changed)):
        if problems:
            failed += 1
            parts = (number, *problems, *(each.content[:600] for each in sequence.messages))
            sys.stdout.write("\n  ".join(map(str, (*parts, sequence.cuts))) + "\n")
    sys.stdout.write(
        f"{options.cases} sequences, and as many changed ones; {failed} with a violation\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
