"""Decode rows of features into one checked matrix, in the type of the graph's input.

The first hundred problems are reported at once, the others counted. Rows of plain numbers are
decoded in one pass by `VectorRows`, others by `RowDecoder`; all follow the same `ValueRules`.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from math import isfinite
from operator import itemgetter, le
from typing import Any

import numpy as np
import numpy.typing as npt

from service.bundle.features import (
    CategoryFeature,
    DatetimeFeature,
    FeaturesInput,
    NumberFeature,
    NumericalFeature,
    NumericFeature,
)
from service.codecs.csv_cells import CellReader
from service.codecs.json_reader import Numbers
from service.codecs.messages import (
    Matrix,
    ProblemCollector,
    describe,
    describe_number,
    rule_problem,
    type_problem,
)
from service.codecs.ranges import (
    choose_format,
    find_training_range,
    find_valid_range,
    has_training_range,
    split_warning,
    warn_missing,
)
from service.codecs.rows import FeatureSchema, RowDecoder, TypeProblem
from service.codecs.tensors import convert_exactly
from service.engine.tensors import DTYPES
from service.errors import Problem
from service.values import are_exact_integers, are_integers

Dtype = np.dtype[Any]
Mask = npt.NDArray[np.bool_]
Ends = Sequence[float] | Matrix
# Rows are decoded in blocks of this size, so that a body full of mistakes never becomes a matrix.
_BLOCK_ROWS = 1024
Warnings = Mapping[int, Sequence[str]]
NO_WARNINGS: Warnings = {}

_FLOAT32, _FLOAT64 = DTYPES["FP32"], DTYPES["FP64"]
_NUMBERS = {int, float}
# Above this width, numpy's fixed cost is less than that of checking each number in Python.
_NARROW = 16
# The most ends of ranges that are cached for a model.
_MAX_CACHED_ENDS = 16_384


class FeatureCodec:
    """Decodes rows into the input matrix of a model, by the features of its manifest."""

    def __init__(self, features_input: FeaturesInput) -> None:
        self.features = features_input.numerical
        self.table = features_input.table
        self._datatype = features_input.datatype
        self.dtype = DTYPES[self._datatype]
        """Of the graph's input."""
        self._schema = FeatureSchema(self.features, self._datatype)
        self.example = self._schema.example
        """A valid row."""
        self.names = frozenset(self._schema.names)
        self._rules = ValueRules(self.features, self.dtype)
        self.training_range = TrainingRange(self.features, self.dtype)
        self.accepts_unseen = any(
            isinstance(feature, CategoryFeature) and feature.unseen == "other"
            for feature in self.features
        )
        """Whether a word that is not in the training set is no error."""
        self._vector = VectorRows(self.features, self._rules, self.training_range.bounds)
        self.decode_row = self._vector.decode_row
        """Decodes one typical row; None for any other."""
        self.reads_numbers = not self._rules.whole and "instances" not in self.names
        """Whether rows of numbers can be decoded from the text of a request at once."""

    def decode_numbers(self, numbers: Numbers) -> Matrix | None:
        """Decode rows of numbers as `decode_rows` does; None if one may be invalid."""
        if not self.reads_numbers or numbers.shape[1] != len(self.features):
            return None
        matrix = convert_exactly(numbers, self._datatype)
        return matrix if matrix is not None and self._rules.hold(matrix) else None

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
            unread = ProblemCollector(found.remaining)
            numbers = decoder.decode(rows[start : start + _BLOCK_ROWS], first, unread)
            block = self.check_block(numbers, first, unread, found)
            if not found.count:
                blocks.append(block)
        found.raise_any()
        return np.concatenate(blocks)

    def check(self, matrix: Matrix) -> None:
        """Raise `InvalidInput` if numbers of an input matrix break the rules of their features."""
        if self._rules.hold(matrix):
            return
        found = ProblemCollector()
        for start in range(0, len(matrix), _BLOCK_ROWS):
            block = matrix[start : start + _BLOCK_ROWS]
            broken = self._rules.broken(block)
            first = start if len(matrix) > 1 else None
            problems = self._rule_problems(block, broken, first, describe_number)
            found.add(int(broken.sum()), problems)
        found.raise_any()

    def create_rows(self, count: int) -> Matrix:
        """Return rows of zeros."""
        return np.zeros((count, len(self.features)), self.dtype)

    def decode_columns(
        self, columns: Sequence[tuple[int, CellReader, Sequence[str]]], count: int
    ) -> tuple[Matrix, npt.NDArray[np.intp]]:
        """Decode the cells of some features; the others are missing.

        Args:
            columns: the position of each feature, the reader of its cells, and these.
            count: of the rows.

        Returns:
            The matrix, and the positions of rows that may be invalid, as `find_suspects` does.
        """
        sent = np.full((count, len(self.features)), np.nan)
        for position, reader, cells in columns:
            sent[:, position] = reader.numbers(cells)
        return self.find_suspects(sent)

    def find_suspects(self, sent: npt.NDArray[np.float64]) -> tuple[Matrix, npt.NDArray[np.intp]]:
        """Convert numbers to the input's type, and find the rows that may be invalid.

        Rounding to 32 bits can hide that a value breaks a rule, so these rows are decoded again one
        by one.

        Args:
            sent: ``[rows, columns]``; a missing value is NaN.

        Returns:
            The matrix, and the positions of such rows.
        """
        matrix = _round(sent, self.dtype)
        suspects = self._rules.broken(matrix).any(axis=1)
        if self._rules.whole:
            whole = sent[:, self._rules.whole]
            suspects |= ~(are_exact_integers(whole) | np.isnan(whole)).all(axis=1)
        return matrix, np.flatnonzero(suspects)

    def check_block(
        self,
        numbers: Sequence[Sequence[float]],
        start: int | None,
        unread: ProblemCollector,
        found: ProblemCollector,
    ) -> Matrix:
        """Convert decoded rows to the input's type, and find the numbers that break a rule.

        Args:
            numbers: ``[rows][columns]``; a value that is missing or invalid is NaN.
            start: the number of the first row; None if the request has only one.
            unread: the problems that decoding them found.
            found: collects these and the broken rules, by row.
        """
        matrix = np.array(numbers, np.float64).astype(self.dtype, copy=False)
        # Missing required values have been reported already.
        broken = self._rules.broken(matrix) & ~np.isnan(matrix)
        ruled = islice(self._rule_problems(matrix, broken, start, describe), found.remaining)
        problems = sorted([*unread.problems, *ruled], key=lambda problem: problem.row or 0)
        found.add(unread.count + int(broken.sum()), problems)
        return matrix

    def _rule_problems(
        self,
        matrix: Matrix,
        broken: Mask,
        start: int | None,
        expected: Callable[[NumericalFeature], str],
    ) -> Iterator[Problem]:
        for row, column in np.argwhere(broken).tolist():
            feature = self.features[column]
            number = None if start is None else start + row
            hint = self.training_range.swap_hint(matrix[row], column)
            yield rule_problem(feature, expected(feature), matrix[row, column], number, hint)


