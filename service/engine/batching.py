"""Dynamic batching without timers: rows of several requests share one run of a model.

`ThreadBatcher` takes what waits whenever its thread is free: a single request runs immediately, and
requests that arrive during a run form the next batch. `LoopBatcher` runs what arrived in one turn
of the event loop, there. Both use one queue and know asyncio and numpy, neither HTTP nor ONNX.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from service.engine.tensors import Arrays, row_count
from service.engine.threads import DaemonThread, settle
from service.errors import Draining, Overloaded, QueueTooLong

# Weight of the latest run in the estimate of the seconds that a row takes.
_LATEST_WEIGHT = 0.5
# ONNX Runtime checks between two operators whether to terminate; most operators take much less.
_TERMINATION_SECONDS = 1.0
# Longer, and other connections would wait: a client that gets its response late in one turn would
# miss the next turn too. A run that has begun is finished.
_TURN_SECONDS = 0.000_5

_log = logging.getLogger(__name__)

Run = Callable[[Arrays], Arrays]
TerminableRun = Callable[[Arrays, Any], Arrays]


class Prediction(NamedTuple):
    """The outputs for one request's rows, its waiting time and the duration of its batch's run."""

    outputs: Arrays
    queue_seconds: float
    compute_seconds: float


OnResult = Callable[[Prediction | Exception], None]


class RunControl(Protocol):
    """Terminates a run from another thread, as ONNX Runtime's ``RunOptions`` do."""

    terminate: bool
    """Once set, the run raises an error as soon as it notices."""


@dataclass(eq=False, slots=True)
class _Call:
    """One request's rows, and the callback for their result."""

    inputs: Arrays
    rows: int
    on_result: OnResult
    arrived: float

    @property
    def is_open(self) -> bool:
        """Whether the client still waits."""
        return True

    def fits(self, other: "_Call") -> bool:  # noqa: ARG002 - the calls of one `LoopBatcher` agree
        """Whether the arrays of both agree in every axis but the first."""
        return True


@dataclass(eq=False, slots=True)
class _FutureCall(_Call):
    future: "asyncio.Future[Prediction]"
    is_counted: bool = True
    """Whether its rows are among those that wait."""

    @property
    def is_open(self) -> bool:
        return not self.future.done()

    def fits(self, other: _Call) -> bool:
        pairs = zip(self.inputs, other.inputs, strict=True)
        return all(one.shape[1:] == another.shape[1:] for one, another in pairs)


C = TypeVar("C", bound=_Call)


