"""Counts of the comparison of two versions; those of several workers are added up."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

MOST_DIFFERENCES = 10
MOST_TIMES = 1000


@dataclass
class Difference:
    """One of the rows whose predictions differ most.

    Args:
        amount: as `service.shadow.compare` measures it.
        row: the features of the request, or None if it is not a row of a table.
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
    """Counts of one candidate compared with one serving version.

    Args:
        serving: the version that served the requests.
        since: when counting began, in seconds since 1970.
        pairs: rows by the label of the serving version and that of the candidate.
        serving_seconds: durations of single requests that both have run, one after the other.
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

    def add_differences(self, differences: Iterable[Difference]) -> None:
        """Keep the largest differences of these and the known ones."""
        every = [*self.largest, *differences]
        self.largest = sorted(every, key=lambda one: -one.amount)[:MOST_DIFFERENCES]

    def add(self, other: "Tally", most_times: int = MOST_TIMES) -> None:
        """Add the counts of another tally; of the durations the newest are kept."""
        self.since = min(self.since, other.since)
        self.compared += other.compared
        self.dropped += other.dropped
        self.failed += other.failed
        self.reason = self.reason or other.reason
        self.rows += other.rows
        self.same += other.same
        self.pairs.update(other.pairs)
        self.difference_sum += other.difference_sum
        self.add_differences(other.largest)
        self.serving_seconds = (self.serving_seconds + other.serving_seconds)[-most_times:]
        self.candidate_seconds = (self.candidate_seconds + other.candidate_seconds)[-most_times:]

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types, for `from_json`."""
        values = vars(self) | {"largest": [vars(one) for one in self.largest]}
        return values | {"pairs": [[*pair, count] for pair, count in self.pairs.items()]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The tally of another worker."""
        pairs = Counter({(one, other): count for one, other, count in values["pairs"]})
        largest = [Difference(**one) for one in values["largest"]]
        return cls(**values | {"pairs": pairs, "largest": largest})
