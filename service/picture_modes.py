"""A picture of any mode as 8-bit grey or colour, reduced on the way without a second whole copy."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Plain = Literal["L", "RGB"]

_STRIP_PIXELS = 1 << 20
_SIXTEEN_BITS = 65535.0
_EIGHT_BITS = 255.0


def flattened(
    image: Image.Image, mode: Plain, background: int, factor: tuple[int, int]
) -> Image.Image:
    """The picture in ``mode``, each ``factor`` block of (columns, rows) averaged into one pixel.

    Transparent places show ``background``. Sixteen bits of grey are all of their range, whatever
    part of it is used; 32 bits and floating point are taken as 0 to 1, 0 to 255 or 0 to 65,535
    where they lie within, and else from their least to their greatest value.
    """
    if image.mode == mode and factor == (1, 1) and "transparency" not in image.info:
        return image
    limits = _limits(image) if _is_wide(image) else None
    width, height = image.size
    columns, rows = factor
    result = Image.new(mode, (-(-width // columns), -(-height // rows)))
    for top, strip in _strips(image, rows):
        if limits is None:
            plain = _plain(strip, mode, background)
        else:
            plain = _narrowed(strip, limits, background).convert(mode)
        result.paste(plain.reduce(factor), (0, top // rows))
    return result


def has_transparency(image: Image.Image) -> bool:
    """Whether some places may show what lies behind the picture."""
    return image.has_transparency_data or "transparency" in image.info


def _strips(image: Image.Image, multiple: int) -> Iterator[tuple[int, Image.Image]]:
    """The picture from top to bottom, some million pixels at a time; rows in whole multiples."""
    width, height = image.size
    rows = max(_STRIP_PIXELS // width // multiple, 1) * multiple
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(height, top + rows)))


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


def _limits(image: Image.Image) -> tuple[float, float]:
    """The values that become black and white."""
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        return 0.0, _SIXTEEN_BITS
    ends = [_finite_ends(np.asarray(strip)) for _, strip in _strips(image, 1)]
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
