"""Pixels in JSON that end at 1 are those of a mask, and not of an image from black to white."""

from typing import Any

import httpx
import numpy as np
import pytest

from tests.conftest import Serve
from tests.image_models import publish_mirror, seen_by
from tests.images import image_input

RULE = image_input(4, 5, channels=1)
SENTENCE = "Its pixels are between 0 and 1; multiply them by 255."
MASK = np.arange(20).reshape(4, 5, 1) % 2
DARK = MASK * 2
BLACK = MASK * 0


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """Start a service with a model that returns its input image."""
    return serve(lambda models: publish_mirror(models, RULE))


def spelled(image: np.ndarray) -> dict[str, Any]:
    """Write one image in the notations of JSON."""
    return {
        "flat": image.ravel().tolist(),
        "rows": image[:, :, 0].tolist(),
        "nested": image.tolist(),
        "with fractions": image.ravel().astype(float).tolist(),
        "larger": np.kron(image[:, :, 0], np.ones((2, 2), int)).tolist(),
    }


def requests(*images: np.ndarray) -> dict[str, tuple[str, Any]]:
    """Return the path and the body of each way to send the images."""
    found = dict[str, tuple[str, Any]]()
    for form in spelled(images[0]):
        values = [spelled(image)[form] for image in images]
        found[f"native, {form}"] = ("/models/mirror/predict", {"instances": values})
        found[f"v1, {form}"] = ("/v1/models/mirror:predict", {"instances": values})
        found[f"v1 columns, {form}"] = ("/v1/models/mirror:predict", {"inputs": values})
    shape = [len(images), 4, 5, 1]
    for form, data in (("flat", np.ravel(images)), ("nested", np.stack(images))):
        tensor = {"name": "image", "shape": shape, "datatype": "UINT8", "data": data.tolist()}
        found[f"v2, {form}"] = ("/v2/models/mirror/infer", {"inputs": [tensor]})
    if len(images) == 1:
        for form, value in spelled(images[0]).items():
            found[f"native, one, {form}"] = ("/models/mirror/predict", {"image": value})
    return found


@pytest.mark.parametrize("name", requests(MASK))
def test_a_mask_is_rejected_in_every_protocol(client: httpx.Client, name: str) -> None:
    """Each notation has the sentence of fractions between 0 and 1."""
    path, body = requests(MASK)[name]

    response = client.post(path, json=body)

    assert response.status_code == 400, response.text
    assert SENTENCE in response.json()["error"]


@pytest.mark.parametrize("name", requests(DARK, MASK))
def test_a_mask_among_other_images_is_named(client: httpx.Client, name: str) -> None:
    """The largest pixel counts of each image, not of the request."""
    path, body = requests(DARK, MASK)[name]

    response = client.post(path, json=body)

    assert response.status_code == 400, response.text
    assert SENTENCE in response.json()["error"]
    assert "1" in response.json()["error"].partition(SENTENCE)[0]


@pytest.mark.parametrize("image", [DARK, BLACK], ids=["largest is 2", "all 0"])
@pytest.mark.parametrize("form", ["flat", "rows", "nested", "with fractions"])
def test_other_dark_images_are_predicted(
    client: httpx.Client, form: str, image: np.ndarray
) -> None:
    """A largest pixel of 2 is that of a very dark image, and black has no scale."""
    response = client.post("/models/mirror/predict", json={"image": spelled(image)[form]})

    assert response.status_code == 200, response.text
    assert np.array_equal(seen_by(response.json(), RULE), image)
