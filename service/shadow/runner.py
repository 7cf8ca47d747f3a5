"""Shadow deployments: copies of live requests run on a candidate version, and are compared.

Copies are queued, up to a limit, when their responses have been sent. They are compared in a thread
that rests nineteen times as long as it works, so that the serving version keeps its latency
whatever the candidate costs.
"""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, NamedTuple

import numpy as np

from service.bundle.policy import Shadow
from service.engine.batching import RunControl
from service.engine.model import ServedModel
from service.engine.session import new_control, terminate
from service.engine.tensors import Arrays, row_count
from service.engine.threads import in_daemon_thread
from service.observability.metrics import Metrics
from service.shadow.compare import (
    Comparison,
    Tolerance,
    compare,
    incompatibility,
    prediction_of,
    row_of,
)
from service.shadow.tally import MOST_DIFFERENCES, Difference, Tally

# A larger request is compared, and not timed: it would occupy the thread for too long.
_MOST_TIMED_ROWS = 64
# How long requests that cannot share a run are run one by one before the thread rests.
_TURN_SECONDS = 0.005
# Long enough for requests to accumulate, which makes each of them cheap.
_PAUSE_SECONDS = 0.05
_REST = 19.0
_MOST_BATCH_ROWS = 1024
_MOST_QUEUED_ROWS = 20_000
_MOST_QUEUED_BYTES = 64 * 1024 * 1024

Exchange = tuple[Arrays, Arrays]
"""The inputs of a request, and the outputs of the serving version."""
Outcome = Literal["compared", "dropped", "failed"]


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
    """A request that the serving version has answered.

    Made for every request to a model with a shadow, so it must cost almost nothing.
    """

    pair: ShadowPair
    inputs: Arrays
    outputs: Arrays
    request: str
    """Its id."""
    rows: int
    size: int
    """Bytes."""


class ShadowRunner:
    """The comparisons of one process; only the runs are outside its event loop."""

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
        exchange: Exchange,
        request: str,
    ) -> None:
        """Queue a copy, or count that it is dropped or cannot be compared; returns immediately.

        Args:
            models: the serving version, and the candidate.
            policy: of the candidate.
            exchange: the request's inputs and the serving version's outputs.
            request: the request's id.
        """
        pair = self._pair(models, policy)
        inputs, outputs = exchange
        rows = row_count(inputs)
        size = sum([array.nbytes for array in inputs + outputs])
        if pair.incompatibility is not None:
            self._reject(pair, "failed")
        elif self._queue and not self._has_room_for(rows, size):
            self._reject(pair, "dropped")
        else:
            self._queue.append(MirroredRequest(pair, inputs, outputs, request, rows, size))
            self._rows += rows
            self._bytes += size
            if self._worker is None:
                self._worker = asyncio.create_task(self._work())

    def tally(self, name: str, version: str) -> Tally | None:
        """The tally of a candidate, or None."""
        return self._tallies.get((name, version))

    def reset(self, name: str, version: str) -> None:
        """Delete a tally; requests that are queued for it are not reported."""
        self._tallies.pop((name, version), None)
        self._pairs.clear()

    def close(self) -> None:
        """Stop comparing."""
        if self._worker is not None:
            self._worker.cancel()
        self._queue.clear()
        self._pairs.clear()
        self._rows = self._bytes = 0

    def _pair(self, models: tuple[ServedModel, ServedModel], policy: Shadow) -> ShadowPair:
        serving, candidate = models
        known = self._pairs.get(candidate)
        if known is not None and known.serving is serving and known.policy is policy:
            return known
        key = candidate.name, candidate.version
        tally = self._tallies.get(key)
        if tally is None or tally.serving != serving.version:
            tally = self._tallies[key] = Tally(serving.version, time.time())
        reason = incompatibility(serving, candidate)
        pair = self._pairs[candidate] = ShadowPair(serving, candidate, policy, tally, reason)
        return pair

    def _has_room_for(self, rows: int, size: int) -> bool:
        rows_fit = self._rows + rows <= _MOST_QUEUED_ROWS
        return rows_fit and self._bytes + size <= _MOST_QUEUED_BYTES

    def _reject(self, pair: ShadowPair, outcome: Literal["dropped", "failed"]) -> None:
        tally = pair.tally
        if outcome == "failed":
            tally.failed += 1
            tally.reason = pair.incompatibility or ""
        else:
            tally.dropped += 1
        self._count(pair, outcome, 1)

    async def _work(self) -> None:
        try:
            while self._queue:
                await asyncio.sleep(_PAUSE_SECONDS)
                started = perf_counter()
                await self._compare(self._take())
                await asyncio.sleep(_REST * (perf_counter() - started))
        finally:
            self._worker = None
            self._pairs.clear()  # must not keep retired versions in memory

    async def _compare(self, requests: Sequence[MirroredRequest]) -> None:
        control = new_control()
        seconds = requests[0].pair.candidate.deadline_seconds
        timer = asyncio.get_running_loop().call_later(seconds, terminate, control)
        try:
            done, counts = await in_daemon_thread(run_comparison, requests, control)
        finally:
            timer.cancel()
            terminate(control)  # if this task is cancelled, its run continues
        for request in reversed(requests[done:]):
            self._queue.appendleft(request)
            self._rows += request.rows
            self._bytes += request.size
        pair = requests[0].pair
        pair.tally.add(counts)
        self._count(pair, "compared", counts.compared)
        self._count(pair, "failed", counts.failed)

    def _take(self) -> list[MirroredRequest]:
        """The next requests of one pair."""
        taken: list[MirroredRequest] = []
        rows = 0
        while self._queue:
            request = self._queue[0]
            rows += request.rows
            if taken and (request.pair is not taken[0].pair or rows > _MOST_BATCH_ROWS):
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
    """Run the candidate, and compare its outputs with those of the serving version; blocks.

    Args:
        requests: of one pair.
        control: terminates every run from another thread.

    Returns:
        How many were run, from the first on, and what they add to their tally.
    """
    serving = requests[0].pair.serving
    counts = Tally(serving.version, time.time())
    _measure(requests[0], counts, control)
    # Only a bundle promises that its rows are independent.
    if serving.manifest is not None and len(requests) > 1:
        # If some row fails the run, running them one by one finds it.
        with contextlib.suppress(Exception):
            _run(requests, counts, control)
            return len(requests), counts
    started = perf_counter()
    for done, request in enumerate(requests, start=1):
        _run_alone(request, counts, control)
        if perf_counter() - started > _TURN_SECONDS:
            return done, counts
    return len(requests), counts


