"""Tables of text cells, and their encoding as numbers."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from service.bundle.features import INPUT_NAME, TEXT_NAME, UNSEEN, TableFormat
from service.freetext import normalize_text
from service.spelling import closest_name, format_count, join_names
from service.tabletext import MISSING, POINT, SEPARATORS, TRUTHS, NumberFormat, compose, lower_words
from service.timetext import DatetimeFormat, describe_format
from training.data.datetimes import as_datetimes
from training.data.numbers import as_numbers
from training.errors import DataError
from training.recipe.table import Feature, Recipe, Target

_SHOWN = 20
# Columns with more kinds have statistics of them, which need several rows of each.
_MANY_KINDS = 100
_MIN_ROWS_PER_KIND = 3
_LONGEST_EXAMPLE = 200
Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
Inputs = Float32s | Floats
"""Rows of the graph's input, ``[rows, columns]``; 64 bits if there are dates."""


@dataclass(frozen=True)
class DetectedCsvFormat:
    """The format of a CSV file, detected or specified by the recipe."""

    separator: str
    quote: str
    encoding: str
    header: bool
    """Whether a line contains the names of the columns."""
    titles: int = 0
    """The number of title lines above the header."""
    ambiguous: str = ""
    """A cell whose mark can be a decimal or a thousands mark, if the file does not decide."""
    escape: Literal["\\"] | None = None
    """What precedes a quote inside a cell, if that is not doubled."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """The names in the file of the columns with a number after it, as that name is repeated."""
    broken: Sequence[int] = ()
    """The lines of rows that a quote breaks, which have no cells."""


@dataclass(frozen=True)
class Table:
    """Named columns of text cells; missing values are null.

    Cells are `stripped`, except those of a table for an imported model, whose words may begin or
    end with whitespace, and may be words that otherwise are missing values, such as None.
    """

    name: str
    """The name of its source, for messages."""
    frame: pl.DataFrame
    sha256: str
    number_format: NumberFormat = POINT
    csv_format: DetectedCsvFormat | None = None
    """None for a table that is not from a CSV file."""
    missing: tuple[str, ...] = MISSING
    """The words for missing values in every column."""
    source_rows: Rows | None = None
    """``[rows]``, the position of each row in the unfiltered table, from 0; None: no filter."""
    stripped: bool = True
    """Whether cells have no whitespace around them; otherwise they are as the file has them, and
    only empty ones are null."""

    def clean(self) -> "Table":
        """Return the table with stripped cells, and null for missing values."""
        if self.stripped:
            return self
        return replace(self, frame=clean_cells(self.frame, self.missing), stripped=True)

    def column(self, name: str) -> pl.Series:
        """Return the cells of a column.

        Raises:
            DataError: there is no such column.
        """
        if name not in self.frame.columns and compose(name) in self.frame.columns:
            name = compose(name)
        if name not in self.frame.columns:
            near = closest_name(name, self.frame.columns)
            hint = f" (did you mean {near!r}?)" if near else ""
            known = join_names(self.frame.columns, _SHOWN)
            raise DataError(f"{self.name} has no column {name!r}{hint}; its columns: {known}.")
        return self.frame[name]

    def filter(self, mask: pl.Series) -> "Table":
        """Return the rows where the mask is true, in their order."""
        source = np.arange(self.frame.height) if self.source_rows is None else self.source_rows
        return replace(self, frame=self.frame.filter(mask), source_rows=source[mask.to_numpy()])

    def row_number(self, row: int) -> int:
        """Return the number of a row in the file; the first row below the header is 1."""
        return 1 + (row if self.source_rows is None else int(self.source_rows[row]))

    def location(self, row: int) -> str:
        """Return the table and the number of a row, for messages."""
        return f"{self.name}, row {self.row_number(row)}"


@dataclass(frozen=True)
class Column:
    """A feature with its categories and the format of its cells."""

    feature: Feature
    categories: tuple[str, ...] = ()
    number_format: NumberFormat | None = None
    missing: tuple[str, ...] | None = None
    """The words for missing values, if they are not the default ones."""
    texts: tuple[str, ...] = ()
    """The distinct cells of a table's column of text, normalized and sorted."""
    example: str = ""
    """A cell of text as the table has it."""


