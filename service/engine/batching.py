"""Dynamic batching without timers: rows of several requests share one run of a model.

`ThreadBatcher` runs the queued requests whenever its thread is free: a single request runs
immediately, and requests that arrive during a run form the next batch. `LoopBatcher` runs the
requests that arrived in one turn of the event loop, on the event loop. Both depend on asyncio and
numpy, but not on HTTP or ONNX.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import numpy as np

from service.engine.tensors import Arrays, count_rows
from service.engine.threads import DaemonThread, resolve_future
from service.errors import Draining, Overloaded, QueueTooLong

# Weight of the latest run in the moving average of the seconds per row.
_LATEST_WEIGHT = 0.5
# ONNX Runtime terminates a run between two operators, which take less than this.
_TERMINATION_SECONDS = 1.0
# No run starts later than this in a turn of the event loop, so that other connections are served: a
# client whose response is late in one turn would miss the next turn, too.
_TURN_SECONDS = 0.000_5

_log = logging.getLogger(__name__)

Run = Callable[[Arrays], Arrays]
TerminableRun = Callable[[Arrays, Any], Arrays]


class Prediction(NamedTuple):
    """The outputs of one request, its time in the queue, and the duration of its batch's run."""

    outputs: Arrays
    queue_seconds: float
    compute_seconds: float


OnResult = Callable[[Prediction | Exception], None]


class RunControl(Protocol):
    """Terminates a run from another thread, like ONNX Runtime's ``RunOptions``."""

    terminate: bool
    """Set it to make the run raise an error."""


@dataclass(eq=False, slots=True)
class _Request:
    inputs: Arrays
    rows: int
    on_result: OnResult
    arrived: float
    future: "asyncio.Future[Prediction] | None" = None
    """Done if the client no longer waits; None if it always waits."""
    row_shapes: Sequence[tuple[int, ...]] = ()
    """The axes of the inputs except the first, which must be equal in a batch."""
    runs_alone: bool = False
    is_counted: bool = True
    """Whether the queue counts its rows."""

    @property
    def is_open(self) -> bool:
        """Whether the client still waits for the result."""
        return self.future is None or not self.future.done()


