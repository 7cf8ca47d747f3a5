"""The overlay: cells that lower the score when covered are red, cells that raise it blue."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from service.api.explain.saliency import draw_overlay


@pytest.mark.parametrize("channels", [1, 3])
def test_cells_that_change_the_score_are_colored(channels: int) -> None:
    """One cell lowers the score, one raises it, and the others stay gray."""
    image = np.full((28, 56, channels), 128, np.uint8)
    drops = np.zeros((4, 4))
    drops[0, 0], drops[3, 3] = 0.8, -0.8

    made = Image.open(BytesIO(draw_overlay(image, drops)))

    assert (made.format, made.mode, made.size) == ("PNG", "RGB", (448, 224))
    pixels = np.asarray(made).astype(int)
    red, green, blue = pixels[10, 10]
    assert red > 200 > green > blue
    red, green, blue = pixels[-10, -10]
    assert blue > 200 > green > red
    assert pixels[112, 224].tolist() == [128, 128, 128]


def test_without_changes_the_overlay_is_the_grey_image() -> None:
    """Opacities are relative to the greatest change, which may be zero."""
    image = np.random.default_rng(1).integers(0, 256, (8, 8, 1), dtype=np.uint8)

    made = Image.open(BytesIO(draw_overlay(image, np.zeros((2, 2)))))

    gray = np.asarray(made)
    assert (gray[..., 0] == gray[..., 1]).all()
    assert gray[0, 0, 0] == image[0, 0, 0]
