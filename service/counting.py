"""What predictions are counted in while they are answered: plain numbers, told to nobody yet.

Telling the metrics' library of one prediction costs as much as the smallest model's run, and most
of it is the same for a thousand predictions as for one. So they are added up here, on the event
loop and without a lock, and `service.metrics` takes the sums over when they are read.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple


class Phases(NamedTuple):
    """How long one prediction spent where, in seconds."""

    decode: float
    queue: float
    compute: float
    encode: float


class Answered:
    """The predictions that one version has answered since they were last taken over.

    Args:
        bounds: the upper ends of a histogram's buckets, ascending; the last one is infinite.
    """

    __slots__ = ("_bounds", "by_dialect", "counts", "rows", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.rows = 0
        self.by_dialect: dict[str, int] = {}
        self._bounds = bounds
        self.counts = tuple([0] * len(bounds) for _ in Phases._fields)
        """How many predictions fell into each bucket, for each phase."""
        self.seconds = [0.0] * len(Phases._fields)
        """What each phase adds up to."""

    def add(self, dialect: str, rows: int, phases: Phases) -> None:
        """Count one more."""
        self.rows += rows
        self.by_dialect[dialect] = self.by_dialect.get(dialect, 0) + 1
        bounds, (decode, queue, compute, encode), total = self._bounds, self.counts, self.seconds
        # Not a loop: this is a hundredth of all that the smallest request takes.
        decode[bisect_left(bounds, phases[0])] += 1
        queue[bisect_left(bounds, phases[1])] += 1
        compute[bisect_left(bounds, phases[2])] += 1
        encode[bisect_left(bounds, phases[3])] += 1
        total[0] += phases[0]
        total[1] += phases[1]
        total[2] += phases[2]
        total[3] += phases[3]


class Counted:
    """All that was counted since it was last taken over.

    Args:
        bounds: as `Answered` has them.
    """

    __slots__ = ("_bounds", "answered", "statuses")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.answered: dict[tuple[str, str], Answered] = {}
        """By model and version."""
        self.statuses: dict[int, int] = {}
        """How many responses had each."""

    def of(self, model: str, version: str) -> Answered:
        """The predictions of one version."""
        answered = self.answered.get((model, version))
        if answered is None:
            answered = self.answered[model, version] = Answered(self._bounds)
        return answered

    @property
    def numbers(self) -> list[Any]:
        """All of it as JSON has it."""
        answers = [
            (*key, each.rows, each.by_dialect, each.counts, each.seconds)
            for key, each in self.answered.items()
        ]
        return [list(self.statuses.items()), answers]

    def add_numbers(self, numbers: Sequence[Any]) -> None:
        """Take over another's `numbers`, where nothing has been counted yet."""
        statuses, answers = numbers
        self.statuses = dict(statuses)
        for model, version, *rest in answers:
            answered = self.of(model, version)
            answered.rows, answered.by_dialect, answered.counts, answered.seconds = rest
