"""Separate strokes from their background, in light or dark ink and under uneven illumination.

The background is what is left of an image after a morphological opening has removed everything
narrower than the thickest stroke (gray-scale opening and closing; Serra, 1982). So the edge of a
shadow is background, and a pencil line is not.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Gray = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Number = TypeVar("Number", np.float32, np.bool_, np.int64)

# In a smaller image a stroke is a large part of it, and the illumination is even.
_UNEVEN_FROM = 48
# The illumination is fitted at no more than this side.
_ILLUMINATION_SIDE = 64
# The longer side divided by the width of the thickest stroke.
_THICKEST = 3
# The least contrast of a foreground, in gray levels and in standard deviations of the noise.
_MIN_CONTRAST = 8.0
_MIN_SEPARATION = 5.0
# A component with less than this share of the largest component's weight is dust.
_DUST = 0.08
# Components at the image's border are background if the others have at least this share.
_INNER_SHARE = 0.1
# The width in pixels of the soft edge of such a component.
_EDGE = 9
# Connected components are labeled at no more than this side.
_LABELING_SIDE = 128


class NoForeground(Exception):
    """The image has no foreground."""


def find_foreground(gray: Gray) -> Plane:
    """Return the intensity of a light or dark foreground at each pixel, 0 to 1.

    Raise `NoForeground` if there is none.
    """
    values = gray.astype(np.float32)
    if min(gray.shape) < _UNEVEN_FROM:
        difference = values - float(np.median(_select_border(values)))
        light = difference * _find_polarity(difference)
        return _extract_strokes(light, light, top_percentile=100)
    soft = _smooth(values)
    darker, lighter = _estimate_background(-soft), _estimate_background(soft)
    polarity, background = min(
        (-1, darker), (1, lighter), key=lambda candidate: _rate_background(soft, *candidate)
    )
    # An opening is too dark at the bright end of a slope, and less so if that is evened first.
    light = _fit_illumination(background)
    background = np.maximum(background, light + _estimate_background(soft * polarity - light))
    return _extract_strokes(
        values * polarity - background, soft * polarity - background, top_percentile=75
    )


def find_bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of the true pixels, the ends exclusive.

    Raise `NoForeground` if there are none.
    """
    if not mask.any():
        raise NoForeground
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def max_filter(values: Plane, size: int) -> Plane:
    """Return the maximum in a square of odd size around each pixel."""
    return -_min_filter(-values, size)


def _select_border(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    return np.concatenate((values[0], values[-1], values[:, 0], values[:, -1]))


def _find_polarity(difference: Plane) -> int:
    """Return 1 if strokes are lighter than the background, -1 if they are darker."""
    count = max(difference.size // 50, 1)
    ordered = np.sort(difference, axis=None)
    return 1 if ordered[-count:].mean() >= -ordered[:count].mean() else -1


def _fit_illumination(values: Plane) -> Plane:
    """Fit the illumination: a paraboloid through most of the image."""
    step = -(-max(values.shape) // _ILLUMINATION_SIDE)
    sampled = values[step // 2 :: step, step // 2 :: step].astype(np.float64)
    rows, columns = sampled.shape
    y, x = (axis.ravel() for axis in np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j])
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])
    weights = np.ones(sampled.size)
    for _ in range(5):
        weighted = terms * weights
        fitted = np.linalg.lstsq(weighted @ terms.T, weighted @ sampled.ravel())[0]
        distance = np.abs(sampled.ravel() - fitted @ terms)
        weights = 1 / (1 + (distance / max(2 * float(np.median(distance)), 2.0)) ** 2)
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in values.shape)
    even, by_x, by_y, by_x2, by_xy, by_y2 = fitted.astype(np.float32)
    down = even + by_y * y + by_y2 * y * y
    light: Plane = down[:, None] + by_x * x + by_x2 * x * x + by_xy * y[:, None] * x
    return light


def _estimate_background(light: Plane) -> Plane:
    """Remove everything that is lighter than its surroundings and narrower than a thick stroke."""
    size = max(light.shape) // _THICKEST | 1
    return max_filter(_min_filter(light, size), size)


def _rate_background(soft: Plane, polarity: int, background: Plane) -> float:
    """Return the cost of a background: its variation, and strokes along the border."""
    light = soft * polarity - background
    strong = light > _find_otsu_threshold(light)
    if not strong.any() or strong.all():
        return np.inf
    contrast = float(light[strong].mean() - light[~strong].mean())
    return float(background.std()) + contrast * float(_select_border(strong).mean())


