"""Convert columns of text cells to numbers, and detect their marks and units.

`service.tabletext` has the rule for a single cell.
"""

from collections import Counter

import polars as pl

from service.tabletext import (
    CURRENCY,
    DIGITS,
    MINUS,
    POINT,
    UNIT,
    Decimal,
    Marks,
    NumberFormat,
    Thousands,
    find_marks,
    plain_number,
)
from service.values import MAX_ROUNDED_TO_FLOAT32

_SIGN = rf"[(+{MINUS}-]?"
_BODY = rf"^{_SIGN}\s*(?:{CURRENCY})?\s*{_SIGN}({DIGITS})\s*(?:{UNIT})?[){MINUS}-]?$"
_MIN_SMALL_NUMBERS = 3
# Whole numbers without marks, of four digits or more and of fewer.
_LARGE, _SMALL = Marks("", "", ungrouped=True), Marks("", "")


def as_numbers(
    cells: pl.Series, number_format: NumberFormat = POINT, affix: str | None = None
) -> pl.Series:
    """Return each cell's number as Float64, null if it is not a number that fits 32 bits.

    Polars casts most cells; `plain_number` parses the others.

    Args:
        cells: text.
        number_format: the marks; a thousands mark is only valid between groups of three digits.
        affix: a unit or currency that may precede or follow the number.
    """
    text = cells.alias("cell")
    if number_format.decimal == ",":
        text = text.set(text.str.contains(".", literal=True), None)
        text = text.str.replace(",", ".", literal=True)
    numbers = text.cast(pl.Float64, strict=False)
    others = cells.filter(numbers.is_null() & cells.is_not_null()).unique()
    read = {
        cell: float(plain)
        for cell in others
        if (plain := plain_number(cell, number_format, affix)) is not None
    }
    if read:
        rest = cells.replace_strict(read, default=None, return_dtype=pl.Float64)
        numbers = numbers.zip_with(numbers.is_not_null(), rest)
    held = numbers.is_finite() & (numbers.abs() <= MAX_ROUNDED_TO_FLOAT32)
    return numbers.set(~held, None).alias(cells.name)


def common_affix(cells: pl.Series) -> str | None:
    """Return the unit or currency in most of the cells, if there is one."""
    written = [
        cells.str.extract(rf"^{_SIGN}\s*({CURRENCY})\s*{_SIGN}[0-9]"),
        cells.str.extract(rf"^[+-]?{DIGITS}\s*({UNIT})$"),
    ]
    for affixes in written:
        found = Counter[str](affixes.drop_nulls().str.strip_chars())
        for affix, times in found.most_common(1):
            if times > len(cells) / 2:
                return affix
    return None


def detect_number_format(
    frame: pl.DataFrame, separator: str, decimal: Decimal | None = None
) -> tuple[NumberFormat, str]:
    """Return the marks of the table's numbers, and an ambiguous cell, or an empty string.

    A given decimal mark leaves only the thousands mark to be detected, and no cell ambiguous.
    ``1,5`` has a decimal comma and ``1,234,567`` has thousands commas. ``1,234`` is ambiguous: its
    column decides, else the whole table, else the separator of the cells.
    """
    counts = _MarkCounts()
    for cells in frame:
        counts.add(cells)
    return counts.result(separator, decimal)


class _MarkCounts:
    """Counts the distinct cells in which each mark is a decimal or a thousands mark."""

    def __init__(self) -> None:
        self.decimal: Counter[str] = Counter()
        self.thousands: Counter[str] = Counter()
        self.ambiguous: dict[str, str] = {}
        """An ambiguous cell of each mark that its column does not decide."""

    def add(self, cells: pl.Series) -> None:
        counts, examples = _count_marks(cells)
        for mark in (" ", "'"):
            self.thousands[mark] += sum(
                counts[marks] for marks in counts if marks.thousands == mark
            )
        for mark in (",", "."):
            ambiguous = Marks(mark, mark)
            either = counts[ambiguous]
            fractions = sum(counts[marks] for marks in counts if marks.decimal == mark) - either
            groups = sum(counts[marks] for marks in counts if marks.thousands == mark) - either
            if fractions > groups or (not groups and counts[_LARGE]):
                self.decimal[mark] += fractions + either
            elif groups or counts[_SMALL] >= _MIN_SMALL_NUMBERS:
                self.thousands[mark] += groups + either
            elif either:
                self.ambiguous.setdefault(mark, examples[ambiguous])

    def result(self, separator: str, given: Decimal | None) -> tuple[NumberFormat, str]:
        comma = self.decimal[","] + self.thousands["."]
        point = self.decimal["."] + self.thousands[","]
        decimal: Decimal
        if given is not None:
            decimal = given
        elif comma != point:
            decimal = "," if comma > point else "."
        else:
            decimal = "," if "," in self.ambiguous and separator != "," else "."
        other: Decimal = "." if decimal == "," else ","
        marks: tuple[Thousands, ...] = (other, " ", "'")
        weights = {mark: self.thousands[mark] for mark in marks}
        thousands = max(weights, key=lambda mark: weights[mark])
        if not weights[thousands]:
            thousands = other if other in self.ambiguous else ""
        number_format = NumberFormat(decimal, thousands)
        is_ambiguous = given is None and comma == point and bool(self.ambiguous)
        return number_format, next(iter(self.ambiguous.values())) if is_ambiguous else ""


def _count_marks(cells: pl.Series) -> tuple[Counter[Marks], dict[Marks, str]]:
    """Count the distinct numbers of a column by their marks; return an example of each too."""
    bodies = pl.DataFrame({"body": cells.str.extract(_BODY).drop_nulls().unique()})
    # Digits do not matter, so that a whole column has few shapes of numbers.
    shape = pl.col("body").str.replace_all("[1-9]", "1").str.replace_all("[0-9]{4,}", "1111")
    shapes = bodies.group_by(shape.alias("shape")).agg(pl.len(), pl.col("body").min())
    counts = Counter[Marks]()
    examples: dict[Marks, str] = {}
    for text, count, body in shapes.rows():
        marks = find_marks(text)
        # Zeros say nothing about whether larger numbers would have thousands marks.
        if marks is not None and not (marks == _SMALL and text.startswith("0")):
            counts[marks] += count
            examples[marks] = min(body, examples.get(marks, body))
    return counts, examples
