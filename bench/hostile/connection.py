"""Connections of hostile clients, which count the outcomes of their requests."""

import asyncio
import itertools
import os
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar

import httptools

CLOSED = "closed"
"""The server closed the connection without a response."""
RESET = "reset"
"""The server reset the connection while the client was sending, or with unread bytes."""
OPEN = "still open"
"""The server neither responded nor closed the connection in time."""
CLIENT_CLOSED = "client closed"
"""The client closed the connection intentionally."""
REJECTED = "no connection"
"""The server did not accept the connection."""
SMUGGLED = "smuggled"
"""One request got several responses, or part of its body was interpreted as headers."""

_RETAINED_BODY_BYTES = 64 * 1024
_READ_BYTES = 256 * 1024
_POLL_SECONDS = 0.1
_STATUS_LINE_BYTES = 12
_PACKET_SECONDS = 0.02
_REJECTED_PAUSE_SECONDS = 0.1
_CONNECT_SECONDS = 10.0
_DISCONNECTED = select.POLLRDHUP | select.POLLHUP | select.POLLERR


Choice = TypeVar("Choice")


@dataclass
class Response:
    """A response, or the part of it that has arrived."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Attack:
    """The shared state of all connections of one hostile client.

    Args:
        host: of the service.
        port: of the service.
        timeout_seconds: after it a connection without a response that is not closed counts as
            `OPEN`.
    """

    def __init__(self, host: str, port: int, timeout_seconds: float) -> None:
        self.address = (host, port)
        self.timeout_seconds = timeout_seconds
        self.outcomes: Counter[str] = Counter()
        self._numbers = itertools.count()

    def unique(self) -> str:
        """A word that is different for each request."""
        return f"{os.getpid()}-{next(self._numbers)}"

    def in_turn(self, choices: Sequence[Choice]) -> Choice:
        """The next one of the choices."""
        return choices[next(self._numbers) % len(choices)]


class Connection:
    """One connection; its outcomes are counted as they happen.

    Args:
        attack: the attack that it is part of.
        receive_bytes: size of the kernel's receive buffer; 0 for the default.
    """

    def __init__(self, attack: Attack, receive_bytes: int = 0) -> None:
        self.attack = attack
        self.socket = socket.socket(socket.AF_INET6 if ":" in attack.address[0] else socket.AF_INET)
        self.socket.setblocking(False)  # noqa: FBT003 - the standard library's own signature
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.responses: list[Response] = []
        self.waits_since: float | None = None
        """The time since which the client has been waiting for a response; None if it is not."""
        self._received: list[Response] = []
        self._current = Response()
        self._parser = httptools.HttpResponseParser(self)

    async def connect(self) -> None:
        """Connect.

        Raises:
            OSError: the server does not accept the connection.
        """
        async with asyncio.timeout(_CONNECT_SECONDS):
            await asyncio.get_running_loop().sock_connect(self.socket, self.attack.address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.waits_since = time.monotonic()

    async def send(self, data: bytes) -> None:
        """Send bytes, as fast as the server reads them."""
        if self.waits_since is None:
            self.waits_since = time.monotonic()
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def send_slowly(self, data: Iterable[bytes], seconds: float) -> None:
        """Send pieces with a pause after each, until the server responds or closes."""

        async def pieces() -> None:
            for piece in data:
                await self.send(piece)
                await asyncio.sleep(seconds)

        await self._while_reading(pieces())

    async def request(self, data: bytes | Iterable[bytes]) -> Response:
        """Send a request and read its response, which may arrive before all of it is sent."""

        async def pieces() -> None:
            for piece in (data,) if isinstance(data, bytes) else data:
                await self.send(piece)

        return await self._while_reading(pieces())

    async def response(self) -> Response:
        """Read the next response and count its status.

        Raises:
            ConnectionError: the server closed the connection without a response.
        """
        loop = asyncio.get_running_loop()
        while not self._received:
            data = await loop.sock_recv(self.socket, _READ_BYTES)
            if not data:
                self._end_of_stream()
                break
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserError as error:
                self.attack.outcomes["not HTTP"] += 1
                raise ConnectionAbortedError from error
        response = self._received.pop(0)
        self.responses.append(response)
        self.attack.outcomes[str(response.status)] += 1
        self.waits_since = None
        return response

    async def only_one_response(self, *pieces: bytes, seconds: float = 0.2) -> Response:
        """Send one request, each piece in its own packet; count a second response as `SMUGGLED`."""
        with suppress(ConnectionError):
            for piece in pieces:
                await self.send(piece)
                await asyncio.sleep(_PACKET_SECONDS)
        response = await self.response()
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                await self.response()
                self.attack.outcomes[SMUGGLED] += 1
        return response

    async def wait_unread(self) -> None:
        """Wait without reading, except for an error response, until the server closes."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            if any(event & _DISCONNECTED for _, event in poll.poll(0)):
                raise ConnectionResetError
            with suppress(BlockingIOError):
                if self.socket.recv(_STATUS_LINE_BYTES, socket.MSG_PEEK)[9:10] in {b"4", b"5"}:
                    await self.response()
                    return

    def close(self, *, reset: bool = False) -> None:
        """Close without waiting for a response."""
        self.attack.outcomes[CLIENT_CLOSED] += 1
        self.waits_since = None
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()

    def on_status(self, _: bytes) -> None:
        """Parse the status line."""
        self._current = Response(self._parser.get_status_code())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parse a header."""
        self._current.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Parse a part of the body."""
        if len(self._current.body) < _RETAINED_BODY_BYTES:
            self._current.body += body

    def on_message_complete(self) -> None:
        """Parse the end of a response."""
        if self._current.status >= HTTPStatus.OK:
            self._received.append(self._current)
        self._current = Response()

    async def _while_reading(self, sending: Awaitable[None]) -> Response:
        """Read a response while sending, and stop sending after the response."""
        task = asyncio.ensure_future(sending)
        try:
            return await self.response()
        finally:
            task.cancel()
            # The outcome depends only on the response; errors while sending are ignored.
            await asyncio.gather(task, return_exceptions=True)

    def _end_of_stream(self) -> None:
        if not self._current.status:
            raise ConnectionAbortedError
        # A response without a length ends with the connection.
        self._received.append(self._current)


