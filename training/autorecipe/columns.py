"""Infer the type of each column of an unknown table."""

import re
from dataclasses import dataclass
from functools import partial
from typing import Literal

import polars as pl

from service.spelling import format_count, format_subject, join_names
from service.tabletext import NumberFormat, column_name
from service.timetext import DatetimeFormat
from service.values import are_exact_integers, resembles_number
from training.data.datetimes import as_datetimes, detect_datetime_format
from training.data.numbers import as_numbers, common_affix
from training.data.table import Table
from training.recipe.table import Feature

_MOSTLY = 0.95
_MOSTLY_WITH_FEW_WORDS = 0.8
_FEW_WORDS = 5
_HALF = 0.5
_SHOWN = 5
MAX_CATEGORIES = 100
ROW_NUMBER = "a row number"
"""The note of a column that numbers the rows."""
_MIN_ROWS_PER_CATEGORY = 2
_MIN_NUMBERED_ROWS = 20
_MIN_FILLED_CELLS = 10
_MONTHS = (
    "jan(?:uary|uar)?|feb(?:ruary|ruar)?|mar(?:ch)?|märz?|apr(?:il)?|may|mai|june?|juni|july?|juli|"
    "aug(?:ust)?|sept?(?:ember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?"
)
_DATES = (
    r"(?i)^(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{4}[-/]\d{1,2}$"
    r"|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}\b)|\d{1,2}[-/]\d{4}$"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:T\d{6}|$)"
    rf"|(?:[a-z]+,?\s+)?(?:\d{{1,2}}\.?[\s-])?(?:{_MONTHS})\.?[\s,-]+\d{{1,4}}"
    r"|\d{1,2}:\d\d(?::\d\d)?(?:\s?[ap]m)?$)"
)
_DATE = "dates or times in an unknown format, or in several; write them as YYYY-MM-DD HH:MM:SS"
CODE = r"^0\d"
"""Cells that are codes, in which a leading zero matters, not numbers."""
# A number with an exponent has a sign or a point: 12E3 is a code, 1.2E+04 a number.
_EXPONENT_CODE = r"^\d+E\d+$"
_MIN_PADDED = 0.02
# Cells for a missing value: dashes, points, and the errors of spreadsheets.
_PLACEHOLDER = r"^(?:[-\u2013\u2014]+|\.+|(?i:n\.?\s?a\.?)|#NV|#N/A|#[A-ZÄÖÜ]+(?:/0)?[!?])$"
_LONG_CODE = r"^-?\d{17,}$"
# Texts and their words: letters, and not within a code.
_MIN_TEXTS = 50
_DISTINCT_TEXTS = 0.2
_WORD = r"\b\p{L}{2,}\b"
_IDENTIFIER = re.compile(
    r"(^|[_\s.-])(id|uuid|guid|index|key|nr|no|num|row)\.?$|(number|nummer)$|[a-z]I[Dd]$|^unnamed",
    re.IGNORECASE,
)

Kind = Literal["number", "integer", "boolean", "category", "datetime", "text"]


@dataclass(frozen=True)
class InferredColumn:
    """A column with its inferred type."""

    name: str
    kind: Kind | None
    """Its type; None: it cannot be used as a feature."""
    missing: int
    distinct: int
    note: str = ""
    non_numeric: tuple[str, ...] = ()
    """Words in a column of numbers or dates, which are read as missing values."""
    affix: str | None = None
    """Text before or after each number, such as a currency."""
    format: DatetimeFormat | None = None
    """Of dates."""

    def feature(self) -> Feature:
        """Return the column as a feature of a recipe; it must have a type.

        A value may be missing even if none is in this table: others may have gaps.
        """
        return Feature(
            name=self.name,
            type=self.kind or "category",
            unit=self.affix,
            affix=self.affix,
            format=self.format,
            unseen="other" if self.kind == "category" else "reject",
            optional=True,
            missing=list(self.non_numeric),
        )


@dataclass(frozen=True)
class ParsedNumbers:
    """The cells of a column, parsed as numbers."""

    cells: pl.Series
    """Float64, null if a cell is not a number."""
    numeric: bool
    """Whether enough cells are numbers to read the others as missing values."""
    affix: str | None
    non_numeric: tuple[str, ...]
    """The distinct cells that are not numbers; empty unless the column is numeric."""
    note: str
    """A remark for the user."""


