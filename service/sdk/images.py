"""Images as the service accepts them: files as bytes, or pixels.

An array of the model's own size is sent as pixels, which the service uses unchanged. Other arrays
of 8 bits are sent as PNG files, which are smaller. Images of Pillow are sent as files too.
"""

import base64
import io
import os
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.sdk.arrays import COLOR, Scaled, is_array, scale_image
from service.sdk.errors import InvalidData

_TABLES = (
    *(".csv", ".tsv", ".ndjson", ".jsonl", ".parquet", ".arrow", ".feather"),
    *(".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"),
)
# PNG has these modes of Pillow; TIFF has the others, such as CMYK.
_PNG_MODES = {"1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"}
# Color types of PNG by the number of channels.
_PNG_COLORS = {1: 0, 2: 4, 3: 2, 4: 6}
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# A pixel of an array takes about as many bytes of a request's limits as so many of base64.
_BYTES_PER_PIXEL = 64

Pixels = list[Any]
"""Nested lists: rows of numbers, or rows of the channels of each pixel."""


def is_image(data: object) -> bool:
    """Return whether data is an image for itself: a path, bytes, an open file or one of Pillow."""
    return isinstance(data, str | os.PathLike | bytes | bytearray | memoryview) or (
        hasattr(data, "read") or _is_pillow(data)
    )


def to_source(image: object, spec: Mapping[str, Any]) -> bytes | Pixels:
    """Return the bytes of an image's file, or the pixels of an array.

    Args:
        image: a path, bytes, a file open in binary mode, an image of Pillow or an array.
        spec: ``image`` of the model's description, with its own size; needed for arrays.
    """
    if isinstance(image, str | os.PathLike):
        return _read_path(Path(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if _is_pillow(image):
        return _encode_pillow(image)
    if is_array(image):
        image = scale_image(image)
    if isinstance(image, Scaled):
        return _pixels_to_source(image.pixels, spec)
    if hasattr(image, "read"):
        return _read_open(image)
    raise InvalidData(
        f"A value of type {type(image).__name__} is not an image; pass a path, bytes, an open "
        "file, an image of Pillow or an array."
    )


def to_item(source: bytes | Pixels) -> dict[str, Any]:
    """Return an image as an item of a JSON request."""
    if isinstance(source, bytes):
        return {"image": base64.b64encode(source).decode()}
    return {"image": source}


def batches(
    images: Sequence[object], spec: Mapping[str, Any], *, most: int, most_bytes: int
) -> Iterator[list[dict[str, Any]]]:
    """Return images as the items of requests, opened only when they are sent."""
    batch: list[dict[str, Any]] = []
    size = 0
    for number, image in enumerate(images):
        try:
            source = to_source(image, spec)
        except InvalidData as error:
            raise InvalidData(f"Image {number}: {error}") from None
        weight = len(source) if isinstance(source, bytes) else _count(source) * _BYTES_PER_PIXEL
        if batch and (len(batch) == most or size + weight > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(to_item(source))
        size += weight
    yield batch


def _read_path(path: Path) -> bytes:
    if path.suffix.lower() in _TABLES:
        raise InvalidData(f"{path.name} is a table; use score() for it.")
    return path.read_bytes()


def _read_open(file: Any) -> bytes:  # noqa: ANN401 - an open file
    # Text is not read: its decoding fails in the middle of an image.
    content = None if isinstance(file, io.TextIOBase) else file.read()
    if not isinstance(content, bytes):
        raise InvalidData("Open the file of an image in binary mode: open(path, 'rb').")
    return content


def _is_pillow(data: object) -> bool:
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(data, pillow.Image)


def _encode_pillow(image: Any) -> bytes:  # noqa: ANN401 - of Pillow, which may not be installed
    """Return the file of an image; the service applies an orientation in its metadata."""
    file = io.BytesIO()
    image.save(file, "PNG" if image.mode in _PNG_MODES else "TIFF", exif=image.getexif())
    return file.getvalue()


def _pixels_to_source(array: Any, spec: Mapping[str, Any]) -> bytes | Pixels:  # noqa: ANN401 - of numpy
    channels = array.shape[2] if array.ndim == COLOR else 1
    own = (spec.get("height"), spec.get("width"), spec.get("channels"))
    is_own = (*array.shape[:2], channels) == own
    if is_own or array.dtype.name != "uint8" or not array.size:
        pixels: Pixels = array.tolist()
        return pixels
    return _encode_png(array, _PNG_COLORS[channels])


def _encode_png(array: Any, color: int) -> bytes:  # noqa: ANN401 - of numpy
    """Return an array of 8 bits as a PNG file."""
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 8, color, 0, 0, 0)
    # Each row begins with its filter, which is none.
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in array), 1)
    chunks = ((b"IHDR", header), (b"IDAT", content), (b"IEND", b""))
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def _count(pixels: Pixels) -> int:
    """Return the number of values in nested lists of equal lengths."""
    first = pixels[0] if pixels else None
    return len(pixels) * (_count(first) if isinstance(first, list) else 1)
