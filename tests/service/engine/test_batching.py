"""The batcher: joined without timers, and what happens to everybody when something goes wrong."""

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
    """A runner that doubles its rows, records each batch, and can be held shut."""

    def __init__(self, *, opened: bool = True) -> None:
        self.batches: list[list[float]] = []
        self.entered = threading.Event()
        self._open = threading.Event()
        self._holds_next = False
        if opened:
            self._open.set()

    def open(self) -> None:
        self._open.set()

    def hold_next(self) -> None:
        """Shut again after the run that goes on now."""
        self._holds_next = True

    def __call__(self, inputs: Arrays) -> Arrays:
        self.entered.set()
        assert self._open.wait(10)
        values = inputs[0].astype(np.float64)
        self.batches.append(values[:, 0].tolist())
        if self._holds_next:
            self._holds_next = False
            self._open.clear()
            self.entered.clear()
        if np.isnan(values).any():
            raise ValueError(f"cannot double {values[:, 0].tolist()}")
        return (values + values,)


def rows(*values: float) -> Arrays:
    return (np.array(values, np.float32).reshape(-1, 1),)


def answered(answer: Prediction) -> list[float]:
    return [float(value) for value in answer.outputs[0][:, 0]]


def run(scenario: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(scenario)


@dataclass
class Control:
    """What ends a run, and tells of it."""

    terminate: bool = False


def batcher(
    runner: Run, *, batch: int = 100, queue: int = 1000, controls: list[Control] | None = None
) -> ThreadBatcher:
    """A batcher whose runs' controls are added to a list."""
    made: list[Control] = [] if controls is None else controls

    def new_control() -> Control:
        made.append(Control())
        return made[-1]

    return ThreadBatcher(
        lambda inputs, _: runner(inputs),
        max_batch_rows=batch,
        max_queued_rows=queue,
        new_control=new_control,
    )


async def entered(gate: Gate) -> None:
    await asyncio.to_thread(gate.entered.wait, 10)


def test_a_lone_call_runs_at_once() -> None:
    """Nothing waits for company."""
    gate = Gate()

    async def scenario() -> Prediction:
        return await batcher(gate).submit(rows(1, 2))

    answer = run(scenario())

    assert answered(answer) == [2, 4]
    assert gate.batches == [[1, 2]]


def test_calls_that_arrive_during_a_run_share_the_next() -> None:
    """Each caller gets exactly its own rows of the shared run."""
    gate = Gate(opened=False)

    async def scenario() -> list[Prediction]:
        subject = batcher(gate)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        others = [asyncio.create_task(subject.submit(rows(*v))) for v in ((2, 3), (4,), (5, 6))]
        await asyncio.sleep(0)
        gate.open()
        return list(await asyncio.gather(first, *others))

    answers = run(scenario())

    assert gate.batches == [[1], [2, 3, 4, 5, 6]]
    assert [answered(answer) for answer in answers] == [[2], [4, 6], [8], [10, 12]]


def test_rows_are_counted_not_calls() -> None:
    """A batch ends before the call whose rows would exceed it; a larger call runs whole."""
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


def test_calls_of_different_shapes_are_not_joined() -> None:
    """Only the first axis may differ within a run."""
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

    answers = run(scenario())

    assert [answer.outputs[0].shape for answer in answers] == [(1, 1), (1, 1), (1, 2)]


def test_a_call_without_rows_runs_alone() -> None:
    """Neither before nor behind others is it joined with them."""
    gate = Gate(opened=False)

    async def scenario() -> list[Prediction]:
        subject = batcher(gate)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        others = [asyncio.create_task(subject.submit(rows(*v))) for v in ((), (2,), (), (3,))]
        await asyncio.sleep(0)
        gate.open()
        return list(await asyncio.gather(first, *others))

    answers = run(scenario())

    assert [answered(answer) for answer in answers] == [[2], [], [4], [], [6]]
    assert gate.batches == [[1], [], [2], [], [3]]


def test_a_client_that_leaves_the_queue_affects_no_other() -> None:
    """Its rows are not run, and the rows after them still reach their own caller."""
    gate = Gate(opened=False)

    async def scenario() -> list[Prediction]:
        subject = batcher(gate)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        leaver = asyncio.create_task(subject.submit(rows(2)))
        stayer = asyncio.create_task(subject.submit(rows(3)))
        await asyncio.sleep(0)
        leaver.cancel()
        gate.open()
        answers = list(await asyncio.gather(first, stayer))
        assert leaver.cancelled()
        return answers

    answers = run(scenario())

    assert gate.batches == [[1], [3]]
    assert [answered(answer) for answer in answers] == [[2], [6]]


def test_a_client_that_leaves_during_its_run_affects_no_other() -> None:
    """The run ends, its neighbour gets its own rows, and the batcher goes on."""
    gate = Gate(opened=False)

    async def scenario() -> list[Prediction]:
        subject = batcher(gate)
        blocker = asyncio.create_task(subject.submit(rows(0)))
        await entered(gate)
        leaver = asyncio.create_task(subject.submit(rows(1)))
        stayer = asyncio.create_task(subject.submit(rows(2)))
        await asyncio.sleep(0)
        gate.entered.clear()
        gate.open()
        await blocker
        leaver.cancel()
        stayed = await stayer
        return [stayed, await subject.submit(rows(5))]

    answers = run(scenario())

    assert [answered(answer) for answer in answers] == [[4], [10]]


def test_a_failing_batch_gives_each_client_its_own_fate() -> None:
    """Good neighbours get their answers; each bad one gets an exception of its own rows."""
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

    good = [answered(r) for r in results if isinstance(r, Prediction)]
    bad = [r for r in results if isinstance(r, BaseException)]
    assert good == [[2], [4], [6]]
    assert [str(error) for error in bad] == ["cannot double [nan, 7.0]", "cannot double [nan, 8.0]"]
    assert bad[0] is not bad[1]


def test_closing_answers_those_that_wait_and_takes_no_more() -> None:
    """Shutdown loses nothing that was accepted."""
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

    assert [answered(answer) for answer in run(scenario())] == [[2], [4]]


def test_a_full_queue_says_so_at_once() -> None:
    """The refused caller learns how much waits; the ones before it are answered."""
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

    assert [answered(answer) for answer in run(scenario())] == [[2], [4, 6, 8]]


def test_a_call_that_would_wait_beyond_its_deadline_is_rejected_at_once() -> None:
    """The duration of earlier runs tells how long the rows that wait will take."""

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


def test_rows_of_clients_who_left_do_not_fill_the_queue() -> None:
    """A new caller is not refused for rows that nobody waits for any more."""
    gate = Gate(opened=False)

    async def scenario() -> Prediction:
        subject = batcher(gate, queue=4)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        leaver = asyncio.create_task(subject.submit(rows(2, 3, 4, 5)))
        await asyncio.sleep(0)
        leaver.cancel()
        await asyncio.sleep(0)
        newcomer = asyncio.create_task(subject.submit(rows(6, 7, 8)))
        await asyncio.sleep(0)
        gate.open()
        await first
        return await newcomer

    assert answered(run(scenario())) == [12, 14, 16]


def test_a_failed_batch_is_not_run_again_for_those_who_left() -> None:
    """Only callers who still wait are worth another run."""
    gate = Gate(opened=False)

    async def scenario() -> None:
        subject = batcher(gate)
        blocker = asyncio.create_task(subject.submit(rows(0)))
        await entered(gate)
        calls = [asyncio.create_task(subject.submit(rows(v))) for v in (1, float("nan"), 2)]
        await asyncio.sleep(0)
        gate.hold_next()
        gate.open()
        await blocker
        await entered(gate)
        calls[2].cancel()
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(*calls, return_exceptions=True)

    run(scenario())

    assert [len(batch) for batch in gate.batches] == [1, 3, 1, 1]


def test_the_wait_is_reported_apart_from_the_run() -> None:
    """A call that waited for another's run reports a longer queue time than that one."""
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


def test_a_run_that_nobody_waits_for_is_ended() -> None:
    """The calls of a batch leave one after another; the last one ends the run."""
    gate = Gate(opened=False)
    controls: list[Control] = []

    async def scenario() -> list[bool]:
        subject = batcher(gate, controls=controls)
        first = asyncio.create_task(subject.submit(rows(1)))
        await entered(gate)
        both = [asyncio.create_task(subject.submit(rows(value))) for value in (2, 3)]
        await asyncio.sleep(0)
        gate.hold_next()
        gate.open()
        await first
        await entered(gate)
        ended = [controls[1].terminate]
        for call in both:
            call.cancel()
            await asyncio.sleep(0.01)
            ended.append(controls[1].terminate)
        gate.open()
        await subject.close(10)
        return ended

    assert run(scenario()) == [False, False, True]
    assert controls[0].terminate is False


def test_those_who_leave_the_queue_end_no_other_run() -> None:
    """The run in progress is somebody else's."""
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

    assert answered(run(scenario())) == [2]
    assert [control.terminate for control in controls] == [False]


def test_closing_gives_up_a_run_that_does_not_end() -> None:
    """Whoever waits is told, and its thread keeps neither the loop nor the process."""
    gate = Gate(opened=False)
    controls: list[Control] = []

    async def scenario() -> list[BaseException | Prediction]:
        subject = batcher(gate, controls=controls)
        calls = [asyncio.create_task(subject.submit(rows(1)))]
        await entered(gate)
        calls.append(asyncio.create_task(subject.submit(rows(2))))
        await asyncio.sleep(0)
        await subject.close(0.05)
        return await asyncio.gather(*calls, return_exceptions=True)

    told = run(asyncio.wait_for(scenario(), 5))
    gate.open()

    assert [type(each) for each in told] == [Draining, Draining]
    assert controls[0].terminate is True


def test_calls_whose_inputs_differ_in_rows_run_alone() -> None:
    """Put behind each other, the rows of one call would meet those of another."""
    batches: list[tuple[int, ...]] = []
    release = threading.Event()

    def runner(inputs: Arrays) -> Arrays:
        assert release.wait(10)
        batches.append(tuple(map(len, inputs)))
        return (inputs[0] + inputs[1],)

    async def scenario() -> list[list[float]]:
        subject = batcher(runner)
        given = [(rows(0), rows(0)), (rows(1, 2), rows(10)), (rows(3), rows(20, 30))]
        calls = [asyncio.create_task(subject.submit((a[0], b[0]))) for a, b in given]
        await asyncio.sleep(0)
        release.set()
        return [answered(await call) for call in calls]

    assert run(scenario()) == [[0], [11, 12], [23, 33]]
    assert batches == [(1, 1), (2, 1), (1, 2)]
