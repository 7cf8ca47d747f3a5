"""Columns of numbers are detected, and remarks explain ambiguous ones."""

import polars as pl
import pytest

from service.tabletext import NumberFormat
from training.autorecipe.columns import parse_numbers


@pytest.mark.parametrize(
    ("cells", "numeric", "note"),
    [
        (["1.5"] * 20, True, ""),
        ([*["1.5"] * 99, "x"], True, "1 cells are not numbers ('x'), read as missing values"),
        ([*["1.5"] * 8, "-", "-"], True, "2 cells are not numbers ('-'), read as missing values"),
        ([*["5kg"] * 19, "7"], True, "read without 'kg', missing in 1 cells"),
        (["1.5", "low"], False, "50% of the cells are numbers, but 1 are not ('low')"),
        (["1,5"] * 20, False, "numbers with other marks than those of the table: decimal '.'"),
        (["red", "blue", "1"], False, ""),
        ([], False, ""),
    ],
)
def test_a_numeric_column_is_detected_with_a_remark(
    cells: list[str], *, numeric: bool, note: str
) -> None:
    """Nearly all cells must be numbers, or most with a few repeated words."""
    numbers = parse_numbers(pl.Series(cells, dtype=pl.String), NumberFormat())

    assert (numbers.numeric, numbers.note) == (numeric, note)


def test_many_different_words_among_numbers_are_not_missing_values() -> None:
    """If a tenth of the cells are different words, the column is not numeric."""
    cells = ["1.5"] * 90 + [f"word {k}" for k in range(10)]

    assert not parse_numbers(pl.Series(cells), NumberFormat()).numeric
