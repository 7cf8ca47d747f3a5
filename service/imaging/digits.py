"""A digit scaled and centred as MNIST's makers did (LeCun and others, 1998).

Whatever its polarity, thickness and place, it becomes light on dark, its bounding box twenty
pixels and its centre of mass the middle of twenty-eight.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.imaging.segmentation import Grey, Mask, Plane, extent, find_foreground, highest

# MNIST's own numbers: the box is 20 of 28 pixels.
_BOX_SHARE = 20 / 28
# Fainter ink than this is an edge's softness and no part of the box.
_EDGE = 0.1
_EXACT = 2.0**24
# Strokes are measured at this many pixels for one of the result, and made at least this thick.
_FINE = 4
_THINNEST = 6.0
# Smaller ink is drawn at so many pixels for one of its own, with an empty margin around.
_FINER = 8
_MARGIN = 2
_SHARPEST = 1.5


def normalized_digit(grey: Grey, height: int, width: int) -> Grey:
    """The digit in ``grey`` as MNIST would have it, ``[height, width]``.

    An image that is so already, or its negative, comes out bit for bit.

    Raises:
        NoForeground: nothing stands out.
    """
    if grey.shape == (height, width) and (as_it_is := normalized_already(grey)) is not None:
        return as_it_is
    return _placed(
        _boxed(find_foreground(grey), round(min(height, width) * _BOX_SHARE)), height, width
    )


def normalized_already(grey: Grey, extent: tuple[int, int] | None = None) -> Grey | None:
    """The image or its negative, whichever is as MNIST would have it; None where neither is.

    Args:
        grey: the image.
        extent: height and width of all in it that is not nought, where that is known.
    """
    if _is_normalized(grey, extent or _sides(grey)):
        return grey
    negative = 255 - grey
    return negative if _is_normalized(negative, _sides(negative)) else None


def _is_normalized(digit: Grey, extent: tuple[int, int]) -> bool:
    """Whether the box, to a pixel, and the centre of mass are where MNIST has them."""
    sides, places, middle = _normal(*digit.shape)
    if max(extent) not in sides:
        return False
    # This is asked of every image, and numpy's own ways of adding up take several times as long.
    total, down, across = places.dot(digit.ravel().astype(places.dtype)).tolist()
    return (round(down / total), round(across / total)) == middle


def _sides(digit: Grey) -> tuple[int, int]:
    """Height and width of all that is not nought; by far quicker than numpy finds it."""
    height, width = digit.shape
    return _extent(digit.tobytes(), width), _extent(digit.T.tobytes(), height)


def _extent(rows: bytes, width: int) -> int:
    """How many rows there are from the first that is not all nought to the last."""
    first = len(rows) - len(rows.lstrip(b"\0"))
    last = len(rows.rstrip(b"\0"))
    return -(-last // width) - first // width if last else 0


class _Normal(NamedTuple):
    """What is so of every digit of one size that is as MNIST has them."""

    sides: tuple[int, int]
    """Of these the box' longer side is one."""
    places: npt.NDArray[np.floating]
    """One, the row and the column of each pixel, ``[3, pixels]``.

    In 32 bits where all sums of bytes' products with them are whole numbers that 32 bits hold.
    """
    middle: tuple[int, int]
    """Row and column of the centre of mass."""


@lru_cache(maxsize=8)
def _normal(height: int, width: int) -> _Normal:
    longest = round(min(height, width) * _BOX_SHARE)
    down, across = np.mgrid[0:height, 0:width]
    places = np.stack([np.ones(height * width), down.ravel(), across.ravel()])
    exact = 255 * float(places.sum(axis=1).max()) < _EXACT
    places = places.astype(np.float32 if exact else np.float64)
    return _Normal((longest - 1, longest), places, (height // 2, width // 2))


def _centre(values: Plane) -> tuple[float, float]:
    """The centre of mass as row and column."""
    total = float(values.sum())
    rows = float(values.sum(axis=1) @ np.arange(values.shape[0]))
    columns = float(values.sum(axis=0) @ np.arange(values.shape[1]))
    return rows / total, columns / total


def _boxed(ink: Plane, longest: int) -> Plane:
    """The ink's bounding box scaled to ``longest`` pixels, thin strokes thickened, 0 to 1."""
    box = _cropped(ink)
    if max(box.shape) < longest:
        box = _cropped(_enlarged(box, longest / max(box.shape)))
    else:
        box = np.minimum(box / np.percentile(box[box > _EDGE], 75), 1)
    scale = longest / max(box.shape)
    height, width = (max(round(side * scale), 1) for side in box.shape)
    fine = _resized(box, height * _FINE, width * _FINE, Image.Resampling.BILINEAR)
    fine /= fine.max()
    for _ in range(_FINE):
        if _thickness(fine > 0.5) >= _THINNEST:  # noqa: PLR2004 - the middle of an edge
            break
        fine = highest(fine, 3)
    small = fine.reshape(height, _FINE, width, _FINE).mean(axis=(1, 3))
    full: Plane = small / small.max()
    return full


def _cropped(ink: Plane) -> Plane:
    top, bottom, left, right = extent(ink > _EDGE)
    return ink[top:bottom, left:right]


def _enlarged(box: Plane, scale: float) -> Plane:
    """Ink of few pixels on a fine grid, its strokes no wider than they were."""
    padded = np.pad(box, _MARGIN)
    height, width = (side * _FINER for side in padded.shape)
    smooth = _resized(padded, height, width, Image.Resampling.LANCZOS)
    # The filter widens a stroke's soft edge; the power draws it back.
    drawn: Plane = smooth ** min(1 + (scale - 1) / 4, _SHARPEST)
    return drawn


def _resized(values: Plane, height: int, width: int, by: Image.Resampling) -> Plane:
    resized = Image.fromarray(np.ascontiguousarray(values)).resize((width, height), by)
    within: Plane = np.clip(np.asarray(resized), 0, 1)
    return within


def _thickness(mask: Mask) -> float:
    """Of strokes, in pixels: their area by half the length of their edge."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & mask
    return 2 * float(mask.sum()) / max(float((mask & ~inner).sum()), 1.0)


def _placed(box: Plane, height: int, width: int) -> Grey:
    """The box where its centre of mass is the middle, or as near as all of it is to be seen."""
    placed = np.zeros((height, width), np.uint8)
    starts = [
        int(np.clip(np.floor(side / 2 - centre + 0.5), 0, side - taken))
        for side, centre, taken in zip((height, width), _centre(box), box.shape, strict=True)
    ]
    rows, columns = (slice(start, start + n) for start, n in zip(starts, box.shape, strict=True))
    placed[rows, columns] = np.floor(box * 255 + 0.5)
    return placed
