"""Flow control with two reasons to pause reading, and lost connections, with real transports."""

import asyncio
import socket

import uvloop

from service.server.transport import GracefulTransport, HoldingFlowControl, ReceivingProtocol


def test_reading_is_paused_while_uvicorn_or_the_protocol_pauses_it() -> None:
    """Releasing one of the two does not resume reading for the other."""
    assert asyncio.run(_is_reading("hold pause release")) == [False, False, False]
    assert asyncio.run(_is_reading("pause hold resume")) == [False, False, False]
    assert asyncio.run(_is_reading("hold pause release resume"))[-1]
    assert asyncio.run(_is_reading("pause hold resume release"))[-1]


async def _is_reading(calls: str) -> list[bool]:
    """Whether the transport reads, after each of these methods of its flow control."""
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, ours)
    flow = HoldingFlowControl(transport)
    reads = []
    for name in calls.split():
        getattr(flow, f"{name}_reading")()
        reads.append(transport.is_reading())
    transport.close()
    theirs.close()
    return reads


class _Protocol(asyncio.Protocol, ReceivingProtocol):
    """A protocol without input."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # asyncio's type of it
        self.lost = asyncio.Event()
        self.raw = transport
        self.transport = GracefulTransport(self, transport)

    def connection_lost(self, _: Exception | None) -> None:
        self.transport.detach()
        self.lost.set()

    def is_receiving(self) -> bool:
        return False

    def discard_input(self) -> None:
        """Nothing has arrived."""


def test_a_response_to_a_lost_connection_is_dropped() -> None:
    """It may start just before or after that; its head waits for its body, but is not written."""
    assert uvloop.run(_errors_of_a_lost_connection()) == []


async def _errors_of_a_lost_connection() -> list[object]:
    """The errors that the event loop reports."""
    errors: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    ours, theirs = socket.socketpair()
    _, protocol = await loop.connect_accepted_socket(_Protocol, ours)
    protocol.raw.abort()
    protocol.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await protocol.lost.wait()
    protocol.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await asyncio.sleep(0)
    theirs.close()
    return errors