@dataclass(frozen=True)
class Dataset:
    """A table as numbers."""

    columns: list[Column]
    features: Inputs
    """The table, ``[rows, columns]``: raw units, NaN for missing, positions of categories.
    Dates are days since 1970-01-01; texts are positions in `Column.texts`. Without texts it is the
    graph's input."""
    target: Floats
    """``[rows]``: the raw value, or the label's position."""
    format: TableFormat | None = None
    """The format of the CSV file, as far as it cannot be detected from a few of its rows."""


def table_from_rows(
    rows: Sequence[Sequence[float | str]],
    columns: Sequence[str],
    missing: Sequence[str] = MISSING,
) -> Table:
    """Return the table that a recipe contains.

    Raises:
        DataError: a row has more or fewer cells than there are columns.
    """
    for number, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            raise DataError(
                f"data.rows: row {number} has {format_count(len(row), 'cell')}, not {len(columns)}."
            )
    cells = [[_format_cell(cell) for cell in row] for row in rows]
    frame = pl.DataFrame(cells, schema=dict.fromkeys(columns, pl.String), orient="row")
    digest = hashlib.sha256(json.dumps([list(columns), cells]).encode()).hexdigest()
    table = clean_cells(frame, missing)
    return Table("the rows written in the recipe", table, digest, missing=tuple(missing))


def clean_cells(frame: pl.DataFrame, missing: Sequence[str]) -> pl.DataFrame:
    """Strip whitespace from all cells, and replace missing values and empty cells by null."""
    cells, words = pl.all().str.strip_chars(), ["", *missing]
    return frame.select(pl.when(cells.is_in(words)).then(None).otherwise(cells).name.keep())


def with_target(table: Table, target: Target) -> Table:
    """Return the rows that have a target, without the classes that the recipe drops.

    Raises:
        DataError: no row remains.
    """
    cells = table.column(target.column)
    usable = cells.is_not_null() & ~cells.fill_null("").is_in(target.missing)
    if target.labels and target.others == "drop":
        usable &= _find_labels(table, cells, target).is_not_null()
    if not usable.any():
        raise DataError(f"{table.name}: no row has a usable value of the target {target.column!r}.")
    return table.filter(usable)


def encode(table: Table, recipe: Recipe, training: Rows) -> Dataset:
    """Encode all rows as numbers; the categories are those of the training rows.

    Raises:
        DataError: a cell is invalid for its column.
    """
    columns = learn_columns(table, recipe.features, training)
    features, target = encode_features(table, columns), encode_target(table, recipe.target)
    return Dataset(columns, features, target, recorded_format(table))


def require_values(data: Dataset, rows: Rows) -> None:
    """Raise `DataError` if a column has no value in these rows, which a bundle cannot describe."""
    for k, column in enumerate(data.columns):
        if np.isnan(data.features[rows, k]).all():
            raise DataError(f"All cells of {column.feature.name!r} are empty; leave it out.")


def recorded_format(table: Table) -> TableFormat | None:
    """Return the properties of the file that the service cannot detect from a few of its rows."""
    csv_format = table.csv_format
    if csv_format is None:
        return None
    utf = csv_format.encoding.lower().startswith("utf")
    recorded = TableFormat(
        separator=None if csv_format.separator in SEPARATORS else csv_format.separator,
        quote=None if csv_format.quote == '"' and not _has_quotes(table) else csv_format.quote,
        escape=csv_format.escape,
        encoding=None if utf else csv_format.encoding,
        columns=None if csv_format.header else table.frame.columns,
        repeated=sorted(set(csv_format.renamed.values())) or None,
    )
    return None if recorded == TableFormat() else recorded


def _has_quotes(table: Table) -> bool:
    """Return whether cells have single quotes around them, which are the quotes of other tables."""
    cells = pl.all().str
    quoted = (cells.starts_with("'") & cells.ends_with("'")).any()
    return any(table.frame.select(quoted).row(0))


def encode_target(table: Table, target: Target) -> Floats:
    """Return the target of each row, ``[rows]``: its raw value, or its label's position.

    Raises:
        DataError: a cell is not a number, or not one of the recipe's values.
    """
    cells = table.column(target.column)
    if not target.labels:
        return _numbers(table, cells, target.affix)
    codes = _find_labels(table, cells, target)
    if codes.null_count():
        row = int(codes.is_null().arg_true()[0])
        raise DataError(
            f"{table.location(row)}: the target {target.column!r} is {cells[row]!r}, which "
            f"is not one of {', '.join(target.values or target.labels)}. Add it to "
            'target.values and target.labels, or set target.others = "drop".'
        )
    return codes.to_numpy()


