"""Numbers in cells: separators, units, and cells that are not numbers."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle.features import FeaturesInput, NumberFeature
from service.codecs.csv_cells import CellReader
from service.codecs.features import FeatureCodec
from service.errors import InvalidInput
from service.tabletext import NumberFormat, plain_number
from training.data.numbers import as_numbers, common_affix, detect_number_format


@pytest.mark.parametrize(
    ("cells", "separator", "number_format"),
    [
        (["1.5", "20"], ",", NumberFormat()),
        (["1,5", "20"], ";", NumberFormat(",")),
        (["1,405", "345", "611", "21"], ",", NumberFormat(".", ",")),
        (["1.405", "345", "611", "21"], ";", NumberFormat(",", ".")),
        (["1.234,56", "7,5"], ";", NumberFormat(",", ".")),
        (["$1,234.56", "$7.50"], ",", NumberFormat(".", ",")),
        (["1,234,567", "1,234"], "\t", NumberFormat(".", ",")),
        (["43 943,26", "7,50"], ";", NumberFormat(",", " ")),
        (["43\u202f943,26", "7,50 €"], ";", NumberFormat(",", " ")),
        (["1'234.50", "7.50"], ";", NumberFormat(".", "'")),
        (["0.125", "1.405", "345", "611", "21"], ",", NumberFormat()),
        (["1.405", "12345", "611", "21", "7"], ";", NumberFormat()),
        (["red", "1,2 and 3", "12:30"], ",", NumberFormat()),
    ],
)
def test_the_marks_are_detected(
    cells: list[str], separator: str, number_format: NumberFormat
) -> None:
    """Unambiguous cells determine the separators of the table."""
    assert detect_number_format(pl.DataFrame({"x": cells}), separator) == (number_format, "")


def test_one_column_decides_for_another() -> None:
    """With a decimal comma in one column, the points in a different column separate thousands."""
    frame = pl.DataFrame({"x": ["0,71", "0,5"], "price": ["507.734", "109.296"]})

    assert detect_number_format(frame, ";") == (NumberFormat(",", "."), "")


@pytest.mark.parametrize("zero", ["0", "00", "012"])
def test_zeros_do_not_decide(zero: str) -> None:
    """Small numbers without marks suggest thousands marks in larger ones, but zeros do not."""
    frame = pl.DataFrame({"x": [zero, "1", "2", "1.125", "2.375"]})

    assert detect_number_format(frame, ",") == (NumberFormat(), "1.125")


@pytest.mark.parametrize(
    ("cell", "separator", "number_format"),
    [
        ("1,405", ",", NumberFormat(".", ",")),
        ("1,405", ";", NumberFormat(",")),
        ("1.405", ";", NumberFormat()),
    ],
)
def test_an_ambiguous_mark_is_returned(
    cell: str, separator: str, number_format: NumberFormat
) -> None:
    """If no cell decides, the separator does, and an ambiguous cell is returned."""
    frame = pl.DataFrame({"x": [cell, "2" + cell[1:], "0"]})

    assert detect_number_format(frame, separator) == (number_format, cell)


@given(
    number=st.integers(-(10**12), 10**12),
    number_format=st.sampled_from(
        [
            NumberFormat(".", ","),
            NumberFormat(",", "."),
            NumberFormat(".", " "),
            NumberFormat(",", "'"),
        ]
    ),
)
def test_any_formatted_number_is_read_back(number: int, number_format: NumberFormat) -> None:
    """Numbers formatted by Python with any marks are parsed to the same value."""
    written = f"{number / 100:,.2f}"
    cell = written.translate({ord(","): number_format.thousands, ord("."): number_format.decimal})

    found = as_numbers(pl.Series([cell]), number_format)

    assert found.to_list() == [float(written.replace(",", ""))]


@given(
    cells=st.lists(st.text(st.sampled_from("0123456789.,'+-e$ _"), max_size=9), min_size=1),
    number_format=st.sampled_from(
        [NumberFormat(), NumberFormat(","), NumberFormat(".", ","), NumberFormat(",", ".")]
    ),
)
def test_a_column_is_parsed_like_its_cells(cells: list[str], number_format: NumberFormat) -> None:
    """The fast conversion of columns follows the rule for a single cell."""
    stripped = [cell.strip() for cell in cells]
    plain = [plain_number(cell, number_format, "$") for cell in stripped]

    numbers = as_numbers(pl.Series(stripped), number_format, "$").to_list()

    expected = [None if text is None else float(text) for text in plain]
    held = [None if x is None or abs(x) > float(np.finfo(np.float32).max) else x for x in expected]
    assert numbers == held


@pytest.mark.parametrize(
    ("cell", "number_format"),
    [
        ("1,405", NumberFormat()),
        ("1.405", NumberFormat(",")),
        ("14,05", NumberFormat(".", ",")),
        ("1,4055", NumberFormat(".", ",")),
        ("0,123", NumberFormat(".", ",")),
        ("1e39", NumberFormat()),
        ("3.4028236e38", NumberFormat()),
        ("inf", NumberFormat()),
        ("", NumberFormat()),
    ],
)
def test_invalid_marks_are_not_numbers(cell: str, number_format: NumberFormat) -> None:
    """A misplaced mark is never removed, and a number must be in the range of float32."""
    assert as_numbers(pl.Series([cell]), number_format).to_list() == [None]


@pytest.mark.parametrize(
    ("cells", "affix", "numbers"),
    [
        (["70kg", "53 kg", "61.5kg"], "kg", [70, 53, 61.5]),
        (["12%", "7 %", "100%"], "%", [12, 7, 100]),
        (["$5", "-$7", "$-9.5"], "$", [5, -7, -9.5]),
        (["EUR 5", "EUR 7", "9"], "EUR", [5, 7, 9]),
        (["\uffe51234", "\uffe57"], "\uffe5", [1234, 7]),
        (["70  kg", "100  kg"], "kg", [70, 100]),
        (["$  5", "-  $7"], "$", [5, -7]),
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
    feature = NumberFeature(type="number", name="x", example=1)
    reader = CellReader(feature)
    codec = FeatureCodec(FeaturesInput(kind="features", features=[feature]))
    cells = ["-3.4028235e38", "3.4028236e38"]

    assert as_numbers(pl.Series(cells)).to_list() == [-3.4028235e38, None]
    assert codec.decode_rows([[reader.value(cells[0])]]) == np.float32(-3.4028235e38)
    with pytest.raises(InvalidInput, match="32-bit"):
        codec.decode_rows([[reader.value(cells[1])]])