class _Queue(Generic[C]):
    """Waiting calls, counted in rows.

    Args:
        max_rows: most rows waiting; the first call is always accepted.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self.calls: deque[C] = deque()
        self.rows = 0

    def __bool__(self) -> bool:
        return bool(self.calls)

    def __iter__(self) -> Iterator[C]:
        return iter(self.calls)

    def require_room(self, rows: int) -> None:
        """Reject a call for which too many rows wait.

        Raises:
            Overloaded: with the numbers.
        """
        if self.rows and self.rows + rows > self._max_rows:
            raise Overloaded(self.rows, self._max_rows)

    def add(self, call: C) -> None:
        """Append a call."""
        self.calls.append(call)
        self.rows += call.rows

    def take(self, max_batch_rows: int) -> list[C]:
        """Remove the next calls that can share a run; at least one, if any client waits."""
        calls = self.calls
        batch: list[C] = []
        rows = 0
        while calls:
            call = calls[0]
            if call.is_open:
                # A call without rows runs alone: its outputs could not be split off.
                if batch and not (
                    min(rows, call.rows) > 0
                    and rows + call.rows <= max_batch_rows
                    and call.fits(batch[0])
                ):
                    break
                batch.append(call)
                rows += call.rows
            calls.popleft()
            self.discount(call)
        return batch

    def discount(self, call: C) -> None:
        """Subtract the rows of a call that waits no longer."""
        self.rows -= call.rows


class _ThreadQueue(_Queue[_FutureCall]):
    """A queue whose calls may be cancelled, and so are discounted before they are taken."""

    def discount(self, call: _FutureCall) -> None:
        if call.is_counted:
            call.is_counted = False
            super().discount(call)


@dataclass(frozen=True)
class _Running:
    """The calls of the run in progress, and its control."""

    batch: Sequence[_FutureCall]
    control: RunControl

    @property
    def is_wanted(self) -> bool:
        """Whether a client still waits for it."""
        return any(call.is_open for call in self.batch)


class ThreadBatcher:
    """Runs batches in a thread of its own, one after another.

    A run whose clients have all disconnected or exceeded their deadlines is terminated, so that the
    thread is free for the next.

    Args:
        run: called in the thread with arrays that share their first axis, and with the run's
            control; returns arrays with the same first axis.
        max_batch_rows: most rows in a batch; a single larger call runs alone and whole.
        max_queued_rows: most rows waiting; a call that would exceed it is rejected immediately.
        new_control: makes the control of one run.
        deadline_seconds: a call that would wait longer, by the duration of the latest runs, is
            rejected immediately.
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
        self._queue = _ThreadQueue(max_queued_rows)
        self._deadline_seconds = deadline_seconds
        self._row_seconds = 0.0
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._thread = DaemonThread("batcher")
        self._running: _Running | None = None

    async def submit(self, inputs: Arrays) -> Prediction:
        """Predict these rows, alone or in a batch with others.

        Raises:
            Overloaded: too many rows wait, or they take too long.
            Draining: the batcher is closing.
            Exception: what ``run`` raised for these very rows, never for those of another call.
        """
        rows = row_count(inputs)
        if self._closed:
            raise Draining
        self._require_room(rows)
        future: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        call = _FutureCall(inputs, rows, _resolver(future), perf_counter(), future)
        self._queue.add(call)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            return await future
        finally:
            self._queue.discount(call)
            if future.cancelled():
                self._terminate_unwanted()
            # It refers to its error, whose traceback refers to this frame and the arrays.
            del call, future

    async def close(self, seconds: float) -> None:
        """Accept no more calls, finish those that wait, and end the thread.

        Args:
            seconds: after which calls that still wait raise `Draining`. A run that does not end
                then is abandoned; its thread does not keep the process from ending.
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

    def shutdown_now(self) -> None:
        """Release the run function and the thread; only when no client waits."""
        self._closed = True
        self._terminate_unwanted()
        self._run = _closed
        self._thread.stop()

    def _require_room(self, rows: int) -> None:
        self._queue.require_room(rows)
        waiting = self._queue.rows
        if waiting and (waiting + rows) * self._row_seconds > self._deadline_seconds:
            raise QueueTooLong(waiting, self._deadline_seconds)

    def _pending(self) -> "list[asyncio.Future[Prediction]]":
        """The futures that clients await, in the queue and in the run in progress."""
        running = () if self._running is None else self._running.batch
        return [call.future for call in (*running, *self._queue) if call.is_open]

    def _terminate_unwanted(self) -> None:
        """Terminate the run in progress if no client waits for it."""
        if self._running is not None and not self._running.is_wanted:
            self._running.control.terminate = True

    async def _work(self) -> None:
        while batch := self._queue.take(self._max_batch_rows):
            await self._predict(batch)
        self._worker = None

    async def _predict(self, batch: list[_FutureCall]) -> None:
        started = perf_counter()
        try:
            outputs = await self._execute(batch)
            _require_all_rows(outputs, batch)
        except Exception as error:  # noqa: BLE001 - each caller gets its own
            if len(batch) == 1:
                # Emptied, since the error refers to this frame, and a call to its error.
                _report(batch.pop(), error)
                return
            for call in batch:
                if call.is_open:
                    await self._predict([call])
            return
        seconds = perf_counter() - started
        self._estimate(seconds, sum([call.rows for call in batch]))
        _report_rows(batch, outputs, started, seconds)

    def _estimate(self, seconds: float, rows: int) -> None:
        """Update the estimate of the seconds that a row takes."""
        latest = seconds / max(rows, 1)
        known = self._row_seconds
        self._row_seconds = known + _LATEST_WEIGHT * (latest - known) if known else latest

    async def _execute(self, batch: Sequence[_FutureCall]) -> Arrays:
        inputs = _concatenated([call.inputs for call in batch])
        self._running = _Running(batch, self._new_control())
        try:
            return await self._thread.run(self._run, inputs, self._running.control)
        finally:
            self._running = None


class LoopBatcher:
    """Runs the calls of one turn of the event loop together, on the event loop.

    A single call runs once the loop has polled the other connections, which costs nothing; calls
    that arrived together share one run, without handing over to a thread.

    Args:
        run: called on the event loop with arrays that share their first axis; returns arrays with
            the same first axis.
        max_batch_rows: most rows in a batch, and so how long the loop is blocked; a single larger
            call runs whole.
        max_queued_rows: most rows waiting; a call that would exceed it is rejected immediately.
        map_error: makes the exception for the client of an error of ``run`` on its rows.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch_rows: int,
        max_queued_rows: int,
        map_error: Callable[[Exception], Exception],
    ) -> None:
        self._run = run
        self.max_batch_rows = max_batch_rows
        self._map_error = map_error
        self._queue: _Queue[_Call] = _Queue(max_queued_rows)
        self._is_scheduled = False
        self._closed = False

    def submit(
        self, inputs: Arrays, rows: int, on_result: OnResult, *, exclusive: bool = False
    ) -> None:
        """Predict these rows in this turn of the event loop.

        Args:
            inputs: arrays that share their first axis; those of all calls agree in the others.
            rows: length of their first axis.
            on_result: called with the prediction, or with the mapped error of ``run`` on these very
                rows.
            exclusive: no other call can arrive in this turn, so run now.

        Raises:
            Overloaded: too many rows wait.
            Draining: the batcher is closed.
        """
        if self._closed:
            raise Draining
        self._queue.require_room(rows)
        self._queue.add(_Call(inputs, rows, on_result, perf_counter()))
        # A response may bring its connection's next request while this works.
        if self._is_scheduled:
            return
        self._is_scheduled = True
        if exclusive:
            self._work()
        else:
            asyncio.get_running_loop().call_soon(self._work)

    def close(self) -> None:
        """Accept no more calls, and finish those that wait."""
        self._closed = True
        while self._queue:
            self._predict(self._queue.take(self.max_batch_rows))

    def shutdown_now(self) -> None:
        """Release the run function; only when no client waits."""
        self._closed = True
        self._run = _closed
        self._map_error = _unmapped

    def _work(self) -> None:
        deadline = perf_counter() + _TURN_SECONDS
        while self._queue.calls and perf_counter() < deadline:
            self._predict(self._queue.take(self.max_batch_rows))
        self._is_scheduled = bool(self._queue.calls)
        if self._is_scheduled:
            # Other connections get their turn.
            asyncio.get_running_loop().call_soon(self._work)

    def _predict(self, batch: list[_Call]) -> None:
        started = perf_counter()
        try:
            outputs = self._run(_concatenated([call.inputs for call in batch]))
            _require_all_rows(outputs, batch)
        except Exception as error:  # noqa: BLE001 - each caller gets its own
            if len(batch) == 1:
                _report(batch[0], self._map_error(error))
                return
            for call in batch:
                self._predict([call])
            return
        _report_rows(batch, outputs, started, perf_counter() - started)


