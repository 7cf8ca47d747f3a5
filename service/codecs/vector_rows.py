"""The quick way from JSON rows to a matrix, for rows that are as they should be.

It knows no sentences: at the first doubt it gives up, and `service.codecs.features` reads every
cell by itself and reports what is wrong.
"""

import struct
from collections.abc import Sequence
from itertools import chain
from math import isfinite
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from service.bundle.features import Feature, IntegerFeature, NumberFeature
from service.values import WHOLE_MAX

Matrix = npt.NDArray[np.float32]

_NUMBERS = {int, float}
# Above it, numpy's fixed costs are less than those of looking at each number.
_NARROW = 16
# So many bounds are kept ready for a model, at most.
_MOST_BOUNDS = 16_384
_HIGHEST = float(np.finfo(np.float32).max)


class QuickRows:
    """Reads rows of plain numbers, in one pass over the whole request."""

    def __init__(self, features: Sequence[Feature]) -> None:
        numeric = [f for f in features if isinstance(f, NumberFeature | IntegerFeature)]
        self._possible = len(numeric) == len(features)
        self._width = len(features)
        # A getter of one name gives the value bare, so the first name is asked for twice.
        names = [feature.name for feature in features]
        self._values = itemgetter(*names, names[0])
        bounds = [feature.allowed for feature in numeric]
        low = [-np.inf if b is None else b.low for b in bounds]
        high = [np.inf if b is None else b.high for b in bounds]
        self._low = np.maximum(np.array(low, np.float32), -_HIGHEST)
        self._high = np.minimum(np.array(high, np.float32), _HIGHEST)
        self._repeated = self._low[None], self._high[None]
        self._ends = list(zip(self._low.tolist(), self._high.tolist(), strict=True))
        self._whole = [i for i, feature in enumerate(features) if feature.type == "integer"]
        self._unbounded = not self._whole and all(bound is None for bound in bounds)
        # Rows of one number each can be read from its text, whatever the others are.
        self.is_plain = self._possible and not self._whole
        self._usual = [_usual(feature) for feature in numeric]
        self._is_narrow = self.is_plain and self._width <= _NARROW

    def read_usual(self, row: object) -> Matrix | None:
        """A single row ``[1, columns]`` that is allowed, and like those of training.

        None where it is anything else, or nobody can tell so quickly.
        """
        if not self._is_narrow:
            return None
        try:
            cells = self._cells(row)
        except (KeyError, TypeError):
            return None
        for value, (low, high) in zip(cells, self._usual, strict=True):
            if type(value) not in _NUMBERS or not low <= value <= high:  # type: ignore[operator] # it is a number
                return None
        return np.array((cells,), np.float32)

    def read(self, rows: Sequence[object], *, booleans: bool = True) -> Matrix | None:
        """The matrix ``[rows, columns]``, or None where a row is anything but plain and allowed.

        Args:
            rows: what was sent.
            booleans: whether there may be some among the cells, which must not pass for numbers.
        """
        if not self._possible:
            return None
        try:
            cells = [self._cells(row) for row in rows]
        except (KeyError, TypeError):
            return None
        flat = cells[0] if len(cells) == 1 else list(chain.from_iterable(cells))
        return self.read_flat(flat, len(rows), booleans=booleans)

    def read_flat(
        self, flat: Sequence[object], rows: int, *, booleans: bool = True
    ) -> Matrix | None:
        """The same of the cells one after the other."""
        if len(flat) != rows * self._width:
            return None
        if booleans and not set(map(type, flat)) <= _NUMBERS:
            return None
        try:
            matrix = self._exact_integers(flat) if self._whole else packed(flat)
        except (struct.error, OverflowError):
            return None
        if matrix is None:
            return None
        shaped = matrix.reshape(rows, self._width)
        return shaped if self.allows(shaped) else None

    def allows(self, matrix: Matrix) -> bool:
        """Whether every value is finite, within its feature's bounds, and whole where it must."""
        if self._is_narrow and len(matrix) == 1:
            return self._allows_cells(matrix[0].tolist())
        if not self._possible:
            return False
        # One number that is not finite makes the sum so; so may large ones, looked at below.
        if self._unbounded and isfinite(np.vdot(matrix, matrix)):
            return True
        # A NaN is within no bounds, and infinity beyond all of them.
        low, high = self._bounds_of(matrix)
        within = (matrix >= low) & (matrix <= high)
        # Counting takes a third of the time of numpy's own all().
        if np.count_nonzero(within) < within.size:
            return False
        if not self._whole:
            return True
        whole = matrix[:, self._whole]
        return bool((whole == np.floor(whole)).all())

    def _bounds_of(self, matrix: Matrix) -> tuple[Matrix, Matrix]:
        """The bounds of each number, in the matrix' own shape where that is small.

        For numpy compares a few long rows five times as fast as many short ones.
        """
        rows = len(matrix)
        if rows == 1 or matrix.size > _MOST_BOUNDS:
            return self._low, self._high
        low, high = self._repeated
        if rows > len(low):
            low, high = np.tile(self._low, (rows, 1)), np.tile(self._high, (rows, 1))
            self._repeated = low, high  # at once, for rows are read in threads too
        return low[:rows], high[:rows]

    def _allows_cells(self, cells: Sequence[float]) -> bool:
        """The same of the few cells of one row."""
        for value, (low, high) in zip(cells, self._ends, strict=True):
            if not low <= value <= high:
                return False
        return True

    def _exact_integers(self, flat: Sequence[object]) -> Matrix | None:
        """The numbers in 32 bits; None where a whole one breaks a rule that may not show there."""
        sent = np.frombuffer(struct.pack(f"{len(flat)}d", *flat)).reshape(-1, self._width)
        with np.errstate(over="ignore"):
            matrix = sent.astype(np.float32)
        whole = sent[:, self._whole]
        valid = (np.floor(whole) == whole) & (np.abs(whole) <= WHOLE_MAX)
        return matrix if valid.all() else None

    def _cells(self, row: object) -> Sequence[object]:
        if isinstance(row, dict) and len(row) == self._width:
            values: Sequence[object] = self._values(row)[:-1]
            return values
        if isinstance(row, list) and len(row) == self._width:
            return row
        raise TypeError(row)


def packed(flat: Sequence[object]) -> Matrix:
    """Numbers in 32 bits; three times as quick as numpy's own way from a list.

    Raises:
        struct.error: there is something else among them; a boolean passes for a number.
        OverflowError: one does not fit.
    """
    return np.frombuffer(struct.pack(f"{len(flat)}f", *flat), np.float32)


def _usual(feature: NumberFeature | IntegerFeature) -> tuple[float, float]:
    """Between which ends a value is both allowed and like those of training, in 32 bits."""
    spans = [span for span in (feature.allowed, feature.trained) if span is not None]
    low = max([-_HIGHEST, *(float(np.float32(span.low)) for span in spans)])
    return low, min([_HIGHEST, *(float(np.float32(span.high)) for span in spans)])