def _find_labels(table: Table, cells: pl.Series, target: Target) -> pl.Series:
    """Return the position of each cell's label, ``[rows]``, null if it is none.

    Without an equal label, a number is the label of the same number: 1.0 is 1.
    """
    values = target.values or target.labels
    if target.ignore_case:
        cells, values = cells.str.to_lowercase(), [value.lower() for value in values]
    codes = cells.replace_strict(values, range(len(values)), default=None, return_dtype=pl.Float64)
    numbers = as_numbers(pl.Series(values), table.number_format)
    by_label = {number: k for k, number in enumerate(numbers) if number is not None}
    if len(by_label) < numbers.count() or not by_label or not codes.has_nulls():
        return codes
    by_number = as_numbers(cells, table.number_format).replace_strict(
        by_label, default=None, return_dtype=pl.Float64
    )
    return codes.fill_null(by_number)


def learn_columns(table: Table, features: Sequence[Feature], training: Rows) -> list[Column]:
    """Return each feature with its categories.

    They are those of the recipe or, if it has none, those of the training set, sorted. Of many
    kinds, those of very few rows are left out if unknown ones are accepted. An optional column may
    have none: in the order of time, it may begin later.

    Raises:
        DataError: a required column of categories has no value.
    """
    columns = []
    for feature in features:
        categories = tuple(feature.categories)
        if feature.type == "category" and not categories:
            categories = _learn_categories(_cells(table, feature)[training].drop_nulls(), feature)
        may_be_empty = feature.optional and feature.unseen == "other"
        if feature.type == "category" and not categories and not may_be_empty:
            raise DataError(f"{table.name}: all cells of {feature.name!r} are empty; leave it out.")
        number_format = None if table.csv_format is None else table.number_format
        column = Column(feature, categories, number_format, _missing(table, feature))
        columns.append(with_texts(table, column))
    return columns


def _learn_categories(known: pl.Series, feature: Feature) -> tuple[str, ...]:
    counts = known.alias("kind").value_counts().sort("kind")
    if feature.unseen == "other" and len(counts) > _MANY_KINDS:
        frequent = counts.filter(pl.col("count") >= _MIN_ROWS_PER_KIND)
        counts = frequent if len(frequent) else counts
    return tuple(counts["kind"])


def with_texts(table: Table, column: Column) -> Column:
    """Return a column with the texts of a table, if it is one of text."""
    if column.feature.type != "text":
        return column
    cells = _cells(table, column.feature)
    known = cells.drop_nulls()
    short = known.filter(known.str.len_chars() <= _LONGEST_EXAMPLE)
    example = str(short[0]) if len(short) else column.feature.name
    return replace(column, texts=tuple(_normalize(cells).unique().sort()), example=example)


def _normalize(cells: pl.Series) -> pl.Series:
    """Return texts as the graph gets them; a missing one is the empty string."""
    texts = cells.fill_null("")
    distinct = texts.unique()
    normalized = list(map(normalize_text, distinct))
    return texts.replace_strict(distinct, normalized, return_dtype=pl.String)


def _missing(table: Table, feature: Feature) -> tuple[str, ...] | None:
    words = (*table.missing, *feature.missing)
    return None if set(words) == set(MISSING) else words


def encode_features(table: Table, columns: Sequence[Column]) -> Inputs:
    """Encode features as the graph's input, ``[rows, columns]``.

    Numbers keep their raw unit, categories are positions, and missing values are NaN.
    Unknown categories are `UNSEEN`. Texts are positions in the column's texts. The input has 64
    bits if there are dates, since 32 bits are too few for their times.

    Raises:
        DataError: a cell is invalid for its column, or a required one is missing.
    """
    has_dates = any(column.feature.type == "datetime" for column in columns)
    dtype = np.float64 if has_dates else np.float32
    encoded = np.empty((table.frame.height, len(columns)), dtype=dtype)
    for k, column in enumerate(columns):
        encoded[:, k] = encode_column(table, column)
    return encoded


