"""Cells as numbers: a whole column follows the rule for a single cell."""

import math

from hypothesis import given
from hypothesis import strategies as st

from service.bundle.features import NumberFeature
from service.codecs.csv_cells import INVALID, CellReader, trained_numerals
from service.tabletext import POINT, Numerals

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
    reader = CellReader(PRICE, trained_numerals(PRICE) or POINT)

    numbers = reader.numbers(["$1.234,5", "-$7", "1234", "Unknown", "-200", "$1,234.5", "€5"])

    assert numbers[:3].tolist() == [1234.5, -7, 1234]
    assert all(map(math.isnan, numbers[3:5]))
    assert numbers[5:].tolist() == [INVALID, INVALID]


def test_a_feature_without_marks_takes_only_plain_numbers() -> None:
    """The keys of the manifest about tables are optional."""
    assert trained_numerals(PLAIN) is None
    assert CellReader(PLAIN).numbers(["1.5", "$2", "1,234"]).tolist() == [1.5, INVALID, INVALID]


def test_only_the_words_of_the_manifest_are_missing_values() -> None:
    """Python would read nan as a number."""
    assert CellReader(DASHES).numbers(["nan", "1"]).tolist() == [INVALID, 1]
    assert math.isnan(CellReader(PLAIN).numbers(["nan", "1"])[0])


@given(
    cells=st.lists(st.text(st.sampled_from("0123456789.,+-e$_ naif"), max_size=9), min_size=1),
    feature=st.sampled_from([PRICE, DASHES, PLAIN]),
    numerals=st.sampled_from([POINT, Numerals(","), Numerals(",", "."), Numerals(".", ",")]),
)
def test_a_column_is_decoded_as_its_cells_are(
    cells: list[str], feature: NumberFeature, numerals: Numerals
) -> None:
    """Decoding a whole column gives the same numbers as decoding each cell."""
    reader = CellReader(feature, numerals)

    column = reader.numbers(cells).tolist()

    for cell, number in zip(cells, column, strict=True):
        value = reader.value(cell)
        if value is None:
            assert math.isnan(number)
        elif isinstance(value, str):
            assert number == INVALID or abs(number) > 3e38
        else:
            assert number == value