def _measure(request: MirroredRequest, counts: Tally, control: RunControl) -> None:
    """Run one request on both versions in this thread, so that their times are comparable."""
    if request.rows > _MOST_TIMED_ROWS:
        return
    seconds = []
    try:
        for model in (request.pair.serving, request.pair.candidate):
            started = perf_counter()
            model.run_uncounted(request.inputs, control)
            seconds.append(perf_counter() - started)
    except Exception:  # noqa: BLE001 - it is counted where the outputs are compared
        return
    counts.serving_seconds, counts.candidate_seconds = seconds[:1], seconds[1:]


def _run_alone(request: MirroredRequest, counts: Tally, control: RunControl) -> None:
    try:
        _run([request], counts, control)
    except Exception as error:  # noqa: BLE001 - whatever it is, the candidate has failed
        counts.failed += 1
        counts.reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _run(requests: Sequence[MirroredRequest], counts: Tally, control: RunControl) -> None:
    """Run requests as one batch, and count; nothing is counted if the run fails."""
    pair = requests[0].pair
    inputs = _concatenated([request.inputs for request in requests])
    served = _concatenated([request.outputs for request in requests])
    predicted = pair.candidate.run_uncounted(inputs, control)
    tolerance = Tolerance(pair.policy.absolute, pair.policy.relative)
    compared = compare((pair.serving, pair.candidate), inputs, (served, predicted), tolerance)
    counts.compared += len(requests)
    counts.rows += len(compared.same)
    counts.same += int(compared.same.sum())
    counts.difference_sum += float(compared.differences.sum())
    if compared.labels is not None:
        counts.pairs.update(Counter(zip(*compared.labels, strict=True)))
    counts.add_differences(_largest(requests, compared, predicted))


def _largest(
    requests: Sequence[MirroredRequest], compared: Comparison, predicted: Arrays
) -> list[Difference]:
    """The rows with the largest differences, if they are among the largest of all."""
    pair = requests[0].pair
    known = pair.tally.largest
    least = known[-1].amount if len(known) == MOST_DIFFERENCES else 0.0
    positions = np.argsort(-compared.differences, kind="stable")[:MOST_DIFFERENCES]
    starts = np.cumsum([0, *(request.rows for request in requests)])
    differences = []
    for position in map(int, positions[compared.differences[positions] > least]):
        index = int(np.searchsorted(starts, position, side="right")) - 1
        request, row = requests[index], position - int(starts[index])
        differences.append(
            Difference(
                float(compared.differences[position]),
                prediction_of(pair.serving, request.outputs, row),
                prediction_of(pair.candidate, predicted, position),
                row_of(pair.serving, request.inputs, row),
                row,
                request.request,
            )
        )
    return differences


def _concatenated(parts: Sequence[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
