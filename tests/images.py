"""Image files, and image inputs of models."""

import io
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.bundle.manifest import ImageInput

Pixels = npt.NDArray[np.uint8]


def image_input(height: int, width: int, channels: int = 3, **options: Any) -> ImageInput:  # noqa: ANN401 - the class checks them
    """The image input of a model; by default images are stretched."""
    defaults = {"kind": "image", "fit": "stretch", "decoder": "test"} | options
    return ImageInput.model_validate(
        defaults | {"height": height, "width": width, "channels": channels}
    )


def encoded(pixels: Pixels | Image.Image, kind: str = "PNG", **options: Any) -> bytes:  # noqa: ANN401 - Pillow's own
    """An image as a file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photograph(height: int, width: int, seed: int = 0) -> Pixels:
    """A smooth image with four corners of different colors."""
    rng = np.random.default_rng(seed)
    y, x = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    corners = rng.uniform(0, 255, (4, 3))
    mixed = (1 - y) * ((1 - x) * corners[0] + x * corners[1]) + y * (
        (1 - x) * corners[2] + x * corners[3]
    )
    image: Pixels = np.round(mixed).astype(np.uint8)
    return image


def turned(orientation: int) -> Image.Exif:
    """EXIF metadata with an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    checksum = zlib.crc32(name + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + name + content + checksum


def png_of_size(width: int, height: int, content: bytes = b"") -> bytes:
    """A gray PNG with a size in its header that may not match its content."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(content))
        + png_chunk(b"IEND", b"")
    )
