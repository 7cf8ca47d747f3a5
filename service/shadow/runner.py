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

from service.bundle.policy import Shadow
from service.engine.batching import row_count
from service.engine.dtypes import Arrays
from service.engine.model import ServedModel
from service.engine.session import new_control, terminate
from service.engine.threads import in_daemon_thread
from service.observability.metrics import Metrics
from service.shadow.compare import obstacle
from service.shadow.tally import Tally
from service.shadow.trial import Copy, Pairing, try_out

# The inputs of a request, and the outputs that it was answered with.
Asked = tuple[Arrays, Arrays]
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
