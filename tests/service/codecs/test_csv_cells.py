"""Cells as numbers: a whole column follows the rule for a single cell."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle.features import CategoryFeature, NumberFeature
from service.codecs.csv_cells import (
    INVALID,
    CellReader,
    create_number_format,
    find_decimal,
    number_hint,
)
from service.codecs.rows import create_converter
from service.errors import InvalidRequest
from service.tabletext import MISSING, POINT, NumberFormat

PRICE = NumberFeature(
    type="number",
    name="price",
    example=1,
    optional=True,
    affix="$",
    decimal=",",
    thousands=".",
    missing=["", "unknown", "-200"],
)
DASHES = NumberFeature(type="number", name="y", example=1, optional=True, missing=["", "-"])
PLAIN = NumberFeature(type="number", name="x", example=1)


def test_numbers_are_read_with_the_marks_of_the_manifest() -> None:
    """Texts with currencies, thousands separators, decimals and words for missing values."""
    reader = CellReader(PRICE, create_number_format(PRICE) or POINT)

    numbers = reader.numbers(["$1.234,5", "-$7", "1234", "Unknown", "-200", "$1,234.5", "€5"])

    assert numbers[:3].tolist() == [1234.5, -7, 1234]
    assert all(map(math.isnan, numbers[3:5]))
    assert numbers[5:].tolist() == [INVALID, INVALID]


def test_a_feature_without_marks_takes_only_plain_numbers() -> None:
    """The keys of the manifest about tables are optional."""
    assert create_number_format(PLAIN) is None
    assert CellReader(PLAIN).numbers(["1.5", "$2", "1,234"]).tolist() == [1.5, INVALID, INVALID]


def test_only_the_words_of_the_manifest_are_missing_values() -> None:
    """Python would read nan as a number."""
    assert CellReader(DASHES).numbers(["nan", "1"]).tolist() == [INVALID, 1]
    assert math.isnan(CellReader(PLAIN).numbers(["nan", "1"])[0])


@given(
    cells=st.lists(st.text(st.sampled_from("0123456789.,+-e$_ naif"), max_size=9), min_size=1),
    feature=st.sampled_from([PRICE, DASHES, PLAIN]),
    number_format=st.sampled_from(
        [POINT, NumberFormat(","), NumberFormat(",", "."), NumberFormat(".", ",")]
    ),
)
def test_a_column_is_decoded_as_its_cells_are(
    cells: list[str], feature: NumberFeature, number_format: NumberFormat
) -> None:
    """Decoding a whole column gives the same numbers as decoding each cell."""
    reader = CellReader(feature, number_format)

    column = reader.numbers(cells).tolist()

    for cell, number in zip(cells, column, strict=True):
        value = reader.value(cell)
        if value is None:
            assert math.isnan(number)
        elif isinstance(value, str):
            assert number == INVALID or abs(number) > 3e38
        else:
            assert number == value


@pytest.mark.parametrize(
    ("cells", "separator", "decimal"),
    [
        (["1.5", "20"], "\t", "."),
        (["1,5", "20"], "\t", ","),
        (["1,5e3"], "\t", ","),
        (["1,234"], ";", ","),
        (["1,234", "1234"], "\t", ","),
        (["12", "x"], ";", ","),
        (["1,5"], ",", "."),
    ],
)
def test_the_decimal_mark_of_a_sample_is_found(
    cells: list[str], separator: str, decimal: str
) -> None:
    """Fractions decide; without any, the separator does."""
    assert find_decimal(enumerate(cells, 2), separator) == decimal


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1,5", "2", "1.5"], '"1,5" in line 2 and "1.5" in line 4'),
        (["12", "1.234"], 'Line 3: "1.234" may be 1.234 or 1234.'),
    ],
)
def test_a_sample_that_does_not_decide_is_reported(cells: list[str], message: str) -> None:
    """Both marks, or only numbers whose mark may separate thousands."""
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        find_decimal(enumerate(cells, 2), ";")


@pytest.mark.parametrize(
    ("cell", "number_format", "hint"),
    [
        ("0,234", NumberFormat(), "Write 0.234: a point marks the decimals of this table."),
        ("1.5", NumberFormat(","), "Write 1,5: a comma marks the decimals of this table."),
        (
            "1,234",
            NumberFormat(),
            "Write 1234, or 1.234 if those are decimals; remove the thousands separators.",
        ),
        (
            "1'234.5",
            NumberFormat(",", "."),
            'Write 1234,5: only "." may separate the thousands of this table.',
        ),
        ("$5", NumberFormat(), "Write 5, without anything next to the number."),
        ("5 %", NumberFormat(), "Write 5, without the percent sign."),
        ("-Inf", NumberFormat(), "Infinity is not accepted."),
        ("#DIV/0!", NumberFormat(), "The spreadsheet could not compute this cell; fix it there."),
        ("red", NumberFormat(), "Write a number."),
    ],
)
def test_the_hint_for_a_cell_says_what_to_write(
    cell: str, number_format: NumberFormat, hint: str
) -> None:
    """In the marks of the table."""
    assert number_hint(cell, number_format) == hint


@given(
    word=st.text(st.sampled_from(" \tNAP"), max_size=5),
    categories=st.sets(st.text(st.sampled_from(" NAP"), max_size=3), min_size=1),
)
def test_a_word_is_the_same_category_in_a_table_and_in_json(
    word: str, categories: set[str]
) -> None:
    """As it is if there is such a category, else without blanks; only a cell can be missing."""
    words = sorted(categories)
    feature = CategoryFeature(name="w", type="category", categories=words, example=words[0])
    found = next((words.index(one) for one in (word, word.strip()) if one in words), None)

    (cell,) = CellReader(feature).numbers([word])

    assert create_converter(feature)(word) == found
    if found is not None:
        assert cell == found
    elif word.strip() in MISSING:
        assert math.isnan(cell)
    else:
        assert cell == INVALID
