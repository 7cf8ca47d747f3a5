"""Pixels as JSON's numbers: the quick way takes what the careful way takes, and nothing else."""

import numpy as np
import pytest

from service.codecs.images import flat_pixels, read_pixels
from service.imaging.preprocess import InvalidImage


@pytest.mark.parametrize(
    "data", [[0, 255, 7], [0.0, 255.0, 7.0], [0.0, 255, 7], list(range(256)), [1.0, 0.0]]
)
def test_whole_numbers_are_pixels_however_they_are_written(data: list[float]) -> None:
    """As numpy has them."""
    found = flat_pixels(data)

    assert found is not None
    assert found.dtype == np.uint8
    assert found.tolist() == data


@pytest.mark.parametrize(
    "data",
    [
        [True, False],
        [0, 256],
        [0, -1],
        [0.0, 255.000001],
        [0.0, -1e-50],
        [1e-50, 0.0],
        [0.5, 0.25],
        [0.0, 1e300],
        [0, 10**30],
        [0.0, 10**400],
        [0, None],
        [0.0, "1"],
        [0, [1]],
    ],
)
def test_what_is_no_pixel_is_refused_as_before(data: list[object]) -> None:
    """The quick way gives up, and the careful way has the sentence."""
    assert flat_pixels(data) is None
    with pytest.raises(InvalidImage):
        read_pixels(data)
