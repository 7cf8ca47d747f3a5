"""Numbers in cells: separators, units, and cells that are not numbers."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle.features import NumberFeature
from service.codecs.csv_cells import CellReader
from service.tabletext import Numerals, plain_number
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
def test_the_marks_are_detected(cells: list[str], separator: str, numerals: Numerals) -> None:
    """Unambiguous cells determine the separators of the table."""
    assert detect_numerals(pl.DataFrame({"x": cells}), separator) == (numerals, "")


def test_one_column_decides_for_another() -> None:
    """With a decimal comma in one column, the points in a different column separate thousands."""
    frame = pl.DataFrame({"x": ["0,71", "0,5"], "price": ["507.734", "109.296"]})

    assert detect_numerals(frame, ";") == (Numerals(",", "."), "")


@pytest.mark.parametrize(
    ("cell", "separator", "numerals"),
    [("1,405", ",", Numerals(".", ",")), ("1,405", ";", Numerals(",")), ("1.405", ";", Numerals())],
)
def test_an_ambiguous_mark_is_returned(cell: str, separator: str, numerals: Numerals) -> None:
    """If no cell decides, the separator does, and an ambiguous cell is returned."""
    frame = pl.DataFrame({"x": [cell, "2" + cell[1:], "0"]})

    assert detect_numerals(frame, separator) == (numerals, cell)


@given(
    number=st.integers(-(10**12), 10**12),
    numerals=st.sampled_from(
        [Numerals(".", ","), Numerals(",", "."), Numerals(".", " "), Numerals(",", "'")]
    ),
)
def test_any_formatted_number_is_read_back(number: int, numerals: Numerals) -> None:
    """Numbers formatted by Python with any marks are parsed to the same value."""
    written = f"{number / 100:,.2f}"
    cell = written.translate({ord(","): numerals.thousands, ord("."): numerals.decimal})

    found = as_numbers(pl.Series([cell]), numerals)

    assert found.to_list() == [float(written.replace(",", ""))]


@given(
    cells=st.lists(st.text(st.sampled_from("0123456789.,'+-e$ _"), max_size=9), min_size=1),
    numerals=st.sampled_from([Numerals(), Numerals(","), Numerals(".", ","), Numerals(",", ".")]),
)
def test_a_column_is_parsed_like_its_cells(cells: list[str], numerals: Numerals) -> None:
    """The fast conversion of columns follows the rule for a single cell."""
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
        ("3.4028236e38", Numerals()),
        ("inf", Numerals()),
        ("", Numerals()),
    ],
)
def test_invalid_marks_are_not_numbers(cell: str, numerals: Numerals) -> None:
    """A misplaced mark is never removed, and a number must be in the range of float32."""
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
def test_a_common_unit_is_removed(
    cells: list[str], affix: str | None, numbers: list[float | None]
) -> None:
    """A currency before or a unit after most numbers is detected."""
    series = pl.Series(cells)

    assert common_affix(series) == affix
    assert as_numbers(series, affix=affix).to_list() == numbers


def test_training_and_the_service_read_the_same_largest_number() -> None:
    """Any number that rounds to a finite one of 32 bits is valid."""
    reader = CellReader(NumberFeature(type="number", name="x", example=1))
    cells = ["-3.4028235e38", "3.4028236e38"]

    assert as_numbers(pl.Series(cells)).to_list() == [-3.4028235e38, None]
    assert [reader.value(cell) for cell in cells] == [-3.4028235e38, "3.4028236e38"]
