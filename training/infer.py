"""Looking at an unknown table: what each column is, and what one should know of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from training.recipe import Feature
from training.tabular import Floats, Table, as_numbers

_MOSTLY = 0.95
_MOST_WORDS = 100
_LEAST_ROWS_A_WORD = 2
_STRONG = 0.995
_COUNTED = 20
_DATES = r"^\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{8}T\d{6})"
_CODE = r"^0\d"
_IDENTIFIER = re.compile(
    r"(^|[_\s.-])(id|uuid|guid|index|key)$|[a-z]I[Dd]$|^unnamed", re.IGNORECASE
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

    def feature(self) -> Feature:
        """The column as a recipe has it; only for one that has a type."""
        return Feature(
            name=self.name,
            type=self.kind or "category",
            unseen="other" if self.kind == "category" else "refuse",
            optional=self.missing > 0,
            missing=list(self.strays),
        )


def decimal_of(frame: pl.DataFrame) -> str:
    """The mark between whole and fraction with which more cells are numbers."""
    head = frame.head(1000)

    def numbers(mark: str) -> int:
        return sum(as_numbers(cells, mark).count() for cells in head)

    return "," if numbers(",") > numbers(".") else "."


def look(table: Table, name: str) -> Finding:
    """Guess what a column is from all its cells."""
    cells = table.column(name)
    known = cells.drop_nulls()
    missing, distinct = cells.null_count(), known.n_unique()
    if distinct <= 1:
        return Finding(name, None, missing, distinct, "constant" if distinct else "empty")
    if set(known.str.to_lowercase().unique()) <= {"true", "false"}:
        return Finding(name, "boolean", missing, distinct)
    if known.str.contains(_DATES).sum() > _MOSTLY * len(known):
        return Finding(name, None, missing, distinct, "a date; give its parts as numbers to use it")
    numbers = as_numbers(known, table.decimal)
    codes = known.str.contains(_CODE).any()
    if numbers.count() >= _MOSTLY * len(known) and not codes:
        return _numeric(name, known, numbers, missing)
    return _words(name, known, missing, distinct)


def leakage(table: Table, features: Sequence[Feature], target: Floats) -> list[str]:
    """Names of numeric columns that alone order the rows almost as the target does."""
    suspects = []
    for feature in features:
        if feature.type == "category":
            continue
        numbers = as_numbers(table.column(feature.name), table.decimal)
        pair = pl.DataFrame({"x": numbers, "y": target}).drop_nulls()
        ranks = pair.select(pl.corr("x", "y", method="spearman")).item()
        if ranks is not None and abs(ranks) > _STRONG:
            suspects.append(feature.name)
    return suspects


def _numeric(name: str, known: pl.Series, numbers: pl.Series, missing: int) -> Finding:
    strays = tuple(known.filter(numbers.is_null()).unique().sort())
    count, distinct = numbers.count(), numbers.drop_nulls().n_unique()
    whole = bool((numbers.drop_nulls() % 1 == 0).all())
    note = f"{len(known) - count} cells are no numbers, taken as missing" if strays else ""
    if whole and distinct > _MOSTLY * len(known) and _IDENTIFIER.search(name):
        return Finding(name, None, missing, distinct, "an identifier")
    if whole and distinct == len(known) >= _COUNTED and numbers.is_sorted():
        return Finding(name, None, missing, distinct, "a count of the rows")
    return Finding(
        name,
        "integer" if whole else "number",
        missing + len(known) - count,
        distinct,
        note,
        strays,
    )


def _words(name: str, known: pl.Series, missing: int, distinct: int) -> Finding:
    if distinct > _MOSTLY * len(known) and _IDENTIFIER.search(name):
        return Finding(name, None, missing, distinct, "an identifier")
    if distinct == len(known):
        return Finding(name, None, missing, distinct, "all different: an identifier or free text")
    if distinct > _MOST_WORDS or distinct * _LEAST_ROWS_A_WORD > len(known):
        return Finding(name, None, missing, distinct, f"{distinct} different words are too many")
    return Finding(name, "category", missing, distinct)
