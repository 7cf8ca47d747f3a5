"""`ThreadBatcher` batches without timers, and isolates requests from each other's failures."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pytest

from service.engine.batching import Prediction, Run, ThreadBatcher
from service.engine.tensors import Arrays
from service.errors import Draining, Overloaded, QueueTooLong

T = TypeVar("T")


class Gate:
    """A run function that doubles its rows, records each batch, and blocks while it is closed."""

    def __init__(self, *, opened: bool = True) -> None:
        self.batches: list[list[float]] = []
        self.entered = threading.Event()
        self._open = threading.Event()
        self._closes_after_run = False
        if opened:
            self._open.set()

    def open(self) -> None:
        self._open.set()

    def close_after_run(self) -> None:
        """Close again after the current run."""
        self._closes_after_run = True

    def __call__(self, inputs: Arrays) -> Arrays:
        self.entered.set()
        assert self._open.wait(10)
        values = inputs[0].astype(np.float64)
        self.batches.append(values[:, 0].tolist())
        if self._closes_after_run:
            self._closes_after_run = False
            self._open.clear()
            self.entered.clear()
        if np.isnan(values).any():
            raise ValueError(f"cannot double {values[:, 0].tolist()}")
        return (values + values,)


def rows(*values: float) -> Arrays:
    return (np.array(values, np.float32).reshape(-1, 1),)


def values(prediction: Prediction) -> list[float]:
    return [float(value) for value in prediction.outputs[0][:, 0]]


def run(scenario: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(scenario)


@dataclass
class Control:
    """A control that records whether its run was terminated."""

    terminate: bool = False


def batcher(
    runner: Run, *, batch: int = 100, queue: int = 1000, controls: list[Control] | None = None
) -> ThreadBatcher:
    """Return a batcher that appends the control of each run to ``controls``."""
    created: list[Control] = [] if controls is None else controls

    def new_control() -> Control:
        created.append(Control())
        return created[-1]

    return ThreadBatcher(
        lambda inputs, _: runner(inputs),
        max_batch_rows=batch,
        max_queued_rows=queue,
        new_control=new_control,
    )


async def entered(gate: Gate) -> None:
    await asyncio.to_thread(gate.entered.wait, 10)


def test_a_single_request_runs_immediately() -> None:
    """It does not wait for a batch."""
    gate = Gate()

    async def scenario() -> Prediction:
        return await batcher(gate).submit(rows(1, 2))

    prediction = run(scenario())

    assert values(prediction) == [2, 4]
    assert gate.batches == [[1, 2]]


def test_requests_that_arrive_during_a_run_share_the_next_one() -> None:
    """Each request gets exactly its own rows."""
    gate = Gate(opened=False)

    async def scenario() -> list[Prediction]:
        subject = batcher(gate)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        others = [asyncio.create_task(subject.submit(rows(*v))) for v in ((2, 3), (4,), (5, 6))]
        await asyncio.sleep(0)
        gate.open()
        return list(await asyncio.gather(first, *others))

    predictions = run(scenario())

    assert gate.batches == [[1], [2, 3, 4, 5, 6]]
    assert [values(prediction) for prediction in predictions] == [[2], [4, 6], [8], [10, 12]]


def test_a_batch_is_limited_in_rows() -> None:
    """It ends before the request that would exceed it; a larger request runs undivided."""
    gate = Gate(opened=False)

    async def scenario() -> None:
        subject = batcher(gate, batch=3)
        first = asyncio.create_task(subject.submit(rows(0)))
        await entered(gate)
        sizes = ((1, 1), (2, 2), (3,), (4, 4, 4, 4, 4))
        others = [asyncio.create_task(subject.submit(rows(*values))) for values in sizes]
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(first, *others)

    run(scenario())

    assert gate.batches == [[0], [1, 1], [2, 2, 3], [4] * 5]


def test_requests_of_different_shapes_do_not_share_a_run() -> None:
    """Only the first axis may differ within a batch."""
    gate = Gate(opened=False)
    wide = (np.ones((1, 2), np.float32),)

    async def scenario() -> list[Prediction]:
        subject = batcher(gate)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        others = [asyncio.create_task(subject.submit(inputs)) for inputs in (rows(2), wide)]
        await asyncio.sleep(0)
        gate.open()
        return list(await asyncio.gather(first, *others))

    predictions = run(scenario())

    assert [prediction.outputs[0].shape for prediction in predictions] == [(1, 1), (1, 1), (1, 2)]


def test_a_request_without_rows_runs_alone() -> None:
    """A request without rows is not joined with requests before or after it."""
    gate = Gate(opened=False)

    async def scenario() -> list[Prediction]:
        subject = batcher(gate)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        others = [asyncio.create_task(subject.submit(rows(*v))) for v in ((), (2,), (), (3,))]
        await asyncio.sleep(0)
        gate.open()
        return list(await asyncio.gather(first, *others))

    predictions = run(scenario())

    assert [values(prediction) for prediction in predictions] == [[2], [], [4], [], [6]]
    assert gate.batches == [[1], [], [2], [], [3]]


def test_a_request_cancelled_while_queued_affects_no_other() -> None:
    """Its rows are not run, and later requests still get their own rows."""
    gate = Gate(opened=False)

    async def scenario() -> list[Prediction]:
        subject = batcher(gate)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        cancelled = asyncio.create_task(subject.submit(rows(2)))
        other = asyncio.create_task(subject.submit(rows(3)))
        await asyncio.sleep(0)
        cancelled.cancel()
        gate.open()
        predictions = list(await asyncio.gather(first, other))
        assert cancelled.cancelled()
        return predictions

    predictions = run(scenario())

    assert gate.batches == [[1], [3]]
    assert [values(prediction) for prediction in predictions] == [[2], [6]]


def test_a_request_cancelled_during_its_run_affects_no_other() -> None:
    """The other request of the batch gets its own rows, and the batcher continues."""
    gate = Gate(opened=False)

    async def scenario() -> list[Prediction]:
        subject = batcher(gate)
        blocker = asyncio.create_task(subject.submit(rows(0)))
        await entered(gate)
        cancelled = asyncio.create_task(subject.submit(rows(1)))
        other = asyncio.create_task(subject.submit(rows(2)))
        await asyncio.sleep(0)
        gate.entered.clear()
        gate.open()
        await blocker
        cancelled.cancel()
        result = await other
        return [result, await subject.submit(rows(5))]

    predictions = run(scenario())

    assert [values(prediction) for prediction in predictions] == [[4], [10]]


def test_each_request_of_a_failing_batch_gets_its_own_result() -> None:
    """Valid requests get predictions; each invalid one gets an exception for its own rows."""
    gate = Gate(opened=False)

    async def scenario() -> list[Prediction | BaseException]:
        subject = batcher(gate)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        others = [
            asyncio.create_task(subject.submit(inputs))
            for inputs in (rows(2), rows(float("nan"), 7), rows(3), rows(float("nan"), 8))
        ]
        await asyncio.sleep(0)
        gate.open()
        return list(await asyncio.gather(first, *others, return_exceptions=True))

    results = run(scenario())

    good = [values(r) for r in results if isinstance(r, Prediction)]
    bad = [r for r in results if isinstance(r, BaseException)]
    assert good == [[2], [4], [6]]
    assert [str(error) for error in bad] == ["cannot double [nan, 7.0]", "cannot double [nan, 8.0]"]
    assert bad[0] is not bad[1]


def test_closing_finishes_waiting_requests_and_rejects_new_ones() -> None:
    """Every request that was accepted before closing gets its output."""
    gate = Gate(opened=False)

    async def scenario() -> list[Prediction]:
        subject = batcher(gate)
        waiting = [asyncio.create_task(subject.submit(rows(value))) for value in (1, 2)]
        await entered(gate)
        closing = asyncio.create_task(subject.close(10))
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await subject.submit(rows(3))
        gate.open()
        await closing
        return list(await asyncio.gather(*waiting))

    assert [values(prediction) for prediction in run(scenario())] == [[2], [4]]


def test_a_full_queue_rejects_immediately() -> None:
    """The error contains the numbers of rows; earlier requests get their predictions."""
    gate = Gate(opened=False)

    async def scenario() -> list[Prediction]:
        subject = batcher(gate, queue=4)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        waiting = asyncio.create_task(subject.submit(rows(2, 3, 4)))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match=r"3 rows are waiting and the limit is 4"):
            await subject.submit(rows(5, 6))
        gate.open()
        return list(await asyncio.gather(first, waiting))

    assert [values(prediction) for prediction in run(scenario())] == [[2], [4, 6, 8]]


def test_a_request_that_would_exceed_its_deadline_is_rejected_immediately() -> None:
    """The waiting time is estimated from the duration of earlier runs."""

    def slow(inputs: Arrays, _: object) -> Arrays:
        time.sleep(0.05)
        return inputs

    async def scenario() -> list[Prediction]:
        subject = ThreadBatcher(
            slow,
            max_batch_rows=1,
            max_queued_rows=1000,
            new_control=Control,
            deadline_seconds=0.5,
        )
        await subject.submit(rows(1))
        waiting = [asyncio.create_task(subject.submit(rows(value))) for value in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueTooLong, match=r"longer than the deadline of 0\.5 s"):
            await subject.submit(rows(*range(100)))
        return list(await asyncio.gather(*waiting))

    assert len(run(scenario())) == 2


def test_rows_of_cancelled_requests_do_not_fill_the_queue() -> None:
    """A new request is accepted instead."""
    gate = Gate(opened=False)

    async def scenario() -> Prediction:
        subject = batcher(gate, queue=4)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        cancelled = asyncio.create_task(subject.submit(rows(2, 3, 4, 5)))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        later = asyncio.create_task(subject.submit(rows(6, 7, 8)))
        await asyncio.sleep(0)
        gate.open()
        await first
        return await later

    assert values(run(scenario())) == [12, 14, 16]


def test_a_failed_batch_is_not_run_again_for_cancelled_requests() -> None:
    """Only requests whose clients still wait are run again."""
    gate = Gate(opened=False)

    async def scenario() -> None:
        subject = batcher(gate)
        blocker = asyncio.create_task(subject.submit(rows(0)))
        await entered(gate)
        requests = [asyncio.create_task(subject.submit(rows(v))) for v in (1, float("nan"), 2)]
        await asyncio.sleep(0)
        gate.close_after_run()
        gate.open()
        await blocker
        await entered(gate)
        requests[2].cancel()
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*requests, return_exceptions=True)

    run(scenario())

    assert [len(batch) for batch in gate.batches] == [1, 3, 1, 1]


def test_queue_time_and_run_time_are_separate() -> None:
    """A request that waited for another run has a longer queue time than that one."""
    gate = Gate(opened=False)

    async def scenario() -> list[Prediction]:
        subject = batcher(gate)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        second = asyncio.create_task(subject.submit(rows(2)))
        await asyncio.sleep(0.05)
        gate.open()
        return list(await asyncio.gather(first, second))

    first, second = run(scenario())

    assert first.compute_seconds > first.queue_seconds
    assert second.queue_seconds > first.queue_seconds


def test_a_run_without_clients_is_terminated() -> None:
    """The run is terminated when the last request of its batch is cancelled."""
    gate = Gate(opened=False)
    controls: list[Control] = []

    async def scenario() -> list[bool]:
        subject = batcher(gate, controls=controls)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        both = [asyncio.create_task(subject.submit(rows(value))) for value in (2, 3)]
        await asyncio.sleep(0)
        gate.close_after_run()
        gate.open()
        await first
        await entered(gate)
        ended = [controls[1].terminate]
        for request in both:
            request.cancel()
            await asyncio.sleep(0.01)
            ended.append(controls[1].terminate)
        gate.open()
        await subject.close(10)
        return ended

    assert run(scenario()) == [False, False, True]
    assert controls[0].terminate is False


def test_cancelling_a_queued_request_does_not_terminate_the_current_run() -> None:
    """That run belongs to another request."""
    gate = Gate(opened=False)
    controls: list[Control] = []

    async def scenario() -> Prediction:
        subject = batcher(gate, controls=controls)
        running = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        queued = asyncio.create_task(subject.submit(rows(2)))
        await asyncio.sleep(0)
        queued.cancel()
        await asyncio.sleep(0.01)
        gate.open()
        return await running

    assert values(run(scenario())) == [2]
    assert [control.terminate for control in controls] == [False]


def test_closing_abandons_a_run_that_does_not_end() -> None:
    """Its clients get an error, and its thread blocks neither the loop nor the process."""
    gate = Gate(opened=False)
    controls: list[Control] = []

    async def scenario() -> list[BaseException | Prediction]:
        subject = batcher(gate, controls=controls)
        requests = [asyncio.create_task(subject.submit(rows(1)))]
        await entered(gate)
        requests.append(asyncio.create_task(subject.submit(rows(2))))
        await asyncio.sleep(0)
        await subject.close(0.05)
        return await asyncio.gather(*requests, return_exceptions=True)

    results = run(asyncio.wait_for(scenario(), 5))
    gate.open()

    assert [type(result) for result in results] == [Draining, Draining]
    assert controls[0].terminate is True


def test_closing_abandons_the_requests_of_a_failed_batch() -> None:
    """Those that wait to run again get an error, too, if the time is over."""
    gate = Gate(opened=False)

    async def scenario() -> list[BaseException | Prediction]:
        subject = batcher(gate)
        blocker = asyncio.create_task(subject.submit(rows(0)))
        await entered(gate)
        requests = [asyncio.create_task(subject.submit(rows(v))) for v in (1, float("nan"), 2)]
        await asyncio.sleep(0)
        for _ in ("the first run", "the batch that fails"):
            gate.entered.clear()
            gate.close_after_run()
            gate.open()
            await entered(gate)
        await subject.close(0.05)
        return await asyncio.gather(blocker, *requests, return_exceptions=True)

    results = run(asyncio.wait_for(scenario(), 5))
    gate.open()

    assert [type(result) for result in results] == [Prediction] + [Draining] * 3


def test_requests_whose_inputs_differ_in_rows_run_alone() -> None:
    """Concatenated, the rows of one request would meet those of another."""
    batches: list[tuple[int, ...]] = []
    release = threading.Event()

    def runner(inputs: Arrays) -> Arrays:
        assert release.wait(10)
        batches.append(tuple(map(len, inputs)))
        return (inputs[0] + inputs[1],)

    async def scenario() -> list[list[float]]:
        subject = batcher(runner)
        inputs = [(rows(0), rows(0)), (rows(1, 2), rows(10)), (rows(3), rows(20, 30))]
        requests = [asyncio.create_task(subject.submit((a[0], b[0]))) for a, b in inputs]
        await asyncio.sleep(0)
        release.set()
        return [values(await request) for request in requests]

    assert run(scenario()) == [[0], [11, 12], [23, 33]]
    assert batches == [(1, 1), (2, 1), (1, 2)]
