"""Hostile images over HTTP, in every protocol: 400 with a sentence, and others are answered."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import StartApp
from tests.hostile_images import bombs, dots, hostile_images
from tests.image_models import publish_mirror
from tests.images import encoded, image_input, png_chunk, png_of_size

PATH = "/models/mirror/predict"
PNG = {"content-type": "image/png"}
WHOLE = png_of_size(28, 28, bytes(29 * 28))
NO_PALETTE = (
    WHOLE[:8] + png_chunk(b"IHDR", (28).to_bytes(4, "big") * 2 + b"\x08\x03\0\0\0") + WHOLE[33:]
)
DOTS = encoded(dots(57, 48, 0, 0.002))


@pytest.fixture
def digits(models: Path, start: StartApp) -> httpx.Client:
    """A client of a service with a model of digits."""
    publish_mirror(models, image_input(28, 28, channels=1, normalize="digit"))
    return start()


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize("content", [NO_PALETTE, DOTS])
def test_every_protocol_refuses_the_same_images(digits: httpx.Client, content: bytes) -> None:
    """A file, a form, JSON, v1, v2 and explanations say what is wrong with an image."""
    element = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text(content)]}
    answers = [
        digits.post(PATH, content=content, headers=PNG),
        digits.post(PATH, files=[("image", ("a.png", content))]),
        digits.post(PATH, json={"image": text(content)}),
        digits.post("/v1/models/mirror:predict", json={"instances": [{"b64": text(content)}]}),
        digits.post("/v2/models/mirror/infer", json={"inputs": [element]}),
        digits.post("/models/mirror/explain", content=content, headers=PNG),
    ]

    assert [answer.status_code for answer in answers] == [400] * 6, [a.text for a in answers]
    assert all("foreground is found" in a.text or "no palette" in a.text for a in answers)


def test_hostile_files_are_answered_or_refused(digits: httpx.Client) -> None:
    """No bomb and no file of tiny parts is a fault of the service."""
    for name, content in [*bombs().items(), *hostile_images(20_000).items()]:
        answer = digits.post(PATH, content=content, headers=PNG)
        assert answer.status_code in {200, 400}, (name, answer.text)


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
def test_text_and_numbers_that_are_no_image_are_refused(digits: httpx.Client, image: bytes) -> None:
    """Long texts, wrong alphabets, mixed and nested values get 400, whatever their length."""
    answer = digits.post(
        PATH, content=b'{"image": %b}' % image, headers={"content-type": "application/json"}
    )

    assert answer.status_code == 400, answer.text
    assert len(answer.text) < 1000


@pytest.mark.parametrize(
    ("levels", "sentence"), [(90, "foreground is found"), (900, "levels deep")]
)
def test_nested_data_of_version_2_is_no_fault(
    digits: httpx.Client, levels: int, sentence: str
) -> None:
    """Lists within lists hold one element; too many levels are told."""
    tensor = b'{"name": "image", "datatype": "BYTES", "shape": [1], "data": %b"%b"%b}' % (
        b"[" * levels,
        text(DOTS).encode(),
        b"]" * levels,
    )

    answer = digits.post("/v2/models/mirror/infer", content=b'{"inputs": [%b]}' % tensor)

    assert answer.status_code == 400
    assert sentence in answer.text


def test_a_queue_of_large_images_does_not_hold_up_others(models: Path, start: StartApp) -> None:
    """While large images wait for their one thread, a photograph and a small one are answered."""
    publish_mirror(models, image_input(4, 5))
    client = start()
    large = encoded(Image.effect_noise((3500, 3000), 80), "PNG", compress_level=1)
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)
    photograph, small = encoded(noise), encoded(noise[:9, :9])

    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(client.post, PATH, content=large, headers=PNG) for _ in range(8)]
        quick = [client.post(PATH, content=content, headers=PNG) for content in (photograph, small)]
        unfinished = [one for one in waiting if not one.done()]
        answers = [one.result() for one in waiting]

    assert [answer.status_code for answer in (*quick, *answers)] == [200] * 10
    assert unfinished
