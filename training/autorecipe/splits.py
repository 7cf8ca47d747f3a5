"""Choose how the rows of an unknown table are split: at random, in groups, or by time.

A wrong guess costs more than a missing one, so each guess needs two signs: the values of a column,
and its name or the order of the rows.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from service.spelling import format_count
from service.values import are_exact_integers
from training.data.numbers import as_numbers
from training.data.split import Splitter, read_groups, read_times
from training.data.table import Floats, Rows, Table
from training.data.times import parse_dates
from training.errors import DataError

CHANGE = "To change that, use --group COLUMN, --time COLUMN or --split random."
GROUP_NOTE = "identifies the groups of the split"

_SUBJECT = re.compile(
    r"animal|client|customer|donor|employee|household|individual|member|mouse|participant|patient|"
    r"person|respondent|session|student|subject|user|visitor"
)
_IDENTIFIER = re.compile(r"code|id|identifier|key|name|no|nr|num|number|uuid")
_MARKS = "_-/.:# "
_MOSTLY = 0.95
_MIN_ROWS = 30
_MIN_GROUPS = 10
_MIN_UNNAMED_GROUPS = 20
_MIN_GROUP_SIZE = 2
_MAX_UNNAMED_GROUP_SIZE = 50
_MAX_GROUP_SHARE = 0.5
_ALIKE = 0.15
_CONSTANT = 0.99
_MIN_CONSTANT_COLUMNS = 3
# To compare; more would take long and change nothing.
_MAX_COLUMNS = 40
_MAX_ROWS = 20_000
_FIRST_COLUMNS = 6
_MIN_TIMES = 10
_MAX_TIME_SHARE = 0.2
_TIME_FOLDS = 5
_EARLIEST = -25_567
"""1900-01-01, in days since 1970-01-01."""
_LATEST = 47_482
"""2100-01-01."""
_TIME = re.compile(r"date|datetime|day|dteday|period|time|timestamp")
# The time of another event than the row's.
_OTHER_TIME = re.compile(
    r"birth|born|built|dob|due|earliest|end|ended|expiration|expired|expiry|first|founded|hired?|"
    r"join|joined|last|latest|next|old|registered|released?|since|until"
)


@dataclass(frozen=True)
class RequestedSplit:
    """The split that the user requested; by default it is guessed."""

    group: str | None = None
    time: str | None = None
    random: bool = False


GUESSED = RequestedSplit()


@dataclass(frozen=True)
class ChosenSplit:
    """The columns that decide the split of a recipe; random without them."""

    keys: dict[str, str] = field(default_factory=dict)
    """Of the section `[split]`."""
    max_folds: int | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def group(self) -> str | None:
        """The column of the groups."""
        return self.keys.get("group")


def choose_split_columns(
    table: Table, target: str, labels: Floats | None, requested: RequestedSplit
) -> ChosenSplit:
    """Return the requested columns or, without a request, those that the table suggests.

    Args:
        table: the rows with a target.
        target: the target's name.
        labels: ``[rows]``, the positions of their labels; None for regression.
        requested: by the user.

    Raises:
        DataError: a requested column does not exist, or its cells are no groups or times.
    """
    if requested.random:
        return ChosenSplit()
    if requested.group is not None:
        return _choose_group(table, requested.group)
    if requested.time is not None:
        remark = f"The newest rows by {requested.time} are the test set."
        return _choose_time(table, requested.time, remark)
    return _guess(table, target, labels)


def _guess(table: Table, target: str, labels: Floats | None) -> ChosenSplit:
    if table.frame.height < _MIN_ROWS:
        return ChosenSplit()
    candidates = [name for name in table.frame.columns if name != target]
    times = [name for name in candidates if _has_times(table.frame[name])]
    usable = [name for name in times if labels is None or _has_old_labels(table, name, labels)]
    ordered = [name for name in usable if _is_ordered(table.frame[name])]
    for column in candidates:
        if (
            column not in times
            and column not in ordered
            and _identifies_groups(table, column, target)
        ):
            return _choose_group(table, column, guessed=True)
    named = [name for name in usable if _names_time(name)]
    for column in [*ordered[:1], *(named if len(named) == 1 else [])]:
        remark = (
            f"The newest rows by {column} are the test set, since a random split would measure "
            f"predictions between known rows; the model is then fitted to all rows. {CHANGE}"
        )
        return _choose_time(table, column, remark)
    return ChosenSplit()


def _choose_time(table: Table, column: str, remark: str) -> ChosenSplit:
    periods = len(np.unique(read_times(table, column)))
    return ChosenSplit({"time": column}, min(_TIME_FOLDS, periods - 1), [remark])


def _choose_group(table: Table, column: str, *, guessed: bool = False) -> ChosenSplit:
    cells = table.column(column)
    until = _find_mark(cells) if cells.n_unique() > _MOSTLY * len(cells) else None
    groups = len(np.unique(read_groups(table, column, until)))
    if groups == len(cells):
        raise DataError(
            f"{table.name}: no two rows have the same value of {column!r}, so there are no groups. "
            "Choose another column with --group, or use --split random."
        )
    same = f"{column} up to the last {until!r}" if until else f"the same {column}"
    remark = f"Rows with {'the same ' if until else ''}{same} stay in one set "
    remark += f"({format_count(groups, 'group')})"
    remark += f", since they are alike; {column} is not a feature. {CHANGE}" if guessed else "."
    keys = {"group": column} | ({"group_until": until} if until else {})
    return ChosenSplit(keys, groups, [remark])


def _has_times(cells: pl.Series) -> bool:
    """Return whether all cells are dates of these centuries, and not too many are equal."""
    if cells.null_count() or cells.n_unique() < _MIN_TIMES:
        return False
    days = parse_dates(cells)
    if days is None or not days.is_between(_EARLIEST, _LATEST).all():
        return False
    return _largest_share(days) <= _MAX_TIME_SHARE


def _is_ordered(cells: pl.Series) -> bool:
    days = parse_dates(cells)
    return days is not None and (days.is_sorted() or days.is_sorted(descending=True))


def _has_old_labels(table: Table, column: str, labels: Floats) -> bool:
    """Return whether the older half of the rows has all labels."""
    splitter = Splitter(labels, 0, classes=True, column=column, times=read_times(table, column))
    older, newer = splitter.hold_out(np.arange(len(labels)), 0.5)
    return len(np.setdiff1d(labels[newer], labels[older])) == 0


def _names_time(name: str) -> bool:
    words = _split_words(name)
    return any(map(_TIME.fullmatch, words)) and not any(map(_OTHER_TIME.fullmatch, words))


def _split_words(name: str) -> list[str]:
    """Return the words of a name such as ``MouseID`` or ``order_date``, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def _identifies_groups(table: Table, column: str, target: str) -> bool:
    """Return whether the rows with the same cell, or its beginning, belong together.

    Either the name is that of a subject, and the rows of a group are more alike than others; or
    most other columns are constant in each group.
    """
    cells = table.frame[column]
    if cells.null_count() or not _are_identifiers(cells, table):
        return False
    until = _find_mark(cells) if cells.n_unique() > _MOSTLY * len(cells) else None
    groups = read_groups(table, column, until)
    count = int(groups.max()) + 1
    size = len(groups) / count
    if count < _MIN_GROUPS or size < _MIN_GROUP_SIZE or _largest_share(groups) > _MAX_GROUP_SHARE:
        return False
    named = _names_subject(column)
    has_digits = cells.str.contains(r"\d").sum() >= _MOSTLY * len(cells)
    if not named and (
        count < _MIN_UNNAMED_GROUPS or size > _MAX_UNNAMED_GROUP_SIZE or not has_digits
    ):
        return False
    return _are_alike(table, groups, column, target, named=named)


