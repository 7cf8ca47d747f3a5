"""The spool: nothing is lost, nothing overtakes, and a file is used only where nobody reads."""

import asyncio
from itertools import count

from service.api.tables.spool import Spool

PIECE = 100_000
MANY = 50


async def written(spool: Spool) -> None:
    """Put pieces that tell their place."""
    for place in range(MANY):
        await spool.put(bytes([place]) * PIECE)
    await spool.end()


async def read(spool: Spool) -> bytes:
    """Everything that comes."""
    pieces = []
    while (piece := await spool.get()) is not None:
        pieces.append(piece)
    return b"".join(pieces)


WHOLE = b"".join(bytes([place]) * PIECE for place in range(MANY))


def test_bytes_come_in_their_order_while_they_are_written() -> None:
    """A reader that keeps up gets what the writer puts."""

    async def run() -> bytes:
        spool = Spool(0)
        writing = asyncio.create_task(written(spool))
        seen = await read(spool)
        await writing
        return seen

    assert asyncio.run(run()) == WHOLE


def test_what_nobody_reads_waits_in_a_file() -> None:
    """More than memory holds is kept, and comes in its order later."""

    async def run() -> bytes:
        spool = Spool(10 * PIECE * MANY)
        await written(spool)
        try:
            return await read(spool)
        finally:
            spool.close()

    assert asyncio.run(run()) == WHOLE


def test_a_writer_waits_where_there_is_no_room() -> None:
    """What is in memory is bounded, however long nobody reads."""

    async def run() -> int:
        spool = Spool(0)
        for placed in count():
            try:
                async with asyncio.timeout(0.6):
                    await spool.put(bytes(PIECE))
            except TimeoutError:
                return placed
        return -1

    assert 5 < asyncio.run(run()) < 20
