"""The spool keeps all bytes in order, and uses a file only if nobody reads."""

import asyncio
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from service.api.native.tables import Spool
from service.errors import SpoolFull
from service.limits import Quota
from tests.processes import ROOT

PIECE = 100_000
MANY = 50


async def written(spool: Spool) -> None:
    """Put pieces that contain their position."""
    for index in range(MANY):
        await spool.put(bytes([index]) * PIECE)
    await spool.end()


async def read(spool: Spool) -> bytes:
    """Return all bytes until the end."""
    pieces = []
    while (piece := await spool.get()) is not None:
        pieces.append(piece)
    return b"".join(pieces)


WHOLE = b"".join(bytes([index]) * PIECE for index in range(MANY))


def quota(limit: int) -> Quota:
    """A quota for the files of all spools."""
    return Quota(limit, lambda _: SpoolFull(), lambda _: None)


def test_bytes_are_read_in_order_while_they_are_written() -> None:
    """A fast reader gets the pieces that the writer puts."""

    async def run() -> bytes:
        async with Spool(quota(0)) as spool:
            writing = asyncio.create_task(written(spool))
            seen = await read(spool)
            await writing
            return seen

    assert asyncio.run(run()) == WHOLE


def test_unread_bytes_are_stored_in_a_file() -> None:
    """More bytes than fit into memory are read in order later, and their room is released."""
    shared = quota(10 * PIECE * MANY)

    async def run() -> tuple[bytes, int]:
        async with Spool(shared) as spool:
            await written(spool)
            reserved = shared.used
            return await read(spool), reserved

    seen, reserved = asyncio.run(run())

    assert seen == WHOLE
    assert reserved >= PIECE * MANY - 2 * 2**20
    assert shared.used == 0


@pytest.mark.parametrize("limit", [0, 3 * PIECE])
def test_a_writer_waits_for_room(limit: int) -> None:
    """The memory and the file are limited if the reader does not read."""
    shared = quota(limit)

    async def run() -> int:
        async with Spool(shared) as spool:
            return await pieces_before_waiting(spool)

    assert 5 < asyncio.run(run()) < 20
    assert shared.used == 0


def test_spools_share_one_quota() -> None:
    """Unread bytes of one client leave less room for the next, until they are read or dropped."""
    shared = quota(4 * 2**20)

    async def run() -> tuple[int, int, int]:
        async with Spool(shared) as first, Spool(shared) as second:
            filled = await pieces_before_waiting(first)
            less = await pieces_before_waiting(second)
            await first.get()
        async with Spool(shared) as third:
            return filled, less, await pieces_before_waiting(third)

    filled, less, again = asyncio.run(run())

    assert filled > 40
    assert less < 15
    assert again == filled


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """The spool reports it before it is used; a spool in another folder is not affected."""
    shared = quota(10**9)

    async def run(folder: Path) -> bool:
        async with Spool(shared, folder) as spool:
            return await spool.prepare()

    assert not asyncio.run(run(tmp_path / "missing"))
    assert not asyncio.run(run(Path("/proc")))
    assert asyncio.run(run(tmp_path))
    assert shared.used == 0


FULL_DISK = """
import asyncio, resource
from itertools import count
from service.api.native.tables import Spool
from service.errors import SpoolFull
from service.limits import Quota

shared = Quota(10**9, lambda _: SpoolFull(), lambda _: None)

async def run(most):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    async with Spool(shared) as spool:
        ready = await spool.prepare()
        pieces = [b"%06d" % index * 20_000 for index in range(60)]
        sent = 0
        for piece in pieces:
            try:
                async with asyncio.timeout(1):
                    await spool.put(piece)
            except TimeoutError:
                break
            sent += 1
        await spool.end()
        seen = []
        while (data := await spool.get()) is not None:
            seen.append(data)
        assert b"".join(seen) == b"".join(pieces[:sent])
        return ready, sent

for most in (1000, 3 * 2**20, resource.RLIM_INFINITY):
    print(*asyncio.run(run(most)), shared.used)
"""


def test_a_full_disk_stops_the_writer_and_loses_no_bytes() -> None:
    """A file that cannot grow, as on a full disk: what was accepted is read, the rest waits.

    The limit of file sizes simulates a full disk without privileges.
    """
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr
    none, some, whole = (line.split() for line in ended.stdout.splitlines())
    assert none[0] == "False"
    assert some[0] == "True"
    assert int(none[1]) < int(some[1]) < int(whole[1]) == 60
    assert none[2] == some[2] == whole[2] == "0"


async def pieces_before_waiting(spool: Spool) -> int:
    """Return the number of pieces that a spool takes without a reader."""
    for accepted in count():
        try:
            async with asyncio.timeout(0.6):
                await spool.put(bytes(PIECE))
        except TimeoutError:
            return accepted
    return -1
