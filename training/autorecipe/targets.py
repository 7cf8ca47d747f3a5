"""Infer the target of a recipe: a number, or one of several labels."""

from dataclasses import dataclass, replace

import polars as pl

from service.bundle.manifest import BINARY
from service.spelling import format_count, join_names
from service.tabletext import MISSING, TRUTHS, NumberFormat
from training.autorecipe.columns import CODE, MAX_CATEGORIES, ParsedNumbers, parse_numbers
from training.data.numbers import as_numbers
from training.data.table import Table
from training.errors import DataError
from training.recipe.families import Task
from training.recipe.table import Target

_MAX_CLASSES = 100
_MAX_CLASSES_OF_NUMBERS = 10
_MIN_ROWS = 5
_SHOWN = 10
# A table with more negative numbers than this share has them on purpose.
_FEW_NEGATIVE = 0.01
_NONE = "None"
# Of the words for missing values, those that are words in some tables.
_WORDS = ("NA", _NONE)
_HALF = 0.5
_LABEL = "label"
RARE = 0.35


@dataclass(frozen=True)
class InferredTarget:
    """The target section of a recipe, with remarks for the user."""

    target: Target
    remarks: list[str]


def infer_target(table: Table, column: str, tasks: frozenset[Task]) -> InferredTarget:
    """Infer the target: words and a few repeated integers are labels, other numbers a value.

    Args:
        table: the whole table.
        column: the target's name.
        tasks: those that the user leaves open.

    Raises:
        DataError: the target is constant, or has too many labels.
    """
    known = table.column(column).drop_nulls().alias(_LABEL)
    counts = known.value_counts(sort=True).sort(_LABEL)
    if len(counts) < BINARY:
        raise DataError(
            f"{table.name}: the target {column!r} has "
            f"{'one value' if len(counts) else 'no value'} in all rows, so it cannot be predicted. "
            "Choose another column with --target."
        )
    regression, classification = "binary" not in tasks, "regression" not in tasks
    parsed = parse_numbers(known, table.number_format)
    wordless = parsed.numeric and not parsed.non_numeric and not parsed.affix
    distinct = parsed.cells.drop_nulls().n_unique()
    many = distinct > _MAX_CLASSES_OF_NUMBERS or regression
    if parsed.numeric and not wordless and many:
        return _infer_quantity_with_words(table, column, parsed)
    if not wordless or classification:
        return _infer_labels(table, column, counts, parsed.note)
    few = min(_MAX_CLASSES_OF_NUMBERS, len(known) // _MIN_ROWS)
    if distinct > few or regression:
        return _infer_quantity(table, column, parsed.cells)
    labels = _infer_labels(
        table, column, counts.sort(as_numbers(counts[_LABEL], table.number_format))
    )
    if len(labels.target.labels) == BINARY:
        return labels
    remark = f"Numbers of {column} are read as labels; --column {column}=number predicts a number."
    return replace(labels, remarks=[*labels.remarks, remark])


def find_missing_words(table: Table, target: str) -> list[str]:
    """Return the words for missing values, without those that the table has among its words.

    ``NA`` may be North America, and ``None`` a kind of roof. Either is such a word if it is about
    as frequent as the others of its column, and in no column of numbers. ``None`` is also one if it
    is a label of several rows.

    Args:
        table: the complete table, with only blank cells missing.
        target: the target's name.
    """
    return [word for word in MISSING if word not in _WORDS or not _is_word(table, word, target)]


def _is_word(table: Table, word: str, target: str) -> bool:
    counts = {cells.name: int((cells == word).sum()) for cells in table.frame}
    label = counts[target] >= _MIN_ROWS and _has_words(table, target, _MAX_CLASSES)
    if label and word == _NONE:
        return True
    names = [name for name, count in counts.items() if count]
    return bool(names) and all(
        _has_words(table, name, MAX_CATEGORIES) and _is_frequent(table.column(name), word)
        for name in names
    )


def _has_words(table: Table, name: str, most: int) -> bool:
    """Return whether a column has words, at most this many, next to those for missing values."""
    cells = table.column(name).drop_nulls()
    known = cells.filter(~cells.is_in(MISSING))
    if not 0 < known.n_unique() <= most or set(known.str.to_lowercase()) <= TRUTHS.keys():
        return False
    return not parse_numbers(known, table.number_format).numeric


def _is_frequent(cells: pl.Series, word: str) -> bool:
    known = cells.filter(~cells.is_in(MISSING))
    count = int((cells == word).sum())
    return count >= max(_MIN_ROWS, _HALF * len(known) / max(known.n_unique(), 1))


def _infer_quantity_with_words(table: Table, column: str, parsed: ParsedNumbers) -> InferredTarget:
    target = _infer_quantity(table, column, parsed.cells)
    update = {"missing": list(parsed.non_numeric), "affix": parsed.affix, "unit": parsed.affix}
    return InferredTarget(
        target.target.model_copy(update=update), [f"{column}: {parsed.note}.", *target.remarks]
    )


def _infer_quantity(table: Table, column: str, numbers: pl.Series) -> InferredTarget:
    """Infer a target of numbers, one for each cell that is not missing."""
    positive = numbers.filter(numbers >= 0)
    if _compute_skewness(positive) < 1 or _compute_skewness(positive.log1p()) > 1:
        return InferredTarget(Target(column=column), [])
    negative = (numbers < 0).arg_true()
    if not len(negative):
        remark = f"{column}: its distribution is right-skewed, so its logarithm is fitted."
        return InferredTarget(Target(column=column, log=True), [remark])
    remarks = []
    if len(negative) <= _FEW_NEGATIVE * len(numbers):
        rows = table.column(column).is_not_null().arg_true().gather(negative)
        some = join_names([str(table.row_number(row)) for row in rows], _SHOWN)
        remarks.append(
            f"{column}: its distribution is right-skewed, but its logarithm is not fitted, because "
            f"of {format_count(len(negative), 'negative number')} (row {some}). If that is an "
            "error, correct it and train again."
        )
    return InferredTarget(Target(column=column), remarks)


def _compute_skewness(numbers: pl.Series) -> float:
    return float(numbers.skew() or 0.0)


def _infer_labels(
    table: Table, column: str, counts: pl.DataFrame, note: str = ""
) -> InferredTarget:
    total, spellings = int(counts["count"].sum()), len(counts)
    ignore_case = counts[_LABEL].str.to_lowercase().n_unique() < spellings
    counts = _merge_spellings(counts, table.number_format)
    retained = {word: count for word, count in counts.iter_rows() if count >= _MIN_ROWS}
    skipped = [word for word in counts[_LABEL] if word not in retained]
    if len(counts) == BINARY and counts["count"].min() != 1:
        retained, skipped = dict(counts.iter_rows()), []
    if not BINARY <= len(retained) <= _MAX_CLASSES:
        raise DataError(
            f"{table.name}: the target {column!r} has {len(counts)} different values, of which "
            f"{len(retained)} occur {_MIN_ROWS} times or more; {BINARY} to {_MAX_CLASSES} labels "
            f"are supported. {f'As a number: {note}. ' if note else ''}"
            "Choose another column with --target, or correct its cells."
        )
    shares = join_names([f"{word} {count / total:.1%}" for word, count in retained.items()], _SHOWN)
    remarks = [f"{column}: {len(retained)} labels ({shares})."]
    if skipped:
        some = join_names(skipped, _SHOWN)
        remarks.append(f"Labels with fewer than {_MIN_ROWS} rows are dropped: {some}.")
    if len(counts) < spellings:
        alike = "only differ in case" if ignore_case else "are the same number"
        remark = f"{column}: {spellings} spellings, some of which {alike}"
        remarks.append(f"{remark}, are read as {len(counts)} labels.")
    rarest = min(retained, key=lambda word: retained[word])
    rare = len(retained) == BINARY and retained[rarest] < RARE * total
    labels = sorted(retained, key=lambda word: word == rarest) if rare else list(retained)
    target = Target(
        column=column,
        labels=labels,
        ignore_case=ignore_case,
        others="drop" if skipped else "reject",
    )
    return InferredTarget(target, remarks)


def _merge_spellings(counts: pl.DataFrame, number_format: NumberFormat) -> pl.DataFrame:
    """Merge labels that only differ in case or as 1 and 1.0 do, in the most frequent spelling."""
    words = counts[_LABEL]
    folded = words.str.to_lowercase()
    if not words.str.contains(CODE).any():
        numbers = as_numbers(words, number_format)
        folded = numbers.cast(pl.String).zip_with(numbers.is_not_null(), folded)
    order = pl.struct(-pl.col("count").cast(pl.Int64), pl.col(_LABEL).str.len_chars())
    return (
        counts.group_by(folded.alias("folded"), maintain_order=True)
        .agg(pl.col(_LABEL).sort_by(order).first(), pl.col("count").sum())
        .select(_LABEL, "count")
    )
