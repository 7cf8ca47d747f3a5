"""Cells of text as a model's numbers: whole columns quickly, and single cells with sentences."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.bundle.features import (
    BooleanFeature,
    CategoryFeature,
    Feature,
    IntegerFeature,
    NumberFeature,
)
from service.codecs.messages import describe
from service.codecs.rows import UNSEEN
from service.errors import Problem
from service.spelling import LONGEST_WORD, nearest
from service.tabletext.cells import (
    MISSING,
    POINT,
    TRUTHS,
    Decimal,
    Numerals,
    folded,
    is_ambiguous,
    is_fraction,
    plain_number,
    without_affix,
)
from service.values import is_number, shown

Floats = npt.NDArray[np.float64]

# What no cell can mean; every rule on values rejects it, and then the cell is read singly.
UNREAD = np.inf

# Limits of the cache of a column of words.
_MOST_WORDS, _LONGEST_CACHED = 10_000, 100
_GROUPED = re.compile(
    r"[+-]?\d{1,3}([., '\u2019\u00a0\u202f])\d{3}(?:\1\d{3})*+(?:(?!\1)[.,]\d++)?"
)
_WITHIN = re.compile(
    r"(?:[^\W\d_]|[€$£¥]){0,4}\s*+([+-]?\d++(?:[.,]\d++)?)\s*+"
    r"(%|(?:[^\W\d_]|[€$£¥°])\D{0,10}[23²³]?)?"
)
_INFINITY = {"inf", "infinity"}


def marks_of(feature: Feature) -> Numerals | None:
    """The marks of numbers that training read in a feature's cells, where the manifest has them."""
    if not isinstance(feature, NumberFeature | IntegerFeature) or feature.decimal is None:
        return None
    return Numerals(feature.decimal, feature.thousands or "")


class CellReader:
    """Reads the cells of one feature as training read them, in the marks of one table.

    Args:
        feature: of a model.
        numerals: the marks of the table's numbers.
    """

    def __init__(self, feature: Feature, numerals: Numerals = POINT) -> None:
        self._feature = feature
        self._numerals = numerals
        is_numeric = isinstance(feature, NumberFeature | IntegerFeature)
        self._affix = feature.affix if isinstance(feature, NumberFeature | IntegerFeature) else None
        words = {"", *(MISSING if feature.missing is None else feature.missing)}
        self._missing = words if isinstance(feature, CategoryFeature) else folded(words)
        # A number may mean a missing value, such as -200.
        self._python_reads = not any(map(self._plain, words))
        self._words = None if is_numeric else _Words(self)

    def numbers(self, cells: Sequence[str]) -> Floats:
        """A column's cells as the graph's numbers, NaN where a value is missing.

        A cell that cannot be read becomes `UNREAD`.
        """
        if self._words is not None:
            return np.fromiter(map(self._words.__getitem__, cells), np.float64, len(cells))
        if self._python_reads:
            text, comma = "".join(cells), self._numerals.decimal == ","
            # Python reads 1_000 and digits of other scripts as numbers; no other program does.
            if text.isascii() and "_" not in text and not (comma and "." in text):
                plain = [cell.replace(",", ".") for cell in cells] if comma else cells
                try:
                    return np.array([float(cell) if cell else np.nan for cell in plain])
                except ValueError:
                    pass
        return np.array([self._float(cell) for cell in cells])

    def value(self, cell: str) -> object:
        """The JSON value that a cell means; None where it is missing.

        A cell that means none of its feature's values is that text.
        """
        feature, text = self._feature, cell.strip()
        if isinstance(feature, CategoryFeature):
            return None if text in self._missing and text not in feature.categories else text
        if text.lower() in self._missing:
            return None
        if isinstance(feature, BooleanFeature):
            return TRUTHS.get(text.lower(), text)
        return self._number(text)

    def code(self, cell: str) -> float:
        """The graph's number of a word or a truth value; NaN where it is missing, or `UNREAD`."""
        feature, value = self._feature, self.value(cell)
        if value is None:
            return np.nan
        if not isinstance(feature, CategoryFeature):
            return float(value) if isinstance(value, bool) else UNREAD
        if value in feature.categories:
            return float(feature.categories.index(str(value)))
        return UNSEEN if feature.unseen == "other" else UNREAD

    def bare(self, cell: str) -> str | None:
        """A cell that should be a number, without its affix; None where its value is missing."""
        text = cell.strip()
        if text.lower() in self._missing:
            return None
        return without_affix(text, self._affix) if self._affix else text

    def problem(self, cell: str) -> Problem:
        """What is wrong with a cell that is not of its feature's kind."""
        feature, text = self._feature, cell.strip()
        expected = describe(feature)
        got = shown(text) if text else "an empty cell"
        sentence = f"Feature {feature.name!r} must be {expected}, got {got}."
        return Problem(sentence, None, feature.name, expected, got, self._hint(text))

    def _plain(self, text: str) -> str | None:
        return plain_number(text, self._numerals, self._affix)

    def _float(self, cell: str) -> float:
        """A cell's number, NaN where it is missing, else `UNREAD`."""
        text = cell.strip()
        if text.lower() in self._missing:
            return np.nan
        plain = self._plain(text)
        return UNREAD if plain is None else float(plain)

    def _number(self, text: str) -> object:
        plain = self._plain(text)
        if plain is None:
            return text
        try:
            number: float = int(plain) if plain.lstrip("+-").isdecimal() else float(plain)
        except ValueError:  # more digits than Python converts
            return text
        return number if is_number(number) else text

    def _hint(self, text: str) -> str | None:
        feature = self._feature
        if self.value(text) is None:
            return "Every row needs it."
        if isinstance(feature, BooleanFeature):
            return "Write true or false; yes, no, 1 and 0 are read too."
        if isinstance(feature, CategoryFeature):
            close = nearest(text, feature.categories)
            return f"Did you mean {shown(close)}?" if close else None
        if not isinstance(self._number(text), str):
            return None
        return number_hint(without_affix(text, self._affix or ""), self._numerals)


