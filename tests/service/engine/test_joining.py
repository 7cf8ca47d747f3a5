"""What one turn of the loop brought shares runs: how many rows, and of which models."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from service.engine.batching import Prediction
from service.engine.loader import ExecutionPlan, load
from service.engine.model import Limits, ServedModel
from service.engine.repository import Candidate
from service.observability.metrics import Metrics
from tests.foreign import serialised, tensor
from tests.models import place_bare, publish_price

MOST = 8192


def loaded(folder: Path, limits: Limits) -> ServedModel:
    """The version that lies there."""
    candidate = Candidate(folder.parent.name, folder.name, folder, ())
    return load(candidate, ExecutionPlan(mode="inline", mode_by="setting"), limits, Metrics())


def runs(model: ServedModel, calls: int, rows: int) -> tuple[int, int]:
    """How many runs so many calls of one turn took, and how many got all of their rows."""
    told: list[Prediction | Exception] = []
    given = np.random.default_rng(1).uniform(1, 2, (rows, 1)).astype(np.float32)

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


@pytest.mark.parametrize(
    ("tuning", "config", "expected"),
    [
        ("", "", 6),
        ("", "max_batch_size: 1", 6),
        ("", "max_batch_size: 0", 6),
        ("", "input { max_batch_size: 8 }", 6),
        ("", "max_batch_size: 8", 3),
        ("", "max_batch_size: 64", 1),
        ("", "dynamic_batching { }", 1),
        ("", "max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 4 ] }", 3),
        ('{"max_batch_rows": 8}', "", 3),
        ('{"max_batch_rows": 8}', "max_batch_size: 64", 3),
        ('{"max_batch_rows": 1}', "max_batch_size: 64", 6),
        ('{"threads": 1}', "", 6),
    ],
)
def test_a_bare_models_calls_share_a_run_only_where_that_is_configured(
    models: Path, tuning: str, config: str, expected: int
) -> None:
    """By the model's tuning.json, or else by the config.pbtxt that Triton reads."""
    folder = place_bare(models, "bare", doubled())
    if tuning:
        (folder.parent / "tuning.json").write_text(tuning)
    if config:
        (folder.parent / "config.pbtxt").write_text(config)

    model = loaded(folder, Limits(0, 100_000))

    assert runs(model, 6, 3) == (expected, 6)


def doubled() -> bytes:
    """``y = x + x`` of rows of one number."""
    shape: list[int | str] = ["rows", 1]
    node = helper.make_node("Add", ["x", "x"], ["y"])
    return serialised([node], [tensor("x", shape)], [tensor("y", shape)])