class Bounds:
    """A range for each feature; its ends are in it, and NaN is in no range.

    The ends are rounded as the rows are, so that rounding a value does not exclude it.
    """

    def __init__(self, low: Ends, high: Ends, dtype: Dtype = _FLOAT32) -> None:
        self.low, self.high = _round(np.array((low, high)), dtype)
        self._lows, self._highs = self.low.tolist(), self.high.tolist()
        self._repeated = self.low[None], self.high[None]

    def contain(self, matrix: Matrix) -> Mask:
        """Return which numbers of ``[rows, columns]`` are in the range of their feature."""
        low, high = self._ends(matrix)
        within: Mask = (matrix >= low) & (matrix <= high)
        return within

    def contain_row(self, row: Sequence[Any]) -> bool:
        """Return whether all numbers of a row are in range, faster than numpy for a few numbers."""
        return all(map(le, self._lows, row)) and all(map(le, row, self._highs))

    def _ends(self, matrix: Matrix) -> tuple[Matrix, Matrix]:
        """Return the ends of the range of each number, in the shape of a small matrix.

        numpy compares a few long rows five times as fast as many short ones.
        """
        rows = len(matrix)
        if rows == 1 or matrix.size > _MAX_CACHED_ENDS:
            return self.low, self.high
        low, high = self._repeated
        if rows > len(low):
            low, high = np.tile(self.low, (rows, 1)), np.tile(self.high, (rows, 1))
            self._repeated = low, high  # in one assignment, as threads decode rows too
        return low[:rows], high[:rows]


