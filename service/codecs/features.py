"""Decode rows of features into one checked float32 matrix.

The first hundred problems are reported at once, the others counted. The rows of every protocol pass
`ValueRules`, or the faster checks of `VectorRows`, which reject the same values.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from math import isfinite
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from service.bundle.features import (
    UNSEEN,
    WHOLE_MAX,
    BooleanFeature,
    CategoryFeature,
    Feature,
    FeaturesInput,
    IntegerFeature,
    NumberFeature,
    Range,
)
from service.codecs.json_reader import Numbers
from service.codecs.messages import (
    ProblemCollector,
    describe,
    describe_number,
    rule_problem,
    type_problem,
)
from service.codecs.rows import FeatureSchema, RowDecoder, TypeProblem
from service.codecs.tensors import convert_exactly
from service.errors import Problem
from service.values import listed

Matrix = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Rows are decoded in blocks of this size, so that a body full of mistakes never becomes a matrix.
_BLOCK_ROWS = 1024
Warnings = Mapping[int, Sequence[str]]

NO_WARNINGS: Warnings = {}

_NUMBERS = {int, float}
# Above this width, numpy's fixed cost is less than that of checking each number in Python.
_NARROW = 16
# The most bounds that are cached for a model.
_MAX_BOUNDS = 16_384
_HIGHEST = float(np.finfo(np.float32).max)


class FeatureCodec:
    """Decodes rows into the input matrix of a model, by the features of its manifest."""

    def __init__(self, features_input: FeaturesInput) -> None:
        self.features = features_input.features
        self.table = features_input.table
        self._schema = FeatureSchema(self.features)
        self.example = self._schema.example
        """A valid row."""
        self.names = frozenset(feature.name for feature in self.features)
        self._width = len(self.features)
        self._vector = VectorRows(self.features)
        self._rules = ValueRules(self.features)
        self._whole = [i for i, f in enumerate(self.features) if isinstance(f, IntegerFeature)]
        self.training_range = TrainingRange(self.features)
        self.reads_numbers = self._vector.is_plain and "instances" not in self.names
        """Whether rows of numbers can be decoded from the text of a request at once."""

    def decode_row(self, row: object) -> Matrix | None:
        """Decode one row; None unless it is valid and within the training range."""
        return self._vector.decode_one(row)

    def decode_numbers(self, numbers: Numbers) -> Matrix | None:
        """Decode rows of numbers as `decode_rows` does; None if one may be invalid."""
        if not self.reads_numbers or numbers.shape[1] != self._width:
            return None
        matrix = convert_exactly(numbers, "FP32")
        return matrix if matrix is not None and self._vector.within_bounds(matrix) else None

    def decode_rows(
        self,
        rows: Sequence[object],
        describe_type: TypeProblem = type_problem,
        *,
        booleans: bool = True,
    ) -> Matrix:
        """Decode rows into ``[rows, columns]``.

        Args:
            rows: objects by feature name, or arrays in the order of the features.
            describe_type: describes a value of the wrong type.
            booleans: whether the rows may contain booleans.

        Raises:
            InvalidInput: the first problems of all rows, and how many there are.
        """
        decoded = self._vector.decode(rows, booleans=booleans)
        if decoded is not None:
            return decoded
        decoder = RowDecoder(self._schema, describe_type)
        found = ProblemCollector()
        blocks: list[Matrix] = []
        for start in range(0, len(rows), _BLOCK_ROWS):
            first = start if len(rows) > 1 else None
            block = self._decode_block(decoder, rows[start : start + _BLOCK_ROWS], first, found)
            if not found.count:
                blocks.append(block)
        found.raise_any()
        return np.concatenate(blocks)

    def check(self, matrix: Matrix) -> None:
        """Raise `InvalidInput` if numbers of an input matrix break the rules of their features."""
        if self._vector.within_bounds(matrix):
            return
        found = ProblemCollector()
        for start in range(0, len(matrix), _BLOCK_ROWS):
            block = matrix[start : start + _BLOCK_ROWS]
            broken = self._rules.broken(block)
            first = start if len(matrix) > 1 else None
            problems = self._rule_problems(block, broken, first, describe_number)
            found.add(int(broken.sum()), problems)
        found.raise_any()

    def find_suspects(self, sent: npt.NDArray[np.float64]) -> tuple[Matrix, npt.NDArray[np.intp]]:
        """Convert numbers to 32 bits, and find the rows that may be invalid.

        Rounding to 32 bits can hide that a value breaks a rule, so these rows are decoded again one
        by one.

        Args:
            sent: ``[rows, columns]``; a missing value is NaN.

        Returns:
            The matrix, and the positions of such rows.
        """
        with np.errstate(over="ignore"):
            matrix = sent.astype(np.float32)
        suspects = self._rules.broken(matrix).any(axis=1)
        if self._whole:
            whole = sent[:, self._whole]
            suspects |= ~(_are_exact(whole) | np.isnan(whole)).all(axis=1)
        return matrix, np.flatnonzero(suspects)

    def _decode_block(
        self,
        decoder: RowDecoder,
        rows: Sequence[object],
        start: int | None,
        found: ProblemCollector,
    ) -> Matrix:
        unread = ProblemCollector(found.remaining)
        numbers = decoder.decode(rows, start, unread)
        matrix = np.array(numbers, np.float64).astype(np.float32)
        # Missing required values have been reported already.
        broken = self._rules.broken(matrix) & ~np.isnan(matrix)
        ruled = islice(self._rule_problems(matrix, broken, start, describe), found.remaining)
        problems = sorted([*unread.problems, *ruled], key=lambda problem: problem.row or 0)
        found.add(unread.count + int(broken.sum()), problems)
        return matrix

    def _rule_problems(
        self, matrix: Matrix, broken: Mask, start: int | None, expected: Callable[[Feature], str]
    ) -> Iterator[Problem]:
        for row, column in np.argwhere(broken):
            feature = self.features[column]
            number = None if start is None else start + int(row)
            value = float(matrix[row, column])
            hint = swap_hint(self.features, matrix[row].tolist(), int(column))
            yield rule_problem(feature, expected(feature), value, number, hint)


class ValueRules:
    """The rules on the numbers of each feature, as arrays ``[columns]``."""

    def __init__(self, features: Sequence[Feature]) -> None:
        low, high = zip(*map(_valid_range, features), strict=True)
        self._low = np.array(low, np.float32)
        self._high = np.array(high, np.float32)
        self._required = np.array([not feature.optional for feature in features])
        self._whole = np.array([not isinstance(feature, NumberFeature) for feature in features])

    def broken(self, matrix: Matrix) -> Mask:
        """Return which values of ``[rows, columns]`` break the rules of their features."""
        missing = np.isnan(matrix)
        wrong = (matrix < self._low) | (matrix > self._high) | np.isinf(matrix)
        wrong |= self._whole & (np.floor(matrix) != matrix) & ~missing
        broken: Mask = wrong | (missing & self._required)
        return broken


def _valid_range(feature: Feature) -> tuple[float, float]:
    """Return the allowed range, rounded to 32 bits as the rows are."""
    if isinstance(feature, CategoryFeature):
        return UNSEEN if feature.unseen == "other" else 0.0, len(feature.categories) - 1.0
    if isinstance(feature, BooleanFeature):
        return 0.0, 1.0
    return _rounded(feature.allowed)


def _rounded(span: Range | None) -> tuple[float, float]:
    """Return the ends of a range in 32 bits, so that rounding a value does not exclude it."""
    if span is None:
        return -np.inf, np.inf
    with np.errstate(over="ignore"):
        return float(np.float32(span.low)), float(np.float32(span.high))


class TrainingRange:
    """The range of each feature in the training set."""

    def __init__(self, features: Sequence[Feature]) -> None:
        # Bodies may be full of such values, so only the number is formatted for each.
        self._sentences = [_warning_parts(feature) for feature in features]
        low, high = zip(*map(_training_range, features), strict=True)
        self._low = np.array(low, np.float32)
        self._high = np.array(high, np.float32)
        self._is_bounded = bool(np.isfinite(self._low).any() or np.isfinite(self._high).any())

    def warnings(self, matrix: npt.NDArray[np.float32]) -> Warnings:
        """Return a warning for each value outside the training range, by row.

        Args:
            matrix: ``[rows, columns]``, checked; missing values get no warning.
        """
        if not self._is_bounded:
            return NO_WARNINGS
        beyond = (matrix < self._low) | (matrix > self._high)
        if not np.count_nonzero(beyond):
            return NO_WARNINGS
        found: dict[int, list[str]] = {}
        values = matrix[beyond].tolist()
        for (row, column), value in zip(np.argwhere(beyond).tolist(), values, strict=True):
            before, after = self._sentences[column]
            sentence = before if after is None else f"{before}{value:.7g}{after}"
            found.setdefault(row, []).append(sentence)
        return found


def swap_hint(features: Sequence[Feature], row: Sequence[float], column: int) -> str | None:
    """Return a hint if the value of a column breaks a rule because two features are swapped."""
    own = features[column]
    if not _is_in_training_range(own, row[column]):
        for other, value in zip(features, row, strict=True):
            if _is_in_training_range(other, row[column]) and _is_in_training_range(own, value):
                return f"Are {own.name!r} and {other.name!r} swapped?"
    return None


def _is_in_training_range(feature: Feature, value: float) -> bool:
    """Return whether a number is in the training range; False if that range is not known."""
    if not isinstance(feature, NumberFeature | IntegerFeature) or feature.trained is None:
        return False
    low, high = _training_range(feature)
    return low <= value <= high


def _training_range(feature: Feature) -> tuple[float, float]:
    """Return the range in the training set, rounded to 32 bits as the rows are."""
    if isinstance(feature, NumberFeature | IntegerFeature):
        return _rounded(feature.trained)
    return (0.0 if isinstance(feature, CategoryFeature) else -np.inf), np.inf


def _warning_parts(feature: Feature) -> tuple[str, str | None]:
    """Return the warning before and after the value; the second is None if it shows no value."""
    if isinstance(feature, CategoryFeature):
        sentence = (
            f"Feature {feature.name!r} has a category that is not in the training set "
            f"({listed(feature.categories)})."
        )
        return sentence, None
    low, high = _training_range(feature)
    unit = f" {feature.unit}" if feature.unit else ""
    advice = f"outside the training range {low:.7g} to {high:.7g}; the prediction is unreliable."
    return f"Feature {feature.name!r} is ", f"{unit}, {advice}"


class VectorRows:
    """Decodes rows of plain numbers, in one pass over the whole request."""

    def __init__(self, features: Sequence[Feature]) -> None:
        numeric = [f for f in features if isinstance(f, NumberFeature | IntegerFeature)]
        self._possible = len(numeric) == len(features)
        self._width = len(features)
        # With a single name, itemgetter returns no tuple, so the first name is there twice.
        names = [feature.name for feature in features]
        self._values = itemgetter(*names, names[0])
        # Infinity is in no range here.
        bounds = np.array([_valid_range(feature) for feature in numeric], np.float32)
        self._low, self._high = bounds.reshape(-1, 2).clip(-_HIGHEST, _HIGHEST).T.copy()
        self._repeated = self._low[None], self._high[None]
        self._ends = list(zip(self._low.tolist(), self._high.tolist(), strict=True))
        self._whole = [i for i, feature in enumerate(features) if feature.type == "integer"]
        self._unbounded = not self._whole and all(f.allowed is None for f in numeric)
        self.is_plain = self._possible and not self._whole
        """Whether all features are numbers that need not be whole."""
        self._typical_ranges = [_typical_range(feature) for feature in numeric]
        self._is_narrow = self.is_plain and self._width <= _NARROW

    def decode_one(self, row: object) -> Matrix | None:
        """Decode a single row into ``[1, columns]``.

        None unless the row is short, valid, and within the training range.
        """
        if not self._is_narrow:
            return None
        try:
            cells = self._cells(row)
        except (KeyError, TypeError):
            return None
        for value, (low, high) in zip(cells, self._typical_ranges, strict=True):
            if type(value) not in _NUMBERS or not low <= value <= high:  # type: ignore[operator] # it is a number
                return None
        return np.array((cells,), np.float32)

    def decode(self, rows: Sequence[object], *, booleans: bool = True) -> Matrix | None:
        """Decode rows into ``[rows, columns]``; None unless all are plain numbers and valid.

        Args:
            rows: objects by feature name, or arrays in the order of the features.
            booleans: whether the rows may contain booleans, which must not pass for numbers.
        """
        if not self._possible:
            return None
        try:
            cells = [self._cells(row) for row in rows]
        except (KeyError, TypeError):
            return None
        flat = cells[0] if len(cells) == 1 else list(chain.from_iterable(cells))
        if booleans and not set(map(type, flat)) <= _NUMBERS:
            return None
        try:
            matrix = self._exact_integers(flat) if self._whole else packed(flat)
        except (struct.error, OverflowError):
            return None
        if matrix is None:
            return None
        shaped = matrix.reshape(len(rows), self._width)
        return shaped if self.within_bounds(shaped) else None

    def within_bounds(self, matrix: Matrix) -> bool:
        """Return whether every value is finite, within its bounds, and whole if it must be."""
        if self._is_narrow and len(matrix) == 1:
            return self._cells_within_bounds(matrix[0].tolist())
        if not self._possible:
            return False
        # A number that is not finite makes the sum so. So may large numbers, checked below.
        if self._unbounded and isfinite(np.vdot(matrix, matrix)):
            return True
        # NaN is within no bounds, and infinity beyond all of them.
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
        """Return the bounds of each number, in the shape of a small matrix.

        numpy compares a few long rows five times as fast as many short ones.
        """
        rows = len(matrix)
        if rows == 1 or matrix.size > _MAX_BOUNDS:
            return self._low, self._high
        low, high = self._repeated
        if rows > len(low):
            low, high = np.tile(self._low, (rows, 1)), np.tile(self._high, (rows, 1))
            self._repeated = low, high  # in one assignment, as threads decode rows too
        return low[:rows], high[:rows]

    def _cells_within_bounds(self, cells: Sequence[float]) -> bool:
        for value, (low, high) in zip(cells, self._ends, strict=True):
            if not low <= value <= high:
                return False
        return True

    def _exact_integers(self, flat: Sequence[object]) -> Matrix | None:
        """Convert to 32 bits; None if an integer feature has no exact integer in 64 bits."""
        sent = np.frombuffer(struct.pack(f"{len(flat)}d", *flat)).reshape(-1, self._width)
        with np.errstate(over="ignore"):
            matrix = sent.astype(np.float32)
        return matrix if _are_exact(sent[:, self._whole]).all() else None

    def _cells(self, row: object) -> Sequence[object]:
        if isinstance(row, dict) and len(row) == self._width:
            values: Sequence[object] = self._values(row)[:-1]
            return values
        if isinstance(row, list) and len(row) == self._width:
            return row
        raise TypeError(row)


def _are_exact(numbers: npt.NDArray[np.float64]) -> Mask:
    """Return which numbers are integers that 64 bits represent exactly."""
    exact: Mask = (np.floor(numbers) == numbers) & (np.abs(numbers) <= WHOLE_MAX)
    return exact


def packed(flat: Sequence[object]) -> Matrix:
    """Convert numbers and booleans to 32 bits, three times as fast as numpy converts a list.

    Raises:
        struct.error: a value is not a number.
        OverflowError: a number does not fit.
    """
    return np.frombuffer(struct.pack(f"{len(flat)}f", *flat), np.float32)


def _typical_range(feature: NumberFeature | IntegerFeature) -> tuple[float, float]:
    lows, highs = zip(_valid_range(feature), _training_range(feature), strict=True)
    return max(-_HIGHEST, *lows), min(_HIGHEST, *highs)