def _concatenated(calls: Sequence[Arrays]) -> Arrays:
    """The rows of all calls, one after the other.

    Raises:
        ValueError: the arrays of a call differ in their rows, so that those of several calls would
            be mixed up; each call then runs alone.
    """
    if len(calls) == 1:
        return calls[0]
    if len(calls[0]) > 1 and any(len({it.shape[:1] for it in call}) > 1 for call in calls):
        raise ValueError("the inputs of one call have different numbers of rows")
    return tuple([np.concatenate(column) for column in zip(*calls, strict=True)])


def _require_all_rows(outputs: Arrays, batch: Sequence[_Call]) -> None:
    """Check that the outputs of a batch can be split among its calls.

    Raises:
        ValueError: an output has not one row for each of theirs; each call then runs alone.
    """
    if len(batch) > 1:
        rows = sum([call.rows for call in batch])
        if any(len(output) != rows for output in outputs):
            raise ValueError(f"a batch of {rows} rows has outputs of another length")


def _report_rows(batch: Sequence[_Call], outputs: Arrays, started: float, seconds: float) -> None:
    """Give each call its rows of the outputs."""
    if len(batch) == 1:
        # Whole: the outputs of a single call need not share their first axis with its inputs.
        _report(batch[0], Prediction(outputs, started - batch[0].arrived, seconds))
        return
    start = 0
    for call in batch:
        end = start + call.rows
        own = tuple([output[start:end] for output in outputs])
        _report(call, Prediction(own, started - call.arrived, seconds))
        start = end


def _report(call: _Call, result: Prediction | Exception) -> None:
    """Report a result; an error in one callback must not keep the others from theirs."""
    try:
        call.on_result(result)
    except Exception:  # noqa: BLE001 - whatever it is, it is this caller's
        _log.exception("a prediction could not be delivered")


def _resolver(future: "asyncio.Future[Prediction]") -> OnResult:
    def resolve(result: Prediction | Exception) -> None:
        if isinstance(result, Exception):
            settle(future, None, result)
        else:
            settle(future, result, None)

    return resolve


def _closed(*_: object) -> Arrays:
    """The run function of a batcher that was shut down."""
    raise Draining


def _unmapped(error: Exception) -> Exception:
    return error
