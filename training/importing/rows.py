"""The rows that an import is verified on: as the original gets them, and as the service does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from onnx import TensorProto, helper

from service.bundle.features import UNSEEN, WHOLE_MAX
from service.spelling import join_names
from service.tabletext import TRUTHS, lower_words
from training.data.table import (
    Column,
    Floats,
    Table,
    clean_cells,
    encode_column,
)
from training.errors import ImportRejected
from training.export.graph_reading import STRING_TYPE
from training.onnx_files import Array
from training.recipe.table import Feature, ModelCard

Datatype = Literal["FP32", "FP64"]

_RANDOM_ROWS = 64
_MIXED_ROWS = 2000
_MIN_ROWS = 2
_WORDS_SHOWN = 8
_CELLS_SHOWN = 12
# Types of inputs whose numbers have at most the 24 bits that float32 keeps.
_NARROW_TYPES = {
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BOOL,
    TensorProto.STRING,
}


@dataclass(frozen=True)
class Rows:
    """Rows of features, each column twice."""

    columns: list[Column]
    own: list[Array]
    """For each column what the original gets, ``[rows]``: numbers in 64 bits, or words as the
    table has them."""
    encoded: Floats
    """What the graph of the bundle gets, ``[rows, columns]``, in 64 bits."""
    table: Table | None = None
    """None for random rows."""

    def location(self, row: int) -> str:
        """Return a row for messages."""
        return self.table.location(row) if self.table else f"random row {row + 1}"

    def cell(self, row: int, column: int) -> str:
        """Return the text of a cell for messages."""
        if self.table is None:
            return str(self.own[column][row])
        return str(self.table.column(self.columns[column].feature.name)[row] or "")

    def as_served(self, datatype: Datatype) -> Array:
        """Return the input of the bundle's graph, ``[rows, columns]``."""
        return self.encoded.astype(np.float32 if datatype == "FP32" else np.float64)

    def mix(self, reach: float) -> list[Array]:
        """Return new rows for the original, columns of numbers or words, ``[rows]`` each.

        Each word is one of its column. Half of the numbers are, too; the others are on the line
        through two of them: between them, or as far outside as ``reach`` times their distance.
        """
        generator = np.random.default_rng(0)
        return [
            _mix_column(cells, column, reach, generator)
            for cells, column in zip(self.own, self.columns, strict=True)
        ]

    def describe_cells(self, cells: Sequence[Array], row: int) -> str:
        """Return the cells of a row for messages."""
        names = [column.feature.name for column in self.columns]
        shown = [f"{name}={values[row]}" for name, values in zip(names, cells, strict=True)]
        return join_names(shown, _CELLS_SHOWN)

    def decode(self, column: int, datatype: Datatype) -> Array:
        """Return what the bundle makes of a column and its graph passes on, ``[rows]``."""
        values = self.as_served(datatype)[:, column].astype(np.float64)
        if self.own[column].dtype != object:
            return values
        words = [*self.columns[column].categories, ""]  # -1, an unknown word, selects the last
        positions = np.nan_to_num(values, nan=UNSEEN).astype(int)
        return np.array([words[position] for position in positions], dtype=object)


def _mix_column(
    cells: Array, column: Column, reach: float, generator: np.random.Generator
) -> Array:
    if cells.dtype == object:
        words = np.array(column.categories, dtype=object) if column.categories else cells
        return generator.choice(words if reach else cells, _MIXED_ROWS)
    drawn = generator.choice(cells, _MIXED_ROWS)
    if column.feature.type == "boolean":
        return generator.integers(0, 2, _MIXED_ROWS).astype(np.float64) if reach else drawn
    share = generator.uniform(-reach, 1 + reach, _MIXED_ROWS)
    share *= generator.integers(0, 2, _MIXED_ROWS)
    mixed = drawn + share * (generator.choice(cells, _MIXED_ROWS) - drawn)
    is_whole = (cells == np.round(cells))[~np.isnan(cells)].all()
    return np.asarray(np.round(mixed) if is_whole else mixed)


