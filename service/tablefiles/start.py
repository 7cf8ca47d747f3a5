"""Recognize table files by their first bytes."""

from collections.abc import AsyncIterator
from pathlib import Path

from service.filetypes import FileType, identify_table

# More than the longest signature.
_START_BYTES = 64


def identify_path(path: Path) -> FileType | None:
    """Return the type of a table file; None for any other file."""
    with path.open("rb") as file:
        return identify_table(file.read(_START_BYTES))


async def identify_stream(
    pieces: AsyncIterator[bytes],
) -> tuple[FileType | None, AsyncIterator[bytes]]:
    """Return the type of a table file, None for any other stream, and all of its pieces."""
    start = b""
    async for piece in pieces:
        start += piece
        if len(start) >= _START_BYTES:
            break
    return identify_table(start), _chain(start, pieces)


async def _chain(start: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield start
    async for piece in pieces:
        yield piece
