"""Hostile images over HTTP, in every protocol: they get 400, and other requests are served."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import Serve, StartApp
from tests.hostile_images import bombs, hostile_images, sparse_image
from tests.image_models import publish_mirror
from tests.images import encoded, image_input, png_chunk, png_of_size

PATH = "/models/mirror/predict"
PNG = {"content-type": "image/png"}
WHOLE = png_of_size(28, 28, bytes(29 * 28))
NO_PALETTE = (
    WHOLE[:8] + png_chunk(b"IHDR", (28).to_bytes(4, "big") * 2 + b"\x08\x03\0\0\0") + WHOLE[33:]
)
SPARSE_IMAGE = encoded(sparse_image(57, 48, 0, 0.002))


@pytest.fixture
def digits(models: Path, start: StartApp) -> httpx.Client:
    """Start a service with a model of digits."""
    publish_mirror(models, image_input(28, 28, channels=1, normalize="digit"))
    return start()


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of the models of this file."""

    def publish(models: Path) -> None:
        publish_mirror(models, image_input(4, 5))

    return serve(publish)


@pytest.mark.parametrize("content", [NO_PALETTE, SPARSE_IMAGE])
def test_every_protocol_rejects_the_same_images(digits: httpx.Client, content: bytes) -> None:
    """Files, forms, JSON, v1, v2 and explanations have the error of an image."""
    element = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text(content)]}
    responses = [
        digits.post(PATH, content=content, headers=PNG),
        digits.post(PATH, files=[("image", ("a.png", content))]),
        digits.post(PATH, json={"image": text(content)}),
        digits.post("/v1/models/mirror:predict", json={"instances": [{"b64": text(content)}]}),
        digits.post("/v2/models/mirror/infer", json={"inputs": [element]}),
        digits.post("/models/mirror/explain", content=content, headers=PNG),
    ]

    assert [response.status_code for response in responses] == [400] * 6, [
        a.text for a in responses
    ]
    assert all("foreground is found" in a.text or "no palette" in a.text for a in responses)


def test_hostile_files_cause_no_server_error(digits: httpx.Client) -> None:
    """Bombs and files of many tiny parts get a client error; one of them shows a digit."""
    for name, content in [*bombs().items(), *hostile_images(20_000).items()]:
        response = digits.post(PATH, content=content, headers=PNG)
        expected = 200 if name == "TIFF of many tag values" else 400
        assert response.status_code == expected, (name, response.text)


@pytest.mark.parametrize(
    "image",
    [
        b'"' + b"A" * 3_000_001 + b'"',
        b'"' + "é".encode() * 100_000 + b'"',
        b'"' + b"=" * 100_000 + b'"',
        b'"' + b"data:" * 100_000 + b'"',
        b"[" + b"0," * 783 + b'"' + b"a" * 1_000_000 + b'"]',
        b"[" + b"[0,0]," * 27 + b'["' + b"a" * 1_000_000 + b'", 0]]',
        b"[[1, [2]], [3, 4]]",
        b"[[1" + b"0" * 30 + b", 2.5]]",
        b"[[1" + b"0" * 400 + b", 2.5]]",
        b"[" * 900 + b"1" + b"]" * 900,
        b'{"b64":' * 900 + b'""' + b"}" * 900,
        b'{"b64": [[null]]}',
    ],
)
def test_text_and_numbers_that_are_not_images_are_rejected(
    digits: httpx.Client, image: bytes
) -> None:
    """Long texts, invalid base64, mixed and nested values get 400."""
    response = digits.post(
        PATH, content=b'{"image": %b}' % image, headers={"content-type": "application/json"}
    )

    assert response.status_code == 400, response.text
    assert len(response.text) < 1000


@pytest.mark.parametrize(
    ("levels", "sentence"), [(90, "foreground is found"), (900, "levels deep")]
)
def test_nested_data_of_version_2_is_flattened(
    digits: httpx.Client, levels: int, sentence: str
) -> None:
    """Nested lists contain one element; too many levels are an error."""
    tensor = b'{"name": "image", "datatype": "BYTES", "shape": [1], "data": %b"%b"%b}' % (
        b"[" * levels,
        text(SPARSE_IMAGE).encode(),
        b"]" * levels,
    )

    response = digits.post("/v2/models/mirror/infer", content=b'{"inputs": [%b]}' % tensor)

    assert response.status_code == 400
    assert sentence in response.text


def test_a_queue_of_large_images_does_not_delay_others(client: httpx.Client) -> None:
    """While large images wait for their thread, a photo and a small image are predicted."""
    large = encoded(Image.effect_noise((3500, 3000), 80), "PNG", compress_level=1)
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    photograph, small = encoded(noise), encoded(noise[:9, :9])

    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(client.post, PATH, content=large, headers=PNG) for _ in range(8)]
        quick = [client.post(PATH, content=content, headers=PNG) for content in (photograph, small)]
        unfinished = [one for one in waiting if not one.done()]
        responses = [one.result() for one in waiting]

    assert [response.status_code for response in (*quick, *responses)] == [200] * 10
    assert unfinished
