"""Split rows into training, validation and test set, and into folds: by seed, groups or time."""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import polars as pl
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    train_test_split,
)

from training.data.table import Floats, Rows, Table
from training.data.times import parse_times
from training.errors import DataError
from training.recipe.table import Recipe, Split

_MAX_FOLDS_OF_A_SHARE = 20
_ROUNDING = 1e-9
_MIN_ROWS_OF_A_CLASS = 2


@dataclass(frozen=True)
class RowSplit:
    """The disjoint, sorted row indices of the three sets."""

    training: Rows
    validation: Rows
    test: Rows

    @property
    def outside_test(self) -> Rows:
        """All rows outside the test set, in order."""
        return np.sort(np.concatenate([self.training, self.validation]))


@dataclass(frozen=True)
class Splitter:
    """Splits the rows of a table at random, in groups, or by time; the same way for a seed."""

    target: Floats
    """``[rows]``, values or positions of labels."""
    seed: int
    classes: bool
    """Whether to stratify; rows in the order of time are not stratified."""
    column: str = ""
    """The column of the groups or times."""
    groups: Rows | None = None
    """``[rows]``: the position of each row's group; a group stays in one set."""
    times: Floats | None = None
    """``[rows]``: rows are held out from the newest on; rows of one time stay together."""

    def split(self, split: Split) -> RowSplit:
        """Split all rows into the three sets.

        Raises:
            DataError: there are too few rows, groups or times, in total or of one class.
        """
        rest, test = self.hold_out(np.arange(len(self.target)), split.test)
        share = split.validation / (1 - split.test)
        training, validation = self.hold_out(rest, share)
        return RowSplit(training, validation, test)

    def hold_out(self, rows: Rows, share: float) -> tuple[Rows, Rows]:
        """Split rows into (remaining, held out).

        Raises:
            DataError: there are too few rows, groups or times, in total or of one class.
        """
        if share == 0:
            return rows, rows[:0]
        if self.times is not None:
            return self._hold_out_newest(rows, self.times, share)
        if self.groups is not None:
            return self._hold_out_groups(rows, self.groups, share)
        try:
            retained, held_out = train_test_split(
                rows,
                test_size=share,
                random_state=self.seed,
                stratify=self.target[rows] if self.classes else None,
            )
        except ValueError as error:
            raise DataError(
                f"{len(rows)} rows cannot be split with a held-out share of {share:.2f}: {error} "
                "Collect more rows, or set split.test = 0 and cross-validate with split.folds."
            ) from None
        return np.sort(retained), np.sort(held_out)

    def folds(self, rows: Rows, count: int) -> Iterator[tuple[Rows, Rows]]:
        """Yield pairs of training rows and measured rows for cross-validation.

        As many folds as rows, or groups, leave one out. Each row is measured once, except in the
        order of time: then a fold is measured by the rows before it, as in scikit-learn's
        `TimeSeriesSplit`, so the oldest rows are only trained on.

        Raises:
            DataError: there are fewer rows, groups or times than folds, in total or of one class.
        """
        if self.times is not None:
            pairs = self._time_folds(rows, self.times, count)
        elif self.groups is not None:
            pairs = self._group_folds(rows, self.groups, count)
        else:
            pairs = self._random_folds(rows, count)
        for rest, measured in pairs:
            yield rows[rest], rows[measured]

    def _random_folds(self, rows: Rows, count: int) -> Iterator[tuple[Rows, Rows]]:
        target = self.target[rows]
        if count > len(rows):
            raise DataError(f"split.folds: {count} folds need as many rows; there are {len(rows)}.")
        if not self.classes or count == len(rows):
            yield from KFold(count, shuffle=True, random_state=self.seed).split(target)
            return
        rarest = int(np.bincount(target.astype(int)).min())
        if rarest < _MIN_ROWS_OF_A_CLASS:
            raise DataError(
                "split.folds: every class needs two rows, so that one is fitted when the other is "
                f"measured; the rarest has {rarest}."
            )
        stratified = StratifiedKFold(count, shuffle=True, random_state=self.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class has fewer rows than folds
            yield from list(stratified.split(target, target))

    def _hold_out_groups(self, rows: Rows, groups: Rows, share: float) -> tuple[Rows, Rows]:
        """Hold out one or several folds of groups.

        Of the possible ones, those that leave the most classes for training and are closest to the
        share. A class that is only in held-out groups gets one of them back.
        """
        most = len(np.unique(groups[rows]))
        if most == 1:
            raise DataError(
                f"split.group: all {len(rows)} rows to split have one value of {self.column!r}; "
                "two groups or more are needed. Choose another column, or remove this key."
            )
        fraction = Fraction(share).limit_denominator(min(most, _MAX_FOLDS_OF_A_SHARE))
        count = max(fraction.denominator, 2) if fraction else min(most, _MAX_FOLDS_OF_A_SHARE)
        width = min(max(fraction.numerator, 1), count - 1)
        measured = [fold for _, fold in self._group_folds(rows, groups, count)]
        best = (math.inf, math.inf)
        held_out = rows[:0]
        for first in range(count):
            candidate = np.concatenate([measured[(first + k) % count] for k in range(width)])
            rest = np.delete(rows, candidate)
            missing = len(self._list_missing(rows, rest))
            quality = (missing, abs(len(candidate) / len(rows) - share))
            if quality < best:
                best, held_out = quality, rows[candidate]
        held_out = self._return_classes(rows, held_out, groups)
        if not len(held_out):
            raise DataError(
                f"split.group: all rows of a class are in one group of {self.column!r}, so no "
                "group can be held out without removing a class from the training set. Choose "
                "another column, or remove the class from target.labels."
            )
        return np.setdiff1d(rows, held_out), np.sort(held_out)

    def _return_classes(self, rows: Rows, held_out: Rows, groups: Rows) -> Rows:
        """Return the held-out rows without one group of each class that training lacks."""
        for label in self._list_missing(rows, np.setdiff1d(rows, held_out)):
            of_label = held_out[self.target[held_out] == label]
            if len(of_label):  # not yet returned with the group of another class
                group = np.bincount(groups[of_label]).argmax()
                held_out = held_out[groups[held_out] != group]
        return held_out

    def _list_missing(self, rows: Rows, rest: Rows) -> Floats:
        """Return the classes of the rows that the rest does not have."""
        if not self.classes:
            return self.target[:0]
        return np.setdiff1d(self.target[rows], self.target[rest])

    def _group_folds(self, rows: Rows, groups: Rows, count: int) -> Iterator[tuple[Rows, Rows]]:
        target, groups = self.target[rows], groups[rows]
        found = len(np.unique(groups))
        if found < count:
            raise DataError(
                f"split.group: {count} folds need as many groups; the rows have {found} different "
                f"values of {self.column!r}."
            )
        pairs: Sequence[tuple[Rows, Rows]] = []
        if self.classes and np.unique(target, return_counts=True)[1].max() >= count:
            stratified = StratifiedGroupKFold(count, shuffle=True, random_state=self.seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a class has fewer rows than folds
                pairs = list(stratified.split(target, target, groups))
        if not pairs or any(len(fold) == 0 for _, fold in pairs):
            pairs = list(
                GroupKFold(count, shuffle=True, random_state=self.seed).split(target, groups=groups)
            )
        yield from pairs

    def _hold_out_newest(self, rows: Rows, times: Floats, share: float) -> tuple[Rows, Rows]:
        position = len(rows) - math.ceil(len(rows) * share - _ROUNDING)
        order, edges = self._cut(rows, times, [position])
        return np.sort(rows[order[: edges[0]]]), np.sort(rows[order[edges[0] :]])

    def _time_folds(self, rows: Rows, times: Floats, count: int) -> Iterator[tuple[Rows, Rows]]:
        positions = [round(len(rows) * k / (count + 1)) for k in range(1, count + 1)]
        order, edges = self._cut(rows, times, positions)
        for begin, end in pairwise([*edges, len(rows)]):
            yield np.sort(order[:begin]), np.sort(order[begin:end])

    def _cut(self, rows: Rows, times: Floats, positions: Sequence[int]) -> tuple[Rows, list[int]]:
        """Return the order of the rows by time, and the positions in it to cut at.

        Rows of one time stay together, so each cut is at the nearest change of the time.
        """
        order = np.argsort(times[rows], kind="stable")
        changes = np.flatnonzero(np.diff(times[rows][order])) + 1
        if len(changes) < len(positions):
            raise DataError(
                f"split.time: {len(positions) + 1} successive periods need as many different "
                f"values of {self.column!r}; the {len(rows)} rows to split have "
                f"{len(changes) + 1}. Choose another column, or fewer folds."
            )
        edges = [int(changes[np.abs(changes - position).argmin()]) for position in positions]
        if len(set(edges)) < len(edges):
            edges = changes[
                np.linspace(0, len(changes) - 1, len(edges)).round().astype(int)
            ].tolist()
        return order, edges


def create_splitter(recipe: Recipe, table: Table, target: Floats) -> Splitter:
    """Return the splitter of a recipe for the rows with a target.

    Raises:
        DataError: the column of groups or times does not exist, or has an unusable cell.
    """
    split = recipe.split
    groups = None if split.group is None else read_groups(table, split.group, split.group_until)
    times = None if split.time is None else read_times(table, split.time)
    column = split.group or split.time or ""
    return Splitter(target, recipe.seed, recipe.is_classification, column, groups, times)


def read_groups(table: Table, column: str, until: str | None = None) -> Rows:
    """Return the position of each row's group, ``[rows]``.

    With ``until``, a group is the text of the cell before the last such mark.

    Raises:
        DataError: there is no such column, or a cell is empty.
    """
    cells = table.column(column)
    _require_complete(table, column, "belongs to no group")
    if until is not None:
        cells = pl.Series(column, [cell.rpartition(until)[0] or cell for cell in cells])
    return cells.rank("dense").to_numpy().astype(np.intp) - 1


def read_times(table: Table, column: str) -> Floats:
    """Return numbers in the order of time, ``[rows]``.

    Raises:
        DataError: there is no such column, or its cells cannot be ordered.
    """
    cells = table.column(column)
    _require_complete(table, column, "has no time")
    times = parse_times(cells, table.number_format)
    if times is None:
        raise DataError(
            f"{table.name}: the column {column!r} cannot be ordered by time, for example "
            f"{cells[0]!r}. All cells must be numbers, or dates in one format such as 2024-01-31, "
            "2024-01-31T07:30:00, 31.01.2024 or 01/31/2024."
        )
    return times.to_numpy().astype(np.float64)


def _require_complete(table: Table, column: str, consequence: str) -> None:
    cells = table.column(column)
    if cells.null_count():
        row = int(cells.is_null().arg_true()[0])
        raise DataError(
            f"{table.location(row)}: {column!r} is empty, so the row {consequence} "
            f"({cells.null_count()} such rows). Fill the cells, or remove the rows."
        )