class _Queue:
    """Waiting requests, counted in rows; an empty queue accepts a request of any size."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self.requests: deque[_Request] = deque()
        self.rows = 0

    def require_room(self, rows: int) -> None:
        """Raise `Overloaded` if a request does not fit into the queue."""
        if self.rows and self.rows + rows > self._max_rows:
            raise Overloaded(self.rows, self._max_rows)

    def add(self, request: _Request) -> None:
        self.requests.append(request)
        self.rows += request.rows

    def take(self, max_batch_rows: int) -> list[_Request]:
        """Remove and return the next open requests that can share a run."""
        requests = self.requests
        batch: list[_Request] = []
        rows = 0
        while requests:
            request = requests[0]
            if request.is_open:
                if batch and (
                    rows + request.rows > max_batch_rows
                    or request.runs_alone
                    or batch[0].runs_alone
                    or request.row_shapes != batch[0].row_shapes
                    # The outputs of a request without rows cannot be split off.
                    or not (rows and request.rows)
                ):
                    break
                batch.append(request)
                rows += request.rows
            requests.popleft()
            self.discount(request)
        return batch

    def put_back(self, batch: Sequence[_Request]) -> None:
        """Queue the requests of a failed batch again, to run alone and before all others."""
        for request in reversed(batch):
            request.runs_alone = request.is_counted = True
            self.requests.appendleft(request)
            self.rows += request.rows

    def discount(self, request: _Request) -> None:
        """Subtract the rows of a request that no longer waits, once."""
        if request.is_counted:
            request.is_counted = False
            self.rows -= request.rows


class ThreadBatcher:
    """Runs batches in its own thread, one after another.

    A run is terminated when all of its clients have disconnected or exceeded their deadlines, so
    that the thread is free for the next one.

    Args:
        run: called in the thread with arrays that share their first axis, and with the run's
            control; returns arrays with the same first axis.
        max_batch_rows: most rows in a batch; a larger request runs alone and undivided.
        max_queued_rows: most waiting rows; a request that would exceed it is rejected immediately.
        new_control: returns the control of one run.
        deadline_seconds: a request that would wait longer, estimated from the latest runs, is
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
        self._queue = _Queue(max_queued_rows)
        self._deadline_seconds = deadline_seconds
        self._row_seconds = 0.0
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._thread = DaemonThread("batcher")
        self._running: Sequence[_Request] = ()
        self._control: RunControl | None = None

    async def submit(self, inputs: Arrays) -> Prediction:
        """Predict these rows, alone or in a batch with other requests.

        Raises:
            Overloaded: too many rows wait, or they take too long.
            Draining: the batcher is closing.
            Exception: the error of ``run`` for these rows, never for those of another request.
        """
        rows = count_rows(inputs)
        if self._closed:
            raise Draining
        self._queue.require_room(rows)
        waiting = self._queue.rows
        if waiting and (waiting + rows) * self._row_seconds > self._deadline_seconds:
            raise QueueTooLong(waiting, self._deadline_seconds)
        future: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()
        on_result = partial(resolve_future, future)
        row_shapes = [array.shape[1:] for array in inputs]
        request = _Request(inputs, rows, on_result, perf_counter(), future, row_shapes)
        self._queue.add(request)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            return await future
        finally:
            self._queue.discount(request)
            if future.cancelled():
                self._terminate_unawaited()
            # A failed future, its traceback, this frame and the arrays are a reference cycle.
            del request, future, on_result

    async def close(self, seconds: float) -> None:
        """Accept no more requests, finish the waiting ones, and stop the thread.

        Args:
            seconds: after which waiting requests raise `Draining`. A run that does not end then is
                abandoned; its thread does not block the end of the process.
        """
        self._closed = True
        deadline = perf_counter() + seconds
        while pending := self._list_pending():
            remaining = deadline - perf_counter()
            if remaining <= 0:
                for future in pending:
                    future.set_exception(Draining())
                break
            await asyncio.wait(pending, timeout=remaining)
        self._terminate_unawaited()
        if self._worker is not None:
            _, unfinished = await asyncio.wait([self._worker], timeout=_TERMINATION_SECONDS)
            for worker in unfinished:
                worker.cancel()
        self._thread.stop()

    def shutdown_now(self) -> None:
        """Release the run function and the thread; to be called when no client waits."""
        self._closed = True
        self._terminate_unawaited()
        self._run = _raise_draining
        self._thread.stop()

    def _list_pending(self) -> "list[asyncio.Future[Prediction]]":
        """Return the futures that clients await, in the queue and in the current run."""
        futures = [request.future for request in (*self._running, *self._queue.requests)]
        return [future for future in futures if future is not None and not future.done()]

    def _terminate_unawaited(self) -> None:
        """Terminate the current run if no client waits for it."""
        if self._control is not None and not any(request.is_open for request in self._running):
            self._control.terminate = True

    async def _work(self) -> None:
        while batch := self._queue.take(self._max_batch_rows):
            await self._predict(batch)
        self._worker = None

    async def _predict(self, batch: list[_Request]) -> None:
        started = perf_counter()
        try:
            outputs = await self._execute(batch)
            _require_all_rows(outputs, batch)
        except Exception as error:  # noqa: BLE001 - each request gets its own
            if len(batch) == 1:
                # Removed from the list, since the error refers to this frame, and the request to
                # the error.
                _deliver(batch.pop(), error)
            else:
                self._queue.put_back(batch)
            return
        seconds = perf_counter() - started
        self._update_estimate(seconds, sum([request.rows for request in batch]))
        _deliver_rows(batch, outputs, started, seconds)

    def _update_estimate(self, seconds: float, rows: int) -> None:
        latest = seconds / max(rows, 1)
        average = self._row_seconds
        self._row_seconds = average + _LATEST_WEIGHT * (latest - average) if average else latest

    async def _execute(self, batch: Sequence[_Request]) -> Arrays:
        inputs = concatenate([request.inputs for request in batch])
        self._running, self._control = batch, self._new_control()
        try:
            return await self._thread.run(self._run, inputs, self._control)
        finally:
            self._running, self._control = (), None


