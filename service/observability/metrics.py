"""Metrics of one process as plain numbers, and the count, the log line and the id of a request.

Updating prometheus_client for one prediction takes as long as a run of the smallest model. So
requests add to these numbers, on the event loop and without a lock, and
`service.observability.exposition` converts them when they are scraped.
"""

import logging
import math
import os
import re
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

import orjson
from pydantic import TypeAdapter

from service.observability.logs import LineBudget

# Prometheus can scrape the last counts of a removed version, and compute rates over minutes.
_EXPIRY_SECONDS = 600.0
_NO_STATUS = 1000  # above any status
_VALID_ID = re.compile(r"[\x21-\x7e]{1,128}")
_ID_BYTES = 16
# Ids are generated in batches, because a system call is slow compared with a list's pop.
_ID_BATCH = 256

_log = logging.getLogger(__name__)

# Forked children must not reuse the ids that their parent has generated.
_ids: list[str] = []
os.register_at_fork(after_in_child=_ids.clear)

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
    """The durations of the phases of one prediction, in seconds."""

    decode: float
    queue: float
    compute: float
    encode: float


@dataclass(slots=True)
class Distribution:
    """The observations of one histogram: their number in each bucket, and their sum."""

    counts: list[int]
    total: float = 0.0

    @classmethod
    def empty(cls, bounds: Sequence[float]) -> Self:
        """Return one without observations; the last of the ascending upper bounds is infinite."""
        return cls([0] * len(bounds))

    def observe(self, bounds: Sequence[float], value: float) -> None:
        """Add one observation; ``bounds`` are those of `empty`."""
        self.counts[bisect_left(bounds, value)] += 1
        self.total += value

    def add(self, other: Self) -> None:
        """Add the observations of another distribution with the same buckets."""
        self.counts = [own + more for own, more in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


@dataclass(slots=True)
class VersionCounts:
    """Counts of one version of one model."""

    rows: int = 0
    rejected_rows: int = 0
    succeeded: Counter[str] = field(default_factory=Counter)
    """Successful predictions, by protocol."""
    failed: dict[str, Counter[str]] = field(default_factory=dict)
    """Failed predictions, by protocol and error code."""
    phases: list[Distribution] = field(
        default_factory=lambda: [Distribution.empty(SECONDS) for _ in Phases._fields]
    )
    """Seconds that successful predictions spent in each of `Phases`."""
    runs: Distribution = field(default_factory=lambda: Distribution.empty(ROWS))
    """Rows of each run."""
    explanations: Counter[str] = field(default_factory=Counter)
    """By outcome."""
    explanation_seconds: Distribution = field(default_factory=lambda: Distribution.empty(SECONDS))
    shadow_requests: Counter[str] = field(default_factory=Counter)
    """By outcome."""

    def add_prediction(self, protocol: str, rows: int, phases: Phases) -> None:
        """Count a successful prediction."""
        self.rows += rows
        self.succeeded[protocol] += 1
        decode, queue, compute, encode = self.phases
        # Unrolled: a loop would add a percent to the duration of the smallest request.
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
        self.rejected_rows += other.rejected_rows
        self.succeeded.update(other.succeeded)
        for protocol, codes in other.failed.items():
            self.failed.setdefault(protocol, Counter()).update(codes)
        for own, more in zip(self.phases, other.phases, strict=True):
            own.add(more)
        self.runs.add(other.runs)
        self.explanations.update(other.explanations)
        self.explanation_seconds.add(other.explanation_seconds)
        self.shadow_requests.update(other.shadow_requests)


@dataclass(slots=True)
class Counts:
    """Totals, which only increase until a version is removed."""

    statuses: Counter[int] = field(default_factory=Counter)
    """Responses by HTTP status."""
    rejections: Counter[str] = field(default_factory=Counter)
    """Requests and connections that exceeded a limit, by error code."""
    evictions: int = 0
    loads: dict[str, Distribution] = field(default_factory=dict)
    """Seconds of each load, by outcome."""
    versions: dict[str, dict[str, VersionCounts]] = field(default_factory=dict)
    """By model and version."""

    def for_version(self, model: str, version: str) -> VersionCounts:
        """Return the counts of one version. Thread-safe."""
        versions = self.versions.setdefault(model, {})
        return versions.get(version) or versions.setdefault(version, VersionCounts())

    def remove(self, model: str, version: str) -> None:
        """Remove the counts of a version."""
        versions = self.versions.get(model, {})
        versions.pop(version, None)
        if not versions:
            self.versions.pop(model, None)

    def add(self, other: Self) -> None:
        """Add what another process counted."""
        self.statuses.update(other.statuses)
        self.rejections.update(other.rejections)
        self.evictions += other.evictions
        for outcome, seconds in other.loads.items():
            self.loads.setdefault(outcome, Distribution.empty(LOAD_SECONDS)).add(seconds)
        for model, versions in other.versions.items():
            for version, counts in versions.items():
                self.for_version(model, version).add(counts)


@dataclass(slots=True)
class ProcessState:
    """The current state of one process, which ends with it."""

    memory_bytes: int = 0
    devices: list[tuple[str, str]] = field(default_factory=list)
    """Each requested device, and the one in use."""
    versions: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    """Device and state of each version, by model and version."""


@dataclass(slots=True)
class Snapshot:
    """All metrics of one process."""

    counts: Counts = field(default_factory=Counts)
    state: ProcessState = field(default_factory=ProcessState)

    def to_json(self) -> bytes:
        """Return one JSON document; it is consistent, since encoding it holds the GIL."""
        return orjson.dumps(self, option=orjson.OPT_NON_STR_KEYS)

    @staticmethod
    def from_json(content: bytes) -> "Snapshot":
        """Read the document of `to_json`; raise `ValueError` if it is another one."""
        return _SNAPSHOTS.validate_json(content)


_SNAPSHOTS = TypeAdapter(Snapshot)


class Metrics:
    """The metrics of one process. Only methods that say so are thread-safe.

    Args:
        expiry_seconds: how long the metrics of a removed version are still exported.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        expiry_seconds: float = _EXPIRY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts = Counts()
        self._state = ProcessState()
        self._expiry_seconds = expiry_seconds
        self._clock = clock
        self._removed: dict[tuple[str, str], float] = {}
        # Runs and loads are counted in several threads.
        self._lock = threading.Lock()

    def count_prediction(
        self, model: str, version: str, protocol: str, rows: int, phases: Phases
    ) -> None:
        """Count one successful prediction."""
        self._counts.for_version(model, version).add_prediction(protocol, rows, phases)

    def count_response(self, status: int) -> None:
        """Count one HTTP response."""
        self._counts.statuses[status] += 1

    def count_rejection(self, reason: str) -> None:
        """Count one request or connection that exceeded a limit or a timeout."""
        self._counts.rejections[reason] += 1

    def count_rejected_rows(self, model: str, version: str, rows: int) -> None:
        """Count rows of a table whose response is an error."""
        self._counts.for_version(model, version).rejected_rows += rows

    def count_failure(self, model: str, version: str, protocol: str, code: str) -> None:
        """Count one failed prediction."""
        failed = self._for_known_version(model, version).failed
        failed.setdefault(protocol, Counter())[code] += 1

    def count_explanation(self, model: str, version: str, outcome: str, seconds: float) -> None:
        """Count one requested explanation."""
        counts = self._for_known_version(model, version)
        counts.explanations[outcome] += 1
        counts.explanation_seconds.observe(SECONDS, seconds)

    def _for_known_version(self, model: str, version: str) -> VersionCounts:
        """Return the counts of a version; those of unknown models have no name.

        Clients can send any name.
        """
        if model not in self._state.versions and model not in self._counts.versions:
            model = version = ""
        return self._counts.for_version(model, version)

    def count_run(self, model: str, version: str, rows: int) -> None:
        """Count one run of a model. Thread-safe."""
        with self._lock:
            self._counts.for_version(model, version).runs.observe(ROWS, rows)

    def count_shadow_requests(self, model: str, version: str, outcome: str, times: int) -> None:
        """Count copies of requests for a candidate version."""
        self._counts.for_version(model, version).shadow_requests[outcome] += times

    def set_model_state(self, model: str, version: str, device: str, state: str) -> None:
        """Set the state and device of a version."""
        self._removed.pop((model, version), None)
        self._removed.pop((model, ""), None)
        self._state.versions.setdefault(model, {})[version] = device, state

    def remove_model_state(self, model: str, version: str, device: str) -> None:
        """Remove the state of a version, but not its counts."""
        versions = self._state.versions.get(model, {})
        if versions.get(version, ("", ""))[0] == device:
            del versions[version]
        if not versions:
            self._state.versions.pop(model, None)

    def expire_version(self, model: str, version: str) -> None:
        """Remove the metrics of a version later, because its folder was removed.

        Otherwise memory and the size of a scrape would grow with every version ever published.
        """
        self._removed[model, version] = self._clock()

    def count_load(self, seconds: float, *, ready: bool) -> None:
        """Count one load of a version. Thread-safe."""
        outcome = "ready" if ready else "rejected"
        with self._lock:
            loads = self._counts.loads.setdefault(outcome, Distribution.empty(LOAD_SECONDS))
            loads.observe(LOAD_SECONDS, seconds)

    def set_memory_bytes(self, size: int) -> None:
        """Set the memory that the models take."""
        self._state.memory_bytes = size

    def count_eviction(self) -> None:
        """Count a model that was evicted from memory."""
        self._counts.evictions += 1

    def add_device(self, requested: str, actual: str) -> None:
        """Add the requested device and the one in use."""
        if (requested, actual) not in self._state.devices:
            self._state.devices.append((requested, actual))

    @property
    def expired_versions(self) -> Collection[tuple[str, str]]:
        """Model and version of the metrics that are no longer exported."""
        return self._removed_before(self._expiry_seconds)

    def snapshot(self) -> bytes:
        """Return all numbers of this process as JSON."""
        # Workers notice a removal at different times, and one that still exports the version needs
        # the counts of all others.
        for key in self._removed_before(2 * self._expiry_seconds):
            self._counts.remove(*key)
            del self._removed[key]
        with self._lock:
            return Snapshot(self._counts, self._state).to_json()

    def restore(self, snapshot: bytes) -> None:
        """Add the counts of the last snapshot of a process; raise `ValueError` if it is none."""
        self._counts.add(Snapshot.from_json(snapshot).counts)

    def expire_versions_except(self, present: Collection[tuple[str, str]]) -> None:
        """Expire versions that only `restore` knows, because they are no longer on disk."""
        for model, versions in self._counts.versions.items():
            for version in versions:
                if model and (model, version) not in present:
                    self.expire_version(model, version)

    def _removed_before(self, seconds: float) -> list[tuple[str, str]]:
        latest = self._clock() - seconds
        return [key for key, removed in self._removed.items() if removed <= latest]


def request_id_from(sent: str | None) -> str:
    """Return the client's id if it is safe to repeat in headers and logs, else a new one."""
    if sent is not None and _VALID_ID.fullmatch(sent):
        return sent
    if not _ids:
        random = os.urandom(_ID_BATCH * _ID_BYTES).hex()
        width = 2 * _ID_BYTES
        _ids.extend(random[i : i + width] for i in range(0, len(random), width))
    return _ids.pop()


class RequestRecorder:
    """Counts and logs the responses of one process."""

    def __init__(self, metrics: Metrics, log_requests: Literal["all", "errors", "none"]) -> None:
        self.metrics = metrics
        self.log_from = {"all": 0, "errors": 400, "none": _NO_STATUS}[log_requests]
        """The lowest status that gets a log line."""
        # The log handler limits lines too, but creating their records would take a third of the CPU
        # time of a flood of rejected connections. With "all", lines are not limited.
        self._budget = None if log_requests == "all" else LineBudget()

    def record(  # noqa: PLR0913 - the facts of a log line
        self,
        method: str,
        path: str,
        status: int,
        seconds: float,
        *,
        code: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Count a response, and log it if required; status zero, no response, is an error."""
        self.metrics.count_response(status)
        if status >= self.log_from or (status == 0 and self.log_from < _NO_STATUS):
            self.log(method, path, status, seconds, code=code, reason=reason)

    def log(  # noqa: PLR0913 - the facts of a log line
        self,
        method: str,
        path: str,
        status: int,
        seconds: float,
        *,
        code: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Write the log line of a request; method and path are empty if the input was not one.

        The code is that of the error of a failed request. The reason says why it was rejected
        before it was complete.
        """
        suppressed = 0 if self._budget is None else self._budget.take()
        if suppressed is None:
            return
        fields: dict[str, object] = {"method": method, "path": path, "status": status}
        if suppressed:
            fields["lines_suppressed"] = suppressed
        if code is not None:
            fields["code"] = code
        if reason is not None:
            fields["reason"] = reason
        _log.info("request", extra=fields | {"milliseconds": round(seconds * 1e3, 3)})
