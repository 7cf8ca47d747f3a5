"""How tables write cells: words for missing values, true and false, and the marks of numbers."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

MISSING = ("", "?", "NA", "N/A", "n/a", "nan", "NaN", "null", "NULL", "None")
"""Cells without a value, unless a recipe lists others."""

TRUTHS: Mapping[str, bool] = dict.fromkeys(("true", "yes", "t", "y", "1", "1.0"), True) | (
    dict.fromkeys(("false", "no", "f", "n", "0", "0.0"), False)
)
"""By the word in lower case."""

Decimal = Literal[".", ","]
Thousands = Literal["", ",", ".", " ", "'"]

BLANKS = " \u00a0\u2009\u202f"
APOSTROPHES = "'\u2019"
# By the thousands mark, the pattern of the characters that write it.
THOUSANDS: Mapping[str, str] = {
    ",": ",",
    ".": r"\.",
    " ": f"[{BLANKS}]",
    "'": f"[{APOSTROPHES}]",
}
POINTS: Mapping[str, str] = {".": r"\.", ",": ","}

# Possessive quantifiers never backtrack, so that a match takes time by the length of its text.
_NUMBER = re.compile(r"[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_GROUPED = {
    (decimal, thousands): re.compile(
        rf"[+-]?[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{3}})++(?:{point}[0-9]*+)?"
    )
    for decimal, point in POINTS.items()
    for thousands, mark in THOUSANDS.items()
    if decimal != thousands
}
_WITHOUT: Mapping[str, Mapping[int, None]] = {
    thousands: dict.fromkeys(map(ord, marks))
    for thousands, marks in ((",", ","), (".", "."), (" ", BLANKS), ("'", APOSTROPHES))
}
_FRACTION: Mapping[Decimal, re.Pattern[str]] = {
    ",": re.compile(r"[+-]?\d*+,\d++"),
    ".": re.compile(r"[+-]?\d*+\.\d++(?:[eE][+-]?\d++)?"),
}
# One group of three digits after a mark: a fraction, or thousands.
_AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
_UNGROUPED = re.compile(r"[+-]?\d{4,}+(?:[.,]\d++)?")


@dataclass(frozen=True)
class Numerals:
    """The decimal and the thousands mark of numbers.

    ``thousands`` may separate groups of three digits; an empty one is no mark.
    """

    decimal: Decimal = "."
    thousands: Thousands = ""


POINT = Numerals()


class MixedDecimals(ValueError):
    """A table has decimals with a comma and with a point.

    ``cells`` are an example of each, with their lines.
    """

    def __init__(self, cells: tuple[tuple[int, str], ...]) -> None:
        super().__init__(f"decimals with a comma and with a point: {cells}")
        self.cells = cells


class AmbiguousMark(ValueError):
    """A mark in a table may be of decimals or of thousands."""

    def __init__(self, line: int, cell: str, mark: Decimal) -> None:
        super().__init__(f"line {line}: {cell!r} may have decimals or thousands")
        self.line, self.cell, self.mark = line, cell, mark


def folded(words: Collection[str]) -> frozenset[str]:
    """Return missing words in lower case, as columns of numbers and booleans compare them.

    Columns of categories compare the case too: "none" may be a category and "None" missing.
    """
    return frozenset(map(str.lower, words))


def plain_number(text: str, numerals: Numerals = POINT, affix: str | None = None) -> str | None:
    """Return the number of a cell in the notation of Python and JSON; None if it has none.

    Args:
        text: of the cell, without white space around it.
        numerals: the marks; the thousands mark counts only between groups of three digits.
        affix: a unit or currency that may be at either end of the number.
    """
    if affix:
        text = without_affix(text, affix)
    if numerals.thousands:
        grouped = _GROUPED[numerals.decimal, numerals.thousands]
        if grouped.fullmatch(text):
            text = text.translate(_WITHOUT[numerals.thousands])
    if numerals.decimal == ",":
        if "." in text:
            return None
        text = text.replace(",", ".")
    return text if _NUMBER.fullmatch(text) else None


def without_affix(text: str, affix: str) -> str:
    """Return the text without the affix at its end, at its beginning, or after its sign."""
    sign = text[:1] if text[:1] in ("+", "-") else ""
    rest = text[len(sign) :].lstrip()
    if rest.startswith(affix):
        text = sign + rest[len(affix) :].lstrip()
    return text.removesuffix(affix).rstrip()


def find_decimal(cells: Iterable[tuple[int, str]], separator: str) -> Decimal:
    """Detect the decimal mark of a table by its first numbers.

    Args:
        cells: the cells of numeric columns, without affixes, each with its line.
        separator: of cells; tables with semicolons usually have decimal commas.

    Raises:
        MixedDecimals: the numbers have both marks.
        AmbiguousMark: the numbers have one that may also separate thousands.
    """
    if separator == ",":
        return "."
    examples: dict[Decimal, tuple[int, str]] = {}
    ambiguous = True
    for line, cell in cells:
        found: Decimal = "," if "," in cell else "."
        if _FRACTION[found].fullmatch(cell):
            examples.setdefault(found, (line, cell))
            ambiguous = ambiguous and is_ambiguous(cell)
        ambiguous = ambiguous and _UNGROUPED.fullmatch(cell) is None
    usual: Decimal = "," if separator == ";" else "."
    if not examples:
        return usual
    if len(examples) > 1:
        raise MixedDecimals(tuple(examples.values()))
    ((decimal, (line, cell)),) = examples.items()
    if ambiguous and decimal != usual:
        raise AmbiguousMark(line, cell, decimal)
    return decimal


def is_fraction(text: str, decimal: Decimal) -> bool:
    """Return whether a cell is a fraction with this decimal mark, and nothing else."""
    return _FRACTION[decimal].fullmatch(text) is not None


def is_ambiguous(text: str) -> bool:
    """Return whether the mark in a number may be of decimals or of thousands."""
    return _AMBIGUOUS.fullmatch(text) is not None
