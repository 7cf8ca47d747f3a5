"""The queue of copies: bounded, joined where rows allow it, and honest about what it left out."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from service.bundle.policy import Shadow
from service.engine.model import ServedModel
from service.observability.metrics import Metrics
from service.shadow.runner import ShadowRunner
from service.shadow.tally import Tally
from tests.models import (
    failing_graph,
    graph,
    place_bare,
    publish_price,
    sum_and_difference,
)
from tests.scraped import scraped
from tests.service.shadow.loading import loaded

HOW = Shadow()


def play(scenario: Callable[[ShadowRunner, Metrics], Awaitable[None]]) -> None:
    async def run() -> None:
        metrics = Metrics()
        shadows = ShadowRunner(metrics)
        await scenario(shadows, metrics)
        shadows.close()

    asyncio.run(run())


async def done(shadows: ShadowRunner, candidate: ServedModel, requests: int) -> Tally:
    """The tally once so many requests are accounted for."""
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
    request: str = "",
) -> None:
    """PublishedVersions a copy of a request that the first of two models has answered."""
    inputs = (np.array(values, np.float32).reshape(-1, columns),)
    shadows.offer(pair, HOW, (inputs, pair[0].run_uncounted(inputs)), request)


def test_every_copy_is_compared_with_what_was_answered(models: Path) -> None:
    """Requests of one and of many rows; the row that differs most is found in its request."""
    serving = loaded(publish_price(models, slope=2.0))
    candidate = loaded(publish_price(models, slope=2.1))

    async def scenario(shadows: ShadowRunner, metrics: Metrics) -> None:
        for number in range(20):
            offer(shadows, (serving, candidate), 0.0, float(number), request=f"id-{number}")
        tally = await done(shadows, candidate, 20)

        assert (tally.serving, tally.compared, tally.rows, tally.same) == ("1", 20, 40, 21)
        first = tally.largest[0]
        assert (first.request, first.place, first.row) == ("id-19", 1, {"size": 19.0})
        assert first.amount == pytest.approx(1.9, rel=1e-4)
        assert (first.serving, first.candidate) == ([38.0], pytest.approx([39.9]))
        assert [one.request for one in tally.largest] == [f"id-{n}" for n in range(19, 9, -1)]
        assert tally.difference_sum == pytest.approx(0.1 * sum(range(20)), rel=1e-4)
        told = 'onward_shadow_requests_total{model="price",outcome="compared",version="2"} 20.0'
        assert told in scraped(metrics).decode()

    play(scenario)


def test_what_has_no_room_is_dropped_and_counted(models: Path) -> None:
    """The first is taken however large, the next are not, and nobody waits."""
    serving, candidate = loaded(publish_price(models)), loaded(publish_price(models))

    async def scenario(shadows: ShadowRunner, metrics: Metrics) -> None:
        for _ in range(5):
            offer(shadows, (serving, candidate), *[1.0] * 15_000)
        tally = await done(shadows, candidate, 5)

        assert (tally.compared, tally.dropped, tally.rows) == (1, 4, 15_000)
        assert 'outcome="dropped",version="2"} 4.0' in scraped(metrics).decode()

    play(scenario)


def test_a_candidate_that_fails_is_reported_and_affects_no_other(models: Path) -> None:
    """Here those requests whose values fill no rows of seven, one by one."""
    sums = graph([[1.0], [1.0]], [0.0], "probability")
    serving = loaded(place_bare(models, "bare", sums))
    (models / "bare" / "2").mkdir()
    (models / "bare" / "2" / "model.onnx").write_bytes(failing_graph())
    candidate = loaded(models / "bare" / "2")

    async def scenario(shadows: ShadowRunner, _: Metrics) -> None:
        for count in (1, 7, 2):
            offer(shadows, (serving, candidate), *[1.0] * 2 * count, columns=2)
        tally = await done(shadows, candidate, 3)

        assert (tally.compared, tally.failed) == (1, 2)
        assert "Reshape" in tally.reason

    play(scenario)


def test_versions_that_take_other_features_are_not_compared(models: Path) -> None:
    """The reason is told instead of a comparison that means nothing."""
    serving = loaded(publish_price(models))
    candidate = loaded(place_bare(models, "bare", sum_and_difference()))

    async def scenario(shadows: ShadowRunner, _: Metrics) -> None:
        offer(shadows, (serving, candidate), 1.0)
        tally = await done(shadows, candidate, 1)

        assert (tally.compared, tally.failed) == (0, 1)
        assert "takes other inputs" in tally.reason

    play(scenario)


def test_a_new_serving_version_begins_a_new_tally(models: Path) -> None:
    """What was counted beside the one before says nothing about this one."""
    first, second, candidate = (loaded(publish_price(models)) for _ in range(3))

    async def scenario(shadows: ShadowRunner, _: Metrics) -> None:
        offer(shadows, (first, candidate), 1.0)
        await done(shadows, candidate, 1)
        offer(shadows, (second, candidate), 1.0)
        tally = await done(shadows, candidate, 1)

        assert (tally.serving, tally.compared) == ("2", 1)

    play(scenario)


def test_after_a_reset_nothing_of_before_is_reported(models: Path) -> None:
    """Not even what was still waiting."""
    serving, candidate = loaded(publish_price(models)), loaded(publish_price(models))

    async def scenario(shadows: ShadowRunner, _: Metrics) -> None:
        offer(shadows, (serving, candidate), 1.0)
        shadows.reset("price", "2")
        offer(shadows, (serving, candidate), 1.0, 2.0)
        tally = await done(shadows, candidate, 1)

        assert (tally.compared, tally.rows) == (1, 2)

    play(scenario)
