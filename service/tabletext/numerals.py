"""The decimal mark of a table, and what a cell that is no number was probably meant to be."""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from service.errors import InvalidRequest
from service.spelling import LONGEST_WORD
from service.values import shown

Decimal = Literal[".", ","]

# What tables write where there is no value; training reads the same words so.
_MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}

_FRACTION: Mapping[Decimal, re.Pattern[str]] = {
    ",": re.compile(r"[+-]?\d*+,\d++"),
    ".": re.compile(r"[+-]?\d*+\.\d++(?:[eE][+-]?\d++)?"),
}
# One group of three digits behind a mark: a fraction, or thousands.
_DOUBTFUL = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
_LONG = re.compile(r"[+-]?\d{4,}+(?:[.,]\d++)?")
_GROUPED = re.compile(
    r"[+-]?\d{1,3}([., '\u2019\u00a0\u202f])\d{3}(?:\1\d{3})*+(?:(?!\1)[.,]\d++)?"
)
_WITHIN = re.compile(
    r"(?:[^\W\d_]|[€$£¥]){0,4}\s*+([+-]?\d++(?:[.,]\d++)?)\s*+"
    r"(%|(?:[^\W\d_]|[€$£¥°])\D{0,10}[23²³]?)?"
)
_NO_NUMBER = {"inf", "infinity"}


def is_missing(text: str) -> bool:
    """Whether a cell, without blanks around it, says that there is no value."""
    return text.casefold() in _MISSING


def find_decimal(cells: Iterable[tuple[int, str]], separator: str) -> Decimal:
    """The decimal mark that a table's first numbers show.

    Args:
        cells: those that should be numbers, each with its line.
        separator: of cells; next to a semicolon a comma of decimals is more usual.

    Raises:
        InvalidRequest: they show both, or one that may as well part thousands.
    """
    if separator == ",":
        return "."
    shows: dict[Decimal, tuple[int, str]] = {}
    doubtful = True
    for line, cell in cells:
        found: Decimal = "," if "," in cell else "."
        if _FRACTION[found].fullmatch(cell):
            shows.setdefault(found, (line, cell))
            doubtful = doubtful and _DOUBTFUL.fullmatch(cell) is not None
        doubtful = doubtful and _LONG.fullmatch(cell) is None
    usual: Decimal = "," if separator == ";" else "."
    if not shows:
        return usual
    if len(shows) > 1:
        places = " and ".join(f"{shown(cell)} in line {line}" for line, cell in shows.values())
        raise InvalidRequest(
            f"The table writes decimals by a comma and by a point: {places}. Write them all alike."
        )
    ((decimal, (line, cell)),) = shows.items()
    if doubtful and decimal != usual:
        raise InvalidRequest(
            f"Line {line}: {shown(cell)} may be {cell.replace(',', '.')} or "
            f"{cell.replace(decimal, '')}. Say which mark the decimals have by the parameter "
            "decimal=point or decimal=comma; nothing may part the thousands."
        )
    return decimal


def advice(cell: str, decimal: Decimal) -> str:
    """What to write in place of a cell that is not a number.

    Args:
        cell: without blanks around it.
        decimal: the mark that the table's decimals have.
    """
    if cell.casefold().lstrip("+-") in _NO_NUMBER:
        return "Infinity is not a number here."
    if len(cell) > LONGEST_WORD:
        return "Write a number."
    if cell.startswith("#"):
        return "The spreadsheet could not compute this cell; mend it there."
    return _of_marks(cell, decimal) or _of_company(cell) or "Write a number."


def _of_marks(cell: str, decimal: Decimal) -> str | None:
    """The advice where digits and their marks are all that there is."""
    if grouped := _GROUPED.fullmatch(cell):
        return _ungrouped(cell, grouped[1], decimal)
    other: Decimal = "." if decimal == "," else ","
    if not _FRACTION[other].fullmatch(cell):
        return None
    name = "comma" if decimal == "," else "point"
    return f"Write {cell.replace(other, decimal)}: a {name} marks the decimals of this table."


def _of_company(cell: str) -> str | None:
    """The advice where a number has something beside it."""
    within = _WITHIN.fullmatch(cell)
    if within is None:
        return None
    if within[2] == "%":
        return f"Write {within[1]}, without the percent sign."
    return f"Write {within[1]}, without anything beside the number."


def _ungrouped(cell: str, mark: str, decimal: Decimal) -> str:
    """The advice for digits in groups of three; one group alone may as well be decimals."""
    bare = cell.replace(mark, "").replace(",", ".").replace(".", decimal)
    if _DOUBTFUL.fullmatch(cell):
        return (
            f"Write {bare}, or {cell.replace(mark, decimal)} if that is meant; nothing may part "
            "the thousands."
        )
    return f"Write {bare}: nothing may part the thousands."