class LoopBatcher:
    """Runs the requests of one turn of the event loop together, on the event loop.

    A single request runs after the loop has polled the other connections, which costs nothing;
    requests that arrived together share one run, without the switch to a thread.

    Args:
        run: called on the event loop with arrays that share their first axis; returns arrays with
            the same first axis.
        max_batch_rows: most rows in a batch, which limits how long the loop is blocked; a larger
            request runs alone and undivided.
        max_queued_rows: most waiting rows; a request that would exceed it is rejected immediately.
        map_error: converts an error of ``run`` to the exception for the client.
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
        self._queue = _Queue(max_queued_rows)
        self._is_scheduled = False
        self._closed = False

    def submit(
        self, inputs: Arrays, rows: int, on_result: OnResult, *, exclusive: bool = False
    ) -> None:
        """Predict these rows in this turn of the event loop.

        Args:
            inputs: arrays that share their first axis; all requests agree in the other axes.
            rows: length of the first axis.
            on_result: called with the prediction, or with the mapped error of ``run`` for these
                rows.
            exclusive: whether to run now, since no other request can arrive in this turn.

        Raises:
            Overloaded: too many rows wait.
            Draining: the batcher is closed.
        """
        if self._closed:
            raise Draining
        self._queue.require_room(rows)
        self._queue.add(_Request(inputs, rows, on_result, perf_counter()))
        # While a batch runs, its responses may already lead to further requests.
        if self._is_scheduled:
            return
        self._is_scheduled = True
        if exclusive:
            self._work()
        else:
            asyncio.get_running_loop().call_soon(self._work)

    def close(self) -> None:
        """Accept no more requests, and finish the waiting ones."""
        self._closed = True
        while self._queue.requests:
            self._predict(self._queue.take(self.max_batch_rows))

    def shutdown_now(self) -> None:
        """Release the run function; to be called when no client waits."""
        self._closed = True
        self._run = _raise_draining
        self._map_error = lambda error: error

    def _work(self) -> None:
        deadline = perf_counter() + _TURN_SECONDS
        while self._queue.requests and perf_counter() < deadline:
            self._predict(self._queue.take(self.max_batch_rows))
        self._is_scheduled = bool(self._queue.requests)
        if self._is_scheduled:
            # The other connections are served in between.
            asyncio.get_running_loop().call_soon(self._work)

    def _predict(self, batch: list[_Request]) -> None:
        started = perf_counter()
        try:
            outputs = self._run(concatenate([request.inputs for request in batch]))
            _require_all_rows(outputs, batch)
        except Exception as error:  # noqa: BLE001 - each request gets its own
            if len(batch) == 1:
                _deliver(batch[0], self._map_error(error))
            else:
                # Running all of them now would block the event loop for a run of each request.
                self._queue.put_back(batch)
            return
        _deliver_rows(batch, outputs, started, perf_counter() - started)


def concatenate(requests: Sequence[Arrays]) -> Arrays:
    """Return the rows of all requests, one after the other.

    Raise `ValueError` if the arrays of one request have different numbers of rows, which would mix
    up the requests; each must then run alone.
    """
    if len(requests) == 1:
        return requests[0]
    if len(requests[0]) > 1 and any(
        len({array.shape[:1] for array in request}) > 1 for request in requests
    ):
        raise ValueError("the inputs of one request have different numbers of rows")
    return tuple([np.concatenate(column) for column in zip(*requests, strict=True)])


def _require_all_rows(outputs: Arrays, batch: Sequence[_Request]) -> None:
    """Check that the outputs of a batch can be split between its requests.

    If not, each request runs alone.
    """
    if len(batch) > 1:
        rows = sum([request.rows for request in batch])
        if any(len(output) != rows for output in outputs):
            raise ValueError(f"a batch of {rows} rows has outputs of another length")


def _deliver_rows(
    batch: Sequence[_Request], outputs: Arrays, started: float, seconds: float
) -> None:
    if len(batch) == 1:
        # The outputs of a single request may have another first axis than its inputs.
        _deliver(batch[0], Prediction(outputs, started - batch[0].arrived, seconds))
        return
    start = 0
    for request in batch:
        end = start + request.rows
        rows = tuple([output[start:end] for output in outputs])
        _deliver(request, Prediction(rows, started - request.arrived, seconds))
        start = end


def _deliver(request: _Request, result: Prediction | Exception) -> None:
    """Deliver a result; an error in one callback must not affect the other requests."""
    try:
        request.on_result(result)
    except Exception:  # noqa: BLE001 - any error of a callback concerns its own request only
        _log.exception("a prediction could not be delivered")


def _raise_draining(*_: object) -> Arrays:
    """Reject a run; the run function of a batcher that was shut down."""
    raise Draining
