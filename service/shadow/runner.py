"""Shadow deployments: copies of live requests run on a candidate version, and are compared.

Copies are queued, up to a limit, after their responses have been sent. They are compared in a
thread that pauses nineteen times as long as it works, so that even a slow candidate hardly affects
the latency of the serving version.
"""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from service.bundle.policy import Shadow
from service.engine.batching import RunControl, concatenate
from service.engine.model import ServedModel
from service.engine.session import new_control, summarize_error, terminate
from service.engine.tensors import Arrays, count_rows
from service.engine.threads import run_in_daemon_thread
from service.observability.metrics import Metrics
from service.shadow.compare import (
    Comparison,
    compare,
    find_incompatibility,
    format_prediction,
    format_row,
)

MAX_DIFFERENCES = 10
MAX_DURATIONS = 1000

# A larger request is compared but not timed: it would occupy the thread for too long.
_MAX_TIMED_ROWS = 64
# How long requests that cannot share a run are run one by one before the thread pauses.
_TURN_SECONDS = 0.005
# Long enough for requests to accumulate, which makes each of them cheap.
_PAUSE_SECONDS = 0.05
_PAUSE_RATIO = 19.0
_MAX_BATCH_ROWS = 1024
_MAX_QUEUED_ROWS = 20_000
_MAX_QUEUED_BYTES = 64 * 1024 * 1024

Outcome = Literal["compared", "dropped", "failed"]


@dataclass
class Difference:
    """A row whose predictions differ by much, as `Comparison` defines the amount.

    ``row`` holds its features, or None if it is not a row of a table.
    """

    amount: float
    serving: Any
    candidate: Any
    row: Any
    position: int
    request_id: str


