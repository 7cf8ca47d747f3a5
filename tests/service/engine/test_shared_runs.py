"""How many requests of one event loop iteration share a run, for each model."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from service.engine.batching import Prediction
from service.engine.loader import ExecutionPlan, load
from service.engine.model import BatchLimits, ServedModel
from service.engine.repository import Candidate
from service.observability.metrics import Metrics
from tests.foreign import serialized, tensor
from tests.models import publish_bare, publish_price

MAX_ROWS = 8192


def load_inline(folder: Path, limits: BatchLimits) -> ServedModel:
    """Load a version that runs on the event loop."""
    candidate = Candidate(folder.parent.name, folder.name, folder, ())
    return load(candidate, ExecutionPlan(mode="inline", mode_by="setting"), limits, Metrics())


def count_runs(model: ServedModel, requests: int, rows: int) -> tuple[int, int]:
    """Return the number of runs for requests of one turn, and of predictions with all rows."""
    results: list[Prediction | Exception] = []
    inputs = np.random.default_rng(1).uniform(1, 2, (rows, 1)).astype(np.float32)

    async def predict() -> int:
        before = model.statistics.execution_count
        is_done = asyncio.Event()

        def add_result(result: Prediction | Exception) -> None:
            results.append(result)
            if len(results) == requests:
                is_done.set()

        for _ in range(requests):
            model.predict_inline((inputs,), len(inputs), add_result)
        await is_done.wait()
        return model.statistics.execution_count - before

    runs = asyncio.run(predict())
    complete = [it for it in results if isinstance(it, Prediction) and len(it.outputs[0]) == rows]
    return runs, len(complete)


@pytest.mark.parametrize(
    ("limit", "requests", "rows", "expected"),
    [(0, 16, 256, 1), (0, 64, 256, 2), (1024, 16, 256, 4), (1, 5, 1, 5), (0, 30, 1, 1)],
)
def test_requests_to_an_inline_model_share_runs_up_to_the_limit(
    models: Path, limit: int, requests: int, rows: int, expected: int
) -> None:
    """The default limit is 8,192 rows, once large runs have shown to be short."""
    model = load_inline(publish_price(models), BatchLimits(limit, 100_000))
    for _ in range(20):
        asyncio.run(model.predict((np.ones((MAX_ROWS, 1), np.float32),)))

    assert count_runs(model, requests, rows) == (expected, requests)


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
def test_requests_to_a_bare_model_share_a_run_only_if_that_is_configured(
    models: Path, tuning: str, config: str, expected: int
) -> None:
    """The model's tuning.json enables it, or Triton's config.pbtxt."""
    folder = publish_bare(models, "bare", doubled())
    if tuning:
        (folder.parent / "tuning.json").write_text(tuning)
    if config:
        (folder.parent / "config.pbtxt").write_text(config)

    model = load_inline(folder, BatchLimits(0, 100_000))

    assert count_runs(model, 6, 3) == (expected, 6)


def doubled() -> bytes:
    """Return a graph of ``y = x + x`` for rows of one number."""
    shape: list[int | str] = ["rows", 1]
    node = helper.make_node("Add", ["x", "x"], ["y"])
    return serialized([node], [tensor("x", shape)], [tensor("y", shape)])