def to_graph_inputs(columns: Sequence[Column], rows: Inputs) -> dict[str, npt.NDArray[Any]]:
    """Return the inputs of the graph by name, for rows of `encode_features`."""
    texts = [k for k, column in enumerate(columns) if column.feature.type == "text"]
    others = [k for k in range(len(columns)) if k not in texts]
    inputs: dict[str, npt.NDArray[Any]] = {}
    if others:
        inputs[INPUT_NAME] = np.ascontiguousarray(rows[:, others]) if texts else rows
    if texts:
        words = [np.array(columns[k].texts, np.object_)[rows[:, k].astype(np.intp)] for k in texts]
        inputs[TEXT_NAME] = np.column_stack(words)
    return inputs


def encode_column(table: Table, column: Column) -> Floats:
    """Encode one feature as `encode_features` does, in 64 bits, ``[rows]``."""
    feature = column.feature
    cells = _cells(table, feature, column.categories)
    if cells.null_count() and not feature.optional:
        row = int(cells.is_null().arg_true()[0])
        empty = f"{feature.name!r} has {format_count(cells.null_count(), 'empty cell')}"
        raise DataError(f"{table.location(row)}: {empty}; fill them, or set optional = true.")
    if feature.type == "text":
        codes = _normalize(cells).replace_strict(
            column.texts, range(len(column.texts)), return_dtype=pl.Float64
        )
        return np.asarray(codes.to_numpy(), dtype=np.float64)
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
    if feature.type == "datetime":
        return _datetimes(table, cells, feature.text_format)
    return _numbers(table, cells, feature.affix)


def _cells(table: Table, feature: Feature, categories: Sequence[str] = ()) -> pl.Series:
    """Return the cells of a feature, null where the value is missing.

    A cell of a table that is not stripped is one of the categories as it is, else without the
    whitespace around it. The service reads cells by the same rule.
    """
    cells = table.column(feature.name)
    if not table.stripped:
        cleaned = clean_cells(cells.to_frame(), table.missing)[feature.name]
        if feature.type == "category":
            stripped = cells.str.strip_chars()
            cleaned = stripped.zip_with(stripped.is_in(list(categories)), cleaned)
            cleaned = cells.zip_with(cells.is_in(list(categories)), cleaned)
        cells = cleaned
    if feature.type == "category":
        absent = cells.is_in([word for word in feature.missing if word not in categories])
        return cells.set(absent, None) if feature.missing else cells
    if feature.type == "text":
        return cells.set(cells.is_in(feature.missing), None) if feature.missing else cells
    words = lower_words((*table.missing, *feature.missing))
    return cells.set(cells.str.to_lowercase().is_in(words), None)


def _numbers(table: Table, cells: pl.Series, affix: str | None) -> Floats:
    number_format = table.number_format
    numbers = as_numbers(cells, number_format, affix)
    thousands = f", thousands mark {number_format.thousands!r}" if number_format.thousands else ""
    marks = f"decimal mark {number_format.decimal!r}{thousands}"
    expected = f"a number in the range of float32 ({marks}); correct the cell or leave it empty"
    _reject_invalid(table, cells, numbers, expected)
    return _nan_where_null(numbers, cells)


def _datetimes(table: Table, cells: pl.Series, text_format: DatetimeFormat) -> Floats:
    numbers = as_datetimes(cells, text_format)
    _reject_invalid(table, cells, numbers, describe_format(text_format))
    return _nan_where_null(numbers, cells)


def _booleans(table: Table, cells: pl.Series) -> Floats:
    truths = cells.str.to_lowercase().replace_strict(
        {word: float(truth) for word, truth in TRUTHS.items()},
        default=None,
        return_dtype=pl.Float64,
    )
    _reject_invalid(table, cells, truths, "true or false (also yes, no, 1, 0)")
    return _nan_where_null(truths, cells)


def _reject_invalid(table: Table, cells: pl.Series, encoded: pl.Series, expected: str) -> None:
    invalid = (encoded.is_null() & cells.is_not_null()).arg_true()
    if len(invalid):
        row = int(invalid[0])
        more = f" ({len(invalid)} such cells)" if len(invalid) > 1 else ""
        raise DataError(
            f"{table.location(row)}, column {cells.name!r}: {cells[row]!r} is not {expected}{more}."
        )


def _nan_where_null(encoded: pl.Series, cells: pl.Series) -> Floats:
    numbers = encoded.to_numpy().astype(np.float64)
    return np.where(cells.is_null().to_numpy(), np.nan, numbers)


def _format_cell(cell: float | str) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)
