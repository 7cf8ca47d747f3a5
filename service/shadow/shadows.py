"""Copies of live requests, given to a candidate version when their answers are out.

They wait in a bounded queue and are compared in a thread that rests nineteen times as long as it
works, so that the serving path keeps its time whatever the candidate costs.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import Literal

from service.engine.model import ServedModel
from service.metrics import Metrics
from service.shadow.comparing import Tolerance, obstacle
from service.shadow.tally import Tally
from service.shadow.trial import Copied, Trial, try_out

Outcome = Literal["compared", "dropped", "failed"]

# Between two turns of work: long enough for requests to gather, which makes each of them cheap.
_PAUSE_SECONDS = 0.05
_REST = 19.0
_MOST_ROWS_AT_ONCE = 1024
_MOST_WAITING_ROWS = 20_000
_MOST_WAITING_BYTES = 64 * 1024 * 1024


class Shadows:
    """The comparisons of one process; all but the runs happens on its event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._waiting: deque[Trial] = deque()
        self._rows = 0
        self._bytes = 0
        self._working: asyncio.Task[None] | None = None

    def offer(self, copied: Copied, candidate: ServedModel, tolerance: Tolerance) -> None:
        """Queue a copy, or count that it cannot be compared or has no room; returns at once."""
        tally = self._tally_of(copied.serving, candidate)
        trial = Trial(copied, candidate, tolerance, tally)
        if reason := obstacle(copied.serving, candidate):
            tally.failed += 1
            tally.reason = reason
            self._count(candidate, "failed")
        elif not self._has_room_for(copied):
            tally.dropped += 1
            self._count(candidate, "dropped")
        else:
            self._waiting.append(trial)
            self._entered(trial)
            if self._working is None:
                self._working = asyncio.create_task(self._work())

    def tally(self, name: str, version: str) -> Tally | None:
        """What has been counted of a candidate, or None."""
        return self._tallies.get((name, version))

    def reset(self, name: str, version: str) -> None:
        """Forget what has been counted; what still waits will be told nowhere."""
        self._tallies.pop((name, version), None)

    def close(self) -> None:
        """Compare no more."""
        if self._working is not None:
            self._working.cancel()
        self._waiting.clear()
        self._rows = self._bytes = 0

    def _tally_of(self, serving: ServedModel, candidate: ServedModel) -> Tally:
        """The tally of these two; what was counted beside another version is of no use now."""
        key = candidate.name, candidate.version
        tally = self._tallies.get(key)
        if tally is None or tally.serving != serving.version:
            tally = self._tallies[key] = Tally(serving.version, time.time())
        return tally

    def _has_room_for(self, copied: Copied) -> bool:
        """Whether the queue takes one more; an empty one takes any."""
        rows, size = self._rows + copied.rows, self._bytes + copied.size
        return not self._waiting or (rows <= _MOST_WAITING_ROWS and size <= _MOST_WAITING_BYTES)

    async def _work(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(_PAUSE_SECONDS)
                started = perf_counter()
                await self._turn(self._take())
                await asyncio.sleep(_REST * (perf_counter() - started))
        finally:
            self._working = None

    async def _turn(self, trials: Sequence[Trial]) -> None:
        done, counted = await asyncio.to_thread(try_out, trials)
        for trial in reversed(trials[done:]):
            self._waiting.appendleft(trial)
            self._entered(trial)
        trials[0].tally.add(counted)
        self._count(trials[0].candidate, "compared", counted.compared)
        self._count(trials[0].candidate, "failed", counted.failed)

    def _take(self) -> list[Trial]:
        """The next trials that belong together."""
        taken = [self._waiting.popleft()]
        rows = taken[0].copied.rows
        while self._waiting:
            trial = self._waiting[0]
            rows += trial.copied.rows
            if not trial.is_like(taken[0]) or rows > _MOST_ROWS_AT_ONCE:
                break
            taken.append(self._waiting.popleft())
        for trial in taken:
            self._entered(trial, -1)
        return taken

    def _entered(self, trial: Trial, sign: Literal[1, -1] = 1) -> None:
        self._rows += sign * trial.copied.rows
        self._bytes += sign * trial.copied.size

    def _count(self, candidate: ServedModel, outcome: Outcome, times: int = 1) -> None:
        if times:
            self._metrics.shadowed(candidate.name, candidate.version, outcome, times)
