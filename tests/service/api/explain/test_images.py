"""Why an image was answered as it was: numbers, or an image of them."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import StartApp
from tests.explained import publish_ink
from tests.models import publish_price

SIDE = 12
CORNER = (slice(0, 4), slice(8, 12))


def published(models: Path) -> None:
    """Publish a model that looks at one corner."""
    weights = np.zeros((SIDE, SIDE))
    weights[CORNER] = 0.5
    publish_ink(models, weights)


def drawing() -> bytes:
    """A file with ink in the corner that counts, and as much in the opposite one."""
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[CORNER] = 255
    pixels[8:12, 0:4] = 255
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def test_the_drops_are_where_the_model_looks(models: Path, start: StartApp) -> None:
    """One image as its file; the answer is a prediction's."""
    published(models)
    client = start()
    headers = {"content-type": "image/png"}

    path = "/models/ink/explain?resolution=3"
    answer = client.post(path, content=drawing(), headers=headers).json()
    predicted = client.post("/models/ink/predict", content=drawing(), headers=headers).json()

    told = answer["explanation"]
    drops = np.array(told["drops"])
    assert answer["method"] == "occlusion"
    assert answer["label"] == predicted["label"] == "much"
    assert told["of"] == "probability of 'much'"
    assert told["score"] == pytest.approx(predicted["probability"])
    assert drops.shape == (3, 3)
    assert divmod(int(drops.argmax()), 3) == (0, 2)
    assert drops[2, 0] == pytest.approx(0, abs=1e-6)


def test_asked_for_an_image_the_answer_is_one(models: Path, start: StartApp) -> None:
    """Red where the model looks, grey elsewhere."""
    published(models)
    headers = {"content-type": "image/png", "accept": "image/png"}

    answer = start().post("/models/ink/explain", content=drawing(), headers=headers)

    assert answer.headers["content-type"] == "image/png"
    pixels = np.asarray(Image.open(BytesIO(answer.content))).astype(int)
    height, width, _ = pixels.shape
    red, green, _ = pixels[height // 6, -width // 6]
    assert red > green + 50
    assert len(set(pixels[-height // 6, width // 6].tolist())) == 1


def test_a_table_has_no_image(models: Path, start: StartApp) -> None:
    """Its reasons are numbers."""
    publish_price(models)

    headers = {"accept": "image/png"}
    answer = start().post("/models/price/explain", json={"size": 1}, headers=headers)

    assert answer.status_code == 400
    assert "are numbers" in answer.json()["error"]


def test_a_grid_finer_than_the_image_is_refused(models: Path, start: StartApp) -> None:
    """Twelve pixels have no thirteen cells."""
    published(models)

    headers = {"content-type": "image/png"}
    answer = start().post("/models/ink/explain?resolution=13", content=drawing(), headers=headers)

    assert answer.status_code == 400
    assert "at most 12 here" in answer.json()["error"]
