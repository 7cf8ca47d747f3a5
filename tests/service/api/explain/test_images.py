"""Explanations of image predictions: numbers, or an overlay on the image."""

from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import StartApp
from tests.explained import publish_ink
from tests.images import encoded
from tests.models import publish_price

SIDE = 12
CORNER = (slice(0, 4), slice(8, 12))


def published(models: Path) -> None:
    """Publish a model that weights only one corner."""
    weights = np.zeros((SIDE, SIDE))
    weights[CORNER] = 0.5
    publish_ink(models, weights)


def drawing() -> bytes:
    """Draw ink in the weighted corner, and as much in the opposite one, as a PNG file."""
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[CORNER] = 255
    pixels[8:12, 0:4] = 255
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def test_the_largest_drop_is_in_the_weighted_corner(models: Path, start: StartApp) -> None:
    """The response to an image file is its prediction with the explanation."""
    published(models)
    client = start()
    headers = {"content-type": "image/png"}

    path = "/models/ink/explain?resolution=3"
    explained = client.post(path, content=drawing(), headers=headers).json()
    predicted = client.post("/models/ink/predict", content=drawing(), headers=headers).json()

    explanation = explained["explanation"]
    drops = np.array(explanation["drops"])
    assert explained["method"] == "occlusion"
    assert explained["label"] == predicted["label"] == "much"
    assert explanation["of"] == "probability of 'much'"
    assert explanation["score"] == pytest.approx(predicted["probability"])
    assert drops.shape == (3, 3)
    assert divmod(int(drops.argmax()), 3) == (0, 2)
    assert drops[2, 0] == pytest.approx(0, abs=1e-6)


def test_the_response_is_an_image_on_request(models: Path, start: StartApp) -> None:
    """The weighted corner is red, and the rest gray."""
    published(models)
    headers = {"content-type": "image/png", "accept": "image/png"}

    response = start().post("/models/ink/explain", content=drawing(), headers=headers)

    assert response.headers["content-type"] == "image/png"
    pixels = np.asarray(Image.open(BytesIO(response.content))).astype(int)
    height, width, _ = pixels.shape
    red, green, _ = pixels[height // 6, -width // 6]
    assert red > green + 50
    assert len(set(pixels[-height // 6, width // 6].tolist())) == 1


def test_the_explanation_contains_the_image_on_request(models: Path, start: StartApp) -> None:
    """It is the image as the model receives it, so its own prediction is the same."""
    published(models)
    client = start()
    large = Image.open(BytesIO(drawing())).resize((90, 50), Image.Resampling.BICUBIC)

    path = "/models/ink/explain?resolution=2"
    plain = client.post(path, content=encoded(large), headers={"content-type": "image/png"}).json()
    shown = client.post(f"{path}&image=true", json={"image": b64encode(encoded(large)).decode()})
    image = shown.json()["explanation"]["image"]
    again = client.post("/models/ink/predict", json={"image": image}).json()

    assert "image" not in plain["explanation"]
    assert np.asarray(Image.open(BytesIO(b64decode(image)))).shape == (SIDE, SIDE)
    assert again["probabilities"] == shown.json()["probabilities"]


def test_the_other_kind_of_image_is_rejected(models: Path, start: StartApp) -> None:
    """The image of a row is SVG, and that of an image PNG."""
    publish_price(models)
    published(models)
    client = start()

    row = client.post("/models/price/explain", json={"size": 1}, headers={"accept": "image/png"})
    headers = {"content-type": "image/png", "accept": "image/svg+xml"}
    image = client.post("/models/ink/explain", content=drawing(), headers=headers)

    assert row.status_code == image.status_code == 400
    assert "a row of a table is image/svg+xml or JSON" in row.json()["error"]
    assert "an image is image/png or JSON" in image.json()["error"]


def test_one_overlay_of_two_images_is_rejected(models: Path, start: StartApp) -> None:
    """The response can hold one image; numbers can be requested for many."""
    published(models)
    body = {"instances": [{"image": b64encode(drawing()).decode()}] * 2}

    client = start()
    overlay = client.post("/models/ink/explain", json=body, headers={"accept": "image/png"})
    numbers = client.post("/models/ink/explain", json=body)

    assert overlay.status_code == 400
    assert "2 images were sent" in overlay.json()["error"]
    assert len(numbers.json()["predictions"]) == 2


def test_a_grid_finer_than_the_image_is_rejected(models: Path, start: StartApp) -> None:
    """Twelve pixels cannot be divided into thirteen cells."""
    published(models)

    headers = {"content-type": "image/png"}
    response = start().post("/models/ink/explain?resolution=13", content=drawing(), headers=headers)

    assert response.status_code == 400
    assert "at most 12 here" in response.json()["error"]
