"""Flow control with two reasons to pause reading, with a real transport."""

import asyncio
import socket

from service.server.transport import HoldingFlowControl


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
