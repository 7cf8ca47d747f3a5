"""Ink told from its background, on paper of any light, by what is narrow and stands out.

A background is what is left of an image when everything narrower than the thickest stroke has
been taken away (grey-scale opening and closing; Serra, 1982). So a shadow's edge is background,
and a pencil's line is not.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Number = TypeVar("Number", np.float32, np.bool_, np.int64)

# In a smaller image a stroke is a large part of it, and its light is even.
_UNEVEN_FROM = 48
# Light is measured at no more than this side.
_LIGHT_SIDE = 64
# The longer side by the thickest stroke.
_THICKEST = 3
# Less contrast than this in grey levels, or in the noise's standard deviations, is no ink.
_LEAST_CONTRAST = 8.0
_LEAST_SEPARATION = 5.0
# A part of the ink with less than this share of the largest part is dust.
_DUST = 0.08
# Ink at the image's sides is none where there is this share of it elsewhere.
_OTHER_INK = 0.1
# How far the softness of such an edge reaches, both ways together.
_EDGE = 9
# Parts are told apart at no more than this side.
_PARTS_SIDE = 128


class NoForeground(Exception):
    """Nothing in the image stands out from its background."""


def find_foreground(grey: Grey) -> Plane:
    """How much ink is at each place, 0 to 1, of whatever polarity; 0 elsewhere.

    Raises:
        NoForeground: nothing stands out.
    """
    values = grey.astype(np.float32)
    if min(grey.shape) < _UNEVEN_FROM:
        difference = values - float(np.median(_outermost(values)))
        light = difference * _polarity(difference)
        return _strokes(light, light, tops=100)
    soft = _smoothed(values)
    darker, lighter = _background(-soft), _background(soft)
    polarity, paper = min((-1, darker), (1, lighter), key=lambda way: _oddness(soft, *way))
    # An opening is too dark at the bright end of a slope, and less so where that is evened first.
    light = _light(paper)
    paper = np.maximum(paper, light + _background(soft * polarity - light))
    return _strokes(values * polarity - paper, soft * polarity - paper, tops=75)


def extent(mask: Mask) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is true, the ends exclusive.

    Raises:
        NoForeground: nothing is.
    """
    if not mask.any():
        raise NoForeground
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def highest(values: Plane, size: int) -> Plane:
    """The greatest value in a square of odd size around each place."""
    return -_lowest(-values, size)


