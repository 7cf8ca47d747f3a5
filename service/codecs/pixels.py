"""Pixels as numbers in JSON."""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.codecs.json_reader import Numbers
from service.imaging.preprocess import PictureRefused
from service.values import shown

Pixels = npt.NDArray[np.uint8]

_WHITE = 255
_NUMBERS = {int, float}


def read_pixels(data: Sequence[Any]) -> Pixels:
    """An array of nested lists, in the shape of their nesting.

    Raises:
        PictureRefused: they are ragged, or hold other than numbers from 0 to 255.
    """
    if not data:
        raise PictureRefused("It holds no pixels; send numbers from 0 to 255, row by row.")
    pixels = flat_pixels(data)
    return _checked(_numbers(data)) if pixels is None else pixels


def flat_pixels(data: Sequence[Any]) -> Pixels | None:
    """A flat list of whole numbers from 0 to 255, however written; None where it is not."""
    try:
        if type(data[0]) is int:
            return np.frombuffer(bytes(data), np.uint8)
        if type(data[0]) is not float:
            return None  # a list of booleans would pass for one of numbers
        # In 64 bits, for 32 round what is a little beyond an end to that end.
        numbers = np.frombuffer(struct.pack(f"{len(data)}d", *data))
    except (TypeError, ValueError, OverflowError, struct.error):
        return None
    return whole_pixels(numbers)


def whole_pixels(numbers: Numbers) -> Pixels | None:
    """Whole numbers from 0 to 255 as such; None where one is anything else."""
    if not (numbers.min() >= 0 and numbers.max() <= _WHITE):
        return None
    pixels = numbers.astype(np.uint8)
    return pixels if np.count_nonzero(pixels == numbers) == numbers.size else None


def _numbers(data: Sequence[Any]) -> npt.NDArray[np.float64]:
    # As objects first: next to a long text, numpy would give every number as much room.
    values = np.array(data, np.object_)
    kinds = set(map(type, values.ravel().tolist()))
    if list in kinds:
        raise PictureRefused(
            "Its pixels are ragged; send rows of the same length, or the picture's file in base64."
        )
    if kinds - _NUMBERS:
        odd = next(value for value in values.ravel() if type(value) not in _NUMBERS)
        raise PictureRefused(f"A pixel is {shown(odd)}; pixels are numbers from 0 to {_WHITE}.")
    try:
        return values.astype(np.float64)
    except OverflowError:
        raise PictureRefused(
            f"A pixel is too large; pixels are numbers from 0 to {_WHITE}."
        ) from None


def _checked(numbers: npt.NDArray[np.float64]) -> Pixels:
    if not numbers.size:
        raise PictureRefused("It holds no pixels; send numbers from 0 to 255, row by row.")
    low, high = float(numbers.min()), float(numbers.max())
    if not (low >= 0 and high <= _WHITE):
        odd = high if low >= 0 else low
        raise PictureRefused(f"A pixel is {odd:g}; pixels are numbers from 0 to {_WHITE}.")
    rounded = np.rint(numbers)
    if high <= 1 and (rounded != numbers).any():
        raise PictureRefused(
            f"Its pixels lie between 0 and 1; send them from 0 to {_WHITE}, as files have them."
        )
    pixels: Pixels = rounded.astype(np.uint8)
    return pixels
