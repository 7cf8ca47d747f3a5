"""Folders of images that a tiny network learns in a second."""

from pathlib import Path

import numpy as np
import pytest

from tests.images import Pixels, encoded
from training.recipe.image import ImageRecipe

SIDE = 12


def striped(rng: np.random.Generator, *, standing: bool, side: int = 24) -> Pixels:
    """A noisy image, ``[side, side]``, of vertical or horizontal stripes."""
    phase = rng.uniform(0, 2 * np.pi)
    wave = np.sin(np.arange(side) / side * 6 * np.pi + phase) * 80 + 128
    stripes = np.tile(wave, (side, 1)) if standing else np.tile(wave, (side, 1)).T
    return np.clip(stripes + rng.normal(0, 20, stripes.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """Two classes of sixty small grey images each: vertical and horizontal stripes."""
    rng = np.random.default_rng(1)
    for label in ("lying", "standing"):
        home = tmp_path / "stripes" / label
        home.mkdir(parents=True)
        for k in range(60):
            (home / f"{k:02}.png").write_bytes(encoded(striped(rng, standing=label == "standing")))
    return tmp_path / "stripes"


@pytest.fixture
def recipe(stripes: Path) -> ImageRecipe:
    """A small convolutional network that distinguishes both."""
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
