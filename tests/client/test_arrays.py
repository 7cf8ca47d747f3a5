"""Arrays as images: the range of their pixels and the axis of their channels."""

import numpy as np
import pytest

from service.client import InvalidData
from tests.client.conftest import AnyClient
from tests.images import photograph

RING = np.hypot(*np.mgrid[-14:14, -14:14]).round().astype(int) == 8


@pytest.mark.parametrize("zoom", [1, 3])
def test_every_type_of_a_mask_is_the_same_image(onward: AnyClient, zoom: int) -> None:
    """Booleans, floats of 0 and 1, and bytes; in the model's own size or not, alone or not."""
    ring = RING.repeat(zoom, 0).repeat(zoom, 1)
    expected = onward.predict("digits_cnn", ring.astype(np.uint8) * 255)
    masks = [ring, *(ring.astype(kind) for kind in (np.float16, np.float32, float))]

    assert expected.label == "0"
    for mask in masks:
        assert onward.predict("digits_cnn", mask) == expected
        assert onward.predict("digits_cnn", mask[None])[0].label == "0"
        assert onward.predict("digits_cnn", mask[..., None]) == expected
    assert [one.label for one in onward.predict("digits_cnn", masks)] == ["0"] * 4


def test_pixels_from_0_to_1_are_those_from_0_to_255(onward: AnyClient) -> None:
    """Divided by 255 in either precision, and floats above 1 as they are."""
    pixels = photograph(112, 112)
    expected = onward.predict("cats_dogs", pixels)

    for array in (pixels / 255, (pixels / 255).astype(np.float32), pixels.astype(np.float32)):
        assert onward.predict("cats_dogs", array) == expected
        (alone,) = onward.predict("cats_dogs", array[None])
        assert alone.probabilities == expected.probabilities


def test_a_batch_has_one_range(onward: AnyClient) -> None:
    """An almost black image among others is not brightened."""
    pixels = np.stack([RING * 2.0, RING * 255.0])

    expected = onward.predict("digits_cnn", pixels.astype(np.uint8))
    assert onward.predict("digits_cnn", pixels) == expected


def test_a_batch_of_gray_images_has_three_axes(onward: AnyClient) -> None:
    """For a model of gray images, however many there are."""
    for count in (1, 3, 5):
        found = onward.predict("digits_cnn", np.stack([RING] * count))
        assert [one.label for one in found] == ["0"] * count


@pytest.mark.parametrize(
    ("model", "array", "sentence"),
    [
        ("cats_dogs", np.zeros((3, 40, 50)), "array.transpose(1, 2, 0)"),
        ("cats_dogs", np.zeros((1, 40, 50)), "array.transpose(1, 2, 0)"),
        ("cats_dogs", [np.zeros((3, 40, 50))], "Image 0: The array has the shape (3, 40, 50)"),
        ("digits_cnn", [np.zeros((1, 28, 28))], "array.transpose(1, 2, 0)"),
        ("cats_dogs", np.zeros((2, 3, 40, 50)), "array.transpose(0, 2, 3, 1)"),
        ("digits_cnn", np.zeros((2, 1, 28, 28)), "array.transpose(0, 2, 3, 1)"),
        ("cats_dogs", np.zeros((7, 40, 50)), "The array has the shape (7, 40, 50), which is no"),
        ("cats_dogs", np.zeros((1, 1, 4, 5, 3)), "this one has the shape (1, 1, 4, 5, 3)"),
        ("digits_cnn", np.full((28, 28), np.nan), "A pixel of the array is NaN; pixels are"),
        ("digits_cnn", [RING, np.full((28, 28), np.nan)], "Image 1: A pixel of the array is NaN"),
        ("digits_cnn", np.full((28, 28), np.inf), "A pixel of the array is inf; pixels are"),
        ("digits_cnn", np.linspace(-1, 1, 784).reshape(28, 28), "A pixel of the array is -1;"),
        ("digits_cnn", np.full((28, 28), 65535.0), "A pixel of the array is 65535; pixels are"),
        ("digits_cnn", np.full((28, 28), None), "this array has the type object"),
        ("digits_cnn", np.full((28, 28), 1j), "this array has the type complex128"),
    ],
)
def test_what_is_no_image_is_explained(
    onward: AnyClient, model: str, array: object, sentence: str
) -> None:
    """Before it is sent."""
    with pytest.raises(InvalidData) as raised:
        onward.predict(model, array)

    assert sentence in raised.value.message
