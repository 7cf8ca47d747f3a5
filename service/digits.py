"""Ink found in a picture, scaled and centred as MNIST's makers did (LeCun and others, 1998).

A digit of any polarity, thickness and place, on paper of uneven light, becomes light on dark, its
bounding box twenty pixels and its centre of mass the middle of twenty-eight.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

Grey = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# MNIST's own numbers: the box is 20 of 28 pixels.
_BOX_SHARE = 20 / 28
# In a smaller picture a stroke is a large part of it, and its light is even.
_UNEVEN_FROM = 48
# The side at which paper and shadows are told from ink, and the thickest stroke in its pixels.
_PAPER_SIDE = 64
_THICKEST = 21
# Less contrast than this in grey levels, or in the noise's standard deviations, is no ink.
_LEAST_CONTRAST = 8.0
_LEAST_SEPARATION = 5.0
# A part of the ink with less than this share of the largest part is dust.
_DUST = 0.08
# Strokes are measured at this many pixels for one of the result, and made at least this thick.
_FINE = 4
_THINNEST = 6.0


class NoInk(Exception):
    """Nothing in the picture stands out from its background."""


def normalised_digit(grey: Grey, height: int, width: int) -> Grey:
    """The digit in ``grey`` as MNIST would have it, ``[height, width]``.

    A picture that is so already, or its negative, comes out bit for bit.

    Raises:
        NoInk: nothing stands out.
    """
    middle = _border(grey)
    as_it_is = grey if middle < 128 else 255 - grey  # noqa: PLR2004 - half of the range
    if as_it_is.shape == (height, width) and _is_normalised(as_it_is):
        return as_it_is
    light = _light_on_dark(grey.astype(np.float32))
    ink = _strokes(light)
    return _placed(_boxed(ink, round(min(height, width) * _BOX_SHARE)), height, width)


def _is_normalised(digit: Grey) -> bool:
    """Whether the box, to a pixel, and the centre of mass are where MNIST has them."""
    if not digit.any():
        return False
    top, bottom, left, right = _extent(digit > 0)
    longest = round(min(digit.shape) * _BOX_SHARE)
    if max(bottom - top, right - left) not in {longest - 1, longest}:
        return False
    return all(
        round(centre) == side // 2
        for centre, side in zip(_centre(digit.astype(np.float32)), digit.shape, strict=True)
    )


def _border(values: npt.NDArray[np.generic]) -> float:
    """What the outermost pixels mostly are."""
    edges = (values[0], values[-1], values[:, 0], values[:, -1])
    return float(np.median(np.concatenate(edges)))


def _extent(mask: Mask) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is true, the ends exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _centre(values: Plane) -> tuple[float, float]:
    """The centre of mass as row and column."""
    total = float(values.sum())
    rows = float(values.sum(axis=1) @ np.arange(values.shape[0]))
    columns = float(values.sum(axis=0) @ np.arange(values.shape[1]))
    return rows / total, columns / total


def _resized(values: Plane, height: int, width: int) -> Plane:
    image = Image.fromarray(np.ascontiguousarray(values))
    resized: Plane = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return resized


def _light_on_dark(grey: Plane) -> Plane:
    """How much lighter than its surroundings each pixel is, or darker where that is the ink."""
    height, width = grey.shape
    if min(height, width) < _UNEVEN_FROM:
        difference = grey - _border(grey)
        ink: Plane = np.maximum(difference * _polarity(difference), 0)
        return ink
    scale = _PAPER_SIDE / max(height, width)
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    small = _resized(grey, rows, columns)
    surface = _surface(small)
    polarity = _polarity(small - surface)
    # An even slope is taken away first: the opening would be too dark at its bright end.
    paper = _opened((small - surface) * polarity) + surface * polarity
    ink = grey * polarity - _resized(paper, height, width)
    return np.maximum(ink, 0, out=ink)


def _polarity(difference: Plane) -> int:
    """1 where ink is lighter than its background, -1 where it is darker."""
    few = max(difference.size // 50, 1)
    ordered = np.sort(difference, axis=None)
    return 1 if ordered[-few:].mean() >= -ordered[:few].mean() else -1


def _surface(small: Plane) -> Plane:
    """The light of the background: a paraboloid through most pixels, those of the border first."""
    rows, columns = small.shape
    y, x = (
        axis.ravel() for axis in np.meshgrid(*(np.linspace(-1, 1, n) for n in (rows, columns)),
                                             indexing="ij")
    )  # fmt: skip
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    values = small.ravel().astype(np.float64)
    weights = (np.maximum(np.abs(x), np.abs(y)) > 0.85).astype(np.float64)  # noqa: PLR2004 - border
    for _ in range(5):
        weighted = terms * weights[:, None]
        fitted, *_ = np.linalg.lstsq(weighted.T @ terms, weighted.T @ values)
        distance = np.abs(values - terms @ fitted)
        scale = max(2 * float(np.median(distance)), 2.0)
        weights = 1 / (1 + (distance / scale) ** 2)
    surface: Plane = (terms @ fitted).reshape(small.shape).astype(np.float32)
    return surface


def _opened(small: Plane) -> Plane:
    """The background without what is lighter than it and narrower than the thickest stroke."""
    lowest = _window(_window(small, _THICKEST, "min").T, _THICKEST, "min").T
    opened = _window(_window(lowest, _THICKEST, "max").T, _THICKEST, "max").T
    return _window(_window(opened, 5, "mean").T, 5, "mean").T


def _window(values: Plane, size: int, what: Literal["min", "max", "mean"]) -> Plane:
    """The least, greatest or mean value in a window of odd size along the columns."""
    padded = np.pad(values, ((0, 0), (size // 2, size // 2)), mode="edge")
    windows = sliding_window_view(padded, size, axis=1)
    of_all: Plane = getattr(windows, what)(axis=2)
    return of_all


def _strokes(light: Plane) -> Plane:
    """The ink between 0 and 1, everywhere else nothing.

    Raises:
        NoInk: nothing stands out.
    """
    soft = light
    if min(light.shape) >= _UNEVEN_FROM:
        soft = _window(_window(light, 3, "mean").T, 3, "mean").T
    if np.ptp(soft) < _LEAST_CONTRAST:
        raise NoInk
    cut = _otsu(soft)
    strong = soft > cut
    if not strong.any() or strong.all():
        raise NoInk
    level, rest = float(np.median(light[strong])), soft[~strong]
    noise = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
    contrast = float(soft[strong].mean() - rest.mean())
    if contrast < max(_LEAST_CONTRAST, _LEAST_SEPARATION * noise):
        raise NoInk
    kept = _without_dust(soft > max(cut / 2, 2 * noise), soft)
    floor = min(2 * noise, 0.4 * level)
    values = np.clip((light - floor) / (level - floor), 0, 1)
    near = _window(_window(kept.astype(np.float32), 3, "max").T, 3, "max").T
    return np.where(near > 0, values, 0).astype(np.float32)


def _otsu(values: Plane) -> float:
    """The threshold that best parts two classes (Otsu, 1979)."""
    counts, edges = np.histogram(values, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centres[np.nanargmax(between[:-1])])


def _without_dust(mask: Mask, strength: Plane) -> Mask:
    """The mask's connected parts that hold a fair share of the ink."""
    parts = _parts(mask)
    weights = np.bincount(parts.ravel(), (strength * mask).ravel())
    kept: Mask = (weights >= _DUST * weights[1:].max())[parts] & mask
    return kept


