"""Whether a column is one of numbers, and what is said where it nearly is."""

import polars as pl
import pytest

from service.tabletext.cells import Numerals
from training.autorecipe.columns import read_numbers


@pytest.mark.parametrize(
    ("cells", "plain", "note"),
    [
        (["1.5"] * 20, True, ""),
        ([*["1.5"] * 99, "x"], True, "1 cells are no numbers ('x'), taken as missing"),
        ([*["1.5"] * 8, "-", "-"], True, "2 cells are no numbers ('-'), taken as missing"),
        ([*["5kg"] * 19, "7"], True, "read without 'kg', which 1 cells lack"),
        (["1.5", "low"], False, "50% of the cells are numbers, but 1 are not ('low')"),
        (["1,5"] * 20, False, "numbers, but not with the table's marks: decimal '.'"),
        (["red", "blue", "1"], False, ""),
        ([], False, ""),
    ],
)
def test_a_column_is_judged_with_its_reasons(cells: list[str], *, plain: bool, note: str) -> None:
    """Nearly all cells, or most and a few words that come again, make a column of numbers."""
    numbers = read_numbers(pl.Series(cells, dtype=pl.String), Numerals())

    assert (numbers.plain, numbers.note) == (plain, note)


def test_many_different_words_among_numbers_are_no_gaps() -> None:
    """Where a tenth of the cells are words of all kinds, the column is none of numbers."""
    cells = ["1.5"] * 90 + [f"word {k}" for k in range(10)]

    assert not read_numbers(pl.Series(cells), Numerals()).plain
