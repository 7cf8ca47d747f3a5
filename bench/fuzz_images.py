"""Fuzz targets of `bench.fuzz` for images and forms, and their initial inputs.

``python -m bench.fuzz_images FOLDER`` writes a file for each format, mode and error.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import orjson

from service.api.native.forms import read_files
from service.codecs.images import read_source
from service.errors import OnwardError
from service.imaging.limits import InvalidImage
from service.imaging.preprocess import read_image
from tests.hostile_images import bombs, hostile_images
from tests.images import image_input
from tests.odd_images import broken_images, odd_images

_COLOR = image_input(12, 16, fit="crop")
_DIGIT = image_input(28, 28, channels=1, normalize="digit")
_MAX_PARTS = 100


def image(data: bytes) -> None:
    """An image file for a model with color images."""
    with suppress(InvalidImage):
        read_image(data, _COLOR)


def digit(data: bytes) -> None:
    """An image file for a model of digits."""
    with suppress(InvalidImage):
        read_image(data, _DIGIT)


def form(data: bytes) -> None:
    """A multipart form; the first line contains the parameters of the Content-Type."""
    parameters, _, body = data.partition(b"\n")
    with suppress(OnwardError):
        read_files(body, "multipart/form-data;" + parameters.decode("latin-1"), _require_parts)


def image_json(data: bytes) -> None:
    """An image in JSON: base64, a data URL, or pixels."""
    with suppress(InvalidImage, orjson.JSONDecodeError):
        read_source(orjson.loads(data))


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "image": image,
    "digit": digit,
    "form": form,
    "image_json": image_json,
}


def _require_parts(count: int) -> None:
    if count > _MAX_PARTS:
        raise OnwardError


def main() -> None:
    """Write the initial inputs into the folder that is the first argument."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    contents = [image.content for image in odd_images()]
    contents += [content for _, content in broken_images()]
    contents += [*bombs().values(), *hostile_images(2_000).values()]
    for content in contents:
        (folder / sha256(content).hexdigest()[:16]).write_bytes(content)


if __name__ == "__main__":
    main()
