"""Cells of text as a model's numbers: whole columns quickly, and single cells with sentences."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from service.bundle.features import BooleanFeature, CategoryFeature, Feature
from service.codecs.messages import describe
from service.codecs.rows import UNSEEN
from service.errors import Problem
from service.spelling import nearest
from service.tabletext.numerals import Decimal, advice, is_missing
from service.values import is_number, shown

Floats = npt.NDArray[np.float64]
Convert = Callable[[Sequence[str]], Floats]

# What no cell can stand for; every rule on values refuses it, and then the cell is read singly.
UNREAD = np.inf

# What is remembered of a column of words.
_MOST_WORDS, _LONGEST_REMEMBERED = 10_000, 100
_TRUTHS = dict.fromkeys(("true", "yes", "t", "y", "1", "1.0"), True) | dict.fromkeys(
    ("false", "no", "f", "n", "0", "0.0"), False
)


def converter(feature: Feature, decimal: Decimal) -> Convert:
    """What makes a column of a feature's cells the graph's numbers, NaN where a value is missing.

    A cell that it cannot read becomes `UNREAD`.
    """
    if isinstance(feature, CategoryFeature | BooleanFeature):
        words = _Words(feature)
        return lambda cells: np.fromiter(map(words.__getitem__, cells), np.float64, len(cells))
    return _numbers if decimal == "." else _numbers_with_comma


def value_of(feature: Feature, cell: str, decimal: Decimal) -> object:
    """The JSON value that a cell stands for; None where it says that there is none.

    A cell that stands for none of its feature's values is that text.
    """
    text = cell.strip()
    if isinstance(feature, CategoryFeature):
        return None if is_missing(text) and text not in feature.categories else text
    if is_missing(text):
        return None
    if isinstance(feature, BooleanFeature):
        return _TRUTHS.get(text.casefold(), text)
    return _number(text, decimal)


def cell_problem(feature: Feature, cell: str, decimal: Decimal) -> Problem:
    """What is wrong with a cell that is not of its feature's kind."""
    text = cell.strip()
    expected = describe(feature)
    got = shown(text) if text else "an empty cell"
    sentence = f"Feature {feature.name!r} must be {expected}, got {got}."
    return Problem(sentence, None, feature.name, expected, got, _hint(feature, text, decimal))


class _Words(dict[str, float]):
    """The number of each word of a feature; a word that comes again is not worked out again."""

    def __init__(self, feature: CategoryFeature | BooleanFeature) -> None:
        super().__init__()
        self._feature = feature

    def __missing__(self, cell: str) -> float:
        number = self._worked_out(cell)
        if len(self) < _MOST_WORDS and len(cell) <= _LONGEST_REMEMBERED:
            self[cell] = number
        return number

    def _worked_out(self, cell: str) -> float:
        feature = self._feature
        value = value_of(feature, cell, ".")
        if value is None:
            return np.nan
        if isinstance(feature, BooleanFeature):
            return float(value) if isinstance(value, bool) else UNREAD
        if value in feature.categories:
            return float(feature.categories.index(str(value)))
        return UNSEEN if feature.unseen == "other" else UNREAD


def _numbers(cells: Sequence[str]) -> Floats:
    try:
        read = np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return _singly(cells, ".")
    # Python reads 1_000 as a number; nobody else does.
    return _singly(cells, ".") if "_" in "".join(cells) else read


def _numbers_with_comma(cells: Sequence[str]) -> Floats:
    return _singly(cells, ",")


def _singly(cells: Sequence[str], decimal: Decimal) -> Floats:
    return np.array([_float(cell, decimal) for cell in cells])


def _float(cell: str, decimal: Decimal) -> float:
    """A cell's number, NaN where it says that there is none, else `UNREAD`."""
    if not cell:
        return np.nan
    if decimal == ",":
        if "." in cell:
            return UNREAD
        cell = cell.replace(",", ".")
    try:
        return UNREAD if "_" in cell else float(cell)
    except ValueError:
        return np.nan if is_missing(cell.strip()) else UNREAD


def _number(text: str, decimal: Decimal) -> object:
    if decimal == "," and "." in text:
        return text
    plain = text.replace(",", ".") if decimal == "," else text
    if "_" in plain:
        return text
    try:
        number: float = int(plain) if plain.lstrip("+-").isdecimal() else float(plain)
    except ValueError:
        return text
    return number if is_number(number) else text


def _hint(feature: Feature, text: str, decimal: Decimal) -> str | None:
    if is_missing(text):
        return "Every row needs it."
    if isinstance(feature, BooleanFeature):
        return "Write true or false; yes, no, 1 and 0 are read too."
    if isinstance(feature, CategoryFeature):
        close = nearest(text, feature.categories)
        return f"Did you mean {shown(close)}?" if close else None
    if not isinstance(_number(text, decimal), str):
        return None
    return advice(text, decimal)
