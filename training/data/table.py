"""Tables of text cells, and the numbers that a model gets instead."""

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from service.bundle.features import TableFormat
from service.tabletext.cells import MISSING, POINT, TRUTHS, Numerals, folded
from service.tabletext.dialect import SEPARATORS
from training.data.numerals import as_numbers
from training.errors import DataError
from training.recipe.table import Feature, Recipe, Target

UNSEEN = -1.0

Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Reading:
    """How a file was found to write its cells."""

    separator: str
    quote: str
    encoding: str
    header: bool
    """Whether a first line names the columns."""
    titles: int = 0
    """Lines above it that belong to no column."""
    doubtful: str = ""
    """A cell of which nothing in the file says whether its mark is of decimals or of thousands."""


@dataclass(frozen=True)
class Table:
    """Named columns of text cells, null where a cell means nothing."""

    name: str
    """Where it is from, for people."""
    frame: pl.DataFrame
    sha256: str
    numerals: Numerals = POINT
    reading: Reading | None = None
    """Of a file."""
    missing: tuple[str, ...] = MISSING
    """The words that mean a missing value in every column."""
    kept: Rows | None = None
    """Where the rows that are left stood in the whole table, from 0; None: it is whole."""

    def column(self, name: str) -> pl.Series:
        """The cells of a column.

        Raises:
            DataError: there is no such column.
        """
        if name not in self.frame.columns:
            near = difflib.get_close_matches(name, self.frame.columns, n=1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            known = ", ".join(self.frame.columns[:20])
            raise DataError(f"{self.name} has no column {name!r}{meant}; its columns: {known}.")
        return self.frame[name]

    def rows(self, keep: pl.Series) -> "Table":
        """The rows where `keep` is true, in their order."""
        kept = np.arange(self.frame.height) if self.kept is None else self.kept
        return replace(self, frame=self.frame.filter(keep), kept=kept[keep.to_numpy()])

    def row_number(self, row: int) -> int:
        """How people call a row: the file's first row below the header is 1."""
        return 1 + (row if self.kept is None else int(self.kept[row]))

    def place(self, row: int) -> str:
        """The row in a sentence."""
        return f"{self.name}, row {self.row_number(row)}"


@dataclass(frozen=True)
class Column:
    """A feature with what the training rows showed about its cells, and how they are written."""

    feature: Feature
    categories: tuple[str, ...] = ()
    numerals: Numerals | None = None
    missing: tuple[str, ...] | None = None
    """The words for missing values, where they are not the usual ones."""


@dataclass(frozen=True)
class Dataset:
    """A table as numbers."""

    columns: list[Column]
    features: Float32s
    """The graph's input, ``[rows, columns]``: raw units, NaN for missing, category positions."""
    target: Floats
    """``[rows]``: the raw value, or the label's position."""
    format: TableFormat | None = None
    """How the file is written, as far as a part of it may not show."""


def table_of_rows(
    rows: Sequence[Sequence[float | str]],
    columns: Sequence[str],
    missing: Sequence[str] = MISSING,
) -> Table:
    """The table that a recipe writes out.

    Raises:
        DataError: a row has more or fewer cells than there are columns.
    """
    for number, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            raise DataError(f"data.rows: row {number} has {len(row)} cells, not {len(columns)}.")
    cells = [[_written(cell) for cell in row] for row in rows]
    frame = pl.DataFrame(cells, schema=dict.fromkeys(columns, pl.String), orient="row")
    digest = hashlib.sha256(json.dumps([list(columns), cells]).encode()).hexdigest()
    table = tidied(frame, missing)
    return Table("the rows written in the recipe", table, digest, missing=tuple(missing))


def tidied(frame: pl.DataFrame, missing: Sequence[str]) -> pl.DataFrame:
    """Blanks around cells removed, cells that mean nothing made null."""
    cells = pl.all().str.strip_chars()
    return frame.select(pl.when(cells.is_in(missing)).then(None).otherwise(cells).name.keep())


def with_target(table: Table, target: Target) -> Table:
    """The rows that have a target; classes that the recipe drops are left out.

    Raises:
        DataError: no row is left.
    """
    cells = table.column(target.column)
    keep = cells.is_not_null() & ~cells.fill_null("").is_in(target.missing)
    if target.labels and target.others == "drop":
        spelt, values = _spelt(cells, target)
        keep &= spelt.is_in(values)
    if not keep.any():
        raise DataError(f"{table.name}: no row has a usable value of the target {target.column!r}.")
    return table.rows(keep)


def encode(table: Table, recipe: Recipe, training: Rows) -> Dataset:
    """The whole table as numbers; what has to be learned for it comes from the training rows.

    Raises:
        DataError: a cell does not fit its column.
    """
    columns = learn_columns(table, recipe.features, training)
    features, target = encode_features(table, columns), encode_target(table, recipe.target)
    return Dataset(columns, features, target, format_of(table))


def format_of(table: Table) -> TableFormat | None:
    """What the service must know of a file to read it, or a part of it, as it was read here."""
    reading = table.reading
    if reading is None:
        return None
    found = TableFormat(
        separator=None if reading.separator in SEPARATORS else reading.separator,
        quote=None if reading.quote == '"' else reading.quote,
        encoding=None if reading.encoding.lower().startswith("utf") else reading.encoding,
        columns=None if reading.header else table.frame.columns,
    )
    return None if found == TableFormat() else found


def encode_target(table: Table, target: Target) -> Floats:
    """The target of each row, ``[rows]``: its raw value, or its label's position.

    Raises:
        DataError: a cell is no number, or no value that the recipe knows.
    """
    cells = table.column(target.column)
    if not target.labels:
        return _numbers(table, cells, target.affix)
    spelt, values = _spelt(cells, target)
    codes = spelt.replace_strict(values, range(len(values)), default=None, return_dtype=pl.Float64)
    if codes.null_count():
        row = int(codes.is_null().arg_true()[0])
        raise DataError(
            f"{table.place(row)}: the target {target.column!r} is {cells[row]!r}, which "
            f"is none of {', '.join(values)}. Add it to target.values and target.labels, "
            'or set target.others = "drop".'
        )
    return codes.to_numpy()


def _spelt(cells: pl.Series, target: Target) -> tuple[pl.Series, list[str]]:
    """The cells and the labels' values, in lower case where the case means nothing."""
    values = target.values or target.labels
    if not target.ignore_case:
        return cells, values
    return cells.str.to_lowercase(), [value.lower() for value in values]


def learn_columns(table: Table, features: Sequence[Feature], training: Rows) -> list[Column]:
    """Each feature with its categories: the recipe's, else the training part's, sorted."""
    columns = []
    for feature in features:
        words = tuple(feature.categories)
        if feature.type == "category" and not words:
            words = tuple(_cells(table, feature)[training].drop_nulls().unique().sort())
        if feature.type == "category" and not words:
            raise DataError(f"{table.name}: all cells of {feature.name!r} are empty; leave it out.")
        numerals = None if table.reading is None else table.numerals
        columns.append(Column(feature, words, numerals, _missing(table, feature)))
    return columns


def _missing(table: Table, feature: Feature) -> tuple[str, ...] | None:
    words = (*table.missing, *feature.missing)
    return None if set(words) == set(MISSING) else words


def encode_features(table: Table, columns: Sequence[Column]) -> Float32s:
    """The graph's input, ``[rows, columns]``: raw units, NaN for missing, category positions.

    A word that is none of the categories is `UNSEEN`.

    Raises:
        DataError: a cell does not fit its column's type, or is missing where it may not be.
    """
    encoded = np.empty((table.frame.height, len(columns)), dtype=np.float32)
    for k, column in enumerate(columns):
        encoded[:, k] = _encoded(table, column)
    return encoded


def _encoded(table: Table, column: Column) -> Floats:
    feature = column.feature
    cells = _cells(table, feature)
    if cells.null_count() and not feature.optional:
        row = int(cells.is_null().arg_true()[0])
        raise DataError(
            f"{table.place(row)}: {feature.name!r} is empty ({cells.null_count()} rows "
            "have no value); set optional = true for this feature, or fill the cells."
        )
    if feature.type == "category":
        positions = cells.replace_strict(
            column.categories,
            range(len(column.categories)),
            default=UNSEEN,
            return_dtype=pl.Float64,
        )
        return _nan_where_null(positions, cells)
    if feature.type == "boolean":
        return _booleans(table, cells)
    return _numbers(table, cells, feature.affix)


def _cells(table: Table, feature: Feature) -> pl.Series:
    cells = table.column(feature.name)
    if feature.type == "category":
        return cells.set(cells.is_in(feature.missing), None) if feature.missing else cells
    words = folded((*table.missing, *feature.missing))
    return cells.set(cells.str.to_lowercase().is_in(words), None)


def _numbers(table: Table, cells: pl.Series, affix: str | None) -> Floats:
    numbers = as_numbers(cells, table.numerals, affix)
    wanted = f"a number that 32 bits hold ({_marks(table.numerals)})"
    _refuse_strays(table, cells, numbers, f"{wanted}; correct the cell or leave it empty")
    return _nan_where_null(numbers, cells)


def _marks(numerals: Numerals) -> str:
    thousands = f", thousands mark {numerals.thousands!r}" if numerals.thousands else ""
    return f"decimal mark {numerals.decimal!r}{thousands}"


def _booleans(table: Table, cells: pl.Series) -> Floats:
    truths = cells.str.to_lowercase().replace_strict(
        {word: float(truth) for word, truth in TRUTHS.items()},
        default=None,
        return_dtype=pl.Float64,
    )
    _refuse_strays(table, cells, truths, "true or false (also yes, no, 1, 0)")
    return _nan_where_null(truths, cells)


def _refuse_strays(table: Table, cells: pl.Series, encoded: pl.Series, wanted: str) -> None:
    strays = (encoded.is_null() & cells.is_not_null()).arg_true()
    if len(strays):
        row = int(strays[0])
        more = f" ({len(strays)} such cells)" if len(strays) > 1 else ""
        raise DataError(
            f"{table.place(row)}, column {cells.name!r}: {cells[row]!r} is not {wanted}{more}."
        )


def _nan_where_null(encoded: pl.Series, cells: pl.Series) -> Floats:
    numbers = encoded.to_numpy().astype(np.float64)
    return np.where(cells.is_null().to_numpy(), np.nan, numbers)


def _written(cell: float | str) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)
