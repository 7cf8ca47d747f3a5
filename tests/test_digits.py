"""Digits from elsewhere, sent as image files to the shipped model."""

import base64
from collections.abc import Sequence

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from tests.conftest import ShippedClient
from tests.images import encoded

PAPER, INK = 245, 25

# Lines through points of a box of width and height one, as one writes the digits.
STROKES: dict[int, list[list[tuple[float, float]]]] = {
    0: [
        [(0.5, 0), (0.15, 0.2), (0.08, 0.5), (0.15, 0.8), (0.5, 1), (0.85, 0.8), (0.92, 0.5)],
        [(0.92, 0.5), (0.85, 0.2), (0.5, 0)],
    ],
    1: [[(0.3, 0.15), (0.55, 0), (0.55, 1)]],
    2: [[(0.1, 0.25), (0.25, 0.05), (0.55, 0), (0.85, 0.1), (0.9, 0.3), (0.1, 1), (0.95, 1)]],
    3: [
        [(0.1, 0.1), (0.45, 0), (0.8, 0.1), (0.85, 0.3), (0.4, 0.48), (0.9, 0.72), (0.75, 0.95)],
        [(0.75, 0.95), (0.4, 1), (0.05, 0.9)],
    ],
    4: [[(0.65, 0), (0.05, 0.65), (0.95, 0.65)], [(0.65, 0), (0.65, 1)]],
    5: [
        [(0.85, 0), (0.2, 0), (0.15, 0.45), (0.5, 0.38), (0.85, 0.55), (0.88, 0.8), (0.6, 1)],
        [(0.6, 1), (0.1, 0.92)],
    ],
    6: [
        [(0.75, 0), (0.4, 0.2), (0.15, 0.5), (0.1, 0.75), (0.3, 0.97), (0.65, 1), (0.88, 0.8)],
        [(0.88, 0.8), (0.75, 0.55), (0.4, 0.52), (0.14, 0.72)],
    ],
    7: [[(0.05, 0), (0.95, 0), (0.4, 1)]],
    8: [
        [(0.5, 0.47), (0.15, 0.3), (0.2, 0.08), (0.5, 0), (0.8, 0.08), (0.85, 0.3), (0.5, 0.47)],
        [(0.5, 0.47), (0.12, 0.7), (0.15, 0.92), (0.5, 1), (0.85, 0.92), (0.88, 0.7), (0.5, 0.47)],
    ],
    9: [
        [(0.88, 0.3), (0.7, 0.05), (0.35, 0.02), (0.12, 0.2), (0.15, 0.42), (0.45, 0.52)],
        [(0.45, 0.52), (0.75, 0.45), (0.88, 0.3), (0.85, 0.6), (0.6, 1)],
    ],
}


def _drawn(digit: int, pen: int, corner: tuple[int, int]) -> bytes:
    """A digit drawn dark on light by a round pen, on a sheet of 600 by 800 pixels, as JPEG."""
    sheet = Image.new("L", (600, 800), PAPER)
    draw = ImageDraw.Draw(sheet)
    for line in STROKES[digit]:
        points = [(corner[0] + 240 * x, corner[1] + 400 * y) for x, y in line]
        draw.line(points, fill=INK, width=pen, joint="curve")
        for x, y in points:
            draw.ellipse([x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2], fill=INK)
    return encoded(sheet, "JPEG", quality=80)


def _labels(client: httpx.Client, files: Sequence[bytes]) -> list[str]:
    """The labels of image files, which are sent in base64, a hundred in a request."""
    found = []
    for first in range(0, len(files), 100):
        batch = files[first : first + 100]
        body = {"instances": [base64.b64encode(file).decode() for file in batch]}
        response = client.post("/models/digits_cnn/predict", json=body)
        assert response.status_code == httpx.codes.OK, response.text
        found += [prediction["label"] for prediction in response.json()["predictions"]]
    return found


def test_handwriting_of_another_source_is_read(shipped_client: ShippedClient) -> None:
    """Of every third of scikit-learn's digits, 8 by 8 pixels, at least 95 % are right."""
    digits = load_digits()
    images, target = digits.images[::3], digits.target[::3]

    files = [encoded(np.round(one / 16 * 255).astype(np.uint8)) for one in images]
    labels = _labels(shipped_client, files)

    assert np.mean(np.array(labels) == target.astype(str)) >= 0.95


@pytest.mark.parametrize(
    ("pen", "corner"),
    [(4, (180, 200)), (16, (40, 60)), (40, (300, 350)), (70, (170, 180))],
    ids=["thin", "off-center", "thick", "very thick"],
)
def test_drawings_dark_on_light_are_read(
    shipped_client: ShippedClient, pen: int, corner: tuple[int, int]
) -> None:
    """Wherever it stands on the sheet, and whatever the pen, nine of ten digits are right."""
    labels = _labels(shipped_client, [_drawn(digit, pen, corner) for digit in STROKES])

    right = [label == str(digit) for label, digit in zip(labels, STROKES, strict=True)]
    assert sum(right) >= 9
