"""Images in the Open Inference Protocol: pixels, or image files as BYTES."""

import base64
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from service.imaging.preprocess import read_image
from tests.conftest import Serve
from tests.image_models import pixels_of, publish_mirror
from tests.images import encoded, image_input, photograph

RULE = image_input(4, 5)
PHOTO = encoded(photograph(40, 60), "JPEG")
OTHER = encoded(photograph(30, 20, seed=1))
SEEN = [read_image(PHOTO, RULE), read_image(OTHER, RULE)]
PATH = "/v2/models/mirror/infer"


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """Start a service with a model that returns its input image."""
    return serve(lambda models: publish_mirror(models, RULE))


def request_of(shape: list[int], datatype: str, data: object) -> dict[str, Any]:
    """Return a request with one tensor."""
    return {"inputs": [{"name": "image", "shape": shape, "datatype": datatype, "data": data}]}


def returned_images(response: httpx.Response) -> list[Any]:
    """Return the pixels of each image in a response."""
    assert response.status_code == 200, response.text
    (output,) = response.json()["outputs"]
    rows = np.array(output["data"]).reshape(output["shape"])
    return [pixels_of(row, RULE) for row in rows]


def test_metadata_and_configuration_have_the_pixels_of_the_graph(client: httpx.Client) -> None:
    """The tensor is UINT8, batch, height, width, channels."""
    about = client.get("/v2/models/mirror").json()
    config = client.get("/v2/models/mirror/config").json()

    assert about["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 4, 5, 3]}]
    assert config["input"] == [
        {"name": "image", "data_type": "TYPE_UINT8", "dims": [4, 5, 3], "format": "FORMAT_NHWC"}
    ]


def test_pixels_and_files_get_the_same_predictions(client: httpx.Client) -> None:
    """UINT8 pixels and BYTES of base64 text are the same images."""
    text = [base64.b64encode(content).decode() for content in (PHOTO, OTHER)]

    pixels = client.post(PATH, json=request_of([2, 4, 5, 3], "UINT8", np.array(SEEN).tolist()))
    files = client.post(PATH, json=request_of([2], "BYTES", text))
    column = client.post(PATH, json=request_of([2, 1], "BYTES", [[one] for one in text]))

    assert np.array_equal(returned_images(pixels), SEEN)
    assert np.array_equal(returned_images(files), SEEN)
    assert np.array_equal(returned_images(column), SEEN)


def test_tritons_client_sends_files_and_pixels(client: httpx.Client) -> None:
    """BYTES elements may be files, and tensors may be numpy's pixels."""
    address = str(client.base_url).removeprefix("http://").rstrip("/")
    remote = triton.InferenceServerClient(address)
    for values, datatype in (
        (np.array([PHOTO, OTHER], np.object_), "BYTES"),
        (np.array(SEEN), "UINT8"),
    ):
        tensor = triton.InferInput("image", values.shape, datatype)
        tensor.set_data_from_numpy(values)
        rows = remote.infer("mirror", [tensor]).as_numpy("probabilities")
        assert np.array_equal([pixels_of(row, RULE) for row in rows], SEEN)
    remote.close()


def test_a_raw_body_is_one_image(client: httpx.Client) -> None:
    """With a header of 0, the whole body is a file, or the pixels of the graph's input."""
    headers = {"inference-header-content-length": "0"}

    for content in (PHOTO, SEEN[0].tobytes()):
        response = client.post(PATH, content=content, headers=headers)
        assert response.status_code == 200, response.text
        length = int(response.headers["inference-header-content-length"])
        row = np.frombuffer(response.content[length:], np.float32)
        assert np.array_equal(pixels_of(row, RULE), SEEN[0])


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (request_of([1], "BYTES", ["JVBERi0xLjQ="]), "Element 0: This is a PDF document"),
        (request_of([1], "BYTES", ["%%"]), "Element 0: Its text is not base64"),
        (request_of([2], "BYTES", ["JVBERi0xLjQ="]), "its shape holds 2 images, got 1"),
        (request_of([0], "BYTES", []), "BYTES are files of images, so send [how many]"),
        (request_of([1, 3], "BYTES", ["", "", ""]), "so send [how many]"),
        (
            request_of([1, 4, 5, 3], "FP32", [0.0] * 60),
            'has datatype "FP32"; the model expects UINT8',
        ),
        (request_of([1, 4, 5], "UINT8", [0] * 20), "the model expects [-1, 4, 5, 3]"),
    ],
)
def test_tensors_that_are_not_images_are_rejected(
    client: httpx.Client, request_: dict[str, Any], said: str
) -> None:
    """Unexpected types, shapes and files get an error with the expected ones."""
    response = client.post(PATH, json=request_)

    assert response.status_code == 400, response.text
    assert said in response.json()["error"]
