"""`LoopBatcher` runs the requests of one iteration together, and isolates their failures."""

import asyncio
import time
from collections.abc import Callable

import numpy as np
import pytest

from service.engine.batching import LoopBatcher, Prediction
from service.engine.tensors import Arrays
from service.errors import Draining, Overloaded

Result = Prediction | Exception


class Doubler:
    """A run function that doubles its rows and records each batch; it fails for NaN."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []

    def __call__(self, inputs: Arrays) -> Arrays:
        values = inputs[0].astype(np.float64)
        self.batches.append(values[:, 0].tolist())
        if np.isnan(values).any():
            raise ValueError(values[:, 0].tolist())
        return (values + values,)


class Requests:
    """Submits requests, and collects their results in order."""

    waiting = 0

    def __init__(self, run: Doubler, *, batch: int = 100, queue: int = 1000) -> None:
        self.results: dict[int, Result] = {}
        self.batcher = LoopBatcher(
            run,
            max_batch_rows=batch,
            max_queued_rows=queue,
            map_error=lambda error: ValueError(f"You sent {error.args[0]}"),
        )

    def submit(self, *values: float) -> None:
        number = len(self.results) + self.waiting
        self.waiting += 1
        inputs = (np.array(values, np.float32).reshape(-1, 1),)
        try:
            self.batcher.submit(inputs, len(values), self._callback(number))
        except Exception:
            self.waiting -= 1
            raise

    def _callback(self, number: int) -> Callable[[Result], None]:
        def add_result(result: Result) -> None:
            assert number not in self.results
            self.waiting -= 1
            self.results[number] = result

        return add_result

    @property
    def predictions(self) -> list[list[float] | str]:
        results = [self.results[number] for number in sorted(self.results)]
        return [
            str(result) if isinstance(result, Exception) else result.outputs[0][:, 0].tolist()
            for result in results
        ]


async def turns() -> None:
    """Run the loop until everything has run."""
    for _ in range(20):
        await asyncio.sleep(0)


def submit_in_one_turn(requests: Requests, *rows: tuple[float, ...]) -> Requests:
    """Submit requests in one turn of the loop, and wait for their results."""

    async def scenario() -> None:
        for values in rows:
            requests.submit(*values)
        assert not requests.results
        await turns()

    asyncio.run(scenario())
    return requests


def test_requests_of_one_turn_share_a_run_and_get_their_own_rows() -> None:
    """The rows of a shared run are in the order in which the requests arrived."""
    run = Doubler()

    requests = submit_in_one_turn(Requests(run), (1,), (2, 3), (4,))

    assert run.batches == [[1, 2, 3, 4]]
    assert requests.predictions == [[2], [4, 6], [8]]


def test_requests_of_different_turns_do_not_wait_for_each_other() -> None:
    """A request runs in its own iteration of the event loop, without a timer."""
    run = Doubler()
    requests = Requests(run)

    submit_in_one_turn(requests, (1,))
    asyncio.run(submit_another(requests))

    assert run.batches == [[1], [2]]


async def submit_another(requests: Requests) -> None:
    requests.submit(2)
    await turns()


def test_a_batch_is_limited_in_rows() -> None:
    """It ends before the request that would exceed it; a larger request runs undivided."""
    run = Doubler()

    requests = submit_in_one_turn(Requests(run, batch=3), (1, 1), (2, 2), (3,), (4, 4, 4, 4), (5,))

    assert run.batches == [[1, 1], [2, 2, 3], [4] * 4, [5]]
    assert requests.predictions == [[2, 2], [4, 4], [6], [8] * 4, [10]]


def test_a_request_without_rows_runs_alone() -> None:
    """A request without rows is not joined with requests before or after it."""
    run = Doubler()

    requests = submit_in_one_turn(Requests(run), (), (1,), (), (2,), (3,))

    assert run.batches == [[], [1], [], [2, 3]]
    assert requests.predictions == [[], [2], [], [4], [6]]


def test_each_request_of_a_failing_batch_gets_its_own_result() -> None:
    """Valid requests get predictions; each invalid one gets an exception for its own rows."""
    nan = float("nan")
    run = Doubler()

    requests = submit_in_one_turn(Requests(run), (1,), (nan, 7), (2,), (nan, 8))

    assert requests.predictions == [[2], "You sent [nan, 7.0]", [4], "You sent [nan, 8.0]"]
    assert requests.results[1] is not requests.results[3]
    assert [len(batch) for batch in run.batches] == [6, 1, 2, 1, 2]


def test_a_failing_batch_does_not_block_the_loop_for_a_run_of_each_request() -> None:
    """Its requests run again in later turns of the event loop; slow ones run in a turn each."""

    class SlowDoubler(Doubler):
        def __call__(self, inputs: Arrays) -> Arrays:
            time.sleep(0.002)
            return super().__call__(inputs)

    run = SlowDoubler()
    requests = Requests(run)

    async def scenario() -> list[int]:
        for value in (1, float("nan"), 2, 3):
            requests.submit(value)
        runs_by_turn = []
        before = 0
        while requests.waiting:
            await asyncio.sleep(0)
            runs_by_turn.append(len(run.batches) - before)
            before = len(run.batches)
        return runs_by_turn

    runs = asyncio.run(scenario())

    assert [len(batch) for batch in run.batches] == [4, 1, 1, 1, 1]
    assert max(runs) == 1
    assert requests.predictions == [[2], "You sent [nan]", [4], [6]]


def test_requests_of_a_failing_batch_run_before_later_ones() -> None:
    """They run alone, and the requests that have arrived since share the next run."""
    run = Doubler()
    requests = Requests(run, batch=2)

    submit_in_one_turn(requests, (float("nan"),), (1,), (2,), (3,))

    assert [len(batch) for batch in run.batches] == [2, 1, 1, 2]
    assert requests.predictions == ["You sent [nan]", [2], [4], [6]]


def test_a_full_queue_rejects_immediately() -> None:
    """The error contains the numbers of rows; an empty queue accepts a request of any size."""
    run = Doubler()
    requests = Requests(run, queue=4)

    async def scenario() -> None:
        requests.submit(1, 1, 1)
        with pytest.raises(Overloaded, match=r"3 rows are waiting and the limit is 4"):
            requests.submit(2, 2)
        requests.submit(3)
        await turns()
        requests.submit(4, 4, 4, 4, 4)
        await turns()

    asyncio.run(scenario())

    assert requests.predictions == [[2, 2, 2], [6], [8] * 5]


def test_closing_finishes_waiting_requests_and_rejects_new_ones() -> None:
    """Each waiting request gets one result before its iteration of the event loop."""
    run = Doubler()
    requests = Requests(run)

    async def scenario() -> None:
        requests.submit(1)
        requests.submit(2)
        requests.batcher.close()
        assert requests.predictions == [[2], [4]]
        with pytest.raises(Draining):
            requests.submit(3)
        await turns()

    asyncio.run(scenario())

    assert run.batches == [[1, 2]]


def test_requests_that_follow_responses_do_not_block_the_loop() -> None:
    """The number of runs in one turn of the event loop does not grow."""

    async def scenario() -> list[int]:
        run = Doubler()
        requests = Requests(run)
        loop = asyncio.get_running_loop()
        runs_by_turn: list[int] = []

        def submit_again(result: Result) -> None:
            assert isinstance(result, Prediction)
            if len(run.batches) < 20_000:
                requests.batcher.submit((np.ones((1, 1), np.float32),), 1, submit_again)

        for _ in range(3):
            requests.batcher.submit((np.ones((1, 1), np.float32),), 1, submit_again)
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
