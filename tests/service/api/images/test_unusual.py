"""Unusual and broken images over HTTP: decoded correctly, or rejected with an error."""

from itertools import cycle
from pathlib import Path

import numpy as np

from tests.conftest import StartApp
from tests.image_models import publish_mirror, seen_by
from tests.images import image_input
from tests.odd_images import broken_images, corrupted_images, odd_images

RULE = image_input(4, 4)
PATH = "/models/mirror/predict"
# Media types, which must not affect the result.
CALLED = ("image/jpeg", "image/png", "image/x-unknown", "application/octet-stream")


def test_three_hundred_unusual_images_are_decoded_upright(models: Path, start: StartApp) -> None:
    """For each format, mode, size and orientation, each quarter has its visible color."""
    publish_mirror(models, RULE)
    client = start()
    images = odd_images()

    wrong = []
    for one, called in zip(images, cycle(CALLED)):
        response = client.post(PATH, content=one.content, headers={"content-type": called})
        assert response.status_code == 200, (one.name, response.text)
        corners = seen_by(response.json(), RULE)[[0, 0, -1, -1], [0, -1, 0, -1]].reshape(2, 2, 3)
        if np.abs(corners.astype(int) - one.quarters).max() > one.tolerance:
            wrong.append((one.name, corners.tolist()))

    assert len(images) >= 300
    assert wrong == []


def test_broken_images_are_rejected_with_an_error(models: Path, start: StartApp) -> None:
    """They are truncated, declare too large a size, or are not images."""
    publish_mirror(models, RULE)
    client = start()

    for (name, content), called in zip(broken_images(), cycle(CALLED)):
        response = client.post(PATH, content=content, headers={"content-type": called})
        assert response.status_code == 400, (name, response.text)
        assert response.json()["code"] == "invalid_input"
        assert response.json()["error"].startswith(("This ", "The file is empty")), name


def test_images_with_changed_bytes_cause_no_server_error(models: Path, start: StartApp) -> None:
    """They are decoded or rejected, and the service continues."""
    publish_mirror(models, RULE)
    client = start()

    statuses = {
        client.post(PATH, content=content, headers={"content-type": "image/*"}).status_code
        for content in corrupted_images()
    }

    assert statuses <= {200, 400}
    assert client.get("/health/ready").status_code == 200
