"""The bytes of a table as they arrive, and as many of them as tell what it is."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import Request

from service.api.tables.layout import LONGEST_LINE, SAMPLE_BYTES
from service.errors import BodyStalled


@dataclass(frozen=True)
class Arrival:
    """The first bytes, whether they are all, and those that follow."""

    sample: bytes
    whole: bool
    rest: AsyncIterator[bytes]


async def received(request: Request, patience_seconds: float) -> AsyncIterator[bytes]:
    """The body by the piece.

    Raises:
        BodyStalled: a piece was waited for too long.
        ClientDisconnect: the caller has left.
    """
    pieces = request.stream()
    while True:
        try:
            async with asyncio.timeout(patience_seconds):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BodyStalled(patience_seconds) from None
        yield piece


async def begun(pieces: AsyncIterator[bytes], enough: int = SAMPLE_BYTES) -> Arrival:
    """Wait for enough to tell how a table is written, and at least its first line.

    Args:
        pieces: of the table.
        enough: bytes; a form that needs no telling needs few.
    """
    sample = bytearray()
    async for piece in pieces:
        sample += piece
        ends = b"\n" in sample or b"\r" in sample or len(sample) > LONGEST_LINE
        if len(sample) >= enough and ends and sample.strip():
            return Arrival(bytes(sample), whole=False, rest=pieces)
    return Arrival(bytes(sample), whole=True, rest=pieces)
