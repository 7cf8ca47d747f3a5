"""How a table writes numbers: its decimal mark, its thousands mark, and units beside them."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl

_LARGEST = float(np.finfo(np.float32).max)
_BLANKS = " \u00a0\u2009\u202f"
_APOSTROPHES = "'\u2019"
_MARKS = f".,{_APOSTROPHES}{_BLANKS}"
_THOUSANDS = {"": "", ",": ",", ".": r"\.", " ": f"[{_BLANKS}]", "'": f"[{_APOSTROPHES}]"}
_DECIMAL = {".": r"\.", ",": ","}
_CURRENCY = r"[A-Z]{0,3}\p{Sc}|USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD"
_UNIT = rf"[^\d\s;:+\-{_MARKS}][^\d,;]{{0,11}}"
_BODY = rf"^[+-]?\s?(?:{_CURRENCY})?\s?[+-]?(\d[\d{_MARKS}]*?)\s?(?:{_UNIT})?$"
_DIFFERENT_ENOUGH = 3


@dataclass(frozen=True)
class Numerals:
    """The marks that a table's numbers are written with."""

    decimal: str = "."
    thousands: str = ""
    """What may part groups of three digits: ``,``, ``.``, a blank, an apostrophe or nothing."""


POINT = Numerals()


def as_number(cell: str) -> float | None:
    """The number that a cell writes with a decimal point, or None."""
    number: float | None = as_numbers(pl.Series([cell])).item()
    return number


def as_numbers(cells: pl.Series, numerals: Numerals = POINT, affix: str | None = None) -> pl.Series:
    """Each cell's number as Float64, null where it writes none that 32 bits can hold.

    Args:
        cells: text.
        numerals: the marks; a mark of thousands counts only between groups of three digits.
        affix: a unit or currency that may stand at either end of the number.
    """
    text = pl.col("cell")
    if affix:
        text = _bare(text, affix)
    if numerals.thousands:
        mark, point = _THOUSANDS[numerals.thousands], _DECIMAL[numerals.decimal]
        grouped = text.str.contains(rf"^[+-]?[1-9]\d{{0,2}}(?:{mark}\d{{3}})+(?:{point}\d*)?$")
        text = pl.when(grouped).then(text.str.replace_all(mark, "")).otherwise(text)
    if numerals.decimal != ".":
        pointless = pl.when(~text.str.contains(".", literal=True)).then(text)
        text = pointless.str.replace_all(numerals.decimal, ".", literal=True)
    number = text.cast(pl.Float64, strict=False)
    held = pl.when(number.is_finite() & (number.abs() <= _LARGEST)).then(number)
    return cells.alias("cell").to_frame().select(held).to_series().alias(cells.name)


def common_affix(cells: pl.Series) -> str | None:
    """The unit or currency that most of the cells write beside a number, if there is one."""
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


def like_numbers(cells: pl.Series) -> pl.Series:
    """Whether each cell looks like a number, whatever its marks."""
    return cells.str.contains(rf"^[+-]?[.,]?\d[\d{_MARKS}]*(?:[eE][+-]?\d+)?$")


def find_numerals(frame: pl.DataFrame, separator: str) -> tuple[Numerals, str]:
    """The marks that the table's cells show, and what is doubtful about them.

    ``1,5`` can only be a decimal comma and ``1,234,567`` only one of thousands. ``1,234`` may be
    either: its column decides, else the whole table, else what separates the cells.
    """
    evidence = _Evidence()
    for cells in frame:
        evidence.add(cells)
    return evidence.verdict(separator)


class _Evidence:
    """How many different cells show what a mark means."""

    def __init__(self) -> None:
        self.decimal: Counter[str] = Counter()
        self.thousands: Counter[str] = Counter()
        self.open: dict[str, str] = {}
        """Of each mark whose column does not decide it, a cell."""

    def add(self, cells: pl.Series) -> None:
        bodies = cells.str.extract(_BODY).drop_nulls().unique()
        for mark in (" ", "'"):
            self.thousands[mark] += _count(bodies, _groups(_THOUSANDS[mark], r"(?:[.,]\d+)?"))
        for mark, other in ((",", "."), (".", ",")):
            self._weigh(bodies, mark, other)

    def _weigh(self, bodies: pl.Series, mark: str, other: str) -> None:
        m, o = _DECIMAL[mark], _DECIMAL[other]
        blanks = rf"[^\d{m}]"
        either = bodies.filter(bodies.str.contains(rf"^[1-9]\d{{0,2}}{m}\d{{3}}$"))
        fractions = _count(bodies, rf"^(?:\d+|[1-9]\d{{0,2}}(?:{blanks}\d{{3}})+){m}\d+$")
        fractions -= len(either)
        groups = _count(bodies, rf"^[1-9]\d{{0,2}}(?:{m}\d{{3}}){{2,}}$")
        groups += _count(bodies, rf"^[1-9]\d{{0,2}}(?:{m}\d{{3}})+{o}\d+$")
        if fractions > groups or (not groups and _count(bodies, r"^\d{4,}$")):
            self.decimal[mark] += fractions + len(either)
        elif groups or _count(bodies, r"^[1-9]\d{0,2}$") >= _DIFFERENT_ENOUGH:
            self.thousands[mark] += groups + len(either)
        elif len(either):
            self.open.setdefault(mark, str(either.min()))

    def verdict(self, separator: str) -> tuple[Numerals, str]:
        comma = self.decimal[","] + self.thousands["."]
        point = self.decimal["."] + self.thousands[","]
        if comma != point:
            decimal = "," if comma > point else "."
        else:
            decimal = "," if "," in self.open and separator != "," else "."
        other = "." if decimal == "," else ","
        weights = {mark: self.thousands[mark] for mark in (other, " ", "'")}
        thousands = max(weights, key=lambda mark: weights[mark])
        if not weights[thousands]:
            thousands = other if other in self.open else ""
        numerals = Numerals(decimal, thousands)
        doubtful = comma == point and bool(self.open)
        return numerals, next(iter(self.open.values())) if doubtful else ""


def _groups(mark: str, rest: str) -> str:
    return rf"^[1-9]\d{{0,2}}(?:{mark}\d{{3}})+{rest}$"


def _count(bodies: pl.Series, pattern: str) -> int:
    return int(bodies.str.contains(pattern).sum())


def _bare(text: pl.Expr, affix: str) -> pl.Expr:
    """The text without the affix, where it stands at an end or behind the sign."""
    mark = re.escape(affix).replace(r"\ ", " ")
    before, after = rf"^([+-]?)\s*{mark}\s*", rf"\s*{mark}$"
    return text.str.replace(before, "${1}").str.replace(after, "")
