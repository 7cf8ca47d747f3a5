"""Shapley values compared with their definition, and occlusion for a model with known weights."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import permutations
from math import factorial
from pathlib import Path

import numpy as np
import pytest

from service.engine.loader import ExecutionPlan, load
from service.engine.model import BatchLimits, ServedModel
from service.engine.repository import Candidate
from service.explain import find_background, plan_mixtures, predict_mixtures, predict_occluded
from service.observability.metrics import Metrics
from tests.explained import Floats, ink_probability, publish_ink, publish_quadratic

LIMITS = BatchLimits(max_batch_rows=64, max_queued_rows=10_000)
SIDE = 12


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

    with load(Candidate("quadratic", "1", folder, ()), ExecutionPlan(), LIMITS, Metrics()) as model:
        rows = np.stack([row, reference])
        predictions = np.array(
            [[one @ matrix @ one] for one in rows.astype(np.float64)], np.float32
        )
        found = asyncio.run(predict_mixtures(model, rows, predictions, reference))
        asyncio.run(model.close())

    expected = by_definition(
        lambda x: float(x @ matrix @ x), row.astype(np.float64), reference.astype(np.float64)
    )
    values = found[:, :, 0].astype(np.float64) @ plan_mixtures(features).weights
    assert values[0] == pytest.approx(expected, abs=1e-5)
    assert values[1] == pytest.approx([0.0] * features, abs=1e-5)


@pytest.mark.parametrize("features", [1, 2, 5, 40])
def test_the_values_add_up_to_the_whole_change(features: int) -> None:
    """Their sum is the last prediction minus the first, for any predictions."""
    plan = plan_mixtures(features)
    predictions = np.random.default_rng(1).normal(size=len(plan.masks))

    values = predictions @ plan.weights

    assert not plan.masks[0].any()
    assert plan.masks[-1].all()
    assert values.sum() == pytest.approx(predictions[-1] - predictions[0])


def test_the_same_mixtures_are_predicted_every_time() -> None:
    """The explanation of a row does not change between requests."""
    first = plan_mixtures(30).masks.copy()
    plan_mixtures.cache_clear()

    assert (plan_mixtures(30).masks == first).all()


@pytest.fixture
def weights() -> np.ndarray:
    """Give every pixel a small weight, and one corner large ones."""
    weights = np.full((SIDE, SIDE), 0.01)
    weights[1:4, 8:11] = 0.5
    return weights


@pytest.fixture
def ink(models: Path, weights: np.ndarray) -> Iterator[ServedModel]:
    """Load a model that sums ink by these weights."""
    folder = publish_ink(models, weights)
    with load(Candidate("ink", "1", folder, ()), ExecutionPlan(), LIMITS, Metrics()) as model:
        yield model
        asyncio.run(model.close())


def test_each_patch_is_filled_with_the_color_of_the_border(
    ink: ServedModel, weights: np.ndarray
) -> None:
    """Each cell has the prediction that numpy computes for the image with that patch filled."""
    images = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 1), dtype=np.uint8)

    found = asyncio.run(predict_occluded(ink, images, 4))

    assert found.shape == (2, 4, 4, 1)
    for image, grid in zip(images, found, strict=True):
        border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
        for down in range(4):
            for across in range(4):
                painted = image.copy()
                top, left = 3 * down, 3 * across
                # Cells of three pixels, and half as much, rounded up, around them.
                rows = slice(max(top - 1, 0), top + 5)
                columns = slice(max(left - 1, 0), left + 5)
                painted[rows, columns] = np.uint8(np.median(border))
                expected = ink_probability(weights, painted)
                assert grid[down, across, 0] == pytest.approx(expected, abs=1e-5)


def test_the_prediction_falls_most_where_weighted_ink_is_covered(ink: ServedModel) -> None:
    """The image has ink in two regions; the model has large weights for one of them."""
    image = np.zeros((1, SIDE, SIDE, 1), np.uint8)
    image[0, 1:4, 8:11] = 255
    image[0, 8:11, 1:4] = 255

    found = asyncio.run(predict_occluded(ink, image, 4))[0, :, :, 0]

    down, across = np.divmod(found.argmin(), 4)
    assert (int(down), int(across)) in {(0, 3), (0, 2), (1, 3)}
    assert found[3, 0] == pytest.approx(found.max(), abs=0.1)


def test_the_background_is_the_median_color_of_the_border() -> None:
    """Ink that crosses the border does not change it."""
    image = np.full((SIDE, SIDE, 3), (250, 240, 230), np.uint8)
    image[:, 3:6] = 0

    assert find_background(image).tolist() == [250, 240, 230]
