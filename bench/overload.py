"""Measure far more requests than the service can process, for a minute.

500 connections send bodies of 2,000 rows; each sends the next request after the response. Every
request must get a prediction within the deadline or be rejected, the median rejection must take at
most 20 ms, and the metrics of the service must match the counts of the clients. The exit status is
1 if one of these is missed. Run it by ``python -m bench.overload``.
"""

import argparse
import re
import selectors
import socket
import struct
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.hostile.requests import PREDICT, objects, post
from bench.page import replace_section
from bench.processes import Running, Start, exit_on_sigterm, service_command, started

_ROWS = 2000
_REJECTION_MILLISECONDS = 20.0
# The time above the deadline for sending the response and for the client to read it.
_LATE_SECONDS = 0.25
_TIMEOUT_SECONDS = 10.0
_READ_BYTES = 1024 * 1024
# SO_TIMESTAMPNS, which Python does not define: the kernel's arrival time of a packet. With it the
# time of a rejection does not depend on how busy this client is.
_TIMESTAMPS = 35
_TIMESTAMP = struct.Struct("qq")
_ANCILLARY_BYTES = 64
_NANOSECONDS = 10**9
_OK = 200
_LENGTH = re.compile(rb"(?i)content-length: (\d+)")
_CODE = re.compile(rb'"code":"(\w+)"')
_OUTCOMES = re.compile(r'^onward_requests_total{.*outcome="(\w+)".*} (\S+)$', re.MULTILINE)
_STATUSES = re.compile(r'^onward_responses_total{status="(\d+)"} (\S+)$', re.MULTILINE)
_REJECTIONS = re.compile(
    r'^onward_rejected_requests_total{.*reason="(\w+)".*} (\S+)$', re.MULTILINE
)