class _Words(dict[str, float]):
    """The number of each word of a feature; a word that comes again is not looked up again."""

    def __init__(self, reader: CellReader) -> None:
        super().__init__()
        self._reader = reader

    def __missing__(self, cell: str) -> float:
        number = self._reader.code(cell)
        if len(self) < _MOST_WORDS and len(cell) <= _LONGEST_CACHED:
            self[cell] = number
        return number


def number_hint(cell: str, numerals: Numerals = POINT) -> str:
    """What to write in place of a cell that is not a number.

    Args:
        cell: without blanks around it.
        numerals: the marks of the table's numbers.
    """
    if cell.casefold().lstrip("+-") in _INFINITY:
        return "Infinity is not a number here."
    if len(cell) > LONGEST_WORD:
        return "Write a number."
    if cell.startswith("#"):
        return "The spreadsheet could not compute this cell; fix it there."
    return _hint_on_marks(cell, numerals) or _hint_on_affix(cell) or "Write a number."


def _hint_on_marks(cell: str, numerals: Numerals) -> str | None:
    """The hint where digits and their marks are all that there is."""
    decimal = numerals.decimal
    if grouped := _GROUPED.fullmatch(cell):
        return _hint_on_groups(cell, grouped[1], numerals)
    other: Decimal = "." if decimal == "," else ","
    if not is_fraction(cell, other):
        return None
    name = "comma" if decimal == "," else "point"
    return f"Write {cell.replace(other, decimal)}: a {name} marks the decimals of this table."


def _hint_on_affix(cell: str) -> str | None:
    """The hint where a number has a unit or currency."""
    within = _WITHIN.fullmatch(cell)
    if within is None:
        return None
    if within[2] == "%":
        return f"Write {within[1]}, without the percent sign."
    return f"Write {within[1]}, without anything beside the number."


def _hint_on_groups(cell: str, mark: str, numerals: Numerals) -> str:
    """The hint for digits in groups of three; one group alone may as well be decimals."""
    decimal = numerals.decimal
    bare = cell.replace(mark, "").replace(",", ".").replace(".", decimal)
    separated = "nothing may part the thousands"
    if numerals.thousands:
        separated = f"only {shown(numerals.thousands)} may part the thousands of this table"
    if is_ambiguous(cell):
        return f"Write {bare}, or {cell.replace(mark, decimal)} if that is meant; {separated}."
    return f"Write {bare}: {separated}."
