"""Digits as people write them: several shapes of each, drawn smoothly by an unsteady hand."""

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

# Of each digit, its shapes: strokes from the first to the last one written, each through points of
# a box with sides of 100.
_SHAPES = {
    0: (
        "55,0 20,12 5,50 20,88 50,100 82,85 95,50 80,12 50,2",
        "75,8 40,0 10,30 8,70 40,100 80,85 92,45 70,10 60,5",
    ),
    1: (
        "50,0 50,50 48,100",
        "20,25 40,12 58,0 / 58,0 56,50 55,100",
    ),
    2: (
        "10,25 30,3 65,0 85,20 75,45 40,75 8,100 / 8,100 50,97 95,98",
        "10,20 40,0 80,10 80,40 50,70 20,92 12,98 20,85 35,88 60,98 98,95",
    ),
    3: (
        "10,12 40,0 80,8 80,35 40,48 / 40,48 80,55 90,78 60,100 10,92",
        "10,8 50,0 85,12 75,38 42,48 80,60 85,85 45,100 5,88",
    ),
    4: (
        "30,0 15,30 5,60 50,60 95,58 / 70,25 68,60 65,100",
        "65,0 35,32 5,65 / 5,65 50,65 95,64 / 66,0 66,50 66,100",
    ),
    5: (
        "85,2 50,2 20,3 / 20,3 17,25 15,45 / 15,45 50,37 85,55 85,82 50,100 8,92",
        "25,2 20,25 18,45 50,38 85,55 85,85 50,100 10,93 / 25,2 60,2 90,0",
    ),
    6: (
        "70,0 35,20 12,55 12,82 40,100 75,92 85,70 60,52 30,58 14,75",
        "60,0 30,30 15,65 25,93 55,100 82,85 78,62 50,53 22,68",
    ),
    7: (
        "5,3 50,3 92,2 / 92,2 65,45 40,100",
        "5,5 50,2 92,3 / 92,3 70,45 50,100 / 35,50 60,50 85,48",
    ),
    8: (
        "75,10 45,0 20,15 35,40 70,60 82,82 50,100 18,82 35,58 70,35 80,15 70,6",
        "50,47 22,30 25,8 50,0 77,8 77,30 50,47 / 50,47 18,65 15,90 50,100 85,90 82,65 50,47",
    ),
    9: (
        "85,15 55,0 20,12 15,38 45,50 78,38 85,15 / 85,15 82,55 75,100",
        "80,20 50,2 20,15 20,40 50,48 80,25 84,12 82,50 70,85 50,100",
    ),
}
_UNSTEADY = 0.02
_TREMOR = 0.0015


def write_digit(digit: int, rng: np.random.Generator) -> list[Points]:
    """Return the strokes of a digit on a sheet of side one: points ``[n, 2]`` along each.

    Shape, size, width, slant, angle and position differ each time, as those of handwriting do.
    """
    shapes = _SHAPES[digit]
    shape = shapes[int(rng.integers(len(shapes)))]
    height = rng.uniform(0.4, 0.8)
    width = height * (rng.uniform(0.3, 0.6) if digit == 1 else rng.uniform(0.5, 0.95))
    slant, angle = rng.uniform(-0.08, 0.28) * height, rng.normal(0, 0.06)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = 0.5 + rng.uniform(-0.08, 0.08, 2)
    strokes = []
    for stroke in shape.split(" / "):
        corners = np.array([point.split(",") for point in stroke.split()], float) / 100
        line = _smooth(corners, int(rng.integers(3, 7)))
        line = line - 0.5 + _drift(len(line), rng)
        leaning = np.stack([line[:, 0] * width - line[:, 1] * slant, line[:, 1] * height], axis=1)
        moved = middle + leaning @ turn + rng.normal(0, _TREMOR, line.shape)
        strokes.append(np.clip(moved, 0.03, 0.97))
    return strokes


def _drift(points: int, rng: np.random.Generator) -> Points:
    """A slow deviation from the line."""
    along, knots = np.linspace(0, 1, points), np.linspace(0, 1, 5)
    sides = [np.interp(along, knots, rng.normal(0, _UNSTEADY, 5)) for _ in range(2)]
    return np.stack(sides, axis=1)


def _smooth(corners: Points, between: int) -> Points:
    """A curve through all corners (Catmull and Rom, 1974), with points between any two."""
    padded = np.vstack([2 * corners[0] - corners[1], corners, 2 * corners[-1] - corners[-2]])
    share = np.linspace(0, 1, between, endpoint=False)[:, None]
    powers = np.hstack([np.ones_like(share), share, share**2, share**3])
    spline = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    parts = [powers @ spline @ padded[k : k + 4] for k in range(len(corners) - 1)]
    return np.vstack([*parts, corners[-1:]])