def _extract_strokes(light: Plane, soft: Plane, top_percentile: int) -> Plane:
    """Return the foreground between 0 and 1, and 0 elsewhere.

    ``light`` has the strokes as positive differences from the background, ``soft`` the same without
    its finest grain; the percentile of the strokes becomes 1.
    """
    foreground = _split_foreground(soft)
    edges = _find_paper_edges(soft, foreground)
    foreground = _split_foreground(np.where(edges, foreground.middle, soft))
    selected = _remove_dust(foreground, soft)
    top = float(np.percentile(light[foreground.strong & selected], top_percentile))
    if top <= foreground.middle:
        raise NoForeground  # noise that smoothing turned into strokes
    floor = foreground.middle + min(2 * foreground.noise, 0.4 * (top - foreground.middle))
    values = np.clip((light - floor) / (top - floor), 0, 1)
    return np.where(max_filter(selected.astype(np.float32), 3) > 0, values, 0).astype(np.float32)


@dataclass(frozen=True)
class _Foreground:
    """Certain strokes, the components of possible ones, and the level and noise of the rest."""

    strong: Mask
    components: npt.NDArray[np.int64]
    middle: float
    noise: float


def _split_foreground(soft: Plane) -> _Foreground:
    cut = _find_otsu_threshold(soft)
    strong = soft > cut
    if np.ptp(soft) < _MIN_CONTRAST or not strong.any() or strong.all():
        raise NoForeground
    rest = soft[~strong]
    middle = float(np.median(rest))
    noise = 1.4826 * float(np.median(np.abs(rest - middle)))
    if float(soft[strong].mean()) - middle < max(_MIN_CONTRAST, _MIN_SEPARATION * noise):
        raise NoForeground
    components = _label_components(soft > middle + max((cut - middle) / 2, 2 * noise))
    return _Foreground(strong, components, middle, noise)


def _find_otsu_threshold(values: Plane) -> float:
    """Return the threshold that separates two classes best (Otsu, 1979)."""
    low, high = float(values.min()), float(values.max())
    levels = ((values - low) * (255 / (high - low or 1.0))).astype(np.uint8)
    counts = np.bincount(levels.ravel(), minlength=256)
    centers = low + (np.arange(256) + 0.5) * (high - low) / 256
    below = np.cumsum(counts)[:-1]
    above = values.size - below
    sums = np.cumsum(counts * centers)
    means = sums[:-1] / np.maximum(below, 1) - (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(centers[np.argmax(below * above * means**2)])


def _remove_dust(foreground: _Foreground, soft: Plane) -> Mask:
    """Select the components with a fair share of the certain strokes."""
    weights = _weigh_components(foreground, soft)
    if weights.max() <= 0:
        raise NoForeground
    selected: Mask = (weights >= _DUST * weights.max())[foreground.components] & (
        foreground.components > 0
    )
    return selected


def _find_paper_edges(soft: Plane, foreground: _Foreground) -> Mask:
    """Find components at the border if there are others inside: edges of paper, and shadows."""
    weights = _weigh_components(foreground, soft)
    edges = np.zeros(weights.size, np.bool_)
    edges[_select_border(foreground.components)] = True
    edges[0] = False
    if weights[~edges].max() < _INNER_SHARE * weights.max():
        edges[:] = False
    return max_filter(edges[foreground.components].astype(np.float32), _EDGE) > 0


def _weigh_components(foreground: _Foreground, soft: Plane) -> npt.NDArray[np.float64]:
    """Return the weight of the certain strokes in each component; 0 for the background."""
    strong = (soft * foreground.strong).ravel()
    weights = np.bincount(foreground.components.ravel(), strong).astype(np.float64)
    weights[0] = 0
    return weights


def _label_components(mask: Mask) -> npt.NDArray[np.int64]:
    """Number the connected components; 0 is outside. Pixels that nearly touch are connected."""
    step = -(-max(mask.shape) // _LABELING_SIDE)
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % step), (0, -width % step)))
    coarse = padded.reshape(padded.shape[0] // step, step, -1, step).any(axis=(1, 3))
    labels = np.arange(1, coarse.size + 1).reshape(coarse.shape) * coarse
    while True:
        # Every pixel takes the greatest label of its neighbors, and then that label's own.
        near = max_filter(labels.astype(np.float32), 3).astype(np.int64) * coarse
        jumped = np.append(0, near.ravel())[near]
        if np.array_equal(jumped, labels):
            break
        labels = jumped
    _, numbers = np.unique(np.append(0, labels), return_inverse=True)
    fine = numbers[1:].reshape(labels.shape).repeat(step, axis=0).repeat(step, axis=1)
    return fine[:height, :width] * mask


def _min_filter(values: Plane, size: int) -> Plane:
    padded = np.pad(values, size // 2, constant_values=np.inf)
    return _min_filter_rows(_min_filter_rows(padded, size).T, size).T


def _min_filter_rows(values: Plane, size: int) -> Plane:
    """Return the minimum of every ``size`` consecutive rows, by doubling their number."""
    reach = 1
    while 2 * reach <= size:
        values = np.minimum(values[:-reach], values[reach:])
        reach *= 2
    more = size - reach
    return np.minimum(values[: len(values) - more], values[more:])


def _smooth(values: Plane) -> Plane:
    padded = np.pad(values, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    means: Plane = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    return means
