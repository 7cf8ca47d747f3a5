"""Folders of images that a small network learns in a second."""

from pathlib import Path

import numpy as np
import pytest

from tests.images import Pixels, encoded
from training.recipe.image import ImageRecipe

SIDE = 12


def striped(rng: np.random.Generator, *, vertical: bool, side: int = 24) -> Pixels:
    """A noisy image, ``[side, side]``, of vertical or horizontal stripes."""
    phase = rng.uniform(0, 2 * np.pi)
    wave = np.sin(np.arange(side) / side * 6 * np.pi + phase) * 80 + 128
    stripes = np.tile(wave, (side, 1)) if vertical else np.tile(wave, (side, 1)).T
    return np.clip(stripes + rng.normal(0, 20, stripes.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of sixty small gray images each: vertical and horizontal stripes."""
    rng = np.random.default_rng(1)
    folder = tmp_path_factory.mktemp("data") / "stripes"
    for label in ("horizontal", "vertical"):
        home = folder / label
        home.mkdir(parents=True)
        for k in range(60):
            (home / f"{k:02}.png").write_bytes(encoded(striped(rng, vertical=label == "vertical")))
    return folder


@pytest.fixture(scope="module")
def recipe(stripes: Path) -> ImageRecipe:
    """A small convolutional network that distinguishes vertical from horizontal stripes."""
    return ImageRecipe.model_validate(
        {
            "name": "stripes",
            "title": "Stripes",
            "data": {"folder": str(stripes)},
            "target": {"name": "direction"},
            "image": {"height": SIDE, "width": SIDE, "channels": 1},
            "augmentation": {"shift": 0.1, "elastic": 0.01},
            "network": {"family": "layers", "layers": ["conv 4", "pool", "dense 8"]},
            "training": {
                "optimizer": "Adam",
                "learning_rate": 0.01,
                "epochs": 6,
                "batch_size": 16,
                "ema_momentum": 0.9,
            },
        }
    )
