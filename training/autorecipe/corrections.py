"""What the user corrects of what is inferred of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast, get_args

import numpy as np

from service.bundle.manifest import BINARY
from service.spelling import closest_name, format_suggestion, join_names
from service.tabletext import Decimal, compose
from service.timetext import FORMATS
from service.values import are_exact_integers
from training.autorecipe.columns import InferredColumn, Kind, infer_column, parse_numbers
from training.autorecipe.targets import InferredTarget
from training.data.csv import UNKNOWN, Layout
from training.data.datetimes import as_datetimes, detect_datetime_format
from training.data.numbers import as_numbers
from training.data.table import Column, Table, encode_column
from training.errors import DataError
from training.recipe.families import (
    ALL_TASKS,
    CLASSIFICATION,
    REGRESSION,
    TABLE_FAMILIES,
    Task,
)
from training.recipe.table import Feature

TYPES: tuple[str, ...] = get_args(Feature.model_fields["type"].annotation)
GIVEN = "given"
_LIST = f"The types are {', '.join(TYPES)}."
_SHOWN = 20
_NUMBERS = ("number", "integer")
# What the cells of these types contain is checked; every text is a category.
_CHECKED = (*_NUMBERS, "boolean", "datetime")
_LABELS = ("boolean", "category")


@dataclass(frozen=True)
class Corrections:
    """The user's corrections; by default none."""

    types: Mapping[str, str] = field(default_factory=dict)
    """By the name or position of the column: a type of a feature, or a format of dates."""
    dropped: Sequence[str] = field(default_factory=list)
    """Names or positions of columns that are not features."""
    positive: str | None = None
    """The second of two labels, whose probability is served."""
    separator: str | None = None
    encoding: str | None = None
    decimal: Decimal | None = None
    sheet: str | None = None

    @property
    def given_format(self) -> dict[str, str]:
        """The given keys of the section `[data]`."""
        keys = {
            "separator": self.separator,
            "encoding": self.encoding,
            "decimal": self.decimal,
            "sheet": self.sheet,
        }
        return {key: value for key, value in keys.items() if value is not None}

    @property
    def layout(self) -> Layout:
        """The format of the file, as far as it is given."""
        return replace(
            UNKNOWN,
            separator=self.separator,
            encoding=self.encoding,
            decimal=self.decimal,
            sheet=self.sheet,
        )

    def describe(self, target: str) -> list[str]:
        """Return remarks on what the table of columns does not show."""
        keys = [f"{key} {value!r}" for key, value in self.given_format.items()]
        remarks = [f"The format of the file is {GIVEN}: {', '.join(keys)}."] if keys else []
        if target in self.types:
            remarks.append(f"{target}: read as {self.types[target]} ({GIVEN}).")
        return remarks

    def resolve(self, table: Table, target: str) -> "Corrections":
        """Return the corrections with the names of the columns.

        Raises:
            DataError: there is no such column, or two corrections of a column exclude each other.
        """
        types = {find_column(table, name): given for name, given in self.types.items()}
        dropped = [find_column(table, name) for name in self.dropped]
        if target in dropped:
            raise DataError(f"--drop {target}: it is the target, which cannot be dropped.")
        if both := [name for name in dropped if name in types]:
            raise DataError(f"--drop and --column are both given for {both[0]!r}; remove one.")
        return replace(self, types=types, dropped=dropped)


NONE = Corrections()


def parse_types(assignments: Sequence[str]) -> dict[str, str]:
    """Return the types of columns that are written as ``COLUMN=TYPE``.

    Raises:
        DataError: one is not written so, or its type does not exist.
    """
    types: dict[str, str] = {}
    for assignment in assignments:
        column, equals, given = assignment.rpartition("=")
        if not equals or not column:
            raise DataError(f"--column {assignment}: write COLUMN=TYPE. {_LIST}")
        if given not in (*TYPES, *FORMATS):
            near = format_suggestion(closest_name(given, (*TYPES, *FORMATS)), "")
            hint = f"; {near}" if near else "."
            raise DataError(
                f"--column {assignment}: there is no such type{hint} {_LIST} Instead of datetime, "
                f"write a format of dates: {', '.join(FORMATS)}."
            )
        types[column] = given
    return types


def find_column(table: Table, column: str) -> str:
    """Return a column by its name, or by its position from 1.

    Raise `DataError` if there is no such column.
    """
    columns, column = table.frame.columns, compose(column)
    by_position = {str(position): name for position, name in enumerate(columns, 1)}
    try:
        return table.column(column if column in columns else by_position.get(column, column)).name
    except DataError as error:
        if table.csv_format is None or table.csv_format.header:
            raise
        last = len(columns)
        hint = f"The first line is data, not names: give the position, such as {last} for the last."
        raise DataError(f"{error} {hint}") from None


def correct_column(table: Table, name: str, corrections: Corrections) -> InferredColumn:
    """Return the column as it is inferred, or as the user corrects it.

    Raises:
        DataError: a cell does not fit the type.
    """
    inferred = infer_column(table, name)
    if name in corrections.dropped:
        return replace(inferred, kind=None, note=f"dropped ({GIVEN})")
    if name in corrections.types:
        return read_as(table, inferred, corrections.types[name])
    return inferred


