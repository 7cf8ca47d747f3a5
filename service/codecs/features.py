"""A table's rows: JSON objects in, one checked float32 matrix out.

The first hundred problems are reported at once, the others counted. The rules on values
are in `FeatureCodec.check`, which every dialect's rows pass.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from math import isfinite
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from service.bundle.features import (
    BooleanFeature,
    CategoryFeature,
    Feature,
    FeaturesInput,
    IntegerFeature,
    NumberFeature,
)
from service.codecs.json_reader import Numbers
from service.codecs.messages import (
    Findings,
    describe,
    describe_number,
    misfit_problem,
    rule_problem,
)
from service.codecs.rows import UNSEEN, Columns, Misfit, RowReader
from service.codecs.tensors import fitted
from service.errors import Problem
from service.values import WHOLE_MAX, listed

Matrix = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Rows are read so many at a time, so that a body of mistakes never becomes a matrix.
_BLOCK_ROWS = 1024
Warnings = Mapping[int, Sequence[str]]

NO_WARNINGS: Warnings = {}

_NUMBERS = {int, float}
# Above it, numpy's fixed costs are less than those of looking at each number.
_NARROW = 16
# So many bounds are kept ready for a model, at most.
_MOST_BOUNDS = 16_384
_HIGHEST = float(np.finfo(np.float32).max)


class FeatureCodec:
    """Turns rows into the matrix a model takes, by the features of its manifest."""

    def __init__(self, features_input: FeaturesInput) -> None:
        self.features = features_input.features
        self.table = features_input.table
        self._columns = Columns(self.features)
        self.names = frozenset(feature.name for feature in self.features)
        self._width = len(self.features)
        self._vector = VectorRows(self.features)
        self._whole = [i for i, f in enumerate(self.features) if isinstance(f, IntegerFeature)]
        self.trained = TrainingRange(self.features)
        self.reads_numbers = self._vector.is_plain and "instances" not in self.names
        """Whether rows of numbers can be decoded from the text of a request at once."""

    @property
    def example(self) -> dict[str, object]:
        """A row that this model takes."""
        return self._columns.example

    def decode_row(self, row: object) -> Matrix | None:
        """One row as `rows` decodes it; None unless it is valid and within the training range."""
        return self._vector.decode_one(row)

    def decode_numbers(self, numbers: Numbers) -> Matrix | None:
        """Rows of numbers as `rows` decodes them; None where one may not be valid."""
        if not self.reads_numbers or numbers.shape[1] != self._width:
            return None
        matrix = fitted(numbers, "FP32")
        return matrix if matrix is not None and self._vector.within_bounds(matrix) else None

    def rows(
        self,
        rows: Sequence[object],
        misfit: Misfit = misfit_problem,
        *,
        booleans: bool = True,
    ) -> Matrix:
        """Rows as ``[rows, columns]``; an object by names, or an array in the features' order.

        Args:
            rows: what was sent.
            misfit: says what is wrong with a value that is not of its feature's kind.
            booleans: whether there may be some in the rows.

        Raises:
            InvalidInput: the first problems of all rows, and how many there are.
        """
        decoded = self._vector.decode(rows, booleans=booleans)
        if decoded is not None:
            return decoded
        reader = RowReader(self._columns, misfit)
        found = Findings()
        blocks: list[Matrix] = []
        for start in range(0, len(rows), _BLOCK_ROWS):
            first = start if len(rows) > 1 else None
            block = self._read_block(reader, rows[start : start + _BLOCK_ROWS], first, found)
            if not found.count:
                blocks.append(block)
        found.raise_any()
        return np.concatenate(blocks)

    def check(self, matrix: Matrix) -> None:
        """Hold every number of the graph against its feature's rules, whichever dialect sent it.

        Raises:
            InvalidInput: the first values that break a rule, and how many there are.
        """
        if self._vector.within_bounds(matrix):
            return
        found = Findings()
        for start in range(0, len(matrix), _BLOCK_ROWS):
            block = matrix[start : start + _BLOCK_ROWS]
            broken = broken_rules(block, self.features)
            first = start if len(matrix) > 1 else None
            problems = self._rule_problems(block, broken, first, describe_number)
            found.add(int(broken.sum()), problems)
        found.raise_any()

    def sift(self, sent: npt.NDArray[np.float64]) -> tuple[Matrix, npt.NDArray[np.intp]]:
        """Numbers in 32 bits, and the rows that must be read singly to say what they are.

        Those break a rule, which may not show any more in 32 bits.

        Args:
            sent: ``[rows, columns]``, NaN where a value is missing.
        """
        with np.errstate(over="ignore"):
            matrix = sent.astype(np.float32)
        doubtful = broken_rules(matrix, self.features).any(axis=1)
        if self._whole:
            whole = sent[:, self._whole]
            valid = (np.floor(whole) == whole) & (np.abs(whole) <= WHOLE_MAX)
            doubtful |= ~(valid | np.isnan(whole)).all(axis=1)
        return matrix, np.flatnonzero(doubtful)

    def _read_block(
        self, reader: RowReader, rows: Sequence[object], start: int | None, found: Findings
    ) -> Matrix:
        unread = Findings(found.room)
        numbers = reader.read(rows, start, unread)
        matrix = np.array(numbers, np.float64).astype(np.float32)
        # Missing required values have been reported as such.
        broken = broken_rules(matrix, self.features) & ~np.isnan(matrix)
        ruled = islice(self._rule_problems(matrix, broken, start, describe), found.room)
        problems = sorted([*unread.problems, *ruled], key=lambda problem: problem.row or 0)
        found.add(unread.count + int(broken.sum()), problems)
        return matrix

    def _rule_problems(
        self, matrix: Matrix, broken: Mask, start: int | None, say: Callable[[Feature], str]
    ) -> Iterator[Problem]:
        for row, column in np.argwhere(broken):
            feature = self.features[column]
            place = None if start is None else start + int(row)
            value = float(matrix[row, column])
            hint = swap_hint(self.features, matrix[row].tolist(), int(column))
            yield rule_problem(feature, say(feature), value, place, hint)


def broken_rules(matrix: Matrix, features: Sequence[Feature]) -> Mask:
    """Which values break their features' rules."""
    broken = np.empty(matrix.shape, np.bool_)
    for column, feature in enumerate(features):
        broken[:, column] = _breaks_rule(matrix[:, column], feature)
    return broken


