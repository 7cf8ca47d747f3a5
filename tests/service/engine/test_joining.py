"""What one turn of the loop brought shares runs: how many rows, and of which models."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from service.engine.inline import Prediction
from service.engine.loading import load
from service.engine.model import Limits, ServedModel
from service.engine.plan import Plan
from service.engine.repository import Candidate
from service.metrics import Metrics
from tests.models import place_bare, publish_price
from tests.service.engine.test_independence import DENSE, OTHERS, WIDTH

MOST = 8192


def loaded(folder: Path, limits: Limits) -> ServedModel:
    """The version that lies there."""
    candidate = Candidate(folder.parent.name, folder.name, folder, ())
    return load(candidate, Plan(mode="inline", mode_by="setting"), limits, Metrics())


def runs(model: ServedModel, calls: int, rows: int, width: int = 1) -> tuple[int, int]:
    """How many runs so many calls of one turn took, and how many got all of their rows."""
    told: list[Prediction | Exception] = []
    given = np.random.default_rng(1).uniform(1, 2, (rows, width)).astype(np.float32)

    async def ask() -> int:
        before = model.statistics.execution_count
        all_told = asyncio.Event()

        def tell(answer: Prediction | Exception) -> None:
            told.append(answer)
            if len(told) == calls:
                all_told.set()

        for _ in range(calls):
            model.join((given,), len(given), tell)
        await all_told.wait()
        return model.statistics.execution_count - before

    count = asyncio.run(ask())
    whole = [it for it in told if isinstance(it, Prediction) and len(it.outputs[0]) == rows]
    return count, len(whole)


@pytest.mark.parametrize(
    ("limit", "calls", "rows", "expected"),
    [(0, 16, 256, 1), (0, 64, 256, 2), (1024, 16, 256, 4), (1, 5, 1, 5), (0, 30, 1, 1)],
)
def test_a_quick_models_calls_share_runs_up_to_the_limit(
    models: Path, limit: int, calls: int, rows: int, expected: int
) -> None:
    """Of 8,192 rows where none is set, once it has shown how long many take."""
    model = loaded(publish_price(models), Limits(limit, 100_000))
    for _ in range(20):
        asyncio.run(model.predict((np.ones((MOST, 1), np.float32),)))

    assert runs(model, calls, rows) == (expected, calls)


@pytest.mark.parametrize(("name", "expected"), [("dense", 1), ("others", 6)])
def test_a_bare_models_calls_share_a_run_where_rows_are_independent(
    models: Path, name: str, expected: int
) -> None:
    """A dense network's do, and those of a mean over rows do not."""
    content = DENSE if name == "dense" else OTHERS["a mean of rows"]
    model = loaded(place_bare(models, "bare", content), Limits(0, 100_000))

    assert runs(model, 6, 3, WIDTH) == (expected, 6)
    assert model.about.joined_rows == (MOST if name == "dense" else 1)
