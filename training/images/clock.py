"""How long a fit will still take."""

import time

_MINUTES_FROM = 90


class Clock:
    """Counts from the first epoch of this run, which may be a later one of the fit."""

    def __init__(self, first: int, epochs: int) -> None:
        self._first = first
        self._epochs = epochs
        self._started = time.perf_counter()

    def after(self, epoch: int) -> str:
        """The epoch just ended, of how many, and the time left for the others."""
        passed = time.perf_counter() - self._started
        left = passed / (epoch + 1 - self._first) * (self._epochs - epoch - 1)
        unit = f"{left:.0f} s" if left < _MINUTES_FROM else f"{left / 60:.0f} min"
        return f"epoch {epoch + 1}/{self._epochs}, {unit} left"
