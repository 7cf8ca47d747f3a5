"""Joins the calls that one turn of the event loop brought, and runs them there, with no timer.

A lone call runs as soon as the loop has looked at the other connections, which costs it nothing;
calls that arrived together share one run, and none of them a thread's hand-over. It knows asyncio
and numpy, neither HTTP nor ONNX.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

from service.engine.batching import Run, gone, joined, require_all_rows
from service.engine.dtypes import Arrays
from service.errors import Draining, Overloaded

# Then the event loop looks at other connections; a run that has begun ends first. With more, who is
# answered last in a turn asks again too late for the next one, and waits for two.
_LONGEST_SECONDS = 0.000_5

_log = logging.getLogger(__name__)


class Prediction(NamedTuple):
    """What a model answered, and how long its parts took in seconds."""

    outputs: Arrays
    queue_seconds: float
    compute_seconds: float


Told = Callable[[Prediction | Exception], None]


class _Call(NamedTuple):
    inputs: Arrays
    rows: int
    told: Told
    arrived: float


class InlineBatcher:
    """One model's calls of this turn, counted in rows.

    Args:
        run: called on the event loop with arrays that share their first axis; returns arrays with
            the same first axis.
        max_batch_rows: most rows joined, and so how long the loop is held; a single larger call
            runs whole.
        max_queued_rows: most rows waiting; a call that would exceed it is refused at once.
        meant: what an error of ``run`` is to the caller whose rows it was.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch_rows: int,
        max_queued_rows: int,
        meant: Callable[[Exception], Exception],
    ) -> None:
        self._run = run
        self.max_batch_rows = max_batch_rows
        self._max_queued_rows = max_queued_rows
        self._meant = meant
        self._waiting: deque[_Call] = deque()
        self._queued_rows = 0
        self._is_due = False
        self._closed = False

    def submit(self, inputs: Arrays, rows: int, told: Told, *, alone: bool = False) -> None:
        """Have these rows answered in this turn of the event loop.

        Args:
            inputs: arrays that share their first axis; those of all calls agree in the others.
            rows: their first axis.
            told: called with the answer, or with what is meant by an error of ``run`` on these very
                rows.
            alone: nobody else can come in this turn, so that they are run at once.

        Raises:
            Overloaded: too many rows wait.
            Draining: the batcher is closed.
        """
        if self._closed:
            raise Draining
        if self._queued_rows and self._queued_rows + rows > self._max_queued_rows:
            raise Overloaded(self._queued_rows, self._max_queued_rows)
        self._waiting.append(_Call(inputs, rows, told, perf_counter()))
        self._queued_rows += rows
        # A response may bring the next request of its connection while this works.
        if self._is_due:
            return
        self._is_due = True
        if alone:
            self._work()
        else:
            asyncio.get_running_loop().call_soon(self._work)

    def close(self) -> None:
        """Take no new calls, and answer those that wait."""
        self._closed = True
        while self._waiting:
            self._answer(self._take())

    def abandon(self) -> None:
        """Let go of the runner; only for a batcher that nobody waits for."""
        self._closed = True
        self._run = gone
        self._meant = _itself

    def _work(self) -> None:
        deadline = perf_counter() + _LONGEST_SECONDS
        while self._waiting and perf_counter() < deadline:
            self._answer(self._take())
        self._is_due = bool(self._waiting)
        if self._is_due:
            # Other connections get their turn.
            asyncio.get_running_loop().call_soon(self._work)

    def _take(self) -> list[_Call]:
        """The next calls, as many as fit into a run; at least one."""
        waiting = self._waiting
        batch = [waiting.popleft()]
        rows = batch[0].rows
        # A call without rows runs alone: there is nothing to cut its answer by.
        while (
            waiting
            and min(rows, waiting[0].rows) > 0
            and rows + waiting[0].rows <= self.max_batch_rows
        ):
            call = waiting.popleft()
            batch.append(call)
            rows += call.rows
        self._queued_rows -= rows
        return batch

    def _answer(self, batch: list[_Call]) -> None:
        started = perf_counter()
        try:
            outputs = self._run(joined([call.inputs for call in batch]))
            require_all_rows(outputs, sum([call.rows for call in batch]), len(batch))
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the callers
            if len(batch) == 1:
                _tell(batch[0], self._meant(error))
                return
            for call in batch:
                self._answer([call])
            return
        seconds = perf_counter() - started
        if len(batch) == 1:
            _tell(batch[0], Prediction(outputs, started - batch[0].arrived, seconds))
            return
        start = 0
        for call in batch:
            end = start + call.rows
            own = tuple([output[start:end] for output in outputs])
            _tell(call, Prediction(own, started - call.arrived, seconds))
            start = end


def _itself(error: Exception) -> Exception:
    return error


def _tell(call: _Call, answer: Prediction | Exception) -> None:
    """Tell one caller; what breaks there must not keep the others from their answers."""
    try:
        call.told(answer)
    except Exception:  # noqa: BLE001 - whatever it is, it is this caller's
        _log.exception("an answer could not be handed over")
