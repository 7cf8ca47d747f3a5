"""How numbers are written: decimal marks, thousands marks, units, and what is no number."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.tabletext.cells import Numerals, plain_number
from training.data.numerals import as_numbers, common_affix, detect_numerals


@pytest.mark.parametrize(
    ("cells", "separator", "numerals"),
    [
        (["1.5", "20"], ",", Numerals()),
        (["1,5", "20"], ";", Numerals(",")),
        (["1,405", "345", "611", "21"], ",", Numerals(".", ",")),
        (["1.405", "345", "611", "21"], ";", Numerals(",", ".")),
        (["1.234,56", "7,5"], ";", Numerals(",", ".")),
        (["$1,234.56", "$7.50"], ",", Numerals(".", ",")),
        (["1,234,567", "1,234"], "\t", Numerals(".", ",")),
        (["43 943,26", "7,50"], ";", Numerals(",", " ")),
        (["43\u202f943,26", "7,50 €"], ";", Numerals(",", " ")),
        (["1'234.50", "7.50"], ";", Numerals(".", "'")),
        (["0.125", "1.405", "345", "611", "21"], ",", Numerals()),
        (["1.405", "12345", "611", "21", "7"], ";", Numerals()),
        (["red", "1,2 and 3", "12:30"], ",", Numerals()),
    ],
)
def test_the_marks_are_found(cells: list[str], separator: str, numerals: Numerals) -> None:
    """What only one reading explains decides what every cell means."""
    assert detect_numerals(pl.DataFrame({"x": cells}), separator) == (numerals, "")


def test_one_column_decides_for_another() -> None:
    """A decimal comma anywhere makes the points those of thousands."""
    frame = pl.DataFrame({"x": ["0,71", "0,5"], "price": ["507.734", "109.296"]})

    assert detect_numerals(frame, ";") == (Numerals(",", "."), "")


@pytest.mark.parametrize(
    ("cell", "separator", "numerals"),
    [("1,405", ",", Numerals(".", ",")), ("1,405", ";", Numerals(",")), ("1.405", ";", Numerals())],
)
def test_a_doubt_is_named(cell: str, separator: str, numerals: Numerals) -> None:
    """Where nothing decides, the separator does, and a doubtful cell is given back."""
    frame = pl.DataFrame({"x": [cell, "2" + cell[1:], "0"]})

    assert detect_numerals(frame, separator) == (numerals, cell)


@given(
    number=st.integers(-(10**12), 10**12),
    numerals=st.sampled_from(
        [Numerals(".", ","), Numerals(",", "."), Numerals(".", " "), Numerals(",", "'")]
    ),
)
def test_any_number_is_read_as_it_was_written(number: int, numerals: Numerals) -> None:
    """Python's own grouping, in any marks, reads back as its number."""
    written = f"{number / 100:,.2f}"
    cell = written.translate({ord(","): numerals.thousands, ord("."): numerals.decimal})

    found = as_numbers(pl.Series([cell]), numerals)

    assert found.to_list() == [float(written.replace(",", ""))]


@given(
    cells=st.lists(st.text(st.sampled_from("0123456789.,'+-e$ _"), max_size=9), min_size=1),
    numerals=st.sampled_from([Numerals(), Numerals(","), Numerals(".", ","), Numerals(",", ".")]),
)
def test_a_column_is_read_as_its_cells_are(cells: list[str], numerals: Numerals) -> None:
    """The quick way of whole columns follows the rule for one cell."""
    stripped = [cell.strip() for cell in cells]
    plain = [plain_number(cell, numerals, "$") for cell in stripped]

    numbers = as_numbers(pl.Series(stripped), numerals, "$").to_list()

    expected = [None if text is None else float(text) for text in plain]
    held = [None if x is None or abs(x) > float(np.finfo(np.float32).max) else x for x in expected]
    assert numbers == held


@pytest.mark.parametrize(
    ("cell", "numerals"),
    [
        ("1,405", Numerals()),
        ("1.405", Numerals(",")),
        ("14,05", Numerals(".", ",")),
        ("1,4055", Numerals(".", ",")),
        ("0,123", Numerals(".", ",")),
        ("1e39", Numerals()),
        ("inf", Numerals()),
        ("", Numerals()),
    ],
)
def test_other_marks_are_no_number(cell: str, numerals: Numerals) -> None:
    """A mark at a wrong place is never dropped, nor a number that float32 cannot hold."""
    assert as_numbers(pl.Series([cell]), numerals).to_list() == [None]


@pytest.mark.parametrize(
    ("cells", "affix", "numbers"),
    [
        (["70kg", "53 kg", "61.5kg"], "kg", [70, 53, 61.5]),
        (["12%", "7 %", "100%"], "%", [12, 7, 100]),
        (["$5", "-$7", "$-9.5"], "$", [5, -7, -9.5]),
        (["EUR 5", "EUR 7", "9"], "EUR", [5, 7, 9]),
        (["5 km/h", "7 km/h"], "km/h", [5, 7]),
        (["A12", "A7", "A3"], None, [None, None, None]),
        (["1st", "2nd", "3rd"], None, [None, None, None]),
        (["12:30", "10:15"], None, [None, None]),
    ],
)
def test_a_common_unit_is_no_part_of_the_number(
    cells: list[str], affix: str | None, numbers: list[float | None]
) -> None:
    """A currency in front or a unit behind most cells is found, and read over."""
    series = pl.Series(cells)

    assert common_affix(series) == affix
    assert as_numbers(series, affix=affix).to_list() == numbers
