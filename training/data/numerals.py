"""Convert columns of text cells to numbers, and detect their marks and units.

`service.tabletext` has the rule for a single cell.
"""

from collections import Counter

import numpy as np
import polars as pl

from service.tabletext import (
    APOSTROPHES,
    BLANKS,
    POINT,
    POINTS,
    THOUSANDS,
    Decimal,
    Numerals,
    Thousands,
    plain_number,
)

_LARGEST = float(np.finfo(np.float32).max)
_MARKS = f".,{APOSTROPHES}{BLANKS}"
_CURRENCY = r"[A-Z]{0,3}\p{Sc}|USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD"
_UNIT = rf"[^\d\s;:+\-{_MARKS}][^\d,;]{{0,11}}"
_BODY = rf"^[+-]?\s?(?:{_CURRENCY})?\s?[+-]?(\d[\d{_MARKS}]*?)\s?(?:{_UNIT})?$"
_COMMA = r"^[+-]?\d+(?:,\d+)?$"
_MIN_SMALL_NUMBERS = 3


def as_number(cell: str) -> float | None:
    """Return the number in a cell with a decimal point, or None."""
    number: float | None = as_numbers(pl.Series([cell])).item()
    return number


def as_numbers(cells: pl.Series, numerals: Numerals = POINT, affix: str | None = None) -> pl.Series:
    """Return each cell's number as Float64, null if it is not a number in the range of float32.

    Polars casts most cells; `plain_number` parses the others.

    Args:
        cells: text.
        numerals: the marks; a thousands mark is only valid between groups of three digits.
        affix: a unit or currency that may precede or follow the number.
    """
    text = cells.alias("cell")
    if numerals.decimal == ",":
        text = text.set(~text.str.contains(_COMMA), None).str.replace(",", ".", literal=True)
    numbers = text.cast(pl.Float64, strict=False)
    others = cells.filter(numbers.is_null() & cells.is_not_null()).unique()
    read = {
        cell: float(plain)
        for cell in others
        if (plain := plain_number(cell, numerals, affix)) is not None
    }
    if read:
        rest = cells.replace_strict(read, default=None, return_dtype=pl.Float64)
        numbers = numbers.zip_with(numbers.is_not_null(), rest)
    held = numbers.is_finite() & (numbers.abs() <= _LARGEST)
    return numbers.set(~held, None).alias(cells.name)


def common_affix(cells: pl.Series) -> str | None:
    """Return the unit or currency in most of the cells, if there is one."""
    written = [
        cells.str.extract(rf"^[+-]?\s?({_CURRENCY})\s?[+-]?\d"),
        cells.str.extract(rf"^[+-]?\d[\d{_MARKS}]*?({_UNIT})$"),
    ]
    for affixes in written:
        found = Counter[str](affixes.drop_nulls().str.strip_chars())
        for affix, times in found.most_common(1):
            if times > len(cells) / 2:
                return affix
    return None


def resembles_number(cells: pl.Series) -> pl.Series:
    """Return whether each cell resembles a number, with any marks."""
    return cells.str.contains(rf"^[+-]?[.,]?\d[\d{_MARKS}]*(?:[eE][+-]?\d+)?$")


def detect_numerals(frame: pl.DataFrame, separator: str) -> tuple[Numerals, str]:
    """Return the marks of the table's numbers, and an ambiguous cell, or an empty string.

    ``1,5`` has a decimal comma and ``1,234,567`` has thousands commas. ``1,234`` is ambiguous: its
    column decides, else the whole table, else the separator of the cells.
    """
    counts = _MarkCounts()
    for cells in frame:
        counts.add(cells)
    return counts.result(separator)


class _MarkCounts:
    """Counts the distinct cells in which each mark is a decimal or a thousands mark."""

    def __init__(self) -> None:
        self.decimal: Counter[str] = Counter()
        self.thousands: Counter[str] = Counter()
        self.ambiguous: dict[str, str] = {}
        """An ambiguous cell of each mark that its column does not decide."""

    def add(self, cells: pl.Series) -> None:
        bodies = cells.str.extract(_BODY).drop_nulls().unique()
        for mark in (" ", "'"):
            self.thousands[mark] += _count(bodies, _groups(THOUSANDS[mark], r"(?:[.,]\d+)?"))
        for mark, other in ((",", "."), (".", ",")):
            self._count_mark(bodies, mark, other)

    def _count_mark(self, bodies: pl.Series, mark: str, other: str) -> None:
        m, o = POINTS[mark], POINTS[other]
        blanks = rf"[^\d{m}]"
        either = bodies.filter(bodies.str.contains(rf"^[1-9]\d{{0,2}}{m}\d{{3}}$"))
        fractions = _count(bodies, rf"^(?:\d+|[1-9]\d{{0,2}}(?:{blanks}\d{{3}})+){m}\d+$")
        fractions -= len(either)
        groups = _count(bodies, rf"^[1-9]\d{{0,2}}(?:{m}\d{{3}}){{2,}}$")
        groups += _count(bodies, rf"^[1-9]\d{{0,2}}(?:{m}\d{{3}})+{o}\d+$")
        if fractions > groups or (not groups and _count(bodies, r"^\d{4,}$")):
            self.decimal[mark] += fractions + len(either)
        elif groups or _count(bodies, r"^[1-9]\d{0,2}$") >= _MIN_SMALL_NUMBERS:
            self.thousands[mark] += groups + len(either)
        elif len(either):
            self.ambiguous.setdefault(mark, str(either.min()))

    def result(self, separator: str) -> tuple[Numerals, str]:
        comma = self.decimal[","] + self.thousands["."]
        point = self.decimal["."] + self.thousands[","]
        if comma != point:
            decimal: Decimal = "," if comma > point else "."
        else:
            decimal = "," if "," in self.ambiguous and separator != "," else "."
        other: Decimal = "." if decimal == "," else ","
        marks: tuple[Thousands, ...] = (other, " ", "'")
        weights = {mark: self.thousands[mark] for mark in marks}
        thousands = max(weights, key=lambda mark: weights[mark])
        if not weights[thousands]:
            thousands = other if other in self.ambiguous else ""
        numerals = Numerals(decimal, thousands)
        is_ambiguous = comma == point and bool(self.ambiguous)
        return numerals, next(iter(self.ambiguous.values())) if is_ambiguous else ""


def _groups(mark: str, rest: str) -> str:
    return rf"^[1-9]\d{{0,2}}(?:{mark}\d{{3}})+{rest}$"


def _count(bodies: pl.Series, pattern: str) -> int:
    return int(bodies.str.contains(pattern).sum())
