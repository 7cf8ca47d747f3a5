"""Copies of live requests, given to a candidate version when their answers are out.

They wait in a bounded queue and are compared in a thread that rests nineteen times as long as it
works, so that the serving path keeps its time whatever the candidate costs.
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
from service.engine.batching import RunControl, row_count
from service.engine.dtypes import Arrays
from service.engine.model import ServedModel
from service.engine.session import new_control, terminate
from service.engine.threads import in_daemon_thread
from service.observability.metrics import Metrics
from service.shadow.compare import Compared, Tolerance, compare, obstacle, shown_answer, shown_row
from service.shadow.tally import MOST_DIFFERENCES, Difference, Tally

# A larger request is compared, and not timed: the thread would be at it for too long.
_MOST_TIMED_ROWS = 64
# Requests whose rows cannot be joined are run one by one, for so long in a turn.
_TURN_SECONDS = 0.005


# The inputs of a request, and the outputs that it was answered with.
Asked = tuple[Arrays, Arrays]
Outcome = Literal["compared", "dropped", "failed"]
# Between two turns of work: long enough for requests to gather, which makes each of them cheap.
_PAUSE_SECONDS = 0.05
_REST = 19.0
_MOST_ROWS_AT_ONCE = 1024
_MOST_WAITING_ROWS = 20_000
_MOST_WAITING_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class Pairing:
    """A candidate beside a serving version, and where their comparison is counted.

    ``obstacle`` is why they cannot be compared, where they cannot.
    """

    serving: ServedModel
    candidate: ServedModel
    how: Shadow
    tally: Tally
    obstacle: str | None


class Copy(NamedTuple):
    """A request that the serving version has answered: what was asked, what was said, its id.

    Made for every request of a model with a shadow, so it must cost next to nothing.
    """

    pairing: Pairing
    inputs: Arrays
    outputs: Arrays
    request: str
    rows: int
    size: int
    """Bytes."""


def try_out(copies: Sequence[Copy], control: RunControl) -> tuple[int, Tally]:
    """Have the candidate answer, and hold its answers beside those that went out.

    Args:
        copies: of one pairing.
        control: ends every run from another thread.

    Returns:
        How many were tried, from the first on, and what they add to their tally.
    """
    serving = copies[0].pairing.serving
    counted = Tally(serving.version, time.time())
    _time(copies[0], counted, control)
    # Only a bundle promises that its rows are independent.
    if serving.manifest is not None and len(copies) > 1:
        # Where some row breaks the run, one by one it shows which.
        with contextlib.suppress(Exception):
            _try(copies, counted, control)
            return len(copies), counted
    started = perf_counter()
    for done, copy in enumerate(copies, start=1):
        _try_alone(copy, counted, control)
        if perf_counter() - started > _TURN_SECONDS:
            return done, counted
    return len(copies), counted


def _time(copy: Copy, counted: Tally, control: RunControl) -> None:
    """Run one request by both versions in this very thread, so that their times compare."""
    if copy.rows > _MOST_TIMED_ROWS:
        return
    seconds = []
    try:
        for model in (copy.pairing.serving, copy.pairing.candidate):
            started = perf_counter()
            model.run_uncounted(copy.inputs, control)
            seconds.append(perf_counter() - started)
    except Exception:  # noqa: BLE001 - it is counted where the answers are compared
        return
    counted.serving_seconds, counted.candidate_seconds = seconds[:1], seconds[1:]


def _try_alone(copy: Copy, counted: Tally, control: RunControl) -> None:
    try:
        _try([copy], counted, control)
    except Exception as error:  # noqa: BLE001 - whatever it is, the candidate has failed
        counted.failed += 1
        counted.reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _try(copies: Sequence[Copy], counted: Tally, control: RunControl) -> None:
    """Run requests as one, and count; nothing is counted where the run fails."""
    pairing = copies[0].pairing
    inputs = _joined([copy.inputs for copy in copies])
    said = _joined([copy.outputs for copy in copies])
    answered = pairing.candidate.run_uncounted(inputs, control)
    models = pairing.serving, pairing.candidate
    tolerance = Tolerance(pairing.how.absolute, pairing.how.relative)
    found = compare(models, inputs, (said, answered), tolerance)
    counted.compared += len(copies)
    counted.rows += len(found.same)
    counted.same += int(found.same.sum())
    counted.difference_sum += float(found.apart.sum())
    if found.labels is not None:
        counted.pairs.update(Counter(zip(*found.labels, strict=True)))
    counted.keep(_largest(copies, found, answered))


def _largest(copies: Sequence[Copy], found: Compared, answered: Arrays) -> list[Difference]:
    """The rows that are furthest apart, as far as they are among the furthest of all."""
    pairing = copies[0].pairing
    known = pairing.tally.largest
    least = known[-1].amount if len(known) == MOST_DIFFERENCES else 0.0
    places = np.argsort(-found.apart, kind="stable")[:MOST_DIFFERENCES]
    starts = np.cumsum([0, *(copy.rows for copy in copies)])
    differences = []
    for place in map(int, places[found.apart[places] > least]):
        which = int(np.searchsorted(starts, place, side="right")) - 1
        copy, row = copies[which], place - int(starts[which])
        differences.append(
            Difference(
                float(found.apart[place]),
                shown_answer(pairing.serving, copy.outputs, row),
                shown_answer(pairing.candidate, answered, place),
                shown_row(pairing.serving, copy.inputs, row),
                row,
                copy.request,
            )
        )
    return differences


def _joined(parts: Sequence[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


class Shadows:
    """The comparisons of one process; all but the runs happens on its event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._pairings: dict[ServedModel, Pairing] = {}
        self._waiting: deque[Copy] = deque()
        self._rows = 0
        self._bytes = 0
        self._working: asyncio.Task[None] | None = None

    def offer(
        self, pair: tuple[ServedModel, ServedModel], how: Shadow, asked: Asked, request: str
    ) -> None:
        """Queue a copy, or count that it cannot be compared or has no room; returns at once.

        Args:
            pair: the serving version, and the candidate.
            how: what the policy says of the candidate.
            asked: what the serving version was asked, and what it said.
            request: the request's id.
        """
        pairing = self._pairing_of(pair, how)
        inputs, outputs = asked
        rows = row_count(inputs)
        size = sum([array.nbytes for array in inputs + outputs])
        if pairing.obstacle is not None:
            self._refused(pairing, "failed")
        elif self._waiting and not self._has_room_for(rows, size):
            self._refused(pairing, "dropped")
        else:
            self._waiting.append(Copy(pairing, inputs, outputs, request, rows, size))
            self._rows += rows
            self._bytes += size
            if self._working is None:
                self._working = asyncio.create_task(self._work())

    def tally(self, name: str, version: str) -> Tally | None:
        """What has been counted of a candidate, or None."""
        return self._tallies.get((name, version))

    def reset(self, name: str, version: str) -> None:
        """Forget what has been counted; what still waits will be told nowhere."""
        self._tallies.pop((name, version), None)
        self._pairings.clear()

    def close(self) -> None:
        """Compare no more."""
        if self._working is not None:
            self._working.cancel()
        self._waiting.clear()
        self._pairings.clear()
        self._rows = self._bytes = 0

    def _pairing_of(self, pair: tuple[ServedModel, ServedModel], how: Shadow) -> Pairing:
        serving, candidate = pair
        pairing = self._pairings.get(candidate)
        if pairing is None or pairing.serving is not serving or pairing.how is not how:
            tally = self._tally_of(serving, candidate)
            reason = obstacle(serving, candidate)
            pairing = self._pairings[candidate] = Pairing(serving, candidate, how, tally, reason)
        return pairing

    def _tally_of(self, serving: ServedModel, candidate: ServedModel) -> Tally:
        """The tally of these two; what was counted beside another version is of no use now."""
        key = candidate.name, candidate.version
        tally = self._tallies.get(key)
        if tally is None or tally.serving != serving.version:
            tally = self._tallies[key] = Tally(serving.version, time.time())
        return tally

    def _has_room_for(self, rows: int, size: int) -> bool:
        """Whether the queue takes so much more; an empty one takes any."""
        rows, size = self._rows + rows, self._bytes + size
        return rows <= _MOST_WAITING_ROWS and size <= _MOST_WAITING_BYTES

    def _refused(self, pairing: Pairing, outcome: Literal["dropped", "failed"]) -> None:
        tally = pairing.tally
        if outcome == "failed":
            tally.failed += 1
            tally.reason = pairing.obstacle or ""
        else:
            tally.dropped += 1
        self._count(pairing, outcome, 1)

    async def _work(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(_PAUSE_SECONDS)
                started = perf_counter()
                await self._turn(self._take())
                await asyncio.sleep(_REST * (perf_counter() - started))
        finally:
            self._working = None
            self._pairings.clear()  # versions that are let go must not be held on to

    async def _turn(self, copies: Sequence[Copy]) -> None:
        control = new_control()
        seconds = copies[0].pairing.candidate.deadline_seconds
        timer = asyncio.get_running_loop().call_later(seconds, terminate, control)
        try:
            done, counted = await in_daemon_thread(try_out, copies, control)
        finally:
            timer.cancel()
            terminate(control)  # where it is cancelled, its run goes on
        for copy in reversed(copies[done:]):
            self._waiting.appendleft(copy)
            self._rows += copy.rows
            self._bytes += copy.size
        pairing = copies[0].pairing
        pairing.tally.add(counted)
        self._count(pairing, "compared", counted.compared)
        self._count(pairing, "failed", counted.failed)

    def _take(self) -> list[Copy]:
        """The next copies that belong together."""
        taken: list[Copy] = []
        rows = 0
        while self._waiting:
            copy = self._waiting[0]
            rows += copy.rows
            if taken and (copy.pairing is not taken[0].pairing or rows > _MOST_ROWS_AT_ONCE):
                break
            taken.append(self._waiting.popleft())
            self._rows -= copy.rows
            self._bytes -= copy.size
        return taken

    def _count(self, pairing: Pairing, outcome: Outcome, times: int) -> None:
        if times:
            candidate = pairing.candidate
            self._metrics.shadowed(candidate.name, candidate.version, outcome, times)