def parse_numbers(known: pl.Series, number_format: NumberFormat) -> ParsedNumbers:
    """Parse the cells of a column as numbers, without their common unit.

    A column is numeric if nearly all cells are numbers, or if most are and the others are a few
    repeated words, such as ``-`` or ``unknown``.
    """
    affix = None
    numbers = as_numbers(known, number_format)
    if numbers.count() < _MOSTLY * len(known):
        affix = common_affix(known)
        numbers = as_numbers(known, number_format, affix)
    others = known.filter(numbers.is_null())
    words = others.alias("word").value_counts()
    non_numeric = tuple(words.sort(["count", "word"], descending=[True, False])["word"])
    placeholders = int(others.str.contains(_PLACEHOLDER).sum())
    share = numbers.count() / max(len(known) - placeholders, 1)
    numeric = numbers.count() >= max(_HALF * len(known), 1) and (
        share >= _MOSTLY or (share >= _MOSTLY_WITH_FEW_WORDS and len(non_numeric) <= _FEW_WORDS)
    )
    some = join_names(non_numeric, _SHOWN, repr)
    notes = []
    if numeric and affix:
        without = int((numbers.is_not_null() & ~known.str.contains(affix, literal=True)).sum())
        notes.append(
            f"read without {affix!r}"
            + (f", missing in {format_count(without, 'cell')}" * bool(without))
        )
    if numeric and non_numeric:
        are = "is not a number" if len(others) == 1 else "are not numbers"
        values = "a missing value" if len(others) == 1 else "missing values"
        notes.append(f"{format_count(len(others), 'cell')} {are} ({some}), read as {values}")
    if not numeric and share >= _HALF:
        notes.append(f"{share:.0%} of the cells are numbers, but {len(others)} are not ({some})")
    number_like = sum(map(resembles_number, known)) if share < _HALF else 0
    if number_like >= _MOSTLY_WITH_FEW_WORDS * len(known) > 0:
        notes.append(
            f"numbers with other marks than those of the table: decimal {number_format.decimal!r}"
        )
    return ParsedNumbers(numbers, numeric, affix, non_numeric if numeric else (), "; ".join(notes))


def infer_column(table: Table, name: str) -> InferredColumn:
    """Infer the type of a column from all of its cells."""
    cells = table.column(name)
    known = cells.drop_nulls()
    missing, distinct = cells.null_count(), known.n_unique()
    unusable = partial(InferredColumn, name, None, missing, distinct)
    if distinct <= 1:
        return _infer_mark(name, known, missing)
    if len(known) < min(_MIN_FILLED_CELLS, missing):
        return unusable(f"only {format_subject(len(known), 'cell')} filled")
    if set(known.str.to_lowercase().unique()) <= {"true", "false"}:
        return InferredColumn(name, "boolean", missing, distinct)
    if known.str.contains(_DATES).sum() > _MOSTLY * len(known):
        return _infer_datetime(name, known, missing)
    column = parse_numbers(known, table.number_format)
    if column.numeric and not _are_codes(known, column.cells):
        return _infer_numeric(name, known, column, missing, unnamed=_is_unnamed(table, name))
    return _infer_category(name, known, column, missing)


def _infer_datetime(name: str, known: pl.Series, missing: int) -> InferredColumn:
    """Infer the format of dates; the few cells that are no dates are missing values."""
    found = detect_datetime_format(known)
    if found is None:
        return InferredColumn(name, None, missing, known.n_unique(), _DATE)
    numbers = as_datetimes(known, found.text_format)
    distinct = numbers.n_unique() - bool(numbers.null_count())
    others = known.filter(numbers.is_null()).alias("word")
    words = tuple(others.value_counts().sort(["count", "word"], descending=[True, False])["word"])
    if distinct <= 1 or len(words) > _FEW_WORDS:
        note = "constant" if distinct <= 1 else _DATE
        return InferredColumn(name, None, missing, distinct, note)
    notes = [f"dates, read as {found.text_format}"]
    if found.alternative:
        notes = [f"dates, read as {found.text_format}, though they may be {found.alternative}"]
    if words:
        some = join_names(words, _SHOWN, repr)
        notes.append(
            f"no dates: {format_count(len(others), 'cell')} ({some}), read as missing values"
        )
    return InferredColumn(
        name,
        "datetime",
        missing + len(others),
        distinct,
        "; ".join(notes),
        words,
        format=found.text_format,
    )


def _infer_mark(name: str, known: pl.Series, missing: int) -> InferredColumn:
    """Infer the type of a column with one word or none: a mark and empty cells are a category."""
    if min(missing, len(known)) < _MIN_FILLED_CELLS:
        note = "constant" if len(known) else "empty"
        return InferredColumn(name, None, missing, min(len(known), 1), note)
    return InferredColumn(name, "category", missing, 1, f"{known[0]!r} or empty")