@dataclass
class Tally:
    """The results of comparing a candidate with a serving version; those of workers add up.

    Args:
        serving: the version that served the requests.
        since: when counting began, in seconds since 1970.
        pairs: rows by the label of the serving version and that of the candidate.
        serving_seconds: durations of single requests that both versions ran, one after the other;
            ``candidate_seconds`` are those of the candidate.
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
        """Merge these differences; only the largest are retained."""
        merged = [*self.largest, *differences]
        self.largest = sorted(merged, key=lambda difference: -difference.amount)[:MAX_DIFFERENCES]

    def add(self, other: "Tally", max_durations: int = MAX_DURATIONS) -> None:
        """Add the counts of another tally; only the newest durations are retained."""
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
        self.serving_seconds = (self.serving_seconds + other.serving_seconds)[-max_durations:]
        self.candidate_seconds = (self.candidate_seconds + other.candidate_seconds)[-max_durations:]

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of JSON types, for `from_json`."""
        values = vars(self) | {"largest": [vars(one) for one in self.largest]}
        return values | {"pairs": [[*pair, count] for pair, count in self.pairs.items()]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Create the tally of another worker from its `to_json`."""
        pairs = Counter({(one, other): count for one, other, count in values["pairs"]})
        largest = [Difference(**one) for one in values["largest"]]
        return cls(**values | {"pairs": pairs, "largest": largest})


@dataclass(frozen=True, eq=False)
class ShadowPair:
    """A serving version and a candidate, and the tally of their comparison.

    ``incompatibility`` says why they cannot be compared, if they cannot.
    """

    serving: ServedModel
    candidate: ServedModel
    policy: Shadow
    tally: Tally
    incompatibility: str | None


class MirroredRequest(NamedTuple):
    """A copy of a request, with the outputs of the serving version.

    A tuple, because creating one for every request to a model with a shadow must be cheap.
    """

    pair: ShadowPair
    inputs: Arrays
    outputs: Arrays
    request_id: str
    rows: int
    size: int
    """In bytes."""


class ShadowRunner:
    """Compares copies of requests in one process; only the runs are outside its event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._pairs: dict[ServedModel, ShadowPair] = {}
        self._queue: deque[MirroredRequest] = deque()
        self._rows = 0
        self._bytes = 0
        self._worker: asyncio.Task[None] | None = None

    def offer(
        self,
        models: tuple[ServedModel, ServedModel],
        policy: Shadow,
        arrays: tuple[Arrays, Arrays],
        request_id: str,
    ) -> None:
        """Queue a copy, or count it as dropped or failed; returns immediately.

        The models are the serving version and the candidate, whose policy this is; the arrays are
        the inputs of a request, and the outputs of the serving version.
        """
        pair = self._find_pair(models, policy)
        inputs, outputs = arrays
        rows = count_rows(inputs)
        size = sum([array.nbytes for array in inputs + outputs])
        if pair.incompatibility is not None:
            pair.tally.failed += 1
            pair.tally.reason = pair.incompatibility
            self._count(pair, "failed", 1)
        elif self._queue and (
            self._rows + rows > _MAX_QUEUED_ROWS or self._bytes + size > _MAX_QUEUED_BYTES
        ):
            pair.tally.dropped += 1
            self._count(pair, "dropped", 1)
        else:
            self._queue.append(MirroredRequest(pair, inputs, outputs, request_id, rows, size))
            self._rows += rows
            self._bytes += size
            if self._worker is None:
                self._worker = asyncio.create_task(self._work())

    def tally(self, name: str, version: str) -> Tally | None:
        """Return the tally of a candidate, or None."""
        return self._tallies.get((name, version))

    def reset(self, name: str, version: str) -> None:
        """Delete a tally; its queued requests are not counted in the next one."""
        self._tallies.pop((name, version), None)
        self._pairs.clear()

    def close(self) -> None:
        """Stop all comparisons."""
        if self._worker is not None:
            self._worker.cancel()
        self._queue.clear()
        self._pairs.clear()
        self._rows = self._bytes = 0

    def _find_pair(self, models: tuple[ServedModel, ServedModel], policy: Shadow) -> ShadowPair:
        serving, candidate = models
        cached = self._pairs.get(candidate)
        if cached is not None and cached.serving is serving and cached.policy is policy:
            return cached
        key = candidate.name, candidate.version
        tally = self._tallies.get(key)
        if tally is None or tally.serving != serving.version:
            tally = self._tallies[key] = Tally(serving.version, time.time())
        reason = find_incompatibility(serving, candidate)
        pair = self._pairs[candidate] = ShadowPair(serving, candidate, policy, tally, reason)
        return pair

    async def _work(self) -> None:
        try:
            while self._queue:
                await asyncio.sleep(_PAUSE_SECONDS)
                started = perf_counter()
                await self._compare(self._take())
                await asyncio.sleep(_PAUSE_RATIO * (perf_counter() - started))
        finally:
            self._worker = None
            self._pairs.clear()  # must not keep closed versions in memory

    async def _compare(self, requests: Sequence[MirroredRequest]) -> None:
        control = new_control()
        seconds = requests[0].pair.candidate.deadline_seconds
        timer = asyncio.get_running_loop().call_later(seconds, terminate, control)
        try:
            done, counts = await run_in_daemon_thread(run_comparison, requests, control)
        finally:
            timer.cancel()
            terminate(control)  # a cancelled task does not end its run
        for request in reversed(requests[done:]):
            self._queue.appendleft(request)
            self._rows += request.rows
            self._bytes += request.size
        pair = requests[0].pair
        pair.tally.add(counts)
        self._count(pair, "compared", counts.compared)
        self._count(pair, "failed", counts.failed)

    def _take(self) -> list[MirroredRequest]:
        """Take the next requests from the queue, all of one pair."""
        taken: list[MirroredRequest] = []
        rows = 0
        while self._queue:
            request = self._queue[0]
            rows += request.rows
            if taken and (request.pair is not taken[0].pair or rows > _MAX_BATCH_ROWS):
                break
            taken.append(self._queue.popleft())
            self._rows -= request.rows
            self._bytes -= request.size
        return taken

    def _count(self, pair: ShadowPair, outcome: Outcome, times: int) -> None:
        if times:
            candidate = pair.candidate
            self._metrics.count_shadow_requests(candidate.name, candidate.version, outcome, times)


def run_comparison(requests: Sequence[MirroredRequest], control: RunControl) -> tuple[int, Tally]:
    """Run the candidate on the requests of a pair, and compare its outputs; this blocks.

    Returns:
        The number of requests that were run, from the first one, and the counts to add to their
        tally.
    """
    serving = requests[0].pair.serving
    counts = Tally(serving.version, time.time())
    _measure(requests[0], counts, control)
    # Only the rows of a bundle are known to be independent.
    if serving.manifest is not None and len(requests) > 1:
        # If a row makes the run fail, running the requests one by one finds it.
        with contextlib.suppress(Exception):
            _run(requests, counts, control)
            return len(requests), counts
    started = perf_counter()
    for done, request in enumerate(requests, start=1):
        try:
            _run([request], counts, control)
        except Exception as error:  # noqa: BLE001 - any error is a failure of the candidate
            counts.failed += 1
            counts.reason = f"{type(error).__name__}: {summarize_error(error)}"
        if perf_counter() - started > _TURN_SECONDS:
            return done, counts
    return len(requests), counts


def _measure(request: MirroredRequest, counts: Tally, control: RunControl) -> None:
    """Run one request on both versions in this thread, so that their times are comparable."""
    if request.rows > _MAX_TIMED_ROWS:
        return
    seconds = []
    try:
        for model in (request.pair.serving, request.pair.candidate):
            started = perf_counter()
            model.run_uncounted(request.inputs, control)
            seconds.append(perf_counter() - started)
    except Exception:  # noqa: BLE001 - counted where the outputs are compared
        return
    counts.serving_seconds, counts.candidate_seconds = seconds[:1], seconds[1:]


def _run(requests: Sequence[MirroredRequest], counts: Tally, control: RunControl) -> None:
    """Run requests as one batch, and count the results; nothing is counted if the run fails."""
    pair = requests[0].pair
    inputs = concatenate([request.inputs for request in requests])
    served = concatenate([request.outputs for request in requests])
    predicted = pair.candidate.run_uncounted(inputs, control)
    compared = compare((pair.serving, pair.candidate), inputs, (served, predicted), pair.policy)
    counts.compared += len(requests)
    counts.rows += len(compared.is_equal)
    counts.same += int(compared.is_equal.sum())
    counts.difference_sum += float(compared.differences.sum())
    if compared.labels is not None:
        counts.pairs.update(Counter(zip(*compared.labels, strict=True)))
    counts.add_differences(_find_largest(requests, compared, predicted))


def _find_largest(
    requests: Sequence[MirroredRequest], compared: Comparison, predicted: Arrays
) -> list[Difference]:
    """Return the rows that are among the largest differences of their tally."""
    pair = requests[0].pair
    largest = pair.tally.largest
    threshold = largest[-1].amount if len(largest) == MAX_DIFFERENCES else 0.0
    positions = np.argsort(-compared.differences, kind="stable")[:MAX_DIFFERENCES]
    starts = np.cumsum([0, *(request.rows for request in requests)])
    differences = []
    for position in map(int, positions[compared.differences[positions] > threshold]):
        index = int(np.searchsorted(starts, position, side="right")) - 1
        request, row = requests[index], position - int(starts[index])
        differences.append(
            Difference(
                float(compared.differences[position]),
                format_prediction(pair.serving, request.outputs, row),
                format_prediction(pair.candidate, predicted, position),
                format_row(pair.serving, request.inputs, row),
                row,
                request.request_id,
            )
        )
    return differences
