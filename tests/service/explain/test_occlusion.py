"""Occlusion of each region of an image, for a model whose weights are known."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.engine.loader import ExecutionPlan, load
from service.engine.model import BatchLimits, ServedModel
from service.engine.repository import Candidate
from service.explain.occlusion import background_of, predict_occluded
from service.observability.metrics import Metrics
from tests.explained import ink_probability, publish_ink

SIDE = 12


@pytest.fixture
def weights() -> np.ndarray:
    """Weights of pixels: large ones in one corner and small ones elsewhere."""
    weights = np.full((SIDE, SIDE), 0.01)
    weights[1:4, 8:11] = 0.5
    return weights


@pytest.fixture
def ink(models: Path, weights: np.ndarray) -> Iterator[ServedModel]:
    """Load a model that sums ink by these weights."""
    folder = publish_ink(models, weights)
    limits = BatchLimits(max_batch_rows=64, max_queued_rows=10_000)
    with load(Candidate("ink", "1", folder, ()), ExecutionPlan(), limits, Metrics()) as model:
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
                # Cells of three pixels, with a margin of half their size, rounded up.
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

    assert background_of(image).tolist() == [250, 240, 230]
