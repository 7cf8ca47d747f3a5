"""A folder of odd and broken images over HTTP: read rightly, or refused with a sentence."""

from itertools import cycle
from pathlib import Path

import numpy as np

from tests.conftest import StartApp
from tests.image_models import publish_mirror, seen_by
from tests.images import image_input
from tests.odd_images import broken_images, odd_images, spoilt_images

RULE = image_input(4, 4)
PATH = "/models/mirror/predict"
# What a file is called must not matter.
CALLED = ("image/jpeg", "image/png", "image/x-unknown", "application/octet-stream")


def test_three_hundred_odd_images_are_read_upright(models: Path, start: StartApp) -> None:
    """Whatever format, mode, size and orientation, each quarter has the colour that it shows."""
    publish_mirror(models, RULE)
    client = start()
    images = odd_images()

    wrong = []
    for one, called in zip(images, cycle(CALLED)):
        answer = client.post(PATH, content=one.content, headers={"content-type": called})
        assert answer.status_code == 200, (one.name, answer.text)
        corners = seen_by(answer.json(), RULE)[[0, 0, -1, -1], [0, -1, 0, -1]].reshape(2, 2, 3)
        if np.abs(corners.astype(int) - one.quarters).max() > one.tolerance:
            wrong.append((one.name, corners.tolist()))

    assert len(images) >= 300
    assert wrong == []


def test_broken_images_get_a_sentence(models: Path, start: StartApp) -> None:
    """What is cut short, promises too much, or is no image is refused by a sentence."""
    publish_mirror(models, RULE)
    client = start()

    for (name, content), called in zip(broken_images(), cycle(CALLED)):
        answer = client.post(PATH, content=content, headers={"content-type": called})
        assert answer.status_code == 400, (name, answer.text)
        assert answer.json()["code"] == "invalid_input"
        assert answer.json()["error"].startswith(("This ", "The file is empty")), name


def test_spoilt_images_do_no_harm(models: Path, start: StartApp) -> None:
    """Files with changed bytes are read or refused, and the service goes on."""
    publish_mirror(models, RULE)
    client = start()

    statuses = {
        client.post(PATH, content=content, headers={"content-type": "image/*"}).status_code
        for content in spoilt_images()
    }

    assert statuses <= {200, 400}
    assert client.get("/health/ready").status_code == 200
