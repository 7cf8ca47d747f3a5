"""The files that a command reads and writes, and its progress bar."""

import os
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

STANDARD = "-"

_PIECE_BYTES = 64 * 1024
_BAR_WIDTH = 24
_REDRAW_SECONDS = 0.1


@contextmanager
def open_source(path: str) -> Iterator[BinaryIO]:
    """Open a file to read; ``-`` is standard input."""
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    with Path(path).open("rb") as file:
        yield file


@contextmanager
def open_target(path: str) -> Iterator[BinaryIO]:
    """Open a file to write; ``-`` is standard output.

    The file is renamed to its path when it is complete, so an error leaves an earlier file as it
    was.
    """
    if path == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(path)
    if target.exists() and not target.is_file():
        with target.open("wb") as file:  # a device or a pipe, which cannot be replaced
            yield file
        return
    unfinished = target.with_name(f".{target.name}.unfinished-{os.getpid()}")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def size_of(file: BinaryIO) -> int:
    """Return the size of a file in bytes; 0 if it is not a regular file, such as a pipe."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


async def read_pieces(file: BinaryIO, on_read: Callable[[int], None]) -> AsyncIterator[bytes]:
    """Read a file in pieces, and pass the size of each to ``on_read``."""
    while piece := file.read(_PIECE_BYTES):
        on_read(len(piece))
        yield piece


class Progress:
    """A progress bar on standard error if that is a terminal; otherwise only a last line.

    Args:
        total: the total amount of work; 0 if unknown.
        unit: of what is done, such as rows.
        stream: to write to instead of standard error.
    """

    def __init__(self, total: int, unit: str, stream: TextIO | None = None) -> None:
        self._total = total
        self._unit = unit
        self._stream = stream or sys.stderr
        self._is_shown = self._stream.isatty()
        self._started = self._drawn = time.monotonic()
        self._begun = 0

    def begin(self, work: int) -> None:
        """Add to the amount of work that has begun."""
        self._begun += work

    def show(self, done: int, failed: int) -> None:
        """Draw the bar, at most every 0.1 s.

        Args:
            done: how many units are done.
            failed: how many of them have an error.
        """
        now = time.monotonic()
        if self._is_shown and now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            self._stream.write(f"\r{self._line(done, failed, now)}\x1b[K")
            self._stream.flush()

    def end(self, done: int, failed: int, model: str) -> None:
        """Write the totals and the model, as ``name/version``, as a last line."""
        seconds = time.monotonic() - self._started
        rate = done / max(seconds, 1e-9)
        start = "\r\x1b[K" if self._is_shown else ""
        self._stream.write(
            f"{start}{model}: {done:,} {self._unit} in {seconds:.1f} s ({rate:,.0f} a second), "
            f"{failed:,} with an error.\n"
        )

    def _line(self, done: int, failed: int, now: float) -> str:
        counts = f"{done:,} {self._unit}, {failed:,} with an error"
        if not self._total or not self._begun:
            return counts
        share = min(self._begun / self._total, 1.0)
        full = round(share * _BAR_WIDTH)
        left = (now - self._started) * (1 - share) / share
        return f"{'█' * full}{'░' * (_BAR_WIDTH - full)} {share:4.0%}  {counts}, {left:.0f} s left"
