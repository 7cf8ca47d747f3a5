"""Decode cells of text as numbers: whole columns at once, and single cells with messages.

The marks that the numbers of a table are written with are found first.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from service.bundle.features import (
    BooleanFeature,
    CategoryFeature,
    DatetimeFeature,
    Feature,
    IntegerFeature,
    NumberFeature,
    NumericalFeature,
    TextFeature,
)
from service.codecs.messages import describe, suggest_category, value_problem
from service.codecs.rows import create_converter
from service.errors import InvalidRequest, Problem
from service.spelling import LONGEST_WORD
from service.tabletext import (
    INFINITY,
    POINT,
    TRUTHS,
    Decimal,
    Marks,
    NumberFormat,
    find_marks,
    lower_words,
    missing_words,
    plain_number,
    remove_affix,
)
from service.values import (
    find_word,
    format_value,
    is_number,
    not_a_number,
    possible_numbers,
    split_affix,
)

Floats = npt.NDArray[np.float64]
# A line, the text of one of its cells, and the marks of its feature in training.
_NumericCell = tuple[int, str, NumberFormat | None]

# The number of an invalid cell. Every rule on values rejects it, and the cell is decoded singly.
INVALID = np.inf

_DECIMALS: Sequence[Decimal] = (".", ",")

# Limits of the cache of a column of words.
_MAX_CACHED, _LONGEST_CACHED = 10_000, 100


def create_number_format(feature: Feature) -> NumberFormat | None:
    """Return the marks that training read in the cells of a feature, if the manifest has them."""
    if not isinstance(feature, NumberFeature | IntegerFeature) or feature.decimal is None:
        return None
    return NumberFormat(feature.decimal, feature.thousands or "")


class CellReader:
    """Decodes the cells of one feature by the rules of training, with the marks of one table."""

    def __init__(self, feature: Feature, number_format: NumberFormat = POINT) -> None:
        self._feature = feature
        self._number_format = number_format
        numeric = feature if isinstance(feature, NumberFeature | IntegerFeature) else None
        self._affix = numeric.affix if numeric else None
        self._categories = frozenset(
            feature.categories if isinstance(feature, CategoryFeature) else ()
        )
        words = missing_words(feature.missing)
        is_exact = isinstance(feature, CategoryFeature | TextFeature)
        self._missing = words if is_exact else lower_words(words)
        # A number may stand for a missing value, such as -200.
        self._python_reads = not any(
            self._plain(word) for word in words if any(map(str.isdecimal, word))
        )
        # Python reads 1_000 and nan as numbers.
        self._misread = "_nN." if number_format.decimal == "," else "_nN"
        self._cached_codes = None
        if not isinstance(feature, NumberFeature | IntegerFeature | TextFeature):
            self._cached_codes = _CodeCache(feature, self.value)

    def numbers(self, cells: Sequence[str]) -> Floats:
        """Return the cells of a column as numbers: NaN for missing values, or `INVALID`."""
        if self._cached_codes is not None:
            return np.fromiter(map(self._cached_codes.__getitem__, cells), np.float64, len(cells))
        if self._python_reads:
            text, comma = "".join(cells), self._number_format.decimal == ","
            # Python reads digits of other scripts too.
            if text.isascii() and not any(letter in text for letter in self._misread):
                plain = [cell.replace(",", ".") for cell in cells] if comma else cells
                try:
                    return np.array([float(cell) if cell else np.nan for cell in plain])
                except ValueError:
                    pass
        return np.array([self._float(cell) for cell in cells])

    def value(self, cell: str) -> object:
        """Return the JSON value of a cell: None if it is missing, its text if it is invalid."""
        feature, text = self._feature, cell.strip()
        if isinstance(feature, CategoryFeature):
            return find_word(cell, self._categories, self._missing)
        if isinstance(feature, TextFeature):
            return None if text in self._missing else cell
        if text.lower() in self._missing:
            return None
        if isinstance(feature, BooleanFeature):
            return TRUTHS.get(text.lower(), text)
        return text if isinstance(feature, DatetimeFeature) else self._number(text)

    def number_text(self, cell: str) -> str | None:
        """Return a cell that should be a number without its affix; None if its value is missing."""
        text = cell.strip()
        if text.lower() in self._missing:
            return None
        return remove_affix(text, self._affix) if self._affix else text

    def problem(self, cell: str) -> Problem:
        """Describe an invalid cell."""
        feature, text = self._feature, cell.strip()
        shown = cell if isinstance(feature, CategoryFeature) else text
        got = format_value(shown) if text else "an empty cell"
        return value_problem(feature, describe(feature), got, None, self._hint(text))

    def _plain(self, text: str) -> str | None:
        return plain_number(text, self._number_format, self._affix)

    def _float(self, cell: str) -> float:
        """Return the number of a cell, NaN if it is missing, or `INVALID`."""
        text = cell.strip()
        if text.lower() in self._missing:
            return np.nan
        plain = self._plain(text)
        return INVALID if plain is None else float(plain)

    def _number(self, text: str) -> object:
        plain = self._plain(text)
        if plain is None:
            return text
        try:
            number: float = int(plain) if plain.lstrip("+-").isdecimal() else float(plain)
        except ValueError:  # more digits than Python converts
            return text
        return number if is_number(number, sys.float_info.max) else text

    def _hint(self, text: str) -> str | None:
        feature = self._feature
        if self.value(text) is None:
            return "Every row needs it."
        if isinstance(feature, BooleanFeature):
            return "Write true or false; yes, no, 1 and 0 are read too."
        if isinstance(feature, CategoryFeature):
            return suggest_category(text, feature)
        if isinstance(feature, DatetimeFeature):
            return f"Write it like {feature.example}."
        number = self._number(text)
        if not isinstance(number, str):
            return not_a_number(number, whole=isinstance(feature, IntegerFeature))
        return number_hint(remove_affix(text, self._affix or ""), self._number_format)


class _CodeCache(dict[str, float]):
    """The numbers of the cells of a category, boolean or date, decoded once for each text.

    A missing value is NaN, and an invalid one `INVALID`. ``read`` returns the value of a cell.
    """

    def __init__(self, feature: NumericalFeature, read: Callable[[str], object]) -> None:
        super().__init__()
        self._read = read
        self._convert = create_converter(feature)

    def __missing__(self, cell: str) -> float:
        value = self._read(cell)
        number = np.nan if value is None else self._convert(value)
        if number is None:
            number = INVALID
        if len(self) < _MAX_CACHED and len(cell) <= _LONGEST_CACHED:
            self[cell] = number
        return number


def find_number_formats(
    rows: Sequence[tuple[int, Sequence[str]]],
    columns: Mapping[int, int],
    features: Sequence[Feature],
    separator: str,
    decimal: Decimal | None,
) -> Sequence[NumberFormat]:
    """Return the marks of each feature's numbers in a table, by its first rows.

    They are those that training read, unless the client states a decimal mark, or the table has
    another one.

    Args:
        rows: each with its line.
        columns: of the features, by their positions.
        features: of the model.
        separator: of the table.
        decimal: the decimal mark, if the client states it.

    Raises:
        InvalidRequest: as `find_decimal` does.
    """
    trained = [create_number_format(feature) for feature in features]
    cells: Iterable[_NumericCell] = _numeric_cells(rows, columns, features)
    if decimal is None and any(trained):
        cells = list(cells)
        if _reads_as_trained(cells):
            return [number_format or POINT for number_format in trained]
    found = NumberFormat(decimal or find_decimal(((k, text) for k, text, _ in cells), separator))
    return [own if own and own.decimal == found.decimal else found for own in trained]


def _reads_as_trained(cells: Sequence[_NumericCell]) -> bool:
    """Return whether a table has the marks of training.

    More cells must have these marks than are only numbers with another decimal mark: one 1234.5 is
    an error in a table where 12.000 is twelve thousand, and is no reason to read that as twelve.
    """
    others: Counter[str] = Counter()
    marked = 0
    for _, text, own in cells:
        if plain_number(text, own or POINT) is not None:
            marked += not text.lstrip("+-").isdecimal()
        else:
            others.update(d for d in _DECIMALS if plain_number(text, NumberFormat(d)) is not None)
    return max(others.values(), default=0) <= marked


def _numeric_cells(
    rows: Sequence[tuple[int, Sequence[str]]],
    columns: Mapping[int, int],
    features: Sequence[Feature],
) -> Iterator[_NumericCell]:
    """Yield the line, the text and the trained marks of each cell that should be a number."""
    readers = [
        (column, CellReader(feature), create_number_format(feature))
        for position, column in columns.items()
        if isinstance(feature := features[position], NumberFeature | IntegerFeature)
    ]
    for line, row in rows:
        for column, reader, trained in readers:
            text = reader.number_text(row[column]) if column < len(row) else None
            if text is not None:
                yield line, text, trained


def find_decimal(cells: Iterable[tuple[int, str]], separator: str) -> Decimal:
    """Detect the decimal mark of a table by its first numbers.

    Args:
        cells: the cells of numeric features, without affixes, each with its line.
        separator: of cells; tables with semicolons usually have decimal commas.

    Raises:
        InvalidRequest: the numbers have both marks, or only one that may also separate thousands.
    """
    if separator == ",":
        return "."
    examples: dict[str, tuple[int, str]] = {}
    ambiguous, unseen = True, {",", "."}
    for line, text in cells:
        # Most cells only repeat what is known.
        marks = find_marks(text) if ambiguous or not unseen.isdisjoint(text) else None
        if marks is None:
            continue
        if marks.decimal and marks.thousands in ("", marks.decimal):
            examples.setdefault(marks.decimal, (line, text))
            unseen.discard(marks.decimal)
            ambiguous = ambiguous and marks.ambiguous
        ambiguous = ambiguous and not marks.ungrouped
    usual: Decimal = "," if separator == ";" else "."
    if not examples:
        return usual
    if len(examples) > 1:
        both = " and ".join(
            f"{format_value(text)} in line {line}" for line, text in examples.values()
        )
        raise InvalidRequest(
            f"The table writes decimals by a comma and by a point: {both}. Use one decimal mark."
        )
    decimal: Decimal = "," if "," in examples else "."
    if ambiguous and decimal != usual:
        line, text = examples[decimal]
        whole, fraction = possible_numbers(text, Marks(decimal, decimal))
        raise InvalidRequest(
            f"Line {line}: {format_value(text)} may be {fraction} or {whole}. Say which mark the "
            "decimals "
            "have by the parameter decimal=point or decimal=comma; remove the thousands separators."
        )
    return decimal


def number_hint(cell: str, number_format: NumberFormat = POINT) -> str:
    """Say what to write instead of a cell that is not a number, without white space around it."""
    if cell.casefold().lstrip("+-") in INFINITY:
        return "Infinity is not accepted."
    if len(cell) > LONGEST_WORD:
        return "Write a number."
    if cell.startswith("#"):
        return "The spreadsheet could not compute this cell; fix it there."
    if hint := _hint_on_marks(cell, number_format):
        return hint
    if found := split_affix(cell):
        number, after = found
        what = "the percent sign" if after == "%" else "anything next to the number"
        return f"Write {number}, without {what}."
    return "Write a number."


def _hint_on_marks(cell: str, number_format: NumberFormat) -> str | None:
    decimal, marks = number_format.decimal, find_marks(cell)
    if marks is None or (not marks.thousands and marks.decimal in ("", decimal)):
        return None
    numbers = [number.replace(".", decimal) for number in possible_numbers(cell, marks)]
    if not marks.thousands:
        name = "comma" if decimal == "," else "point"
        return f"Write {numbers[0]}: a {name} marks the decimals of this table."
    separated = "remove the thousands separators"
    if number_format.thousands:
        separated = (
            f"only {format_value(number_format.thousands)} may separate the thousands of this table"
        )
    if marks.ambiguous:
        return f"Write {numbers[0]}, or {numbers[1]} if those are decimals; {separated}."
    return f"Write {numbers[0]}: {separated}."
