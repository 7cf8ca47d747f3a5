"""Calls of one turn of the event loop share a run, and nobody pays for a neighbour."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import numpy as np
import pytest

from service.engine.datatypes import Arrays
from service.engine.inline import InlineBatcher, Prediction
from service.errors import Draining, Overloaded

T = TypeVar("T")


class Runs:
    """A runner that doubles its rows, records each run, and fails on NaN."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []
        self.settled = 0

    def __call__(self, inputs: Arrays) -> Arrays:
        values = inputs[0][:, 0].tolist()
        self.seen.append(values)
        if np.isnan(values).any():
            raise ValueError(f"cannot double {values}")
        return (inputs[0] * 2,)

    def settle(self) -> None:
        self.settled += 1


class Caller:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Prediction | Exception] = []

    def __call__(self, answer: Prediction | Exception) -> None:
        self.told.append(answer)

    @property
    def values(self) -> list[float] | str:
        (answer,) = self.told
        if isinstance(answer, Exception):
            return str(answer)
        return [float(value) for value in answer.outputs[0][:, 0]]


def batcher(runs: Runs, *, batch: int = 100, queue: int = 1000) -> InlineBatcher:
    return InlineBatcher(runs, max_batch_rows=batch, max_queued_rows=queue, settled=runs.settle)


def submit(to: InlineBatcher, *values: float, alone: bool = False) -> Caller:
    caller = Caller()
    rows = np.array(values, np.float32).reshape(-1, 1)
    to.submit((rows,), len(values), caller, alone=alone)
    return caller


def run(scenario: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(scenario)


async def turn() -> None:
    """Let the event loop do what it has been asked to."""
    await asyncio.sleep(0)


def test_calls_of_one_turn_share_a_run() -> None:
    """Each gets its own rows, in their order, and those of the next turn run by themselves."""
    runs = Runs()

    async def scenario() -> list[Caller]:
        to = batcher(runs)
        first = [submit(to, 1), submit(to, 2, 3), submit(to, 4)]
        assert runs.seen == []
        await turn()
        later = submit(to, 5)
        await turn()
        return [*first, later]

    callers = run(scenario())

    assert runs.seen == [[1, 2, 3, 4], [5]]
    assert [caller.values for caller in callers] == [[2], [4, 6], [8], [10]]
    assert runs.settled == 2


def test_one_who_is_alone_does_not_wait_for_the_loop() -> None:
    """Its answer is there when it has asked."""
    runs = Runs()

    async def scenario() -> Caller:
        return submit(batcher(runs), 1, alone=True)

    assert run(scenario()).values == [2]


def test_a_run_has_no_more_rows_than_it_may() -> None:
    """A call that is larger runs by itself, and whole."""
    runs = Runs()

    async def scenario() -> list[Caller]:
        to = batcher(runs, batch=3)
        callers = [submit(to, 1, 2), submit(to, 3, 4), submit(to, 5), submit(to, 6, 7, 8, 9)]
        await turn()
        await turn()
        return callers

    callers = run(scenario())

    assert runs.seen == [[1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert callers[3].values == [12, 14, 16, 18]


def test_a_run_that_fails_is_done_again_for_each() -> None:
    """Only the one whose rows are at fault is told so."""
    runs = Runs()

    async def scenario() -> list[Caller]:
        to = batcher(runs)
        callers = [submit(to, 1), submit(to, np.nan), submit(to, 3)]
        await turn()
        return callers

    good, bad, other = run(scenario())

    assert (good.values, other.values) == ([2], [6])
    assert bad.values == "cannot double [nan]"


def test_a_caller_whose_telling_breaks_harms_nobody() -> None:
    """The others of its run have their answers."""
    runs = Runs()

    def broken(_: Prediction | Exception) -> None:
        raise RuntimeError("the line is dead")

    async def scenario() -> list[Caller]:
        to = batcher(runs)
        first = submit(to, 1)
        to.submit((np.ones((1, 1), np.float32),), 1, broken)
        last = submit(to, 3)
        await turn()
        return [first, last]

    assert [caller.values for caller in run(scenario())] == [[2], [6]]


def test_too_many_rows_are_refused_at_once() -> None:
    """Those that wait are answered, and a single call may be of any size."""
    runs = Runs()

    async def scenario() -> list[Caller]:
        to = batcher(runs, queue=3)
        callers = [submit(to, 1, 2, 3, 4)]
        with pytest.raises(Overloaded, match="4 rows are waiting and the limit is 3"):
            submit(to, 5)
        await turn()
        return [*callers, submit(to, 6, alone=True)]

    assert [caller.values for caller in run(scenario())] == [[2, 4, 6, 8], [12]]


def test_closing_answers_those_that_wait() -> None:
    """And takes no more."""
    runs = Runs()

    async def scenario() -> Caller:
        to = batcher(runs)
        waiting = submit(to, 1)
        to.close()
        with pytest.raises(Draining):
            submit(to, 2)
        await turn()
        return waiting

    assert run(scenario()).values == [2]
    assert runs.seen == [[1]]
