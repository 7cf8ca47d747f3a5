"""Measure the cost of a request whose head and body arrive separately, and of the ASGI path.

`requests`, `httpx`, `urllib` and aiohttp write head and body in two packets, wrk in one. The
processor time of the server per request is measured alternately both ways, over the same
connection and with the same pause, so that the ratio depends neither on the load nor on the
machine. Requests with different tracing headers each time measure whether the cache of heads is
effective for them.

The ASGI path is compared with the fast path without a pause, because after a pause both mostly wait
for memory that is no longer in the processor's caches. Run it by ``python -m bench.packets``.
"""

import argparse
import socket
import statistics
import sys
import time
from collections.abc import Callable
from itertools import count

from bench.hostile.requests import ROW
from bench.levels import cpu_seconds
from bench.page import replace_section
from bench.processes import Running, Start, service_command, started

_ROUNDS = 7
_REQUESTS = 2000
# During this pause the server reads the head, as it usually does before the body arrives.
_PAUSE_SECONDS = 0.000_2
# The limit of a ratio, by what is compared with what.
_LIMITS = {
    ("two packets", "one packet"): 1.3,
    ("ASGI path", "fast path"): 2.0,
}
_HEAD = (
    "POST /models/admission/predict HTTP/1.1\r\nHost: localhost:8000\r\n"
    "User-Agent: python-requests/2.32.3\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"
    "Connection: keep-alive\r\nContent-Type: application/json\r\n{}Content-Length: {}\r\n\r\n"
)
_CHUNKED = _HEAD.replace(
    "{}Content-Length: {}", "Transfer-Encoding: chunked"
).encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(ROW), ROW)
# Heads with this header are not cached, so uvicorn's parser reads each of them.
_EXPECT = "Expect: 200-ok\r\n"
_TRACING = "traceparent: 00-{0:032x}-{0:016x}-01\r\nX-Request-Id: {0:032x}\r\n"

Write = Callable[[socket.socket, int], None]


def main() -> int:
    """Measure, and write the section; return 1 if a ratio is above its limit."""
    parser = argparse.ArgumentParser(prog="python -m bench.packets", description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--write", action="store_true", help="write the table into RESULTS.md")
    options = parser.parse_args()
    with started(Start(service_command())) as server:
        measured = _rounds(server, options.rounds)
    medians = {name: statistics.median(found) for name, found in measured.items()}
    lines = [
        "| request | server CPU, µs per request |",
        "|---|---|",
        *(f"| {name} | {median:.1f} |" for name, median in medians.items()),
        "",
        "| comparison | ratio | limit |",
        "|---|---|---|",
    ]
    missed = 0
    for (name, base), limit in _LIMITS.items():
        ratio = medians[name] / medians[base]
        lines.append(f"| {name} / {base} | {ratio:.2f} | {limit} |")
        missed += ratio > limit
    sys.stdout.write("\n".join(lines) + "\n")
    if options.write:
        replace_section("One packet and two", lines)
    return int(missed > 0)


def _rounds(server: Running, rounds: int) -> dict[str, list[float]]:
    """Microseconds of the server's processor time per request, by how it is written."""
    numbers = count(1)
    kinds: dict[str, Write] = {
        "one packet": lambda connection, _: _in_one(connection, ""),
        "two packets": lambda connection, _: _in_two(connection, ""),
        "one packet, tracing headers": lambda connection, number: _in_one(
            connection, _TRACING.format(number)
        ),
        "two packets, tracing headers": lambda connection, number: _in_two(
            connection, _TRACING.format(number)
        ),
        "fast path": lambda connection, _: _at_once(connection, ""),
        "fast path, Upgrade": lambda connection, _: _at_once(connection, "Upgrade: h2c\r\n"),
        "fast path, chunked body": lambda connection, _: connection.sendall(_CHUNKED),
        "ASGI path": lambda connection, _: _at_once(connection, "Content-Encoding: identity\r\n"),
        "ASGI path, head not cached": lambda connection, _: _at_once(connection, _EXPECT),
    }
    found: dict[str, list[float]] = {name: [] for name in kinds}
    with socket.create_connection(server.endpoint, 20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(rounds + 1):
            for name, write in kinds.items():
                before = cpu_seconds([server.process])
                for _ in range(_REQUESTS):
                    write(connection, next(numbers))
                    _receive(connection)
                if number:  # the first round warms up
                    spent = cpu_seconds([server.process]) - before
                    found[name].append(1e6 * spent / _REQUESTS)
    return found


def _receive(connection: socket.socket) -> None:
    received = connection.recv(65536)
    while not received.endswith(b"}"):
        received += connection.recv(65536)
    if not received.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(received[:200].decode(errors="replace"))


def _at_once(connection: socket.socket, extra: str) -> None:
    connection.sendall(_HEAD.format(extra, len(ROW)).encode() + ROW)


def _in_one(connection: socket.socket, extra: str) -> None:
    time.sleep(_PAUSE_SECONDS)
    _at_once(connection, extra)


def _in_two(connection: socket.socket, extra: str) -> None:
    connection.sendall(_HEAD.format(extra, len(ROW)).encode())
    time.sleep(_PAUSE_SECONDS)
    connection.sendall(ROW)


if __name__ == "__main__":
    sys.exit(main())
