"""What one process counts, in plain numbers: totals since its start, and its present state.

Telling a metrics library of one prediction costs as much as the smallest model's run. So requests
add to these numbers, on the event loop and without a lock, and `service.observability.metrics`
makes metrics of them when they are read.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self, TypeVar

import orjson
from pydantic import TypeAdapter

Key = TypeVar("Key")

SECONDS = (
    *(0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, math.inf),
)
LOAD_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, math.inf),
)
ROWS = (
    *(1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0),
    *(4096.0, 16_384.0, 65_536.0, math.inf),
)


class Phases(NamedTuple):
    """How long one prediction spent where, in seconds."""

    decode: float
    queue: float
    compute: float
    encode: float


@dataclass(slots=True)
class Distribution:
    """The observations of one histogram.

    Args:
        counts: how many fell into each bucket, which are those of the caller.
        total: their sum.
    """

    counts: list[int]
    total: float = 0.0

    @classmethod
    def over(cls, bounds: Sequence[float]) -> Self:
        """No observation yet.

        Args:
            bounds: the upper ends of the buckets, ascending; the last one is infinite.
        """
        return cls([0] * len(bounds))

    def observe(self, bounds: Sequence[float], value: float) -> None:
        """Add one observation; ``bounds`` are those that it was made with."""
        self.counts[bisect_left(bounds, value)] += 1
        self.total += value

    def add(self, other: Self) -> None:
        """Add the observations of another with the same buckets."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


def _by_phase() -> list[Distribution]:
    return [Distribution.over(SECONDS) for _ in Phases._fields]


@dataclass(slots=True)
class VersionCounts:
    """What happened to one version of one model."""

    rows: int = 0
    failed_rows: int = 0
    answered: dict[str, int] = field(default_factory=dict)
    """Predictions that succeeded, by protocol."""
    failed: dict[str, dict[str, int]] = field(default_factory=dict)
    """Those that did not, by protocol and error code."""
    phases: list[Distribution] = field(default_factory=_by_phase)
    """Seconds of successful predictions in each of `Phases`."""
    runs: Distribution = field(default_factory=lambda: Distribution.over(ROWS))
    """Rows of each run."""
    explanations: dict[str, int] = field(default_factory=dict)
    """By outcome."""
    explanation_seconds: Distribution = field(default_factory=lambda: Distribution.over(SECONDS))
    shadow_requests: dict[str, int] = field(default_factory=dict)
    """By outcome."""

    def add_prediction(self, protocol: str, rows: int, phases: Phases) -> None:
        """Count a prediction that succeeded."""
        self.rows += rows
        self.answered[protocol] = self.answered.get(protocol, 0) + 1
        decode, queue, compute, encode = self.phases
        # Not a loop: this is a hundredth of all that the smallest request takes.
        decode.counts[bisect_left(SECONDS, phases[0])] += 1
        decode.total += phases[0]
        queue.counts[bisect_left(SECONDS, phases[1])] += 1
        queue.total += phases[1]
        compute.counts[bisect_left(SECONDS, phases[2])] += 1
        compute.total += phases[2]
        encode.counts[bisect_left(SECONDS, phases[3])] += 1
        encode.total += phases[3]

    def add(self, other: Self) -> None:
        """Add what another process counted."""
        self.rows += other.rows
        self.failed_rows += other.failed_rows
        add_counts(self.answered, other.answered)
        for protocol, codes in other.failed.items():
            add_counts(self.failed.setdefault(protocol, {}), codes)
        for mine, its in zip(self.phases, other.phases, strict=True):
            mine.add(its)
        self.runs.add(other.runs)
        add_counts(self.explanations, other.explanations)
        self.explanation_seconds.add(other.explanation_seconds)
        add_counts(self.shadow_requests, other.shadow_requests)


@dataclass(slots=True)
class Counts:
    """Totals that only grow, but for versions that are removed."""

    statuses: dict[int, int] = field(default_factory=dict)
    """Responses by HTTP status."""
    rejections: dict[str, int] = field(default_factory=dict)
    """Requests and connections that exceeded a limit, by error code."""
    evictions: int = 0
    loads: dict[str, Distribution] = field(default_factory=dict)
    """Seconds of each load, by outcome."""
    versions: dict[str, dict[str, VersionCounts]] = field(default_factory=dict)
    """By model and version."""

    def of(self, model: str, version: str) -> VersionCounts:
        """The counts of one version; from any thread."""
        versions = self.versions.setdefault(model, {})
        return versions.get(version) or versions.setdefault(version, VersionCounts())

    def remove(self, model: str, version: str) -> None:
        """Forget a version."""
        versions = self.versions.get(model, {})
        versions.pop(version, None)
        if not versions:
            self.versions.pop(model, None)

    def add(self, other: Self) -> None:
        """Add what another process counted."""
        add_counts(self.statuses, other.statuses)
        add_counts(self.rejections, other.rejections)
        self.evictions += other.evictions
        for outcome, seconds in other.loads.items():
            self.loads.setdefault(outcome, Distribution.over(LOAD_SECONDS)).add(seconds)
        for model, versions in other.versions.items():
            for version, counts in versions.items():
                self.of(model, version).add(counts)


@dataclass(slots=True)
class State:
    """What is so now in one process, and ends with it."""

    memory_bytes: int = 0
    devices: list[tuple[str, str]] = field(default_factory=list)
    """Each device that was requested, and the one used."""
    versions: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    """Device and state of each version, by model and version."""


@dataclass(slots=True)
class Snapshot:
    """Everything that one process has to report."""

    counts: Counts = field(default_factory=Counts)
    state: State = field(default_factory=State)

    def to_json(self) -> bytes:
        """As one JSON document; it holds the interpreter's lock, so it is one moment's."""
        return orjson.dumps(self, option=orjson.OPT_NON_STR_KEYS)

    @staticmethod
    def from_json(content: bytes) -> "Snapshot":
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        return _SNAPSHOTS.validate_json(content)


_SNAPSHOTS = TypeAdapter(Snapshot)


def add_counts(counts: dict[Key, int], more: dict[Key, int]) -> None:
    """Add numbers by key."""
    for key, number in more.items():
        counts[key] = counts.get(key, 0) + number
