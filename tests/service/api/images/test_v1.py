"""Images in v1, the protocol of TensorFlow Serving and KServe."""

import base64

import httpx
import numpy as np
import pytest

from service.imaging.preprocess import read_image
from tests.conftest import Serve
from tests.image_models import pixels_of, publish_mirror
from tests.images import encoded, image_input, photograph

RULE = image_input(4, 5)
PHOTO = encoded(photograph(40, 60), "JPEG")
SEEN = read_image(PHOTO, RULE)
CODED = {"b64": base64.b64encode(PHOTO).decode()}


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """Start a service with a model that returns its input image."""
    return serve(lambda models: publish_mirror(models, RULE))


@pytest.mark.parametrize(
    "instance", [CODED, {"image": CODED}, {"image": CODED["b64"]}, CODED["b64"], SEEN.tolist()]
)
def test_instances_are_images_in_base64_or_pixels(client: httpx.Client, instance: object) -> None:
    """Each instance gets a row of the graph's output."""
    response = client.post("/v1/models/mirror:predict", json={"instances": [instance] * 2})

    rows = response.json()["predictions"]
    assert np.array_equal([pixels_of(row, RULE) for row in rows], [SEEN, SEEN])


def test_flat_pixels_in_a_long_body_are_images(client: httpx.Client) -> None:
    """A body of only numbers is read without a Python object for each of them."""
    instances = [SEEN.ravel().tolist()] * 2

    response = client.post("/v1/models/mirror:predict", json={"instances": instances})

    assert len(response.request.content) > 256
    rows = response.json()["predictions"]
    assert np.array_equal([pixels_of(row, RULE) for row in rows], [SEEN, SEEN])


def test_inputs_are_a_column_of_images(client: httpx.Client) -> None:
    """Columns have the same images, bare or under the input's name."""
    for inputs in ([CODED, SEEN.tolist()], {"image": [CODED, SEEN.tolist()]}):
        response = client.post("/v1/models/mirror:predict", json={"inputs": inputs})
        rows = response.json()["outputs"]
        assert np.array_equal([pixels_of(row, RULE) for row in rows], [SEEN, SEEN])


def test_images_are_classified(client: httpx.Client) -> None:
    """The examples of `:classify` may be images too."""
    response = client.post("/v1/models/mirror:classify", json={"examples": [{"image": CODED}]})

    (pairs,) = response.json()["results"]
    assert [label for label, _ in pairs] == [str(index) for index in range(60)]
    assert np.array_equal(pixels_of([share for _, share in pairs], RULE), SEEN)


def test_an_invalid_instance_is_reported(client: httpx.Client) -> None:
    """The error has the position of the instance, and its value."""
    broken = {"b64": base64.b64encode(b"%PDF-1.4").decode()}

    response = client.post("/v1/models/mirror:predict", json={"instances": [CODED, broken]})
    column = client.post("/v1/models/mirror:predict", json={"inputs": "x"})

    assert response.status_code == column.status_code == 400
    assert response.json()["error"].startswith("Instance 1: This is a PDF document")
    assert column.json()["error"].startswith("'inputs' must be a list of images")


@pytest.mark.parametrize("verb", ["predict", "classify"])
def test_a_body_that_is_not_json_gets_an_example(client: httpx.Client, verb: str) -> None:
    """The example has an image in base64."""
    response = client.post(f"/v1/models/mirror:{verb}", content=PHOTO)

    assert response.status_code == 400
    assert "not JSON" in response.json()["error"]
    assert '{"b64":"the image\'s file in base64"}' in response.json()["error"]