class ValueRules:
    """The rules on the numbers of each feature: its range, and whether it is whole or optional."""

    def __init__(self, features: Sequence[NumericalFeature], dtype: Dtype = _FLOAT32) -> None:
        lows, highs = zip(*[find_valid_range(feature, dtype) for feature in features], strict=True)
        self.bounds = Bounds(lows, highs, dtype)
        self._fractional = np.array(
            [isinstance(feature, NumberFeature | DatetimeFeature) for feature in features]
        )
        self.whole = np.flatnonzero(~self._fractional).tolist()
        """The columns whose numbers must be whole."""
        self._optional = np.array([feature.optional for feature in features])
        self._has_optional = bool(self._optional.any())
        self.is_narrow = not self.whole and len(features) <= _NARROW
        """Whether a row is checked faster in Python."""
        self._is_unbounded = all(
            isinstance(feature, NumberFeature) and feature.allowed is None for feature in features
        )

    def hold(self, matrix: Matrix) -> bool:
        """Return whether no number of ``[rows, columns]`` breaks the rules of its feature."""
        if self.is_narrow and len(matrix) == 1 and self.bounds.contain_row(matrix[0].tolist()):
            return True
        # A number that is not finite makes the sum so. So may large numbers, checked below.
        if self._is_unbounded and isfinite(np.vdot(matrix, matrix)):
            return True
        valid = self._valid(matrix)
        # Counting takes a third of the time of numpy's own all().
        return bool(np.count_nonzero(valid) == valid.size)

    def broken(self, matrix: Matrix) -> Mask:
        """Return which numbers of ``[rows, columns]`` break the rules of their features."""
        return ~self._valid(matrix)

    def _valid(self, matrix: Matrix) -> Mask:
        valid = self.bounds.contain(matrix)
        if self.whole:
            valid &= self._fractional | are_integers(matrix)
        if self._has_optional:
            valid |= self._optional & np.isnan(matrix)
        return valid


class TrainingRange:
    """The range of each feature in the training set."""

    def __init__(self, features: Sequence[NumericalFeature], dtype: Dtype = _FLOAT32) -> None:
        self._features = features
        lows, highs = zip(*map(find_training_range, features), strict=True)
        self.bounds = Bounds(lows, highs, dtype)
        self._is_bounded = bool(np.isfinite((self.bounds.low, self.bounds.high)).any())
        self._complete = np.array([feature.optional and feature.complete for feature in features])
        self._formats = [choose_format(feature, dtype) for feature in features]
        # Bodies may be full of such values, so only the number is formatted for each.
        self._sentences = [
            split_warning(feature, shown(low), shown(high))
            for feature, shown, low, high in zip(
                features, self._formats, self.bounds.low, self.bounds.high, strict=True
            )
        ]

    def warnings(self, matrix: Matrix) -> Warnings:
        """Return a warning for each value outside the training range, by row.

        A missing value has one if the training set has none in its column.

        Args:
            matrix: ``[rows, columns]``, checked.
        """
        if not (self._is_bounded or self._complete.any()):
            return NO_WARNINGS
        within = self.bounds.contain(matrix)
        if np.count_nonzero(within) == within.size:
            return NO_WARNINGS
        # Missing values are not within a range, so only for other values both are false.
        missing = np.isnan(matrix)
        beyond = (within == missing) | (missing & self._complete)
        found: dict[int, list[str]] = {}
        values = matrix[beyond].tolist()
        for (row, column), value in zip(np.argwhere(beyond).tolist(), values, strict=True):
            if value != value:  # noqa: PLR0124 - NaN alone differs from itself
                found.setdefault(row, []).append(warn_missing(self._features[column]))
                continue
            before, after = self._sentences[column]
            sentence = before if after is None else f"{before}{self._formats[column](value)}{after}"
            found.setdefault(row, []).append(sentence)
        return found

    def swap_hint(self, row: Matrix, column: int) -> str | None:
        """Return a hint if the value of a column breaks a rule because two features are swapped.

        Args:
            row: ``[columns]``.
            column: of the value.
        """
        own = Bounds(self.bounds.low[[column]], self.bounds.high[[column]], row.dtype)
        fits_here = own.contain(row[:, np.newaxis])[:, 0]
        if fits_here[column] or not has_training_range(self._features[column]):
            return None
        fits_there = self.bounds.contain(np.full_like(row, row[column])[np.newaxis])[0]
        for other, is_swapped in zip(self._features, fits_here & fits_there, strict=True):
            if is_swapped and has_training_range(other):
                return f"Are {self._features[column].name!r} and {other.name!r} swapped?"
        return None


