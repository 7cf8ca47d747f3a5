"""Arrays of numpy as images: their pixels from 0 to 255, and the axis of their channels."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.sdk.errors import InvalidData

CHANNELS = (1, 2, 3, 4)
"""Gray, gray and alpha, RGB, RGB and alpha: the lengths of a last axis that is one of channels."""
MATRIX, COLOR, BATCH = 2, 3, 4
_MOST = 255
# Pixels of 8 bits that were divided by 255 are whole numbers again, but for rounding errors.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Scaled:
    """An image whose pixels are from 0 to 255, of an array of several that has one range."""

    pixels: Any


def is_array(data: object) -> bool:
    """Return whether data is an array of numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(data, numpy.ndarray)


def split_array(array: Any, spec: Mapping[str, Any]) -> list[Scaled] | None:  # noqa: ANN401 - of numpy, which may not be installed
    """Return the images of an array of several; None if it is one.

    Several are ``[images, height, width, channels]``, or ``[images, height, width]`` for a model of
    gray images, unless the last axis can be channels.

    Raises:
        InvalidData: the channels are on another axis, or the pixels are no numbers from 0 to 255.
    """
    is_batch = array.ndim == BATCH
    if array.ndim == COLOR and array.shape[2] not in CHANNELS:
        is_batch = spec.get("channels") == 1
    if not is_batch:
        return None
    if array.ndim == BATCH:
        _require_channels(array, "transpose(0, 2, 3, 1)")
    return [Scaled(pixels) for pixels in scale_pixels(array)]


def scale_image(array: Any) -> Scaled:  # noqa: ANN401 - of numpy
    """Return one image, ``[height, width]`` or with channels at the end; else `InvalidData`."""
    if array.ndim not in (MATRIX, COLOR):
        raise InvalidData(
            "An image is an array of height and width, or of height, width and channels; this "
            f"one has the shape {array.shape}."
        )
    if array.ndim == COLOR:
        _require_channels(array, "transpose(1, 2, 0)")
    return Scaled(scale_pixels(array))


def scale_pixels(array: Any) -> Any:  # noqa: ANN401 - of numpy
    """Return pixels from 0 to 255.

    Booleans become 0 and 255. Floats of at most 1 are multiplied by 255, as scikit-image and
    torchvision write images; other floats and integers are not changed.

    Raises:
        InvalidData: a value is no number, or a float is not from 0 to 255.
    """
    kind = array.dtype.kind
    if kind == "b":
        return array.astype("uint8") * _MOST
    if kind in "iu":
        return array
    if kind != "f":
        raise InvalidData(
            f"The pixels of an image are numbers; this array has the type {array.dtype}."
        )
    if not array.size:
        return array
    least, most = float(array.min()), float(array.max())
    # Both are NaN if any value is.
    if not (least >= 0 and most <= _MOST):
        got = "NaN" if least != least else f"{least if least < 0 else most:g}"  # noqa: PLR0124 - NaN
        raise InvalidData(
            f"A pixel of the array is {got}; pixels are numbers from 0 to 255, or floats from 0 "
            "to 1. An image that was normalized for a network must have its own range again."
        )
    if most > 1:
        return array
    scaled = array.astype("float64") * _MOST
    rounded = scaled.round()
    return rounded.astype("uint8") if abs(scaled - rounded).max() < _ROUNDING else scaled


def _require_channels(array: Any, move: str) -> None:  # noqa: ANN401 - of numpy
    if array.shape[-1] in CHANNELS:
        return
    first = array.shape[-COLOR]
    shape = "[height, width, channels]"
    if first in CHANNELS:
        raise InvalidData(
            f"The array has the shape {array.shape}, and the channels of an image are its last "
            f"axis, {shape}; move it with array.{move}."
        )
    raise InvalidData(
        f"The array has the shape {array.shape}, which is no image, {shape}. Several images of "
        "a model of colors are an array [images, height, width, channels], or a list."
    )
