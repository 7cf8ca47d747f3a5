"""Joins the rows of several callers into one run, with no timer.

The batcher takes what is waiting whenever the runner is free: a lone call runs at once, and calls
that arrive during a run form the next batch. It knows asyncio and numpy, neither HTTP nor ONNX.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from service.engine.dtypes import Arrays
from service.engine.threads import DaemonThread
from service.errors import Draining, Overloaded, QueueTooLong

Run = Callable[[Arrays], Arrays]

# How much the latest run counts in the estimate of the seconds that a row takes.
_LATEST_WEIGHT = 0.5
# Between two operators the runtime looks whether a run is to end; most take much less.
_TERMINATION_SECONDS = 1.0


class RunControl(Protocol):
    """What ends a run that another thread has begun, as ONNX Runtime's ``RunOptions`` do."""

    terminate: bool
    """Set, the run raises an error as soon as it notices."""


TerminableRun = Callable[[Arrays, Any], Arrays]


@dataclass(frozen=True)
class BatchedAnswer:
    """One caller's rows of the outputs, the seconds it waited and those of its batch's run."""

    outputs: Arrays
    queue_seconds: float
    compute_seconds: float


@dataclass(eq=False)
class _Call:
    inputs: Arrays
    rows: int
    future: "asyncio.Future[BatchedAnswer]"
    arrived: float = field(default_factory=perf_counter)
    counted: bool = True
    """Whether its rows are among those that wait."""

    @property
    def signature(self) -> tuple[tuple[int, ...], ...]:
        """Calls can be joined where every axis but the first agrees."""
        return tuple(array.shape[1:] for array in self.inputs)


@dataclass(frozen=True)
class _Running:
    """The calls of the run in progress, and what ends it."""

    batch: Sequence[_Call]
    control: RunControl

    @property
    def is_wanted(self) -> bool:
        """Whether a client still waits for it."""
        return any(not call.future.done() for call in self.batch)


