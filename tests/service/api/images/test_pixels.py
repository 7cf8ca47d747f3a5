"""Pixels as numbers in JSON: the vectorized and the general decoder return the same values."""

import numpy as np
import pytest

from service.codecs.images import flat_pixels, read_pixels
from service.imaging.limits import InvalidImage


@pytest.mark.parametrize(
    "data", [[0, 255, 7], [0.0, 255.0, 7.0], [0.0, 255, 7], list(range(256)), [2.0, 0.0], [0, 0]]
)
def test_whole_numbers_in_any_notation_are_pixels(data: list[float]) -> None:
    """The result equals that of numpy."""
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
        [0, 1],
        [1.0, 0.0],
        [0.0, 1e300],
        [0, 10**30],
        [0.0, 10**400],
        [0, None],
        [0.0, "1"],
        [0, [1]],
        [],
    ],
)
def test_values_that_are_not_pixels_are_left_to_the_careful_decoder(data: list[object]) -> None:
    """That decoder has the error message."""
    assert flat_pixels(data) is None
    with pytest.raises(InvalidImage):
        read_pixels(data)