def _are_alike(table: Table, groups: Rows, column: str, target: str, *, named: bool) -> bool:
    """Return whether the other columns of a group are alike or, for an unnamed one, constant."""
    others = [name for name in table.frame.columns if name not in (column, target)]
    others = [target, *others[:: len(others) // _MAX_COLUMNS + 1]]
    first = groups < max(int(groups.max() + 1) * _MAX_ROWS // len(groups), _MIN_GROUPS)
    frame, groups = table.frame.filter(pl.Series(first)), groups[first]
    found: dict[str, float] = {}
    for name in others:
        likeness = _measure_likeness(frame[name], groups, table)
        found |= {} if likeness is None else {name: likeness}
        if not named and len(found) == _FIRST_COLUMNS and max(found.values()) < _CONSTANT:
            return False
    if named:
        mean = sum(found.values()) / max(len(found), 1)
        return max(mean, found.get(target, 0.0)) >= _ALIKE
    constant = sum(likeness >= _CONSTANT for likeness in found.values())
    return constant >= max(_MIN_CONSTANT_COLUMNS, len(found) / 2)


def _are_identifiers(cells: pl.Series, table: Table) -> bool:
    """Return whether cells are words or whole numbers."""
    numbers = as_numbers(cells, table.number_format).drop_nulls()
    if len(numbers) < _MOSTLY * len(cells):
        return True
    return bool(are_exact_integers(numbers.to_numpy()).all())


def _names_subject(name: str) -> bool:
    """Return whether a name is that of a subject or an identifier, such as ``id`` or ``user_id``.

    Other words are of a measurement: ``user_score``.
    """
    words = _split_words(name)
    others = [word for word in words if not _SUBJECT.fullmatch(word)]
    if len(others) == len(words):
        return words in (["id"], ["uuid"])
    return all(map(_IDENTIFIER.fullmatch, others))


def _find_mark(cells: pl.Series) -> str | None:
    """Return the mark before a short number at the end of every cell, if there are groups then."""
    for mark in _MARKS:
        if cells.str.contains(rf"^.+[{mark}]\d{{1,4}}$").all():
            beginnings = [cell.rpartition(mark)[0] for cell in cells]
            if len(set(beginnings)) * _MIN_GROUP_SIZE <= len(cells):
                return mark
    return None


def _measure_likeness(cells: pl.Series, groups: Rows, table: Table) -> float | None:
    """Return how alike the cells of a group are, from 0 (by chance) to 1 (equal).

    The share of the variance between groups, corrected for their number (epsilon squared), of the
    ranks of numbers, or of words as indicator columns. None if the column is constant,
    or if no rows are of one group.
    """
    numbers = as_numbers(cells, table.number_format)
    if numbers.count() >= _MOSTLY * len(cells):
        ranks = numbers.rank()
        values = ranks.fill_null(ranks.mean()).to_numpy()
        within, total = _sum_squares(values, groups), float(np.square(values - values.mean()).sum())
    else:
        frame = pl.DataFrame({"group": groups, "word": cells.fill_null("")})
        total = len(cells) - _sum_shares(frame.group_by("word").len(), len(cells))
        sizes = frame.group_by("group").len("size")
        pairs = frame.group_by("group", "word").len().join(sizes, on="group")
        within = len(cells) - float((pairs["len"].cast(pl.Float64) ** 2 / pairs["size"]).sum())
    count = int(groups.max()) + 1
    if not total or count == len(groups):
        return None
    return 1 - within / (len(groups) - count) / (total / (len(groups) - 1))


def _sum_squares(values: Floats, groups: Rows) -> float:
    """Return the sum of squared differences from the mean of the group."""
    means = np.bincount(groups, values) / np.bincount(groups)
    return float(np.square(values - means[groups]).sum())


def _sum_shares(counts: pl.DataFrame, rows: int) -> float:
    return float((counts["len"].cast(pl.Float64) ** 2).sum()) / rows


def _largest_share(values: pl.Series | Rows) -> float:
    """Return the share of the most frequent value."""
    _, counts = np.unique(np.asarray(values), return_counts=True)
    return float(counts.max() / counts.sum())
