"""Real image files of any kind, and the rules that models may have for them."""

import io
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.bundle.manifest import ImageInput

Pixels = npt.NDArray[np.uint8]


def image_input(height: int, width: int, channels: int = 3, **options: Any) -> ImageInput:  # noqa: ANN401 - the class checks them
    """A model's rule; images are stretched unless it says otherwise."""
    stated = {"kind": "image", "fit": "stretch", "decoder": "the tests' own"} | options
    return ImageInput.model_validate(
        stated | {"height": height, "width": width, "channels": channels}
    )


def encoded(pixels: Pixels | Image.Image, kind: str = "PNG", **options: Any) -> bytes:  # noqa: ANN401 - Pillow's own
    """An image as a file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photograph(height: int, width: int, seed: int = 0) -> Pixels:
    """A smooth image in colour whose four corners differ."""
    rng = np.random.default_rng(seed)
    y, x = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    corners = rng.uniform(0, 255, (4, 3))
    mixed = (1 - y) * ((1 - x) * corners[0] + x * corners[1]) + y * (
        (1 - x) * corners[2] + x * corners[3]
    )
    image: Pixels = np.round(mixed).astype(np.uint8)
    return image


def turned(orientation: int) -> Image.Exif:
    """EXIF that says how an image is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    checksum = zlib.crc32(name + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + name + content + checksum


def png_of_size(width: int, height: int, content: bytes = b"") -> bytes:
    """A grey PNG whose header promises a size, whatever its packed content holds."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(content))
        + png_chunk(b"IEND", b"")
    )
