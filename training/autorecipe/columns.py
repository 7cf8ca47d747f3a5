"""The type of each column of an unknown table, and remarks on it."""

import re
from dataclasses import dataclass
from typing import Literal

import polars as pl

from service.tabletext.cells import Numerals
from training.data.numerals import as_numbers, common_affix, like_numbers
from training.data.table import Table
from training.recipe.table import Feature

_MOSTLY = 0.95
_MOSTLY_BUT_FOR_MARKS = 0.8
_MOST_MARKS = 5
_HALF = 0.5
_SHOWN = 5
_MOST_WORDS = 100
_LEAST_ROWS_A_WORD = 2
_COUNTED = 20
_LEAST_KNOWN = 10
_MONTHS = (
    "jan(?:uary|uar)?|feb(?:ruary|ruar)?|mar(?:ch)?|märz?|apr(?:il)?|may|mai|june?|juni|july?|juli|"
    "aug(?:ust)?|sept?(?:ember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?"
)
_DATES = (
    r"(?i)^(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{4}[-/]\d{1,2}$"
    r"|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}\b)"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:T\d{6}|$)"
    rf"|(?:[a-z]+,?\s+)?(?:\d{{1,2}}\.?[\s-])?(?:{_MONTHS})\.?[\s,-]+\d{{1,4}}"
    r"|\d{1,2}:\d\d(?::\d\d)?(?:\s?[ap]m)?$)"
)
_DATE = "a date or time; give its parts as numbers to use it"
_CODE = r"^0\d"
_LONG_CODE = r"^\d{17,}$"
_LARGEST_WHOLE = 2**53 - 1
"""Larger whole numbers are not exact everywhere (RFC 8259), so that the service rejects them."""
_IDENTIFIER = re.compile(
    r"(^|[_\s.-])(id|uuid|guid|index|key|nr|no|num|row)\.?$|(number|nummer)$|[a-z]I[Dd]$|^unnamed",
    re.IGNORECASE,
)

Kind = Literal["number", "integer", "boolean", "category"]


@dataclass(frozen=True)
class Finding:
    """What is known of a column."""

    name: str
    kind: Kind | None
    """Its type; None: a model can learn nothing from it."""
    missing: int
    distinct: int
    note: str = ""
    strays: tuple[str, ...] = ()
    """Words in a column of numbers, which are taken for missing."""
    affix: str | None = None
    """What is written at each number, such as a currency."""

    def feature(self) -> Feature:
        """The column as a recipe has it; only for one that has a type."""
        return Feature(
            name=self.name,
            type=self.kind or "category",
            unit=self.affix,
            affix=self.affix,
            unseen="other" if self.kind == "category" else "reject",
            optional=self.missing > 0,
            missing=list(self.strays),
        )


@dataclass(frozen=True)
class Numbers:
    """A column's cells as numbers."""

    cells: pl.Series
    """Float64, null where a cell is no number."""
    plain: bool
    """Whether so many are numbers that the others mean: no value."""
    affix: str | None
    strays: tuple[str, ...]
    """The cells that are no numbers, each once; empty unless plainly numbers."""
    note: str
    """What people should know of it."""


