"""A picture of any mode as 8-bit grey or colour, reduced on the way without a second whole copy."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.imaging.decode import Decoded, decoder_errors

Plain = Literal["L", "RGB"]

_STRIP_PIXELS = 1 << 18
_SIXTEEN_BITS = 65535.0
_EIGHT_BITS = 255.0


def flattened(
    picture: Decoded, mode: Plain, background: int, factor: tuple[int, int]
) -> Image.Image:
    """The picture in ``mode``, each ``factor`` block of (columns, rows) averaged into one pixel.

    Transparent places show ``background``. Sixteen bits of grey are all of their range, whatever
    part of it is used; 32 bits and floating point are taken as 0 to 1, 0 to 255 or 0 to 65,535
    where they lie within, and else from their least to their greatest value.

    Raises:
        PictureRefused: its palette or transparency is broken.
    """
    image = picture.image
    if image.mode == mode and factor == (1, 1) and "transparency" not in image.info:
        return picture.part((0, 0, *picture.size))
    limits = _limits(picture) if _is_wide(image) else None
    width, height = picture.size
    columns, rows = factor
    result = Image.new(mode, (-(-width // columns), -(-height // rows)))
    for top, strip in _strips(picture, rows):
        with decoder_errors(picture.kind):
            if limits is None:
                plain = _plain(strip, mode, background)
            else:
                plain = _narrowed(strip, limits, background).convert(mode)
            result.paste(plain.reduce(factor), (0, top // rows))
    return result


def has_transparency(picture: Decoded) -> bool:
    """Whether some places may show what lies behind the picture."""
    return picture.image.has_transparency_data or "transparency" in picture.image.info


def _strips(picture: Decoded, multiple: int) -> Iterator[tuple[int, Image.Image]]:
    """The picture from top to bottom, some 100,000 pixels at a time; rows in whole multiples."""
    width, height = picture.size
    rows = max(_STRIP_PIXELS // width // multiple, 1) * multiple
    for top in range(0, height, rows):
        yield top, picture.part((0, top, width, min(height, top + rows)))


def _plain(image: Image.Image, mode: Plain, background: int) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGB", image.size, (background,) * 3)
        behind.paste(image.convert("RGB"), mask=image.getchannel("A"))
        image = behind
    elif image.mode not in {"1", "L"}:
        image = image.convert("RGB")
    return image.convert(mode)


def _is_wide(image: Image.Image) -> bool:
    return image.mode in {"I", "F"} or image.mode.startswith("I;16")


def _limits(picture: Decoded) -> tuple[float, float]:
    """The values that become black and white."""
    image = picture.image
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        return 0.0, _SIXTEEN_BITS
    ends = [_finite_ends(np.asarray(strip)) for _, strip in _strips(picture, 1)]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    whole = (1.0, _EIGHT_BITS) if image.mode == "F" else (_EIGHT_BITS, _SIXTEEN_BITS)
    for white in whole:
        if low >= 0 and high <= white:
            return 0.0, white
    return low, high


def _finite_ends(values: npt.NDArray[np.generic]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _narrowed(image: Image.Image, limits: tuple[float, float], background: int) -> Image.Image:
    """A strip of wide grey in eight bits."""
    low, high = limits
    values = np.asarray(image).astype(np.float64)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low or 1.0)
    narrow = np.floor(np.clip(scaled, 0, 1) * _EIGHT_BITS + 0.5).astype(np.uint8)
    see_through = image.info.get("transparency")
    if isinstance(see_through, int):
        narrow[values == see_through] = background
    return Image.fromarray(narrow)
