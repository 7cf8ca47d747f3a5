"""Fuzz targets for pictures and forms, and the files to start from.

A target fails by any exception but a refusal.
``python -m bench.fuzz_pictures FOLDER`` writes the corpus: a file of each format, mode and fault.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import orjson

from service.api.native.forms import read_files
from service.codecs.image_sources import read_source
from service.errors import OnwardError
from service.imaging.preprocess import PictureRefused, read_picture
from tests.hostile_pictures import bombs, hostile_pictures
from tests.odd_pictures import broken_pictures, odd_pictures
from tests.pictures import image_input

_COLOUR = image_input(12, 16, fit="crop")
_DIGIT = image_input(28, 28, channels=1, normalize="digit")
_MAX_PARTS = 100


def picture(data: bytes) -> None:
    """A picture file, for a model of colour."""
    with suppress(PictureRefused):
        read_picture(data, _COLOUR)


def digit(data: bytes) -> None:
    """A picture file, for a model of digits."""
    with suppress(PictureRefused):
        read_picture(data, _DIGIT)


def form(data: bytes) -> None:
    """A multipart form; its first line is the Content-Type's parameters."""
    parameters, _, body = data.partition(b"\n")
    with suppress(OnwardError):
        read_files(body, "multipart/form-data;" + parameters.decode("latin-1"), _require_parts)


def picture_json(data: bytes) -> None:
    """A picture in JSON: base64, a data URL, or pixels."""
    with suppress(PictureRefused, orjson.JSONDecodeError):
        read_source(orjson.loads(data))


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "picture": picture,
    "digit": digit,
    "form": form,
    "picture_json": picture_json,
}


def _require_parts(count: int) -> None:
    if count > _MAX_PARTS:
        raise OnwardError


def main() -> None:
    """Write the corpus into the folder that the command names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    contents = [one.content for one in odd_pictures()]
    contents += [content for _, content in broken_pictures()]
    contents += [*bombs().values(), *hostile_pictures(2_000).values()]
    for content in contents:
        (folder / sha256(content).hexdigest()[:16]).write_bytes(content)


if __name__ == "__main__":
    main()