def read_numbers(known: pl.Series, numerals: Numerals) -> Numbers:
    """Read a column's cells as numbers, leaving out a unit that they have in common.

    Nearly all must be numbers, or most and a few words that come again, such as ``-`` or
    ``unknown``, must be the others.
    """
    affix = None
    numbers = as_numbers(known, numerals)
    if numbers.count() < _MOSTLY * len(known):
        affix = common_affix(known)
        numbers = as_numbers(known, numerals, affix)
    others = known.filter(numbers.is_null())
    words = others.alias("word").value_counts()
    strays = tuple(words.sort(["count", "word"], descending=[True, False])["word"])
    share = numbers.count() / max(len(known), 1)
    plain = share >= _MOSTLY or (share >= _MOSTLY_BUT_FOR_MARKS and len(strays) <= _MOST_MARKS)
    some = ", ".join(map(repr, strays[:_SHOWN])) + (" …" if len(strays) > _SHOWN else "")
    notes = []
    if plain and affix:
        without = int((numbers.is_not_null() & ~known.str.contains(affix, literal=True)).sum())
        notes.append(f"read without {affix!r}" + (f", which {without} cells lack" * bool(without)))
    if plain and strays:
        notes.append(f"{len(others)} cells are no numbers ({some}), taken as missing")
    if not plain and share >= _HALF:
        notes.append(f"{share:.0%} of the cells are numbers, but {len(others)} are not ({some})")
    if share < _HALF and like_numbers(known).sum() >= _MOSTLY_BUT_FOR_MARKS * len(known) > 0:
        notes.append(f"numbers, but not with the table's marks: decimal {numerals.decimal!r}")
    return Numbers(numbers, plain, affix, strays if plain else (), "; ".join(notes))


def infer_column(table: Table, name: str) -> Finding:
    """Guess what a column is from all its cells."""
    cells = table.column(name)
    known = cells.drop_nulls()
    missing, distinct = cells.null_count(), known.n_unique()
    if distinct <= 1:
        return Finding(name, None, missing, distinct, "constant" if distinct else "empty")
    if len(known) < min(_LEAST_KNOWN, missing):
        return Finding(name, None, missing, distinct, f"only {len(known)} cells are filled")
    if set(known.str.to_lowercase().unique()) <= {"true", "false"}:
        return Finding(name, "boolean", missing, distinct)
    if known.str.contains(_DATES).sum() > _MOSTLY * len(known):
        return Finding(name, None, missing, distinct, _DATE)
    column = read_numbers(known, table.numerals)
    codes = known.str.contains(_CODE).any()
    if column.plain and not codes:
        return _numeric(name, known, column, missing)
    return _words(name, known, column, missing)


def _numeric(name: str, known: pl.Series, column: Numbers, missing: int) -> Finding:
    numbers = column.cells.drop_nulls()
    distinct = numbers.n_unique()
    if distinct <= 1:
        note = "; ".join(filter(None, ("constant", column.note)))
        return Finding(name, None, missing, distinct, note)
    if known.str.contains(_LONG_CODE).any():
        return Finding(name, None, missing, distinct, "an identifier: numbers of many digits")
    whole = bool((numbers % 1 == 0).all() and (numbers.abs() <= _LARGEST_WHOLE).all())
    if whole and distinct > _MOSTLY * len(known) and _IDENTIFIER.search(name):
        return Finding(name, None, missing, distinct, "an identifier")
    if whole and distinct == len(known) >= _COUNTED and numbers.is_sorted():
        return Finding(name, None, missing, distinct, "a count of the rows")
    missing += len(known) - len(numbers)
    kind: Kind = "integer" if whole else "number"
    return Finding(name, kind, missing, distinct, column.note, column.strays, column.affix)


def _words(name: str, known: pl.Series, column: Numbers, missing: int) -> Finding:
    distinct = known.n_unique()
    if distinct > _MOSTLY * len(known) and _IDENTIFIER.search(name):
        return Finding(name, None, missing, distinct, "an identifier")
    if distinct == len(known):
        note = "all different: an identifier or free text"
        return Finding(name, None, missing, distinct, column.note or note)
    if distinct > _MOST_WORDS or distinct * _LEAST_ROWS_A_WORD > len(known):
        note = f"{distinct} different words are too many"
        return Finding(name, None, missing, distinct, "; ".join(filter(None, (note, column.note))))
    notes = [column.note]
    if (alike := distinct - known.str.to_lowercase().n_unique()) > 0:
        notes.append(f"{alike} words differ from another in case alone")
    return Finding(name, "category", missing, distinct, "; ".join(filter(None, notes)))
