"""Counts of one process in plain numbers: totals since its start, and its present state.

Updating a metrics library for one prediction costs as much as a run of the smallest model. So
requests add to these numbers, on the event loop and without a lock, and
`service.observability.exposition` makes metrics of them when they are scraped.
"""

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self, TypeVar

import orjson
from pydantic import TypeAdapter

# So that the last counts of a removed version are scraped, and rates over minutes can use them.
_REMOVED_AFTER_SECONDS = 600.0
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
        counts: how many are in each bucket; the caller knows the bounds.
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


class Metrics:
    """One process's metrics. Methods are for the event loop unless they say otherwise.

    Args:
        removed_after_seconds: how long the metrics of a removed version remain.
        clock: gives seconds that only increase.
    """

    def __init__(
        self,
        removed_after_seconds: float = _REMOVED_AFTER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts = Counts()
        self._state = State()
        self._removed_after_seconds = removed_after_seconds
        self._clock = clock
        self._removed: dict[tuple[str, str], float] = {}
        # Runs and loads are counted in threads.
        self._lock = threading.Lock()

    def predicted(self, model: str, version: str, dialect: str, rows: int, phases: Phases) -> None:
        """Count one prediction that succeeded."""
        self._counts.of(model, version).add_prediction(dialect, rows, phases)

    def responded(self, status: int) -> None:
        """Count one HTTP response."""
        statuses = self._counts.statuses
        statuses[status] = statuses.get(status, 0) + 1

    def rejected(self, reason: str) -> None:
        """Count one request or connection that exceeded a limit or a timeout."""
        _increment(self._counts.rejections, reason)

    def refused_rows(self, model: str, version: str, rows: int) -> None:
        """Count rows of a table that got an error in their place."""
        self._counts.of(model, version).failed_rows += rows

    def failed(self, model: str, version: str, dialect: str, code: str) -> None:
        """Count one prediction that failed.

        A model that does not exist is counted without its name, which clients choose freely.
        """
        if model not in self._state.versions and model not in self._counts.versions:
            model = version = ""
        _increment(self._counts.of(model, version).failed.setdefault(dialect, {}), code)

    def explained(self, model: str, version: str, outcome: str, seconds: float) -> None:
        """Count one requested explanation."""
        counts = self._counts.of(model, version)
        _increment(counts.explanations, outcome)
        counts.explanation_seconds.observe(SECONDS, seconds)

    def ran(self, model: str, version: str, rows: int) -> None:
        """Count one run of a model over ``rows`` rows; from any thread."""
        with self._lock:
            self._counts.of(model, version).runs.observe(ROWS, rows)

    def shadowed(self, model: str, version: str, outcome: str, times: int) -> None:
        """Count copies of requests for a candidate version."""
        _increment(self._counts.of(model, version).shadow_requests, outcome, times)

    def model_state(self, model: str, version: str, device: str, state: str) -> None:
        """Report the state of a version, and its device."""
        self._removed.pop((model, version), None)
        self._state.versions.setdefault(model, {})[version] = device, state

    def remove_model_state(self, model: str, version: str, device: str) -> None:
        """Report no state of a version any more; its counts remain."""
        versions = self._state.versions.get(model, {})
        if versions.get(version, ("", ""))[0] == device:
            del versions[version]
        if not versions:
            self._state.versions.pop(model, None)

    def version_removed(self, model: str, version: str) -> None:
        """Drop the metrics of a version whose folder was removed, after a while.

        Otherwise memory and the size of a scrape would grow with every version ever published.
        """
        self._removed[model, version] = self._clock()

    def loaded(self, seconds: float, *, ready: bool) -> None:
        """Count one load of a version; from any thread."""
        outcome = "ready" if ready else "refused"
        with self._lock:
            loads = self._counts.loads.setdefault(outcome, Distribution.over(LOAD_SECONDS))
            loads.observe(LOAD_SECONDS, seconds)

    def memory(self, size: int) -> None:
        """Report how many bytes the models take."""
        self._state.memory_bytes = size

    def evicted(self) -> None:
        """Count a model that left memory for another."""
        self._counts.evictions += 1

    def device(self, requested: str, actual: str) -> None:
        """Report which device was requested and which one is used."""
        if (requested, actual) not in self._state.devices:
            self._state.devices.append((requested, actual))

    @property
    def hidden(self) -> Collection[tuple[str, str]]:
        """Versions that were removed long enough ago to be reported no more."""
        return self._removed_before(self._removed_after_seconds)

    def snapshot(self) -> bytes:
        """All numbers of this process, as JSON, for `exposition` and for `restore`."""
        # Twice as long as they are reported, since workers notice a removal at different times: one
        # that still reports the version must get the counts of all others.
        for key in self._removed_before(2 * self._removed_after_seconds):
            self._counts.remove(*key)
            del self._removed[key]
        with self._lock:
            return Snapshot(self._counts, self._state).to_json()

    def restore(self, snapshot: bytes) -> None:
        """Continue from the counts of a process that ended, given its last snapshot.

        Raises:
            ValueError: it is no snapshot.
        """
        self._counts.add(Snapshot.from_json(snapshot).counts)

    def versions_found(self, present: Collection[tuple[str, str]]) -> None:
        """Drop the metrics of all other versions, after a while; only `restore` brings any."""
        for model, versions in self._counts.versions.items():
            for version in versions:
                if model and (model, version) not in present:
                    self.version_removed(model, version)

    def _removed_before(self, seconds: float) -> list[tuple[str, str]]:
        latest = self._clock() - seconds
        return [key for key, moment in self._removed.items() if moment <= latest]


def _increment(counts: dict[str, int], key: str, times: int = 1) -> None:
    counts[key] = counts.get(key, 0) + times
