"""Decompression in pieces, compared with Python's own of the whole data."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from service.decompression import decompress
from service.errors import InvalidRequest

# Data of one member: empty, short, incompressible, and far longer than its compressed form.
DATA = (b"", b"a", np.random.default_rng(1).bytes(40_000), b"ab" * 150_000, b"\n" * 65_536)


async def cut(data: bytes, sizes: Sequence[int]) -> AsyncIterator[bytes]:
    """Yield pieces of these sizes, again and again."""
    position, turn = 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        yield data[position : position + size]
        position, turn = position + size, turn + 1


def decompressed(data: bytes, encoding: str, sizes: Sequence[int]) -> bytes:
    async def collect() -> list[bytes]:
        return [piece async for piece in decompress(cut(data, sizes), encoding)]

    pieces = asyncio.run(collect())
    assert all(0 < len(piece) <= 65_536 for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("sizes", [[7, 1000], [100], [5000], [1_000_000]])
@pytest.mark.parametrize("seed", range(20))
def test_members_are_joined_however_they_arrive(seed: int, sizes: Sequence[int]) -> None:
    """The end of a member may be in the middle of a piece, and of the output."""
    generator = np.random.default_rng(seed)
    parts = [DATA[position] for position in generator.integers(len(DATA), size=5)]
    data = b"".join(gzip.compress(part, generator.choice([0, 1, 9])) for part in parts)

    assert decompressed(data, "gzip", sizes) == gzip.decompress(data) == b"".join(parts)


@pytest.mark.parametrize("sizes", [[7, 1000], [1_000_000]])
@pytest.mark.parametrize("content", DATA)
def test_deflate_has_one_member(content: bytes, sizes: Sequence[int]) -> None:
    """Data after its end, and an end that is missing, are errors."""
    data = zlib.compress(content)

    assert decompressed(data, "deflate", sizes) == content
    for wrong in (data + b"x", data + data, data[:-1]):
        with pytest.raises(InvalidRequest):
            decompressed(wrong, "deflate", sizes)