def _are_codes(known: pl.Series, numbers: pl.Series) -> bool:
    """Return whether cells that may be numbers are codes, such as 00501 or 12E3.

    Numbers with leading zeros are, unless some have decimals, or few are padded in another width.
    """
    if known.str.contains(_EXPONENT_CODE).sum() > _HALF * len(known):
        return True
    padded = int(known.str.contains(CODE).sum())
    if not padded or not are_exact_integers(numbers.drop_nulls().to_numpy()).all():
        return False
    return padded >= _MIN_PADDED * len(known) or known.str.len_chars().n_unique() == 1


def _is_unnamed(table: Table, name: str) -> bool:
    """Return whether the header names other columns, but not this one."""
    generated = [column_name(k) for k in range(1, table.frame.width + 1)]
    return name in generated and table.frame.columns != generated


def _infer_numeric(
    name: str, known: pl.Series, column: ParsedNumbers, missing: int, *, unnamed: bool
) -> InferredColumn:
    numbers = column.cells.drop_nulls()
    distinct = numbers.n_unique()
    unusable = partial(InferredColumn, name, None, missing, distinct)
    if known.str.contains(_LONG_CODE).any():
        return unusable("an identifier: numbers of many digits")
    if distinct <= 1:
        return unusable("; ".join(filter(None, ("constant", column.note))))
    whole = bool(are_exact_integers(numbers.to_numpy()).all())
    if whole and (note := _describe_identifier(name, numbers, len(known), unnamed=unnamed)):
        return unusable(note)
    in_32_bits = numbers.cast(pl.Float32).n_unique()
    if in_32_bits == 1 or distinct - in_32_bits > _HALF * distinct:
        return unusable(f"{distinct} numbers that are {in_32_bits} in 32 bits")
    missing += len(known) - len(numbers)
    kind: Kind = "integer" if whole else "number"
    return InferredColumn(
        name, kind, missing, distinct, column.note, column.non_numeric, column.affix
    )


def _describe_identifier(name: str, numbers: pl.Series, rows: int, *, unnamed: bool) -> str:
    """Return why whole numbers say which row it is, and nothing else; empty if they may not."""
    if numbers.n_unique() <= _MOSTLY * rows:
        return ""
    if unnamed:
        return "an identifier, which the header does not name"
    if _IDENTIFIER.search(name):
        return "an identifier"
    if not numbers.n_unique() == rows >= _MIN_NUMBERED_ROWS:
        return ""
    ordered = numbers.sort()
    from_start = ordered[0] in (0, 1) and ordered[-1] - ordered[0] == rows - 1
    return ROW_NUMBER if from_start or numbers.is_sorted() else ""


def is_text(known: pl.Series) -> bool:
    """Return whether cells without gaps are free text, such as messages or titles.

    Most are different, most have several words, and most of the words are in several cells: those
    of identifiers are not.
    """
    if len(known) < _MIN_TEXTS or known.n_unique() < _DISTINCT_TEXTS * len(known):
        return False
    words = known.unique(maintain_order=True).str.to_lowercase().str.extract_all(_WORD)
    words = words.list.unique()
    if (words.list.len() > 1).sum() < _HALF * len(words):
        return False
    counts = words.explode().drop_nulls().alias("word").value_counts()["count"]
    return int(counts.filter(counts > 1).sum()) >= _HALF * int(counts.sum())


def _infer_category(
    name: str, known: pl.Series, column: ParsedNumbers, missing: int
) -> InferredColumn:
    distinct = known.n_unique()
    unusable = partial(InferredColumn, name, None, missing, distinct)
    if distinct > _MOSTLY * len(known) and _IDENTIFIER.search(name):
        return unusable("an identifier")
    if is_text(known):
        note = "free text, of which words and parts of words are used"
        return InferredColumn(name, "text", missing, distinct, note)
    if distinct == len(known):
        return unusable(column.note or "all different: an identifier or free text")
    if distinct * _MIN_ROWS_PER_CATEGORY > len(known):
        note = f"{distinct} different words are too many for {format_count(len(known), 'cell')}"
        return unusable("; ".join(filter(None, (note, column.note))))
    notes = [column.note]
    if (alike := distinct - known.str.to_lowercase().n_unique()) > 0:
        notes.append(f"{alike} words only differ in case from others")
    return InferredColumn(name, "category", missing, distinct, "; ".join(filter(None, notes)))