class VectorRows:
    """Decodes rows of plain numbers, in one pass over the whole request."""

    def __init__(
        self, features: Sequence[NumericalFeature], rules: ValueRules, training_bounds: Bounds
    ) -> None:
        self._rules = rules
        self._possible = all(isinstance(f, NumericFeature) for f in features)
        self._width = len(features)
        self._dtype = rules.bounds.low.dtype
        names = [feature.name for feature in features]
        # With a single name, itemgetter returns no tuple.
        self._values = itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)
        self._typical = Bounds(
            np.maximum(rules.bounds.low, training_bounds.low),
            np.minimum(rules.bounds.high, training_bounds.high),
            self._dtype,
        )

    def decode_row(self, row: object) -> Matrix | None:
        """Decode a single row into ``[1, columns]``.

        None unless the row is narrow, valid, and within the training range.
        """
        if not self._rules.is_narrow:
            return None
        try:
            cells = self._cells(row)
        except (KeyError, TypeError):
            return None
        if _NUMBERS.issuperset(map(type, cells)) and self._typical.contain_row(cells):
            return np.array((cells,), self._dtype)
        return None

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
        if booleans and not _NUMBERS.issuperset(map(type, flat)):
            return None
        try:
            matrix = self._exact_integers(flat) if self._rules.whole else _pack(flat, self._dtype)
        except (struct.error, OverflowError):
            return None
        if matrix is None:
            return None
        shaped = matrix.reshape(len(rows), self._width)
        return shaped if self._rules.hold(shaped) else None

    def _exact_integers(self, flat: Sequence[object]) -> Matrix | None:
        """Convert numbers; None if an integer feature has no exact integer in 64 bits."""
        sent = _pack(flat, _FLOAT64).reshape(-1, self._width)
        is_exact = are_exact_integers(sent[:, self._rules.whole]).all()
        return _round(sent, self._dtype) if is_exact else None

    def _cells(self, row: object) -> Sequence[object]:
        if isinstance(row, dict) and len(row) == self._width:
            values: Sequence[object] = self._values(row)
            return values
        if isinstance(row, list) and len(row) == self._width:
            return row
        raise TypeError(row)


def _round(numbers: Matrix, dtype: Dtype) -> Matrix:
    """Round numbers; those that do not fit become infinite."""
    with np.errstate(over="ignore"):
        return numbers.astype(dtype, copy=False)


def _pack(flat: Sequence[object], dtype: Dtype) -> Matrix:
    """Convert numbers, three times as fast as numpy converts a list.

    Raises:
        struct.error: a value is not a number.
        OverflowError: a number does not fit.
    """
    return np.frombuffer(struct.pack(f"{len(flat)}{dtype.char}", *flat), dtype)
