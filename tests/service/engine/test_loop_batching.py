"""The batcher on the event loop: one run a turn, and what happens when something goes wrong."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from service.engine.batching import LoopBatcher, Prediction
from service.engine.tensors import Arrays
from service.errors import Draining, Overloaded

Result = Prediction | Exception


class Doubler:
    """A runner that doubles its rows and records each batch; a NaN makes a run fail."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def __call__(self, inputs: Arrays) -> Arrays:
        values = inputs[0].astype(np.float64)
        self.batches.append(values[:, 0].tolist())
        if np.isnan(values).any():
            raise ValueError(values[:, 0].tolist())
        return (values + values,)


class Calls:
    """What each call was told, in the order of the calls."""

    def __init__(self, run: Doubler, *, batch: int = 100, queue: int = 1000) -> None:
        self.told: dict[int, Result] = {}
        self.batcher = LoopBatcher(
            run,
            max_batch_rows=batch,
            max_queued_rows=queue,
            map_error=lambda error: ValueError(f"You sent {error.args[0]}"),
        )

    def submit(self, *values: float) -> None:
        number = len(self.told) + self.waiting
        self.waiting += 1
        inputs = (np.array(values, np.float32).reshape(-1, 1),)
        try:
            self.batcher.submit(inputs, len(values), self._teller(number))
        except Exception:
            self.waiting -= 1
            raise

    waiting = 0

    def _teller(self, number: int) -> Callable[[Result], None]:
        def told(result: Result) -> None:
            assert number not in self.told
            self.waiting -= 1
            self.told[number] = result

        return told

    @property
    def answers(self) -> list[list[float] | str]:
        results = [self.told[number] for number in sorted(self.told)]
        return [
            str(result) if isinstance(result, Exception) else result.outputs[0][:, 0].tolist()
            for result in results
        ]


async def turns() -> None:
    """Let the loop go round until everything has run."""
    for _ in range(20):
        await asyncio.sleep(0)


def submitted(calls: Calls, *rows: tuple[float, ...]) -> Calls:
    """The calls of one turn, answered."""

    async def scenario() -> None:
        for values in rows:
            calls.submit(*values)
        assert not calls.told
        await turns()

    asyncio.run(scenario())
    return calls


def test_calls_of_one_turn_share_a_run_and_get_their_own_rows() -> None:
    """In the order in which they came."""
    run = Doubler()

    calls = submitted(Calls(run), (1,), (2, 3), (4,))

    assert run.batches == [[1, 2, 3, 4]]
    assert calls.answers == [[2], [4, 6], [8]]


def test_calls_of_different_turns_do_not_wait_for_each_other() -> None:
    """There is no timer: what has arrived runs."""
    run = Doubler()
    calls = Calls(run)

    submitted(calls, (1,))
    asyncio.run(another(calls))

    assert run.batches == [[1], [2]]


async def another(calls: Calls) -> None:
    calls.submit(2)
    await turns()


def test_rows_are_counted_not_calls() -> None:
    """A run ends before the call whose rows would exceed it; a larger call runs whole."""
    run = Doubler()

    calls = submitted(Calls(run, batch=3), (1, 1), (2, 2), (3,), (4, 4, 4, 4), (5,))

    assert run.batches == [[1, 1], [2, 2, 3], [4] * 4, [5]]
    assert calls.answers == [[2, 2], [4, 4], [6], [8] * 4, [10]]


def test_a_call_without_rows_runs_alone() -> None:
    """Neither before nor behind others is it joined with them."""
    run = Doubler()

    calls = submitted(Calls(run), (), (1,), (), (2,), (3,))

    assert run.batches == [[], [1], [], [2, 3]]
    assert calls.answers == [[], [2], [], [4], [6]]


def test_a_failing_run_gives_each_client_its_own_fate() -> None:
    """Good neighbours get their answers; each bad one gets an exception of its own rows."""
    nan = float("nan")
    run = Doubler()

    calls = submitted(Calls(run), (1,), (nan, 7), (2,), (nan, 8))

    assert calls.answers == [[2], "You sent [nan, 7.0]", [4], "You sent [nan, 8.0]"]
    assert calls.told[1] is not calls.told[3]
    assert [len(batch) for batch in run.batches] == [6, 1, 2, 1, 2]


def test_a_full_queue_says_so_at_once() -> None:
    """The refused caller learns how much waits; a lone call of any size is taken."""
    run = Doubler()
    calls = Calls(run, queue=4)

    async def scenario() -> None:
        calls.submit(1, 1, 1)
        with pytest.raises(Overloaded, match=r"3 rows are waiting and the limit is 4"):
            calls.submit(2, 2)
        calls.submit(3)
        await turns()
        calls.submit(4, 4, 4, 4, 4)
        await turns()

    asyncio.run(scenario())

    assert calls.answers == [[2, 2, 2], [6], [8] * 5]


def test_closing_answers_those_that_wait_and_takes_no_more() -> None:
    """Each of them once, although the loop still has its turn to come."""
    run = Doubler()
    calls = Calls(run)

    async def scenario() -> None:
        calls.submit(1)
        calls.submit(2)
        calls.batcher.close()
        assert calls.answers == [[2], [4]]
        with pytest.raises(Draining):
            calls.submit(3)
        await turns()

    asyncio.run(scenario())

    assert run.batches == [[1, 2]]


def test_calls_that_responses_bring_leave_others_their_turn() -> None:
    """As many runs between two turns of the event loop as before, however long that goes on."""

    async def scenario() -> list[int]:
        run = Doubler()
        calls = Calls(run)
        loop = asyncio.get_running_loop()
        runs_by_turn: list[int] = []

        def again(result: Result) -> None:
            assert isinstance(result, Prediction)
            if len(run.batches) < 20_000:
                calls.batcher.submit((np.ones((1, 1), np.float32),), 1, again)

        for _ in range(3):
            calls.batcher.submit((np.ones((1, 1), np.float32),), 1, again)
        before = 0
        while len(run.batches) < 20_000:
            turn = loop.create_future()
            loop.call_soon(turn.set_result, None)
            await turn
            runs_by_turn.append(len(run.batches) - before)
            before = len(run.batches)
        return runs_by_turn

    runs = asyncio.run(scenario())

    assert len(runs) > 20
    assert max(runs[len(runs) // 2 :]) < 10 * max(runs[: len(runs) // 2])
