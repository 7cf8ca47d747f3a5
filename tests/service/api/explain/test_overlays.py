"""The overlay: a PNG file in which what lowers the answer is red, and what raises it blue."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from service.api.explain.saliency import draw_overlay


@pytest.mark.parametrize("channels", [1, 3])
def test_what_matters_is_coloured_and_the_rest_stays_grey(channels: int) -> None:
    """Of four cells one lowers the answer, one raises it."""
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


def test_where_nothing_matters_nothing_is_laid_over() -> None:
    """No change at all has no greatest one."""
    image = np.random.default_rng(1).integers(0, 256, (8, 8, 1), dtype=np.uint8)

    made = Image.open(BytesIO(draw_overlay(image, np.zeros((2, 2)))))

    grey = np.asarray(made)
    assert (grey[..., 0] == grey[..., 1]).all()
    assert grey[0, 0, 0] == image[0, 0, 0]