@dataclass
class Observations:
    """The responses of all connections; times in seconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    accepted: list[float] = field(default_factory=list)
    """Times from the last byte sent to the complete response, of responses with status 200."""
    rejected: list[float] = field(default_factory=list)
    """Times from the last byte sent to the first byte of the response, of all others."""
    silent: int = 0
    """Requests whose connection ended without a response."""
    unsent: int = 0
    """Requests whose connection ended without a response before all of it was sent."""
    cpu_share: float = 0.0
    """Of one core, used by this client."""


class _Client:
    """One connection, which sends the same request repeatedly."""

    def __init__(self, address: tuple[str, int], request: bytes, observed: Observations) -> None:
        self._address = address
        self._request = memoryview(request)
        self._observed = observed
        self._unsent = len(request)
        self._sent = 0
        self._first = 0
        self._received = bytearray()
        self._length = -1
        self._done = False
        self.socket = self._connect()

    @property
    def is_waiting(self) -> bool:
        """Whether a request has been sent at least partly, and its response is incomplete."""
        return self._unsent < len(self._request) and not self._done

    @property
    def events(self) -> int:
        """The events of the selector that it waits for."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)

    def send(self) -> None:
        """Send as much as the kernel accepts."""
        try:
            sent_bytes = self.socket.send(self._request[len(self._request) - self._unsent :])
        except BlockingIOError:
            return
        self._unsent -= sent_bytes
        if not self._unsent:
            self._sent = time.time_ns()

    def receive(self) -> bool:
        """Read what has arrived; return whether the response is complete."""
        try:
            data, ancillary, _, _ = self.socket.recvmsg(_READ_BYTES, _ANCILLARY_BYTES)
        except BlockingIOError:
            return False
        except ConnectionError:
            data, ancillary = b"", []
        if not data:
            self._count_lost()
            return True
        if not self._first and ancillary:
            seconds, nanoseconds = _TIMESTAMP.unpack(ancillary[0][2])
            self._first = seconds * _NANOSECONDS + nanoseconds
        self._received += data
        return self._is_complete()

    def start_again(self) -> None:
        """Begin the next request, over a new connection if the last one has ended."""
        if self.socket.fileno() < 0:
            self.socket = self._connect()
        self._unsent = len(self._request)
        self._sent = self._first = 0
        self._received = bytearray()
        self._length = -1
        self._done = False

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self._address, _TIMEOUT_SECONDS)
        connection.setblocking(False)  # noqa: FBT003 - the standard library's own signature
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
        return connection

    def _is_complete(self) -> bool:
        if self._length < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return False
            found = _LENGTH.search(self._received, 0, end + 2)
            if found is None:
                raise RuntimeError(f"a response without a length: {bytes(self._received[:200])!r}")
            self._length = end + 4 + int(found[1])
        if len(self._received) < self._length:
            return False
        self._count()
        return True

    def _count(self) -> None:
        now, observed = time.time_ns(), self._observed
        status = int(self._received[9:12])
        observed.statuses[status] += 1
        # A rejection may arrive before the whole request is sent; then it took no time.
        sent = self._sent or now
        if status == _OK:
            observed.accepted.append((now - sent) / _NANOSECONDS)
        else:
            observed.rejected.append(max(0, (self._first or now) - sent) / _NANOSECONDS)
            code = _CODE.search(self._received)
            observed.codes[code[1].decode() if code else "none"] += 1
        self._done = True
        if b"connection: close" in bytes(self._received[:1000]).lower():
            self.socket.close()

    def _count_lost(self) -> None:
        if self._unsent:
            self._observed.unsent += 1
        else:
            self._observed.silent += 1
        self._done = True
        self.socket.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure with each deadline; return 1 if a limit was missed."""
    options = _parser().parse_args(arguments)
    exit_on_sigterm()
    missed: list[str] = []
    lines = [*_head(options)]
    for deadline in options.deadlines:
        table, found = _measure(deadline, options)
        lines += table
        missed += [f"deadline {deadline:g} s: {sentence}" for sentence in found]
    lines += ["", *(f"- missed: {sentence}" for sentence in missed or ["nothing"])]
    sys.stdout.write("\n".join(lines) + "\n")
    if options.write:
        replace_section(f"Overload, {options.workers} worker(s)", lines)
    return 1 if missed else 0


def _measure(deadline: float, options: argparse.Namespace) -> tuple[list[str], list[str]]:
    settings = ("--workers", str(options.workers), "--deadline-seconds", str(deadline))
    with started(Start(service_command(*settings), core=None)) as service:
        before = _metrics(service.address)
        observed = _load(service, options.connections, options.seconds, deadline)
        # Several workers exchange their counts four times a second.
        time.sleep(1)
        counted = _difference(before, _metrics(service.address))
    found = [*_missed(observed, deadline), *_disagreements(observed, counted)]
    return [*_table(observed, deadline)], found


def _load(service: Running, connections: int, seconds: float, deadline: float) -> Observations:
    """Load the service, and then wait for the responses to the last requests."""
    observed, request = Observations(), post(PREDICT, objects(_ROWS))
    clients = [_Client(service.endpoint, request, observed) for _ in range(connections)]
    began, cpu = time.monotonic(), time.process_time()
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, client.events, client)
        while selector.get_map():
            now = time.monotonic() - began
            if now > seconds + deadline + _TIMEOUT_SECONDS:
                break
            for key, events in selector.select(1.0):
                _step(selector, key.data, events, more=now < seconds)
    observed.cpu_share = (time.process_time() - cpu) / (time.monotonic() - began)
    observed.silent += sum(client.is_waiting for client in clients)
    for client in clients:
        client.socket.close()
    return observed


def _step(selector: selectors.BaseSelector, client: _Client, events: int, *, more: bool) -> None:
    """Continue with a connection that can be read or written."""
    old_socket, old_events = client.socket, client.events
    complete = bool(events & selectors.EVENT_READ) and client.receive()
    if not complete and events & selectors.EVENT_WRITE:
        try:
            client.send()
        except ConnectionError:
            # The server may have sent a response before it closed the connection.
            complete = client.receive()
    if complete:
        if not more:
            selector.unregister(old_socket)
            return
        client.start_again()
        client.send()
    if client.socket is not old_socket:
        selector.unregister(old_socket)
        selector.register(client.socket, client.events, client)
    elif client.events != old_events:
        selector.modify(old_socket, client.events, client)


def _metrics(address: str) -> Mapping[str, Counter[str]]:
    """Counts of responses by status, of predictions by outcome, and of rejections by reason."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - our own server's address
        text = response.read().decode()
    counts: dict[str, Counter[str]] = {}
    for name, pattern in (
        ("responses", _STATUSES),
        ("requests", _OUTCOMES),
        ("rejected", _REJECTIONS),
    ):
        counts[name] = Counter()
        for label, value in pattern.findall(text):
            counts[name][label] += int(float(value))
    return counts


