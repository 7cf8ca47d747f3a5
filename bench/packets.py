"""``python -m bench.packets``: what a request costs whose head and body arrive separately.

`requests`, `httpx`, `urllib` and aiohttp write a head and its body in two packets, wrk in one. The
server's processor time a request is measured both ways by turns, over the same connections, with
the same pause, so that its ratio depends neither on the load nor on the machine. The same requests
with tracing headers that change each time show whether the cache of heads survives them.
"""

import argparse
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from bench.page import replace_section
from bench.processes import Start, started

_ROUNDS = 7
_REQUESTS = 2000
_CONNECTIONS = 1
# In it the server reads the head, as it usually does before the body comes.
_PAUSE_SECONDS = 0.000_2
_BAR = 1.3
_BODY = b'{"exam_1": 45, "exam_2": 85}'
_HEAD = (
    "POST /models/admission/predict HTTP/1.1\r\nHost: localhost:8000\r\n"
    "User-Agent: python-requests/2.32.3\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"
    "Connection: keep-alive\r\nContent-Type: application/json\r\n{}Content-Length: {}\r\n\r\n"
)
_TRACING = "traceparent: 00-{0:032x}-{0:016x}-01\r\nX-Request-Id: {0:032x}\r\n"

Write = Callable[[socket.socket, int], None]


def main() -> int:
    """Measure, and write the section; 1 where two packets cost too much."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--write", action="store_true", help="into bench/RESULTS.md")
    given = parser.parse_args()
    command = ("-m", "service", "--port", "{port}", "--device", "cpu")
    with started(Start(command, "/health/live")) as server:
        measured = _rounds(server.address, server.process, given.rounds)
    base = statistics.median(measured["one packet"])
    lines = [
        "| request | server CPU, µs a request | ratio |",
        "|---|---|---|",
        *(
            f"| {name} | {statistics.median(found):.1f} | {statistics.median(found) / base:.2f} |"
            for name, found in measured.items()
        ),
    ]
    ratio = statistics.median(measured["two packets"]) / base
    lines += ["", f"Two packets to one: {ratio:.2f} (bar {_BAR})."]
    sys.stdout.write("\n".join(lines) + "\n")
    if given.write:
        replace_section("One packet and two", lines)
    return 0 if ratio <= _BAR else 1


def _rounds(address: str, process: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds of the server's processor time a request, by how it is written."""
    numbers = count(1)
    kinds: dict[str, Write] = {
        "one packet": lambda line, _: _in_one(line, ""),
        "two packets": lambda line, _: _in_two(line, ""),
        "one packet, tracing headers": lambda line, number: _in_one(line, _TRACING.format(number)),
        "two packets, tracing headers": lambda line, number: _in_two(line, _TRACING.format(number)),
    }
    found: dict[str, list[float]] = {name: [] for name in kinds}
    with ExitStack() as stack:
        lines = [stack.enter_context(_connected(address)) for _ in range(_CONNECTIONS)]
        for number in range(rounds + 1):
            for name, write in kinds.items():
                before = _processor_seconds(process)
                _exchange(lines, write, numbers)
                if number:  # the first round warms up
                    spent = _processor_seconds(process) - before
                    found[name].append(1e6 * spent / _REQUESTS)
    return found


def _exchange(lines: list[socket.socket], write: Write, numbers: Iterator[int]) -> None:
    for _ in range(_REQUESTS // len(lines)):
        for line in lines:
            write(line, next(numbers))
        for line in lines:
            received = line.recv(65536)
            while not received.endswith(b"}"):
                received += line.recv(65536)
            if not received.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(received[:200].decode(errors="replace"))


def _in_one(line: socket.socket, extra: str) -> None:
    time.sleep(_PAUSE_SECONDS)
    line.sendall(_HEAD.format(extra, len(_BODY)).encode() + _BODY)


def _in_two(line: socket.socket, extra: str) -> None:
    line.sendall(_HEAD.format(extra, len(_BODY)).encode())
    time.sleep(_PAUSE_SECONDS)
    line.sendall(_BODY)


def _connected(address: str) -> socket.socket:
    parts = urlsplit(address)
    line = socket.create_connection((parts.hostname or "", parts.port or 0), 20)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


def _processor_seconds(process: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
