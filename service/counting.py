"""What predictions are counted in while they are answered: plain numbers, told to nobody yet.

Telling the metrics' library of one prediction costs as much as the smallest model's run, and most
of it is the same for a thousand predictions as for one. So they are added up here, on the event
loop and without a lock, and `service.metrics` takes the sums over when they are read.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple


class Phases(NamedTuple):
    """How long one prediction spent where, in seconds."""

    decode: float
    queue: float
    compute: float
    encode: float


class Bins:
    """Observations of one histogram: how many fell into each bucket, and what they add up to.

    Args:
        bounds: the buckets' upper ends, ascending; the last one is infinite.
    """

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * len(bounds)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one more."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def taken(self) -> tuple[Sequence[int], float]:
        """The counts and their sum, which begin anew."""
        taken = self.counts, self.total
        self.counts, self.total = [0] * len(self._bounds), 0.0
        return taken


class Answered:
    """The predictions that one version has answered since they were last taken over."""

    __slots__ = ("by_dialect", "by_phase", "rows")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.rows = 0
        self.by_dialect: dict[str, int] = {}
        self.by_phase = tuple((phase, Bins(bounds)) for phase in Phases._fields)

    def add(self, dialect: str, rows: int, phases: Phases) -> None:
        """Count one more."""
        self.rows += rows
        self.by_dialect[dialect] = self.by_dialect.get(dialect, 0) + 1
        for (_, bins), seconds in zip(self.by_phase, phases, strict=True):
            bins.add(seconds)