def _breaks_rule(values: Matrix, feature: Feature) -> Mask:
    missing = np.isnan(values)
    bad: Mask = np.isinf(values)
    if not feature.optional:
        bad |= missing
    if isinstance(feature, CategoryFeature):
        lowest = UNSEEN if feature.unseen == "other" else 0.0
        wrong = (
            (values < lowest) | (values >= len(feature.categories)) | (np.floor(values) != values)
        )
    elif isinstance(feature, BooleanFeature):
        wrong = (values != 0) & (values != 1)
    else:
        wrong = np.zeros(len(values), np.bool_)
        if isinstance(feature, IntegerFeature):
            wrong |= ~np.isinf(values) & (np.floor(values) != values)
        if feature.allowed is not None:
            low, high = np.float32(feature.allowed.low), np.float32(feature.allowed.high)
            wrong |= (values < low) | (values > high)
    bad |= wrong & ~missing
    return bad


class TrainingRange:
    """The range of each feature in the training set."""

    def __init__(self, features: Sequence[Feature]) -> None:
        # Bodies may be full of such values, so each has only its number put in.
        self._sentences = [_sentence(feature) for feature in features]
        low, high = zip(*map(_span, features), strict=True)
        # In 32 bits, as the rows are: rounding must not put an end of the range outside itself.
        self._low = np.array(low, np.float32)
        self._high = np.array(high, np.float32)
        self._is_bounded = bool(np.isfinite(self._low).any() or np.isfinite(self._high).any())

    def warnings(self, matrix: npt.NDArray[np.float32]) -> Warnings:
        """A sentence for each value beyond what training saw, by row; a gap is none.

        Args:
            matrix: ``[rows, columns]``, checked.
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
    """Whether a value was probably meant for another feature, and that one's for it.

    Args:
        features: of the row.
        row: their numbers.
        column: of a value that breaks its rule.
    """
    own = features[column]
    if not _fits(own, row[column]):
        for other, value in zip(features, row, strict=True):
            if _fits(other, row[column]) and _fits(own, value):
                return f"Are {own.name!r} and {other.name!r} swapped?"
    return None


def _fits(feature: Feature, value: float) -> bool:
    """Whether training saw numbers like this; not where nobody knows what it saw."""
    if not isinstance(feature, NumberFeature | IntegerFeature) or feature.trained is None:
        return False
    return feature.trained.low <= value <= feature.trained.high


def _span(feature: Feature) -> tuple[float, float]:
    if isinstance(feature, NumberFeature | IntegerFeature):
        if feature.trained is not None:
            return feature.trained.low, feature.trained.high
    elif isinstance(feature, CategoryFeature):
        return 0.0, np.inf
    return -np.inf, np.inf


def _sentence(feature: Feature) -> tuple[str, str | None]:
    """What comes before and after the value; or the whole sentence, where it has no value."""
    if isinstance(feature, CategoryFeature):
        sentence = (
            f"Feature {feature.name!r} is a word that training did not see; "
            f"it saw {listed(feature.categories)}."
        )
        return sentence, None
    low, high = _span(feature)
    unit = f" {feature.unit}" if feature.unit else ""
    return (
        f"Feature {feature.name!r} is ",
        f"{unit}, and training saw only {low:.7g} to {high:.7g}; the answer is a guess beyond it.",
    )


class VectorRows:
    """Reads rows of plain numbers, in one pass over the whole request."""

    def __init__(self, features: Sequence[Feature]) -> None:
        numeric = [f for f in features if isinstance(f, NumberFeature | IntegerFeature)]
        self._possible = len(numeric) == len(features)
        self._width = len(features)
        # A getter of one name gives the value bare, so the first name is given twice.
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
        self._usual_ranges = [_usual_range(feature) for feature in numeric]
        self._is_narrow = self.is_plain and self._width <= _NARROW

    def decode_one(self, row: object) -> Matrix | None:
        """A single row ``[1, columns]`` that is allowed, and like those of training.

        None where it is anything else, or nobody can tell so quickly.
        """
        if not self._is_narrow:
            return None
        try:
            cells = self._cells(row)
        except (KeyError, TypeError):
            return None
        for value, (low, high) in zip(cells, self._usual_ranges, strict=True):
            if type(value) not in _NUMBERS or not low <= value <= high:  # type: ignore[operator] # it is a number
                return None
        return np.array((cells,), np.float32)

    def decode(self, rows: Sequence[object], *, booleans: bool = True) -> Matrix | None:
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
        return self.decode_flat(flat, len(rows), booleans=booleans)

    def decode_flat(
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
        return shaped if self.within_bounds(shaped) else None

    def within_bounds(self, matrix: Matrix) -> bool:
        """Whether every value is finite, within its feature's bounds, and whole where it must."""
        if self._is_narrow and len(matrix) == 1:
            return self._cells_within_bounds(matrix[0].tolist())
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

    def _cells_within_bounds(self, cells: Sequence[float]) -> bool:
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


def _usual_range(feature: NumberFeature | IntegerFeature) -> tuple[float, float]:
    """Between which ends a value is both allowed and like those of training, in 32 bits."""
    spans = [span for span in (feature.allowed, feature.trained) if span is not None]
    low = max([-_HIGHEST, *(float(np.float32(span.low)) for span in spans)])
    return low, min([_HIGHEST, *(float(np.float32(span.high)) for span in spans)])