def _outermost(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    return np.concatenate((values[0], values[-1], values[:, 0], values[:, -1]))


def _polarity(difference: Plane) -> int:
    """1 where ink is lighter than its background, -1 where it is darker."""
    few = max(difference.size // 50, 1)
    ordered = np.sort(difference, axis=None)
    return 1 if ordered[-few:].mean() >= -ordered[:few].mean() else -1


def _light(values: Plane) -> Plane:
    """How light falls: a paraboloid through most of the image."""
    step = -(-max(values.shape) // _LIGHT_SIDE)
    few = values[step // 2 :: step, step // 2 :: step].astype(np.float64)
    y, x = (
        axis.ravel() for axis in np.mgrid[-1 : 1 : few.shape[0] * 1j, -1 : 1 : few.shape[1] * 1j]
    )
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])
    weights = np.ones(few.size)
    for _ in range(5):
        weighted = terms * weights
        fitted = np.linalg.lstsq(weighted @ terms.T, weighted @ few.ravel())[0]
        distance = np.abs(few.ravel() - fitted @ terms)
        weights = 1 / (1 + (distance / max(2 * float(np.median(distance)), 2.0)) ** 2)
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in values.shape)
    even, by_x, by_y, by_x2, by_xy, by_y2 = fitted.astype(np.float32)
    down = even + by_y * y + by_y2 * y * y
    light: Plane = down[:, None] + by_x * x + by_x2 * x * x + by_xy * y[:, None] * x
    return light


def _background(light: Plane) -> Plane:
    """What is left without everything lighter and narrower than the thickest stroke."""
    size = max(light.shape) // _THICKEST | 1
    return highest(_lowest(light, size), size)


def _oddness(soft: Plane, polarity: int, paper: Plane) -> float:
    """How unlikely this is the background: it varies, or ink would lie along the border."""
    light = soft * polarity - paper
    strong = light > _otsu(light)
    if not strong.any() or strong.all():
        return np.inf
    contrast = float(light[strong].mean() - light[~strong].mean())
    return float(paper.std()) + contrast * float(_outermost(strong).mean())


def _strokes(light: Plane, soft: Plane, tops: int) -> Plane:
    """The ink between 0 and 1, everywhere else nothing.

    Args:
        light: ink as positive differences from the background.
        soft: the same without its finest grain.
        tops: the percentile of the ink that becomes 1.
    """
    first = _split(soft)
    split = _split(np.where(_paper_edges(soft, first), first.middle, soft))
    kept = _without_dust(split, soft)
    top = float(np.percentile(light[split.strong & kept], tops))
    if top <= split.middle:
        raise NoForeground  # dots that smoothing took for strokes
    floor = split.middle + min(2 * split.noise, 0.4 * (top - split.middle))
    values = np.clip((light - floor) / (top - floor), 0, 1)
    return np.where(highest(kept.astype(np.float32), 3) > 0, values, 0).astype(np.float32)


@dataclass(frozen=True)
class _Split:
    """Ink and background: where ink surely is, the parts of where it may be, and the rest."""

    strong: Mask
    parts: npt.NDArray[np.int64]
    middle: float
    noise: float


def _split(soft: Plane) -> _Split:
    cut = _otsu(soft)
    strong = soft > cut
    if np.ptp(soft) < _LEAST_CONTRAST or not strong.any() or strong.all():
        raise NoForeground
    rest = soft[~strong]
    middle = float(np.median(rest))
    noise = 1.4826 * float(np.median(np.abs(rest - middle)))
    if float(soft[strong].mean()) - middle < max(_LEAST_CONTRAST, _LEAST_SEPARATION * noise):
        raise NoForeground
    return _Split(strong, _parts(soft > middle + max((cut - middle) / 2, 2 * noise)), middle, noise)


def _otsu(values: Plane) -> float:
    """The threshold that best parts two classes (Otsu, 1979)."""
    low, high = float(values.min()), float(values.max())
    levels = ((values - low) * (255 / (high - low or 1.0))).astype(np.uint8)
    counts = np.bincount(levels.ravel(), minlength=256)
    centres = low + (np.arange(256) + 0.5) * (high - low) / 256
    below = np.cumsum(counts)[:-1]
    above = values.size - below
    sums = np.cumsum(counts * centres)
    means = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(centres[np.argmax(below * above * means**2)])


def _without_dust(split: _Split, soft: Plane) -> Mask:
    """The parts that hold a fair share of what is surely ink."""
    weights = _weights(split, soft)
    if weights.max() <= 0:
        raise NoForeground
    kept: Mask = (weights >= _DUST * weights.max())[split.parts] & (split.parts > 0)
    return kept


def _paper_edges(soft: Plane, split: _Split) -> Mask:
    """Parts at the image's sides where there is other ink: what the paper lies on, and shadow."""
    weights = _weights(split, soft)
    edges = np.zeros(weights.size, np.bool_)
    edges[_outermost(split.parts)] = True
    edges[0] = False
    if weights[~edges].max() < _OTHER_INK * weights.max():
        edges[:] = False
    return highest(edges[split.parts].astype(np.float32), _EDGE) > 0


def _weights(split: _Split, soft: Plane) -> npt.NDArray[np.float64]:
    """How much sure ink each part holds; none for what is outside of all."""
    weights = np.bincount(split.parts.ravel(), (soft * split.strong).ravel()).astype(np.float64)
    weights[0] = 0
    return weights


def _parts(mask: Mask) -> npt.NDArray[np.int64]:
    """A number for each connected part, 0 outside; what nearly touches is connected."""
    step = -(-max(mask.shape) // _PARTS_SIDE)
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % step), (0, -width % step)))
    coarse = padded.reshape(padded.shape[0] // step, step, -1, step).any(axis=(1, 3))
    labels = np.arange(1, coarse.size + 1).reshape(coarse.shape) * coarse
    while True:
        # Every pixel takes the greatest number nearby, and then that number's own.
        near = highest(labels.astype(np.float32), 3).astype(np.int64) * coarse
        jumped = np.append(0, near.ravel())[near]
        if np.array_equal(jumped, labels):
            break
        labels = jumped
    _, numbers = np.unique(np.append(0, labels), return_inverse=True)
    fine = numbers[1:].reshape(labels.shape).repeat(step, axis=0).repeat(step, axis=1)
    return fine[:height, :width] * mask


def _lowest(values: Plane, size: int) -> Plane:
    """The least value in a square of odd size around each place."""
    padded = np.pad(values, size // 2, constant_values=np.inf)
    return _lowest_of_rows(_lowest_of_rows(padded, size).T, size).T


def _lowest_of_rows(values: Plane, size: int) -> Plane:
    """The least of every ``size`` rows that follow each other, doubling their number each time."""
    reach = 1
    while 2 * reach <= size:
        values = np.minimum(values[:-reach], values[reach:])
        reach *= 2
    more = size - reach
    return np.minimum(values[: len(values) - more], values[more:])


def _smoothed(values: Plane) -> Plane:
    """The mean of three by three."""
    padded = np.pad(values, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    means: Plane = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    return means