def _parts(mask: Mask) -> npt.NDArray[np.int64]:
    """A number for each connected part (corners connect), 0 outside."""
    found = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.int64)
    found[1:-1, 1:-1] = np.arange(1, mask.size + 1).reshape(mask.shape) * mask
    highest = np.arange(mask.size + 1)
    while True:
        nearby = sliding_window_view(found, (3, 3)).max(axis=(2, 3)) * mask
        np.maximum.at(highest, found[1:-1, 1:-1].ravel(), nearby.ravel())
        highest = highest[highest]
        joined = highest[found[1:-1, 1:-1]]
        if np.array_equal(joined, found[1:-1, 1:-1]):
            return joined
        found[1:-1, 1:-1] = joined


def _boxed(ink: Plane, longest: int) -> Plane:
    """The ink's bounding box scaled to ``longest`` pixels, thin strokes thickened, 0 to 1."""
    top, bottom, left, right = _extent(ink > 0.1)  # noqa: PLR2004 - fainter is an edge's softness
    box = ink[top:bottom, left:right]
    scale = longest / max(box.shape)
    height, width = (max(round(side * scale), 1) for side in box.shape)
    fine = _resized(box, height * _FINE, width * _FINE)
    fine = np.minimum(fine / np.percentile(fine[fine > 0], 90), 1)
    for _ in range(_FINE):
        if _thickness(fine > 0.5) >= _THINNEST:  # noqa: PLR2004 - the middle of an edge
            break
        fine = _window(_window(fine, 3, "max").T, 3, "max").T
    small = fine.reshape(height, _FINE, width, _FINE).mean(axis=(1, 3))
    full: Plane = np.minimum(small / np.percentile(small[small > 0], 95), 1)
    return full


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
