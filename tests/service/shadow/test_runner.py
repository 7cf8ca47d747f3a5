"""The queue of copies is bounded, batches requests, and counts the copies that it drops."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from service.bundle.policy import Shadow
from service.engine.model import ServedModel
from service.observability.metrics import Metrics
from service.shadow.runner import ShadowRunner, Tally
from tests.models import (
    failing_graph,
    graph,
    publish_bare,
    publish_price,
    sum_and_difference,
)
from tests.scraped import scraped
from tests.service.shadow.loading import loaded

POLICY = Shadow()


def run_scenario(scenario: Callable[[ShadowRunner, Metrics], Awaitable[None]]) -> None:
    async def run() -> None:
        metrics = Metrics()
        shadows = ShadowRunner(metrics)
        await scenario(shadows, metrics)
        shadows.close()

    asyncio.run(run())


async def completed(shadows: ShadowRunner, candidate: ServedModel, requests: int) -> Tally:
    """Return the tally once that many requests are counted."""
    while True:
        tally = shadows.tally(candidate.name, candidate.version)
        if tally is not None and tally.compared + tally.dropped + tally.failed >= requests:
            return tally
        await asyncio.sleep(0.01)


def offer(
    shadows: ShadowRunner,
    pair: tuple[ServedModel, ServedModel],
    *values: float,
    columns: int = 1,
    request_id: str = "",
) -> None:
    """Offer a copy of a request that the first of two models has predicted."""
    inputs = (np.array(values, np.float32).reshape(-1, columns),)
    shadows.offer(pair, POLICY, (inputs, pair[0].run_uncounted(inputs)), request_id)


def test_every_copy_is_compared_with_the_served_prediction(models: Path) -> None:
    """The report has the row that differs most, with its position in its request."""
    serving = loaded(publish_price(models, slope=2.0))
    candidate = loaded(publish_price(models, slope=2.1))

    async def scenario(shadows: ShadowRunner, metrics: Metrics) -> None:
        for number in range(20):
            offer(shadows, (serving, candidate), 0.0, float(number), request_id=f"id-{number}")
        tally = await completed(shadows, candidate, 20)

        assert (tally.serving, tally.compared, tally.rows, tally.same) == ("1", 20, 40, 21)
        first = tally.largest[0]
        assert (first.request_id, first.position, first.row) == ("id-19", 1, {"size": 19.0})
        assert first.amount == pytest.approx(1.9, rel=1e-4)
        assert (first.serving, first.candidate) == ([38.0], pytest.approx([39.9]))
        assert [difference.request_id for difference in tally.largest] == [
            f"id-{n}" for n in range(19, 9, -1)
        ]
        assert tally.difference_sum == pytest.approx(0.1 * sum(range(20)), rel=1e-4)
        sample = 'onward_shadow_requests_total{model="price",outcome="compared",version="2"} 20.0'
        assert sample in scraped(metrics).decode()

    run_scenario(scenario)


def test_copies_beyond_the_queue_are_dropped_and_counted(models: Path) -> None:
    """An empty queue takes a copy of any size; the next ones are dropped without waiting."""
    serving, candidate = loaded(publish_price(models)), loaded(publish_price(models))

    async def scenario(shadows: ShadowRunner, metrics: Metrics) -> None:
        for _ in range(5):
            offer(shadows, (serving, candidate), *[1.0] * 15_000)
        tally = await completed(shadows, candidate, 5)

        assert (tally.compared, tally.dropped, tally.rows) == (1, 4, 15_000)
        assert 'outcome="dropped",version="2"} 4.0' in scraped(metrics).decode()

    run_scenario(scenario)


def test_a_candidate_that_fails_is_reported_and_affects_no_other(models: Path) -> None:
    """Each request runs alone, and those whose values do not fill rows of seven fail."""
    sums = graph([[1.0], [1.0]], [0.0], "probability")
    serving = loaded(publish_bare(models, "bare", sums))
    (models / "bare" / "2").mkdir()
    (models / "bare" / "2" / "model.onnx").write_bytes(failing_graph())
    candidate = loaded(models / "bare" / "2")

    async def scenario(shadows: ShadowRunner, _: Metrics) -> None:
        for count in (1, 7, 2):
            offer(shadows, (serving, candidate), *[1.0] * 2 * count, columns=2)
        tally = await completed(shadows, candidate, 3)

        assert (tally.compared, tally.failed) == (1, 2)
        assert "Reshape" in tally.reason

    run_scenario(scenario)


def test_versions_that_take_other_features_are_not_compared(models: Path) -> None:
    """The report gives the reason why nothing is compared."""
    serving = loaded(publish_price(models))
    candidate = loaded(publish_bare(models, "bare", sum_and_difference()))

    async def scenario(shadows: ShadowRunner, _: Metrics) -> None:
        offer(shadows, (serving, candidate), 1.0)
        tally = await completed(shadows, candidate, 1)

        assert (tally.compared, tally.failed) == (0, 1)
        assert "takes other inputs" in tally.reason

    run_scenario(scenario)


def test_a_new_serving_version_starts_a_new_tally(models: Path) -> None:
    """Counts of the comparison with the previous version are dropped."""
    first, second, candidate = (loaded(publish_price(models)) for _ in range(3))

    async def scenario(shadows: ShadowRunner, _: Metrics) -> None:
        offer(shadows, (first, candidate), 1.0)
        await completed(shadows, candidate, 1)
        offer(shadows, (second, candidate), 1.0)
        tally = await completed(shadows, candidate, 1)

        assert (tally.serving, tally.compared) == ("2", 1)

    run_scenario(scenario)


def test_a_reset_discards_earlier_copies(models: Path) -> None:
    """A reset discards queued copies as well as counts."""
    serving, candidate = loaded(publish_price(models)), loaded(publish_price(models))

    async def scenario(shadows: ShadowRunner, _: Metrics) -> None:
        offer(shadows, (serving, candidate), 1.0)
        shadows.reset("price", "2")
        offer(shadows, (serving, candidate), 1.0, 2.0)
        tally = await completed(shadows, candidate, 1)

        assert (tally.compared, tally.rows) == (1, 2)

    run_scenario(scenario)
