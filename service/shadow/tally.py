"""What the comparison of two versions has counted; tallies of several workers add up."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

MOST_DIFFERENCES = 10
MOST_TIMES = 1000


@dataclass
class Difference:
    """One row on which the two versions answered most differently.

    Args:
        amount: as `service.shadow.compare` measures it.
        row: what was sent, by feature, or nothing where it is no row of a table.
        place: the row's position in its request.
        request: the request's id.
    """

    amount: float
    serving: Any
    candidate: Any
    row: Any
    place: int
    request: str


@dataclass
class Tally:
    """Counts of one candidate beside one serving version.

    Args:
        serving: the version that answered the callers.
        since: when counting began, in seconds since 1970.
        pairs: rows by the label of the serving version and that of the candidate.
        serving_seconds: of the same single requests run by both, one after the other.
    """

    serving: str
    since: float
    compared: int = 0
    dropped: int = 0
    failed: int = 0
    reason: str = ""
    rows: int = 0
    same: int = 0
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    difference_sum: float = 0.0
    largest: list[Difference] = field(default_factory=list)
    serving_seconds: list[float] = field(default_factory=list)
    candidate_seconds: list[float] = field(default_factory=list)

    def keep(self, differences: Iterable[Difference]) -> None:
        """Remember the largest differences, and no others."""
        every = [*self.largest, *differences]
        self.largest = sorted(every, key=lambda one: -one.amount)[:MOST_DIFFERENCES]

    def add(self, other: "Tally", most_times: int = MOST_TIMES) -> None:
        """Count what was counted elsewhere, too; of the times the newest are kept."""
        self.since = min(self.since, other.since)
        self.compared += other.compared
        self.dropped += other.dropped
        self.failed += other.failed
        self.reason = self.reason or other.reason
        self.rows += other.rows
        self.same += other.same
        self.pairs.update(other.pairs)
        self.difference_sum += other.difference_sum
        self.keep(other.largest)
        self.serving_seconds = (self.serving_seconds + other.serving_seconds)[-most_times:]
        self.candidate_seconds = (self.candidate_seconds + other.candidate_seconds)[-most_times:]

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads, of JSON's types alone."""
        told = vars(self) | {"largest": [vars(one) for one in self.largest]}
        return told | {"pairs": [[*pair, count] for pair, count in self.pairs.items()]}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Self:
        """A tally that another worker has sent."""
        pairs = Counter({(one, other): count for one, other, count in told["pairs"]})
        largest = [Difference(**one) for one in told["largest"]]
        return cls(**told | {"pairs": pairs, "largest": largest})