@dataclass(frozen=True)
class HostileClient:
    """One way to abuse the service.

    Args:
        name: its name on the command line and in the table.
        run: called repeatedly with each new connection.
        allowed: the outcomes that a correct service may cause.
        connections: the number of simultaneous connections.
        pause: seconds of each of them between two attempts.
        seconds: the minimum duration, for clients that wait for a timeout of the service.
        receive_bytes: size of the kernel's receive buffer of each connection; 0 for the default.
        small_disk: whether it needs a service of two workers with little space for temporary files.
        victim: the errors that the victim may get because the service is overloaded.
        prepare: creates what takes long to create, before the first connection: a connection that
            is silent meanwhile would be closed.
    """

    name: str
    run: Callable[[Connection], Awaitable[None]]
    allowed: frozenset[str]
    connections: int = 4
    pause: float = 0.02
    seconds: float = 0.0
    receive_bytes: int = 0
    small_disk: bool = False
    victim: frozenset[str] = frozenset()
    prepare: Callable[[], object] = tuple

    @property
    def description(self) -> str:
        """The first line of the docstring of `run`."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


def allowed(*outcomes: int | str) -> frozenset[str]:
    """The outcomes as `Attack` counts them."""
    return frozenset(map(str, outcomes))


async def run_attack(
    attack: Attack, client: HostileClient, seconds: float, at_most: float = 0.0
) -> None:
    """Run all connections of a hostile client.

    Args:
        attack: counts the outcomes.
        client: the client.
        seconds: the duration.
        at_most: the maximum duration while no outcome has been counted.
    """
    client.prepare()
    tasks = [asyncio.create_task(_repeat(attack, client)) for _ in range(client.connections)]
    try:
        await asyncio.sleep(seconds)
        for _ in range(int((at_most - seconds) / _POLL_SECONDS)):
            if attack.outcomes:
                break
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error


async def _repeat(attack: Attack, client: HostileClient) -> None:
    while True:
        await _attempt(attack, client)
        await asyncio.sleep(client.pause)


async def _attempt(attack: Attack, client: HostileClient) -> None:
    connection = Connection(attack, client.receive_bytes)
    try:
        try:
            await connection.connect()
        except OSError:
            attack.outcomes[REJECTED] += 1
            await asyncio.sleep(_REJECTED_PAUSE_SECONDS)
            return
        await client.run(connection)
    except ConnectionError as error:
        if not connection.responses:
            closed = isinstance(error, ConnectionAbortedError)
            attack.outcomes[CLOSED if closed else RESET] += 1
    except asyncio.CancelledError:
        since = connection.waits_since
        if since is not None and time.monotonic() - since > attack.timeout_seconds:
            attack.outcomes[OPEN] += 1
        raise
    finally:
        connection.socket.close()
