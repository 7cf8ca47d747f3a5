"""Scale and center a digit as in MNIST (LeCun and others, 1998).

A digit of any polarity, stroke width and position becomes light on dark, with a bounding box twenty
pixels long and its center of mass in the middle of twenty-eight.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.imaging.segmentation import (
    Gray,
    Mask,
    Plane,
    find_bounding_box,
    find_foreground,
    max_filter,
)

# In MNIST the bounding box is 20 of 28 pixels long.
_BOX_SHARE = 20 / 28
# A fainter foreground is the softness of an edge and not part of the box.
_EDGE = 0.1
_EXACT = 2.0**24
# Strokes are measured at this many pixels for each one of the result, and made at least this thick.
_FINE = 4
_THINNEST = 6.0
# A smaller foreground is enlarged this many times, with an empty margin around it.
_FINER = 8
_MARGIN = 2
_SHARPEST = 1.5


def normalize_digit(image: Image.Image, height: int, width: int) -> Gray:
    """Return the digit in a gray image as in MNIST, ``[height, width]``.

    An image that is normalized already, or its negative, is returned bit for bit. Raise
    `NoForeground` if nothing stands out from the background.
    """
    if image.size == (width, height):
        normalized = match_normalized(image)
        if normalized is not None:
            return normalized
    foreground = find_foreground(to_array(image))
    box = _scale_box(foreground, round(min(height, width) * _BOX_SHARE))
    return _center_on_canvas(box, height, width)


def match_normalized(image: Image.Image) -> Gray | None:
    """Return a gray image or its negative if it is normalized as in MNIST, otherwise None."""
    gray = to_array(image)
    if _is_normalized(gray, image):
        return gray
    negative = 255 - gray
    return negative if _is_normalized(negative, Image.fromarray(negative)) else None


def to_array(image: Image.Image) -> Gray:
    """Return the pixels of a gray image ``[height, width]``, twice as fast as `numpy.asarray`."""
    return np.ndarray((image.height, image.width), np.uint8, image.tobytes())


def _is_normalized(digit: Gray, image: Image.Image) -> bool:
    """Return whether the box, to a pixel, and the center of mass are as in MNIST."""
    sides, moments, middle = _describe_normalized(*digit.shape)
    left, top, right, bottom = image.getbbox() or (0, 0, 0, 0)
    if max(right - left, bottom - top) not in sides:
        return False
    # This runs for every image, and numpy's reductions take several times as long.
    total, down, across = moments.dot(digit.ravel().astype(moments.dtype)).tolist()
    return (round(down / total), round(across / total)) == middle


@lru_cache(maxsize=8)
def _describe_normalized(
    height: int, width: int
) -> tuple[tuple[int, int], npt.NDArray[np.floating], tuple[int, int]]:
    """Return the properties that all normalized digits of one size share.

    These are the lengths that the longer side of the bounding box may have; one, the row and the
    column of each pixel, ``[3, pixels]``; and row and column of the center of mass. The array is
    float32 if that represents all sums of its products with bytes exactly.
    """
    longest = round(min(height, width) * _BOX_SHARE)
    down, across = np.mgrid[0:height, 0:width]
    moments = np.stack([np.ones(height * width), down.ravel(), across.ravel()])
    exact = 255 * float(moments.sum(axis=1).max()) < _EXACT
    moments = moments.astype(np.float32 if exact else np.float64)
    return (longest - 1, longest), moments, (height // 2, width // 2)


def _find_center_of_mass(values: Plane) -> tuple[float, float]:
    """Return the center of mass as row and column."""
    total = float(values.sum())
    rows = float(values.sum(axis=1) @ np.arange(values.shape[0]))
    columns = float(values.sum(axis=0) @ np.arange(values.shape[1]))
    return rows / total, columns / total


def _scale_box(foreground: Plane, longest: int) -> Plane:
    """Scale the bounding box to ``longest`` pixels, and thicken thin strokes; 0 to 1."""
    box = _crop_to_box(foreground)
    if max(box.shape) < longest:
        box = _crop_to_box(_enlarge(box, longest / max(box.shape)))
    else:
        box = np.minimum(box / np.percentile(box[box > _EDGE], 75), 1)
    scale = longest / max(box.shape)
    height, width = (max(round(side * scale), 1) for side in box.shape)
    fine = _resize(box, height * _FINE, width * _FINE, Image.Resampling.BILINEAR)
    fine /= fine.max()
    for _ in range(_FINE):
        if _measure_stroke_width(fine > 0.5) >= _THINNEST:  # noqa: PLR2004 - the middle of an edge
            break
        fine = max_filter(fine, 3)
    small = fine.reshape(height, _FINE, width, _FINE).mean(axis=(1, 3))
    full: Plane = small / small.max()
    return full


def _crop_to_box(foreground: Plane) -> Plane:
    top, bottom, left, right = find_bounding_box(foreground > _EDGE)
    return foreground[top:bottom, left:right]


def _enlarge(box: Plane, scale: float) -> Plane:
    """Enlarge a foreground of few pixels, without making its strokes wider."""
    padded = np.pad(box, _MARGIN)
    height, width = (side * _FINER for side in padded.shape)
    smooth = _resize(padded, height, width, Image.Resampling.LANCZOS)
    # The filter widens the soft edge of a stroke; the power narrows it again.
    sharpened: Plane = smooth ** min(1 + (scale - 1) / 4, _SHARPEST)
    return sharpened


def _resize(values: Plane, height: int, width: int, by: Image.Resampling) -> Plane:
    resized = Image.fromarray(np.ascontiguousarray(values)).resize((width, height), by)
    within: Plane = np.clip(np.asarray(resized), 0, 1)
    return within


def _measure_stroke_width(mask: Mask) -> float:
    """Return the width of strokes in pixels: their area by half the length of their edge."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & mask
    return 2 * float(mask.sum()) / max(float((mask & ~inner).sum()), 1.0)


def _center_on_canvas(box: Plane, height: int, width: int) -> Gray:
    """Place the center of mass in the middle, or as near to it as the whole box fits."""
    canvas = np.zeros((height, width), np.uint8)
    starts = [
        int(np.clip(np.floor(side / 2 - center + 0.5), 0, side - length))
        for side, center, length in zip(
            (height, width), _find_center_of_mass(box), box.shape, strict=True
        )
    ]
    rows, columns = (slice(start, start + n) for start, n in zip(starts, box.shape, strict=True))
    canvas[rows, columns] = np.floor(box * 255 + 0.5)
    return canvas