def read_as(table: Table, inferred: InferredColumn, given: str) -> InferredColumn:
    """Return a column with the type, or the format of dates, that the user gives.

    Words that are inferred to be missing values are still read so.

    Raises:
        DataError: a cell does not fit; the message has the first one, with its row.
    """
    name = inferred.name
    kind = cast("Kind", given if given in TYPES else "datetime")
    note = ("" if given in TYPES else f"dates, read as {given}") or inferred.note * (
        inferred.kind == kind
    )
    cells = table.column(name)
    known = cells.drop_nulls()
    if known.is_empty():
        raise DataError(f"--column {name}={given}: all cells of {name!r} are empty.")
    text_format = given if given in FORMATS else inferred.format
    column = InferredColumn(name, kind, cells.null_count(), known.n_unique())
    if kind in _NUMBERS:
        parsed = parse_numbers(known, table.number_format)
        column = replace(column, non_numeric=parsed.non_numeric, affix=parsed.affix)
        note = parsed.note if parsed.numeric else note
    elif kind == "datetime":
        if text_format is None and (detected := detect_datetime_format(known)) is not None:
            text_format = detected.text_format
            note = f"dates, read as {text_format}"
        words = inferred.non_numeric if inferred.kind == "datetime" else ()
        column = replace(column, non_numeric=words, format=text_format)
    elif inferred.kind == kind:
        column = inferred
    missing = cells.null_count() + int(known.is_in(list(column.non_numeric)).sum())
    note = "; ".join(filter(None, (GIVEN, note)))
    column = replace(column, missing=missing, note=note)
    _check(table, column, given)
    return replace(column, distinct=_count_distinct(table, column))


def _count_distinct(table: Table, column: InferredColumn) -> int:
    cells = table.column(column.name)
    if column.kind in _NUMBERS:
        cells = as_numbers(cells, table.number_format, column.affix)
    elif column.kind == "datetime" and column.format is not None:
        cells = as_datetimes(cells, column.format)
    return cells.drop_nulls().n_unique()


def _check(table: Table, column: InferredColumn, given: str) -> None:
    """Raise `DataError` if a cell does not fit the type of its column."""
    if column.kind not in _CHECKED:
        return
    try:
        values = encode_column(table, Column(column.feature()))
    except DataError as error:
        raise DataError(f"--column {column.name}={given}: {error} {_LIST}") from None
    if column.kind == "integer":
        fractions = np.flatnonzero(~are_exact_integers(values) & ~np.isnan(values))
        if len(fractions):
            row = int(fractions[0])
            raise DataError(
                f"--column {column.name}={given}: {table.location(row)}, column {column.name!r}: "
                f"{table.column(column.name)[row]!r} is not a whole number; use "
                f"--column {column.name}=number. {_LIST}"
            )


def choose_tasks(
    table: Table, target: str, given: str | None, family: str | None
) -> frozenset[Task]:
    """Return the tasks of the target's type, if it is given, and of the family, if it is chosen.

    Raises:
        DataError: the target cannot have this type, a cell does not fit, or the family does not
            predict it.
    """
    tasks = TABLE_FAMILIES[family].tasks if family else ALL_TASKS
    if given is None:
        return tasks
    if given not in (*_NUMBERS, *_LABELS):
        raise DataError(
            f"--column {target}={given}: the target is a number or, as a category, one of several "
            f"labels; give it the type {', '.join(_NUMBERS)} or {', '.join(_LABELS)}."
        )
    if given in _NUMBERS:
        read_as(table, infer_column(table, target), given)
    possible = REGRESSION if given in _NUMBERS else CLASSIFICATION
    if not tasks & possible:
        predicts = "labels" if given in _NUMBERS else "numbers"
        raise DataError(f"--column {target}={given}: --family {family} only predicts {predicts}.")
    return tasks & possible


def choose_positive(inferred: InferredTarget, positive: str | None) -> InferredTarget:
    """Return the target with the positive label as the second of two, and a remark on it.

    Raises:
        DataError: the target has not two labels, or not this one.
    """
    target = inferred.target
    labels = list(target.labels)
    if len(labels) != BINARY:
        if positive is None:
            return inferred
        found = f"has {len(labels)} labels" if labels else "is a number"
        raise DataError(
            f"--positive {positive}: it chooses one of two labels, but the target "
            f"{target.column!r} {found}."
        )
    if positive is None:
        remark = f"The probability is that of {labels[1]}; --positive chooses the other label."
        return replace(inferred, remarks=[*inferred.remarks, remark])
    fold = str.lower if target.ignore_case else str
    by_folded = {fold(label): label for label in labels}
    second = by_folded.get(fold(compose(positive)))
    if second is None:
        known = f"the labels are {join_names(labels, _SHOWN)}."
        hint = format_suggestion(closest_name(positive, labels), known)
        raise DataError(f"--positive {positive}: {target.column!r} has no such label; {hint}")
    ordered = sorted(labels, key=lambda label: label == second)
    return replace(
        inferred,
        target=target.model_copy(update={"labels": ordered}),
        remarks=[*inferred.remarks, f"The probability is that of {second} ({GIVEN})."],
    )