def choose_datatype(rows: Rows, kinds: Sequence[int]) -> Datatype:
    """Return FP64 if 32 bits change a number that the original gets in more.

    Args:
        rows: for verification.
        kinds: the `onnx.TensorProto` data type of each column's input.
    """
    rounded = rows.as_served("FP32")
    for k, kind in enumerate(kinds):
        exact = rows.encoded[:, k]
        if kind not in _NARROW_TYPES and (rounded[:, k] != exact)[~np.isnan(exact)].any():
            return "FP64"
    return "FP32"


def read_rows(table: Table, card: ModelCard, kinds: Sequence[int]) -> Rows:
    """Encode the rows of a table for the original and for the service.

    Args:
        table: with unchanged cells.
        card: complete, with all categories.
        kinds: the `onnx.TensorProto` data type of each column's input.

    Raises:
        ImportRejected: the original or the service cannot take a cell.
        DataError: a cell is not a number or a truth word.
    """
    if table.frame.height < _MIN_ROWS:
        raise ImportRejected(
            f"{table.name} has one row, which shows neither the kind of the outputs nor whether "
            "rows change each other. Give more; a few hundred are enough."
        )
    _reject_gaps(table, card)
    columns = [Column(f, tuple(f.categories), table.number_format) for f in card.features]
    encoded = np.column_stack([encode_column(table, column) for column in columns])
    own = []
    for k, (column, kind) in enumerate(zip(columns, kinds, strict=True)):
        if kind == STRING_TYPE:
            own.append(read_words(table, column.feature))
            _reject_unknown(table, column, encoded[:, k])
        else:
            _check_numbers(table, column.feature, encoded[:, k], kind)
            own.append(encoded[:, k])
    return Rows(columns, own, encoded, table)


def read_words(table: Table, feature: Feature) -> Array:
    """Return the words of a column as the table has them, ``[rows]``; an empty cell is empty.

    If blanks pad every cell, as in a file with ``", "`` between cells, and no category has blanks
    around it, they are no part of the words.
    """
    cells = table.column(feature.name).fill_null("")
    words = cells.str.strip_chars() if is_padded(table, feature) else cells
    return np.array(words.to_list(), dtype=object)


def is_padded(table: Table, feature: Feature) -> bool:
    """Return whether the blanks around the words of a column belong to the format of the table."""
    cells = table.column(feature.name).drop_nulls()
    if not len(cells) or any(word != word.strip() for word in feature.categories):
        return False
    return bool(feature.categories) and bool((cells != cells.str.strip_chars()).all())


def learn_categories(table: Table, feature: Feature) -> list[str]:
    """Return the categories of a column of words: those of the card, or all words of the table.

    A word with blanks around it is a word of its own, since the original gets it so, unless the
    blanks belong to the format of the table.
    """
    words = {word for word in read_words(table, feature) if word.strip()}
    words -= set(feature.missing)
    if not feature.categories:
        return sorted(words)
    known = set(feature.categories)
    padded = {word for word in words - known if word.strip() in known}
    return [*feature.categories, *sorted(padded)]


def are_truths(table: Table, name: str) -> bool:
    """Return whether all cells of a column are words for true and false, and some are letters."""
    cells = table.clean().column(name).drop_nulls()
    words = set(cells.str.to_lowercase().unique())
    return words <= TRUTHS.keys() and any(word.isalpha() for word in words)


def draw_rows(card: ModelCard, kinds: Sequence[int]) -> Rows:
    """Draw random rows in the allowed ranges, for an import without a table.

    Raises:
        ImportRejected: a feature has no range or no categories.
    """
    generator = np.random.default_rng(0)
    columns = [Column(feature, tuple(feature.categories)) for feature in card.features]
    encoded = np.column_stack([_draw_values(feature, generator) for feature in card.features])
    own = [
        np.array(column.categories, dtype=object)[encoded[:, k].astype(int)]
        if kind == STRING_TYPE
        else encoded[:, k]
        for k, (column, kind) in enumerate(zip(columns, kinds, strict=True))
    ]
    return Rows(columns, own, encoded)


