"""Training and the service decode the same pixels."""

import base64
from pathlib import Path

import numpy as np
import pytest

from service.bundle.manifest import ImageInput
from tests.conftest import StartApp
from tests.image_models import pixels_of, publish_mirror
from tests.images import image_input
from tests.odd_images import odd_images
from training.images.folder import read_folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes of odd images."""
    folder = tmp_path_factory.mktemp("images")
    for number, one in enumerate(odd_images()):
        home = folder / ("even", "odd")[number % 2]
        home.mkdir(exist_ok=True)
        (home / f"{number:03}.image").write_bytes(one.content)
    return folder


@pytest.mark.parametrize(
    "rule",
    [
        image_input(9, 12, fit="crop"),
        image_input(12, 9, channels=1, fit="pad", background=0),
        image_input(14, 14, channels=1, normalize="digit"),
    ],
)
def test_training_and_service_decode_images_to_the_same_pixels(
    rule: ImageInput, images: Path, models: Path, start: StartApp
) -> None:
    """Three hundred images of a folder, bit by bit."""
    publish_mirror(models, rule)
    client = start()

    parts = read_folder(images, [], rule)

    rejected = {Path(one.file).name for one in parts.skipped}
    files = [p for p in sorted(images.rglob("*.image")) if p.name not in rejected]
    trained = parts.training.pixels(slice(None))
    assert len(files) == len(trained)
    for path, pixels in zip(files, trained, strict=True):
        content = path.read_bytes()
        plain = client.post(
            "/models/mirror/predict", content=content, headers={"content-type": "image/*"}
        ).json()["probabilities"]
        text = base64.b64encode(content).decode()
        tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}
        infer = client.post("/v2/models/mirror/infer", json={"inputs": [tensor]})
        assert np.array_equal(pixels_of(list(plain.values()), rule), pixels), path.name
        assert np.array_equal(pixels_of(infer.json()["outputs"][0]["data"], rule), pixels)
    assert len(files) >= (100 if rule.normalize == "digit" else 300)
