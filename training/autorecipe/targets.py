"""Guessing what a target asks for: a quantity, or one of several labels."""

from dataclasses import dataclass

import polars as pl

from service.tabletext.words import MISSING
from training.autorecipe.columns import Numbers, read_numbers
from training.data.numerals import as_numbers
from training.data.table import Table
from training.errors import DataError
from training.recipe.families import TABLE_FAMILIES
from training.recipe.table import Target

_BINARY = 2
_MOST_CLASSES = 50
_MOST_CLASSES_OF_NUMBERS = 10
_LEAST_ROWS = 5
_NONE = "None"
_LABEL = "label"
RARE = 0.35


@dataclass(frozen=True)
class Guess:
    """A target as a recipe has it, and what one should know of it."""

    target: Target
    remarks: list[str]
    rare: bool = False
    """Whether the second of two labels is so rare that accuracy flatters."""


def guess_target(table: Table, column: str, family: str | None) -> Guess:
    """Words are labels; so are a few whole numbers that keep coming again; else it is a quantity.

    Args:
        table: the whole table.
        column: the target's name.
        family: what the user wants to fit; None decides nothing.

    Raises:
        DataError: there is nothing to learn, or too many labels to learn.
    """
    known = table.column(column).drop_nulls().alias(_LABEL)
    counts = known.value_counts(sort=True).sort(_LABEL)
    if len(counts) < _BINARY:
        raise DataError(
            f"{table.name}: the target {column!r} has "
            f"{'one value' if len(counts) else 'no value'} in all rows; there is nothing to learn. "
            "Choose another column with --target."
        )
    tasks = TABLE_FAMILIES[family].tasks if family else {"regression", "binary"}
    regression, classification = "binary" not in tasks, "regression" not in tasks
    read = read_numbers(known, table.numerals)
    wordless = read.plain and not read.strays and not read.affix
    distinct = read.cells.drop_nulls().n_unique()
    many = distinct > _MOST_CLASSES_OF_NUMBERS or regression
    if read.plain and not wordless and many:
        return _quantity_with_words(column, read)
    if not wordless or classification:
        return _labels(table, column, counts, read.note)
    few = min(_MOST_CLASSES_OF_NUMBERS, len(known) // _LEAST_ROWS)
    if len(counts) > few or regression:
        return _quantity(column, read.cells)
    return _labels(table, column, counts.sort(as_numbers(counts[_LABEL], table.numerals)))


def missing_words(table: Table, column: str) -> list[str]:
    """The words that mean: no value; `None` is none of them where it is a label among few.

    Args:
        table: the whole table, in which only blank cells are missing yet.
        column: the target's name.
    """
    cells = table.column(column).drop_nulls()
    known = cells.filter(~cells.is_in(MISSING))
    label = (cells == _NONE).sum() >= _LEAST_ROWS and 0 < known.n_unique() <= _MOST_CLASSES
    if label and not read_numbers(known, table.numerals).plain:
        return [word for word in MISSING if word != _NONE]
    return list(MISSING)


def _quantity_with_words(column: str, read: Numbers) -> Guess:
    guess = _quantity(column, read.cells.drop_nulls())
    update = {"missing": list(read.strays), "affix": read.affix, "unit": read.affix}
    return Guess(
        guess.target.model_copy(update=update), [f"{column}: {read.note}.", *guess.remarks]
    )


def _quantity(column: str, numbers: pl.Series) -> Guess:
    if min(numbers) < 0 or _skewness(numbers) < 1 or _skewness(numbers.log1p()) > 1:
        return Guess(Target(column=column), [])
    remark = f"{column}: many small and few large values, so its logarithm is fitted."
    return Guess(Target(column=column, log=True), [remark])


def _skewness(numbers: pl.Series) -> float:
    return float(numbers.skew() or 0.0)


def _labels(table: Table, column: str, counts: pl.DataFrame, note: str = "") -> Guess:
    total, spellings = int(counts["count"].sum()), len(counts)
    counts = _merged(counts)
    kept = {word: count for word, count in counts.iter_rows() if count >= _LEAST_ROWS}
    left_out = [word for word in counts[_LABEL] if word not in kept]
    if len(counts) == _BINARY and counts["count"].min() != 1:
        kept, left_out = dict(counts.iter_rows()), []
    if not _BINARY <= len(kept) <= _MOST_CLASSES:
        raise DataError(
            f"{table.name}: the target {column!r} has {len(counts)} different values, of which "
            f"{len(kept)} occur {_LEAST_ROWS} times or more; {_BINARY} to {_MOST_CLASSES} labels "
            f"can be learned. {f'As a quantity: {note}. ' if note else ''}"
            "Choose another column with --target, or correct its cells."
        )
    shares = ", ".join(f"{word} {count / total:.1%}" for word, count in kept.items())
    remarks = [f"{column}: {len(kept)} labels ({shares})."]
    if left_out:
        some = ", ".join(left_out[:10])
        remarks.append(f"Labels of fewer than {_LEAST_ROWS} rows are left out: {some}.")
    if len(counts) < spellings:
        alike = f"{column}: {spellings} spellings, some of which differ in case alone"
        remarks.append(f"{alike}, are read as {len(counts)} labels.")
    rarest = min(kept, key=lambda word: kept[word])
    rare = len(kept) == _BINARY and kept[rarest] < RARE * total
    labels = sorted(kept, key=lambda word: word == rarest) if rare else list(kept)
    target = Target(
        column=column,
        labels=labels,
        ignore_case=len(counts) < spellings,
        others="drop" if left_out else "reject",
    )
    return Guess(target, remarks, rare)


def _merged(counts: pl.DataFrame) -> pl.DataFrame:
    """Labels that differ in case alone as one, spelt as most rows spell it."""
    most = pl.col(_LABEL).sort_by("count", descending=True).first()
    return (
        counts.group_by(pl.col(_LABEL).str.to_lowercase().alias("folded"), maintain_order=True)
        .agg(most, pl.col("count").sum())
        .select(_LABEL, "count")
    )