def _draw_values(feature: Feature, generator: np.random.Generator) -> Floats:
    if feature.type == "boolean":
        return generator.integers(0, 2, _RANDOM_ROWS).astype(np.float64)
    if feature.type == "category" and feature.categories:
        return generator.integers(0, len(feature.categories), _RANDOM_ROWS).astype(np.float64)
    if feature.minimum is None or feature.maximum is None:
        wanted = "categories" if feature.type == "category" else "minimum and maximum"
        raise ImportRejected(
            f"there are no rows to verify it with. Give some with --csv, or describe every feature "
            f"with --card: {feature.name!r} has no {wanted}."
        )
    drawn = generator.uniform(feature.minimum, feature.maximum, _RANDOM_ROWS)
    return drawn.round() if feature.type == "integer" else drawn


def _reject_gaps(table: Table, card: ModelCard) -> None:
    """Reject empty cells of required features, of all columns at once."""
    gaps: dict[str, int] = {}
    for feature in card.features:
        cells = _missing_cells(table, feature)
        if not feature.optional and cells.any():
            gaps[feature.name] = int(cells.arg_true()[0])
    if gaps:
        name, row = next(iter(gaps.items()))
        shown = join_names([repr(gap) for gap in gaps], _WORDS_SHOWN)
        raise ImportRejected(
            f"{table.location(row)}, column {name!r}: the cell is empty. If the model accepts "
            f"missing values, name the columns that may be empty with --optional "
            f"{','.join(gaps)}; otherwise fill the cells of {shown} or leave out the rows."
        )
    for feature in card.features:
        if _missing_cells(table, feature).all():
            raise ImportRejected(
                f"all cells of {feature.name!r} are empty; give rows that have some."
            )


def _missing_cells(table: Table, feature: Feature) -> pl.Series:
    """Return which cells of a column have no value; a category is a value, whatever its word."""
    cells = table.column(feature.name)
    cleaned = clean_cells(cells.to_frame(), table.missing)[feature.name]
    if feature.type != "category":
        words = lower_words((*table.missing, *feature.missing))
        return cleaned.is_null() | cleaned.str.to_lowercase().is_in(words).fill_null(value=False)
    categories = list(feature.categories)
    known = cells.is_in(categories) | cells.str.strip_chars().is_in(categories)
    missing = cleaned.is_null() | cleaned.is_in(feature.missing).fill_null(value=False)
    return missing & ~known.fill_null(value=False)


def _reject_unknown(table: Table, column: Column, positions: Floats) -> None:
    """Reject words that the service would reject."""
    feature = column.feature
    unknown = np.flatnonzero(positions == UNSEEN)
    if feature.unseen == "reject" and len(unknown):
        row = int(unknown[0])
        words = join_names([repr(word) for word in column.categories], _WORDS_SHOWN)
        raise ImportRejected(
            f"{table.location(row)}, column {feature.name!r}: {table.column(feature.name)[row]!r} "
            f"is none of the model's words ({words}). Correct the cell, or use --unseen other "
            "to serve unknown words as the model treats them."
        )


def _check_numbers(table: Table, feature: Feature, numbers: Floats, kind: int) -> None:
    """Reject numbers that the input of the original cannot hold."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    known = np.where(np.isnan(numbers), 0, numbers)
    if feature.type == "integer" or dtype.kind in "iu":
        _reject_first(table, feature, known != np.round(known), _describe_fraction(feature, dtype))
        problem = f"larger than {WHOLE_MAX:,}, so that JSON clients round it. Use a string input"
        _reject_first(table, feature, np.abs(known) > WHOLE_MAX, problem)
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        problem = f"outside the range of the graph's {dtype} input. Correct the cell"
        _reject_first(table, feature, (known < ends.min) | (known > ends.max), problem)


def _describe_fraction(feature: Feature, dtype: np.dtype[np.generic]) -> str:
    if dtype.kind in "iu":
        return (
            f"not a whole number, but the graph's input is {dtype} and would cut it. Correct the "
            f"cell, or convert the model again with a float input for {feature.name!r}"
        )
    return "not a whole number. Correct the cell, or let the feature be a number in the card"


def _reject_first(table: Table, feature: Feature, wrong: Array, problem: str) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        row = int(rows[0])
        more = f" ({len(rows)} such cells)" if len(rows) > 1 else ""
        cell = str(table.column(feature.name)[row]).strip()
        raise ImportRejected(
            f"{table.location(row)}, column {feature.name!r}: {cell} is {problem}{more}."
        )