class Batcher:
    """One runner's queue, counted in rows.

    A run whose clients have all left, because their deadlines passed or otherwise, is terminated,
    so that the thread is free for the next.

    Args:
        run: called in the batcher's own thread with arrays that share their first axis, and with
            the run's control; returns arrays with the same first axis.
        max_batch_rows: most rows joined; a single larger call runs alone and whole.
        max_queued_rows: most rows waiting; a call that would exceed it is refused at once.
        new_control: makes the control of one run.
        deadline_seconds: a call that would wait longer, by the duration of the latest runs, is
            rejected at once.
    """

    def __init__(
        self,
        run: TerminableRun,
        *,
        max_batch_rows: int,
        max_queued_rows: int,
        new_control: Callable[[], RunControl],
        deadline_seconds: float = math.inf,
    ) -> None:
        self._run = run
        self._new_control = new_control
        self._max_batch_rows = max_batch_rows
        self._max_queued_rows = max_queued_rows
        self._waiting: deque[_Call] = deque()
        self._deadline_seconds = deadline_seconds
        self._row_seconds = 0.0
        self._queued_rows = 0
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._thread = DaemonThread("batcher")
        self._running: _Running | None = None

    async def submit(self, inputs: Arrays) -> BatchedAnswer:
        """Answer for these rows, whoever else's rows they are run with.

        Raises:
            Overloaded: too many rows wait, or they take too long.
            Draining: the batcher is closing.
            Exception: what ``run`` raised for these very rows; never another caller's fault.
        """
        rows = row_count(inputs)
        if self._closed:
            raise Draining
        self._require_room(rows)
        call = _Call(inputs, rows, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._queued_rows += rows
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            return await call.future
        finally:
            self._leave(call)
            # It refers to its error, and that by its traceback to this frame and the arrays.
            del call

    async def close(self, seconds: float) -> None:
        """Take no new calls, answer those that wait, and end the thread.

        Args:
            seconds: after which calls that still wait raise `Draining`. A run that does not end
                then is left to itself; its thread does not keep the process from ending.
        """
        self._closed = True
        deadline = perf_counter() + seconds
        while pending := self._pending():
            remaining = deadline - perf_counter()
            if remaining <= 0:
                for future in pending:
                    future.set_exception(Draining())
                break
            await asyncio.wait(pending, timeout=remaining)
        self._terminate_unwanted()
        if self._worker is not None:
            _, unfinished = await asyncio.wait([self._worker], timeout=_TERMINATION_SECONDS)
            for worker in unfinished:
                worker.cancel()
        self._thread.stop()

    def abandon(self) -> None:
        """Let go of runner and thread at once; only for a batcher that nobody waits for."""
        self._closed = True
        self._terminate_unwanted()
        self._run = _closed_in_thread
        self._thread.stop()

    def _require_room(self, rows: int) -> None:
        """Reject a call for which too many rows wait; the first one that waits is always taken."""
        waiting = self._queued_rows
        if waiting and waiting + rows > self._max_queued_rows:
            raise Overloaded(waiting, self._max_queued_rows)
        if waiting and (waiting + rows) * self._row_seconds > self._deadline_seconds:
            raise QueueTooLong(waiting, self._deadline_seconds)

    def _pending(self) -> "list[asyncio.Future[BatchedAnswer]]":
        """What clients wait for, in the queue and in the run in progress."""
        running = () if self._running is None else self._running.batch
        return [call.future for call in (*running, *self._waiting) if not call.future.done()]

    def _leave(self, call: _Call) -> None:
        """Note that a call waits no more, with its answer or without."""
        self._uncount(call)
        if call.future.cancelled():
            self._terminate_unwanted()

    def _terminate_unwanted(self) -> None:
        """End the run in progress where none of its clients waits any more."""
        if self._running is not None and not self._running.is_wanted:
            self._running.control.terminate = True

    async def _work(self) -> None:
        while batch := self._take():
            await self._answer(batch)
        self._worker = None

    def _take(self) -> list[_Call]:
        """The next calls that fit together, leaving out those whose caller has gone."""
        batch: list[_Call] = []
        rows = 0
        while self._waiting:
            call = self._waiting[0]
            gone = call.future.done()
            # A call without rows runs alone: there is nothing to cut its answer by.
            joinable = not batch or (
                min(rows, call.rows) > 0
                and rows + call.rows <= self._max_batch_rows
                and call.signature == batch[0].signature
            )
            if not gone and not joinable:
                break
            self._waiting.popleft()
            self._uncount(call)
            if not gone:
                batch.append(call)
                rows += call.rows
        return batch

    async def _answer(self, batch: list[_Call]) -> None:
        started = perf_counter()
        try:
            outputs = await self._execute(batch)
            require_all_rows(outputs, sum([call.rows for call in batch]), len(batch))
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the callers
            if len(batch) == 1:
                # Emptied, since the error refers to this frame, and a call to its error.
                _settle(batch.pop(), error)
                return
            for call in batch:
                if not call.future.done():
                    await self._answer([call])
            return
        seconds = perf_counter() - started
        self._estimate(seconds, sum([call.rows for call in batch]))
        if len(batch) == 1:
            # Whole: the outputs of a lone call need not share their first axis with its inputs.
            _settle(batch[0], BatchedAnswer(outputs, started - batch[0].arrived, seconds))
            return
        start = 0
        for call in batch:
            own = tuple(output[start : start + call.rows] for output in outputs)
            _settle(call, BatchedAnswer(own, started - call.arrived, seconds))
            start += call.rows

    def _estimate(self, seconds: float, rows: int) -> None:
        """Take a run into the estimate of the seconds that a row takes."""
        latest = seconds / max(rows, 1)
        known = self._row_seconds
        self._row_seconds = known + _LATEST_WEIGHT * (latest - known) if known else latest

    def _uncount(self, call: _Call) -> None:
        if call.counted:
            call.counted = False
            self._queued_rows -= call.rows

    async def _execute(self, batch: Sequence[_Call]) -> Arrays:
        inputs = joined([call.inputs for call in batch])
        self._running = _Running(batch, self._new_control())
        try:
            return await self._thread.run(self._run, inputs, self._running.control)
        finally:
            self._running = None


def gone(_: Arrays) -> Arrays:
    """Stands for a runner that was let go."""
    raise Draining


def _closed_in_thread(inputs: Arrays, _: RunControl) -> Arrays:
    return gone(inputs)


def row_count(inputs: Arrays) -> int:
    """Rows of a call; a call without a first axis counts as one."""
    return len(inputs[0]) if inputs and inputs[0].ndim else 1


def joined(calls: Sequence[Arrays]) -> Arrays:
    """The rows of all calls, one after the other.

    Raises:
        ValueError: the arrays of a call differ in their rows, so that those of several calls would
            be mixed up; each call is then run alone.
    """
    if len(calls) == 1:
        return calls[0]
    if len(calls[0]) > 1 and any(len({it.shape[:1] for it in call}) > 1 for call in calls):
        raise ValueError("the inputs of one call have different numbers of rows")
    return tuple([np.concatenate(column) for column in zip(*calls, strict=True)])


def require_all_rows(outputs: Arrays, rows: int, calls: int) -> None:
    """Refuse an answer that cannot be cut among several calls.

    Raises:
        ValueError: an output has not a row for each of theirs; each is then asked alone.
    """
    if calls > 1 and any(len(output) != rows for output in outputs):
        raise ValueError(f"{rows} rows were answered otherwise together than alone")


def _settle(call: _Call, result: BatchedAnswer | Exception) -> None:
    if call.future.done():
        return  # the caller left while its rows ran
    if isinstance(result, Exception):
        call.future.set_exception(result)
    else:
        call.future.set_result(result)