def _difference(
    before: Mapping[str, Counter[str]], after: Mapping[str, Counter[str]]
) -> Mapping[str, Counter[str]]:
    found = {name: after[name] - before[name] for name in after}
    # The first of the two requests for metrics was counted too.
    found["responses"]["200"] -= 1
    return {name: +counts for name, counts in found.items()}


def _missed(observed: Observations, deadline: float) -> Iterator[str]:
    late = sum(seconds > deadline + _LATE_SECONDS for seconds in observed.accepted)
    if observed.silent:
        yield f"{observed.silent} requests got no response"
    if late:
        yield f"{late} predictions arrived after the deadline"
    if _milliseconds(observed.rejected, 0.5) > _REJECTION_MILLISECONDS:
        yield f"the median rejection took more than {_REJECTION_MILLISECONDS:g} ms"
    if not observed.accepted:
        yield "no request was accepted"


def _disagreements(observed: Observations, counted: Mapping[str, Counter[str]]) -> Iterator[str]:
    """The differences between the counts of the service and of the clients."""
    responses = {str(status): count for status, count in observed.statuses.items()}
    if dict(counted["responses"]) != responses:
        yield f"onward_responses_total has {dict(counted['responses'])}, the clients {responses}"
    if counted["requests"]["ok"] != observed.statuses[_OK]:
        count = counted["requests"]["ok"]
        yield f"onward_requests_total has {count} ok, the clients {observed.statuses[_OK]}"
    for code, count in observed.codes.items():
        # A prediction that a limit rejects may be counted by both metrics.
        figures = {counted[name][code] for name in ("requests", "rejected")} - {0}
        if figures != {count}:
            yield f"of {code} the service counts {sorted(figures)}, the clients {count}"


def _head(options: argparse.Namespace) -> Iterator[str]:
    yield f"Made by `python -m bench.overload`: {options.connections} connections send bodies of"
    yield f"{_ROWS:,} rows to admission for {options.seconds:g} s, each the next one after the"
    yield f"response; {options.workers} worker(s), default settings except for the deadline. The"
    yield "time of an accepted request ends with the last byte of its response, the time of a"
    yield "rejected one with the first byte, by the timestamps of the kernel; both start when the"
    yield "last byte of the request is sent. A request is closed silently if all of it was sent"
    yield "and its connection ended without a response."
    yield ""
    yield (
        "| deadline s | statuses | codes | accepted p50 / p99 / longest s | rejected p50 / p99 ms "
        "| closed silently | closed while sending | client's cores |"
    )
    yield "|---|---|---|---|---|---|---|---|"


def _table(observed: Observations, deadline: float) -> Iterator[str]:
    accepted = [_milliseconds(observed.accepted, share) / 1000 for share in (0.5, 0.99, 1.0)]
    rejected = [_milliseconds(observed.rejected, share) for share in (0.5, 0.99)]
    cells = (
        f"{deadline:g}",
        ", ".join(f"{count:,} {status}" for status, count in sorted(observed.statuses.items())),
        ", ".join(f"{count:,} {code}" for code, count in sorted(observed.codes.items())),
        " / ".join(f"{it:.2f}" for it in accepted),
        " / ".join(f"{it:.1f}" for it in rejected),
        str(observed.silent),
        str(observed.unsent),
        f"{observed.cpu_share:.2f}",
    )
    yield f"| {' | '.join(cells)} |"


def _milliseconds(seconds: Sequence[float], share: float) -> float:
    """A quantile in milliseconds; 0 without values."""
    return float(np.quantile(seconds, share)) * 1000 if seconds else 0.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--deadlines",
        type=lambda text: [float(it) for it in text.split(",")],
        default=[30.0, 2.0],
        help="seconds, one measurement each: 30,2",
    )
    parser.add_argument("--write", action="store_true", help="write the table into RESULTS.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
