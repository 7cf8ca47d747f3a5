"""Files that a command reads and writes."""

import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

STANDARD = "-"

_PIECE_BYTES = 64 * 1024


@contextmanager
def source(path: str) -> Iterator[BinaryIO]:
    """A file to read; ``-`` is standard input."""
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    with Path(path).open("rb") as file:
        yield file


@contextmanager
def target(path: str) -> Iterator[BinaryIO]:
    """A file to write; ``-`` is standard output.

    It stands under its name only once it is whole: an error leaves what stood there before.
    """
    if path == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    whole = Path(path)
    if whole.exists() and not whole.is_file():
        with whole.open("wb") as file:  # a device or a pipe, which cannot be replaced
            yield file
        return
    unfinished = whole.with_name(f".{whole.name}.unfinished-{os.getpid()}")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(whole)
    finally:
        unfinished.unlink(missing_ok=True)


def size_of(file: BinaryIO) -> int:
    """Bytes of a file; 0 of what is none, such as a pipe."""
    facts = os.fstat(file.fileno())
    return facts.st_size if stat.S_ISREG(facts.st_mode) else 0


async def pieces(file: BinaryIO, begun: Callable[[int], None]) -> AsyncIterator[bytes]:
    """What a file holds, by the piece; ``begun`` is told the bytes of each."""
    while piece := file.read(_PIECE_BYTES):
        begun(len(piece))
        yield piece
