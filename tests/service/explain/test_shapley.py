"""Shapley values compared with their definition."""

import asyncio
from collections.abc import Callable
from itertools import permutations
from math import factorial
from pathlib import Path

import numpy as np
import pytest

from service.engine.loader import ExecutionPlan, load
from service.engine.model import BatchLimits
from service.engine.repository import Candidate
from service.explain.shapley import plan_of, predict_mixtures
from service.observability.metrics import Metrics
from tests.explained import Floats, publish_quadratic


def by_definition(
    predict: Callable[[Floats], float], row: Floats, reference: Floats
) -> list[float]:
    """Return each feature's change of the prediction, averaged over all orders of the features."""
    values = np.zeros(len(row))
    for order in permutations(range(len(row))):
        mixed = reference.copy()
        for feature in order:
            before = predict(mixed)
            mixed[feature] = row[feature]
            values[feature] += predict(mixed) - before
    found: list[float] = (values / factorial(len(row))).tolist()
    return found


@pytest.mark.parametrize("features", [1, 2, 3, 6])
def test_values_are_exact_for_features_that_act_alone_or_in_pairs(
    features: int, models: Path
) -> None:
    """Only some orders of six features are sampled, and the values are still exact."""
    generator = np.random.default_rng(features)
    matrix = generator.normal(size=(features, features)).astype(np.float32).astype(np.float64)
    row, reference = generator.normal(size=(2, features)).astype(np.float32)
    folder = publish_quadratic(models, matrix.tolist(), reference.tolist())
    limits = BatchLimits(max_batch_rows=64, max_queued_rows=10_000)

    with load(Candidate("quadratic", "1", folder, ()), ExecutionPlan(), limits, Metrics()) as model:
        rows = np.stack([row, reference])
        predictions = np.array(
            [[one @ matrix @ one] for one in rows.astype(np.float64)], np.float32
        )
        found = asyncio.run(predict_mixtures(model, rows, predictions, reference))
        asyncio.run(model.close())

    expected = by_definition(
        lambda x: float(x @ matrix @ x), row.astype(np.float64), reference.astype(np.float64)
    )
    values = found[:, :, 0].astype(np.float64) @ plan_of(features).weights
    assert values[0] == pytest.approx(expected, abs=1e-5)
    assert values[1] == pytest.approx([0.0] * features, abs=1e-5)


@pytest.mark.parametrize("features", [1, 2, 5, 40])
def test_the_values_add_up_to_the_whole_change(features: int) -> None:
    """Their sum is the last prediction minus the first, for any predictions."""
    plan = plan_of(features)
    predictions = np.random.default_rng(1).normal(size=len(plan.masks))

    values = predictions @ plan.weights

    assert not plan.masks[0].any()
    assert plan.masks[-1].all()
    assert values.sum() == pytest.approx(predictions[-1] - predictions[0])


def test_the_same_mixtures_are_predicted_every_time() -> None:
    """The explanation of a row does not change between requests."""
    first = plan_of(30).masks.copy()
    plan_of.cache_clear()

    assert (plan_of(30).masks == first).all()
