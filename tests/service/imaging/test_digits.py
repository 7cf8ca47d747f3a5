"""Drawn digits are normalized as in MNIST."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from service.imaging.limits import InvalidImage
from service.imaging.preprocess import read_image
from tests.images import Pixels, encoded, image_input

DIGIT = image_input(28, 28, channels=1, normalize="digit")


def drawn(size: tuple[int, int], height: int, position: tuple[int, int], ink: int = 20) -> Pixels:
    """A printed 5 on light paper: the image's width and height, the type's, and its middle."""
    image = Image.new("L", size, 235)
    font = ImageFont.load_default(height)
    ImageDraw.Draw(image).text(position, "5", fill=ink, font=font, anchor="mm")
    return np.asarray(image)


def normalized(image: Pixels) -> Pixels:
    return read_image(encoded(image), DIGIT)[:, :, 0]


def mnist_like() -> Pixels:
    """Create an image that is normalized already."""
    return normalized(drawn((300, 300), 200, (150, 150)))


def test_a_normalized_digit_is_not_changed() -> None:
    """Normalizing the result again, or its negative, changes no bit."""
    once = mnist_like()

    assert np.array_equal(normalized(once), once)
    assert np.array_equal(normalized(255 - once), once)


def test_a_digit_is_scaled_to_twenty_pixels_and_centered_by_mass() -> None:
    """The bounding box and the center of mass are those in the description of MNIST."""
    rows, columns = np.nonzero(once := mnist_like())
    weights = once[rows, columns].astype(float)

    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    assert abs((rows * weights).sum() / weights.sum() - 14) <= 0.5
    assert abs((columns * weights).sum() / weights.sum() - 14) <= 0.5
    assert once.max() == 255


@pytest.mark.parametrize(
    "image",
    [
        drawn((300, 300), 200, (150, 150), ink=120),
        255 - drawn((300, 300), 200, (150, 150)),
        drawn((800, 600), 200, (680, 120)),
        drawn((40, 60), 50, (20, 30)),
    ],
)
def test_position_polarity_contrast_and_size_do_not_matter(image: Pixels) -> None:
    """Differently drawn images of a digit are normalized to nearly the same image."""
    read = normalized(image).astype(float)

    expected = mnist_like().astype(float)
    assert np.corrcoef(read.ravel(), expected.ravel())[0, 1] > 0.95


def test_shadow_and_noise_are_background() -> None:
    """A grainy photograph of paper, darker on one side, shows only its digit."""
    paper = drawn((600, 500), 300, (300, 250)).astype(float)
    shade = np.linspace(1, 0.4, 600)[None, :]
    grain = np.random.default_rng(0).normal(0, 8, paper.shape)
    photographed = np.clip(paper * shade + grain, 0, 255).astype(np.uint8)

    read = normalized(photographed).astype(float)

    assert np.corrcoef(read.ravel(), mnist_like().ravel())[0, 1] > 0.95


def test_a_thin_stroke_remains_visible() -> None:
    """A line of one pixel in a large image is visible in the small one."""
    image = Image.new("L", (800, 600), 255)
    ImageDraw.Draw(image).line([(300, 500), (420, 100)], fill=0, width=1)

    read = normalized(np.asarray(image))

    assert (read.max(axis=1) >= 200).sum() >= 18


def test_a_digit_on_a_transparent_background_is_found_in_any_color() -> None:
    """White and black drawings without a background are the same digit."""
    ink = 255 - drawn((300, 300), 200, (150, 150))
    for color in (0, 255):
        drawing = np.dstack([np.full((*ink.shape, 3), color, np.uint8), ink])

        read = read_image(encoded(drawing), DIGIT)[:, :, 0].astype(float)

        assert np.corrcoef(read.ravel(), mnist_like().ravel())[0, 1] > 0.95


def test_an_image_without_a_digit_is_rejected() -> None:
    """Blank, noisy or shaded paper has no digit, and the message describes a valid image."""
    grain = np.random.default_rng(0).normal(200, 10, (300, 300)).astype(np.uint8)
    shade = np.tile(np.linspace(250, 100, 300).astype(np.uint8), (300, 1))

    for paper in (np.full((28, 28), 255, np.uint8), grain, shade):
        with pytest.raises(InvalidImage, match="No foreground is found in this image; send one of"):
            normalized(paper)
