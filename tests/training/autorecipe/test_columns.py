"""Columns of numbers are detected, and remarks explain ambiguous ones."""

import polars as pl
import pytest

from service.tabletext import NumberFormat
from training.autorecipe.columns import infer_column, parse_numbers
from training.data.table import Table, table_from_rows


@pytest.mark.parametrize(
    ("cells", "numeric", "note"),
    [
        (["1.5"] * 20, True, ""),
        ([*["1.5"] * 99, "x"], True, "1 cell is not a number ('x'), read as a missing value"),
        ([*["1.5"] * 8, "-", "-"], True, "2 cells are not numbers ('-'), read as missing values"),
        ([*["5kg"] * 19, "7"], True, "read without 'kg', missing in 1 cell"),
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


_MANY = [f"{k % 28 + 1:02}.{k % 12 + 1:02}.2013" for k in range(200)]
_EARLY = [f"{k % 12 + 1}/{k % 7 + 1}/2013" for k in range(40)]


@pytest.mark.parametrize(
    ("cells", "text_format", "missing", "note"),
    [
        (_MANY, "DD.MM.YYYY", 0, "dates, read as DD.MM.YYYY"),
        (
            [*_MANY, "soon", "soon", "-"],
            "DD.MM.YYYY",
            3,
            "dates, read as DD.MM.YYYY; no dates: 3 cells ('soon', '-'), read as missing values",
        ),
        (
            _EARLY,
            "MM/DD/YYYY",
            0,
            "dates, read as MM/DD/YYYY, though they may be DD/MM/YYYY",
        ),
        ([f"{k % 24}:30" for k in range(40)], "HH:MM", 0, "dates, read as HH:MM"),
    ],
)
def test_a_column_of_dates_is_detected_with_a_remark(
    cells: list[str], text_format: str, missing: int, note: str
) -> None:
    """A few words are missing values, and an ambiguous order is reported."""
    column = infer_column(table_from_rows([[cell] for cell in cells], ["day"]), "day")

    assert (column.kind, column.format, column.missing) == ("datetime", text_format, missing)
    assert column.note == note
    assert column.feature().optional


@pytest.mark.parametrize(
    "cells",
    [
        [f"{k % 28 + 1}. Mai 2013" for k in range(40)],
        [f"{k % 12 + 1}/{k + 13}/2013" for k in range(15)]
        + [f"{k + 13}/1/2013" for k in range(15)],
        [f"2013-02-{k % 31 + 1:02}" for k in range(62)],
        ["2013-05-01T07:30Z", "2013-05-01T09:30+02:00"] * 20,
    ],
)
def test_dates_in_an_unknown_format_or_in_several_are_not_used(cells: list[str]) -> None:
    """Nor are those that are the same instant."""
    column = infer_column(table_from_rows([[cell] for cell in cells], ["day"]), "day")

    assert column.kind is None
    assert column.note


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        ([f"{1900000000000000 + k * 37 % 64}" for k in range(64)], "64 numbers that are 1 in 32"),
        ([f"{1e17 + k % 9 * 16:.1f}" for k in range(64)], " numbers that are 1 in 32 bits"),
        (
            [f"{20000001.5 + k * 37 % 64 / 64:.3f}" for k in range(64)],
            "64 numbers that are 1 in 32",
        ),
        ([str(1925036343869803802 + k * 37 % 64) for k in range(64)], "an identifier: numbers of"),
        ([str(16777216 + k * 37 % 64) for k in range(64)], ""),
    ],
)
def test_numbers_that_are_equal_in_32_bits_are_not_used(cells: list[str], note: str) -> None:
    """The graph takes numbers of 32 bits; the reason is reported."""
    frame = pl.DataFrame({"x": cells})
    column = infer_column(Table("table", frame, "0" * 64), "x")

    assert note in column.note
    assert (column.kind is None) == bool(note)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["00", *[f"{k}.5" for k in range(60)]], "number"),
        (["007", *[f"{k}" for k in range(60)] * 2], "integer"),
        (["0.50", "00.25", "1.5"] * 20, "number"),
        (["00501", "10001", "90210"] * 20, "category"),
        (["00501", *["10001", "90210"] * 60], "category"),
        (["12E3", "4E4", "6E1"] * 20, "category"),
        (["12E3", "400", "5E1"] * 20, "category"),
        (["1.2E+03", "4E+04", "6E-01"] * 20, "number"),
        (["12E3", *[str(k) for k in range(60)]], "integer"),
        (["x", None] * 20, "category"),
        (["1", None, None] * 20, "category"),
        (["x", *[None] * 40], None),
        (["1"] * 40, None),
        (["\u22125.5", "2", "3"] * 20, "number"),
        (["(5)", "2", "3-"] * 20, "integer"),
        ([*["#DIV/0!", "#N/A", "#REF!", "#WERT!", "#NUM!", "#NAME?"], *["1.5", "2"] * 8], "number"),
        (["-", ".", "n.a.", *["1.5", "2", "3", "4"] * 2] * 4, "number"),
        (["-", "-", "1"] * 20, "category"),
        (["\u20ac14.3M", "\u20ac565K", "\u20ac2B", "\u20ac80"] * 20, "integer"),
    ],
)
def test_numbers_and_codes_are_distinguished(cells: list[str | None], kind: str | None) -> None:
    """A column of numbers stays one despite single cells, and codes are categories."""
    frame = pl.DataFrame({"x": cells}, schema={"x": pl.String})

    assert infer_column(Table("table", frame, "0" * 64), "x").kind == kind


@pytest.mark.parametrize(
    ("distinct", "kind"), [(99, "category"), (101, "category"), (700, "category"), (1600, None)]
)
def test_words_of_any_number_are_categories(distinct: int, kind: str | None) -> None:
    """If there are two rows of each on average."""
    cells = [f"city {k % distinct}" for k in range(2000)]

    column = infer_column(table_from_rows([[cell] for cell in cells], ["x"]), "x")

    assert (column.kind, column.distinct) == (kind, distinct)


_WORDS = ["great food", "slow waiter", "nice view", "cold soup", "will return"]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([f"{_WORDS[k % 5]}, {_WORDS[k % 3]} no {k}" for k in range(60)], "text"),
        ([f"{_WORDS[k % 5]}, {_WORDS[k % 3]} no {k}" for k in range(40)], None),  # too few
        ([_WORDS[k % 5] for k in range(60)], "category"),
        ([f"AB-{k:04}-X" for k in range(60)], None),
        ([f"a{k}b c{k}d e{k}f" for k in range(60)], None),  # codes
        ([f"{chr(97 + k % 26) * (2 + k)} {chr(98 + k % 24) * (2 + k)}" for k in range(60)], None),
    ],
)
def test_text_has_several_words_that_other_cells_have_too(cells: list[str], kind: str) -> None:
    """Codes, identifiers and a few repeated phrases are no text; text may always be missing."""
    table = table_from_rows([[cell] for cell in cells], ["note"])

    column = infer_column(table, "note")

    assert column.kind == kind
    assert kind != "text" or column.feature().optional
