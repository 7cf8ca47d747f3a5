"""How far a long command is, on one line of a terminal."""

import sys
import time
from typing import TextIO

_WIDTH = 24
_REDRAWN_SECONDS = 0.1


class Progress:
    """A bar on standard error where that is a terminal; else nothing until the end.

    Args:
        total: what there is to do; 0 where nobody knows.
        unit: of what is done, such as rows.
    """

    def __init__(self, total: int, unit: str, stream: TextIO | None = None) -> None:
        self._total = total
        self._unit = unit
        self._stream = stream or sys.stderr
        self._shown = self._stream.isatty()
        self._started = self._drawn = time.monotonic()
        self._begun = 0

    def begin(self, work: int) -> None:
        """So much of the whole has been begun."""
        self._begun += work

    def show(self, done: int, failed: int) -> None:
        """So many are done, and so many of them have an error; drawn now and then."""
        now = time.monotonic()
        if self._shown and now - self._drawn >= _REDRAWN_SECONDS:
            self._drawn = now
            self._stream.write(f"\r{self._line(done, failed, now)}\x1b[K")
            self._stream.flush()

    def end(self, done: int, failed: int, model: str) -> None:
        """Report the total and the model, ``name/version``, in a last line."""
        seconds = time.monotonic() - self._started
        rate = done / max(seconds, 1e-9)
        start = "\r\x1b[K" if self._shown else ""
        self._stream.write(
            f"{start}{model}: {done:,} {self._unit} in {seconds:.1f} s ({rate:,.0f} a second), "
            f"{failed:,} with an error.\n"
        )

    def _line(self, done: int, failed: int, now: float) -> str:
        counted = f"{done:,} {self._unit}, {failed:,} with an error"
        if not self._total or not self._begun:
            return counted
        share = min(self._begun / self._total, 1.0)
        full = round(share * _WIDTH)
        left = (now - self._started) * (1 - share) / share
        return f"{'█' * full}{'░' * (_WIDTH - full)} {share:4.0%}  {counted}, {left:.0f} s left"
