"""A table's rows: JSON objects in, one checked float32 matrix out.

The first hundred things that are wrong are told at once, the others counted. The rules on values
are in `FeatureCodec.check`, which every dialect's rows pass.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from service.bundle.features import (
    BooleanFeature,
    CategoryFeature,
    Feature,
    FeaturesInput,
    IntegerFeature,
)
from service.codecs.json_numbers import rows_of_numbers
from service.codecs.messages import (
    Findings,
    describe,
    describe_number,
    misfit_problem,
    rule_problem,
)
from service.codecs.rows import UNSEEN, Columns, Misfit, RowReader
from service.codecs.tensors import fitted
from service.codecs.training_range import TrainedRange, swap_hint
from service.codecs.vector_rows import QuickRows
from service.errors import Problem
from service.values import WHOLE_MAX

Matrix = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Rows are read so many at a time, so that a body of mistakes never becomes a matrix.
_BLOCK_ROWS = 1024


class FeatureCodec:
    """Turns rows into the matrix a model takes, by the features of its manifest."""

    def __init__(self, features_input: FeaturesInput) -> None:
        self.features = features_input.features
        self.table = features_input.table
        self._columns = Columns(self.features)
        self.names = frozenset(feature.name for feature in self.features)
        self._width = len(self.features)
        self._quick = QuickRows(self.features)
        self._whole = [i for i, f in enumerate(self.features) if isinstance(f, IntegerFeature)]
        self.trained = TrainedRange(self.features)

    @property
    def example(self) -> dict[str, object]:
        """A row that this model takes."""
        return self._columns.example

    def usual_row(self, row: object) -> Matrix | None:
        """One row as `rows` reads it; None unless it is surely allowed and as in training."""
        return self._quick.read_usual(row)

    def instances(self, body: bytes) -> Matrix | None:
        """A body of arrays of numbers, bare or under ``instances``, as `rows` reads them.

        None where it may be anything else, and each row must be looked at by itself.
        """
        if not self._quick.is_plain or "instances" in self.names:
            return None
        numbers = rows_of_numbers(body)
        if numbers is None or numbers.shape[1] != self._width:
            return None
        matrix = fitted(numbers, "FP32")
        return matrix if matrix is not None and self._quick.allows(matrix) else None

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
        quick = self._quick.read(rows, booleans=booleans)
        if quick is not None:
            return quick
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
        if self._quick.allows(matrix):
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
        # What is missing and must not be has been told as such.
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
