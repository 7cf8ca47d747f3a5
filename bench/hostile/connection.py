"""Connections of hostile clients: what they send, how they read, and the outcomes they count."""

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
"""It did so while the client still sent, or with unread bytes."""
OPEN = "still open"
"""It had neither responded nor closed when it should have."""
LEFT = "left"
"""The client closed the connection itself, as its script says."""
REJECTED = "no connection"
"""The server accepted no connection."""
SMUGGLED = "smuggled"
"""One request got several responses, or bytes of its body were obeyed as headers."""

_RETAINED_BODY_BYTES = 64 * 1024
_READ_BYTES = 256 * 1024
_POLL_SECONDS = 0.1
_STATUS_LINE_BYTES = 12
_PACKET_SECONDS = 0.02
_REJECTED_PAUSE_SECONDS = 0.1
_CONNECT_SECONDS = 10.0
_HANG_UP = select.POLLRDHUP | select.POLLHUP | select.POLLERR


Choice = TypeVar("Choice")


@dataclass
class Response:
    """A response as far as it has arrived."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Attack:
    """What all connections of one hostile client share.

    Args:
        host: of the service.
        port: of the service.
        patience: seconds after which a connection that got neither a response nor a close counts
            as `OPEN`.
    """

    def __init__(self, host: str, port: int, patience: float) -> None:
        self.address = (host, port)
        self.patience = patience
        self.outcomes: Counter[str] = Counter()
        self._numbers = itertools.count()

    def unique(self) -> str:
        """A word that no other request has."""
        return f"{os.getpid()}-{next(self._numbers)}"

    def in_turn(self, choices: Sequence[Choice]) -> Choice:
        """Each of the choices, one after another."""
        return choices[next(self._numbers) % len(choices)]


class Connection:
    """One connection; its outcomes are counted as they happen.

    Args:
        attack: what it is part of.
        receive_bytes: size of the kernel's receive buffer; 0 is the system's own.
    """

    def __init__(self, attack: Attack, receive_bytes: int = 0) -> None:
        self.attack = attack
        self.socket = socket.socket(socket.AF_INET6 if ":" in attack.address[0] else socket.AF_INET)
        self.socket.setblocking(False)  # noqa: FBT003 - the standard library's own signature
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.responses: list[Response] = []
        self.waits_since: float | None = None
        """When the client began to wait for a response or a close."""
        self._received: list[Response] = []
        self._current = Response()
        self._parser = httptools.HttpResponseParser(self)

    async def connect(self) -> None:
        """Connect; raises OSError where the server does not accept."""
        async with asyncio.timeout(_CONNECT_SECONDS):
            await asyncio.get_running_loop().sock_connect(self.socket, self.attack.address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.waits_since = time.monotonic()

    async def send(self, data: bytes) -> None:
        """Send bytes, as fast as the server takes them."""
        if self.waits_since is None:
            self.waits_since = time.monotonic()
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def drip(self, data: Iterable[bytes], seconds: float) -> None:
        """Send pieces with a pause after each, until the server responds or closes."""

        async def pieces() -> None:
            for piece in data:
                await self.send(piece)
                await asyncio.sleep(seconds)

        await self._while_reading(pieces())

    async def request(self, data: bytes | Iterable[bytes]) -> Response:
        """Send a request and read its response, which may come before all is sent."""

        async def pieces() -> None:
            for piece in (data,) if isinstance(data, bytes) else data:
                await self.send(piece)

        return await self._while_reading(pieces())

    async def response(self) -> Response:
        """Read the next response and count its status.

        Raises:
            ConnectionError: the server closed instead.
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
        """Send one request, in packets of its own each piece; a second response is `SMUGGLED`."""
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

    async def leave_unread(self) -> None:
        """Wait, without reading, until the server closes; only an error response is read."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            if any(event & _HANG_UP for _, event in poll.poll(0)):
                raise ConnectionResetError
            with suppress(BlockingIOError):
                if self.socket.recv(_STATUS_LINE_BYTES, socket.MSG_PEEK)[9:10] in {b"4", b"5"}:
                    await self.response()
                    return

    def leave(self, *, reset: bool = False) -> None:
        """Close without waiting for a response."""
        self.attack.outcomes[LEFT] += 1
        self.waits_since = None
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()

    def on_status(self, _: bytes) -> None:
        """Called by the parser."""
        self._current = Response(self._parser.get_status_code())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self._current.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        if len(self._current.body) < _RETAINED_BODY_BYTES:
            self._current.body += body

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._current.status >= HTTPStatus.OK:
            self._received.append(self._current)
        self._current = Response()

    async def _while_reading(self, sending: Awaitable[None]) -> Response:
        """Read a response while sending; the response decides."""
        task = asyncio.ensure_future(sending)
        try:
            return await self.response()
        finally:
            task.cancel()
            # Why it could not send more, the response says, or the lack of one.
            await asyncio.gather(task, return_exceptions=True)

    def _end_of_stream(self) -> None:
        if not self._current.status:
            raise ConnectionAbortedError
        # A response without a length ends with its connection.
        self._received.append(self._current)


@dataclass(frozen=True)
class HostileClient:
    """One way to abuse the service.

    Args:
        name: as the command line and the table have it.
        run: what each of its connections does, over and over.
        allowed: the outcomes that a sound service may give it.
        connections: how many it has at a time.
        pause: seconds that each of them rests between two attempts.
        seconds: it shows something only when it runs for so long: the service's timeouts.
        receive_bytes: size of the kernel's receive buffer of each connection; 0 is the default.
        small_disk: needs a service of two workers whose temporary folders are nearly full.
        victim: the errors that another client may see meanwhile, because the service is overloaded.
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

    @property
    def about(self) -> str:
        """The first line of what it does."""
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
        client: what to do.
        seconds: how long.
        at_most: how long to go on while no outcome has been counted.
    """
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
        if since is not None and time.monotonic() - since > attack.patience:
            attack.outcomes[OPEN] += 1
        raise
    finally:
        connection.socket.close()
