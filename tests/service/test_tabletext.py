"""Single cells: which marks a number has, and what they can mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codecs.csv_cells import number_hint
from service.tabletext import (
    AmbiguousMark,
    Marks,
    MixedDecimals,
    Numerals,
    find_decimal,
    find_marks,
    plain_number,
    possible_numbers,
    resembles_number,
    split_affix,
)
from service.values import not_a_number

NUMERALS = [
    Numerals(),
    Numerals(","),
    Numerals(".", ","),
    Numerals(",", "."),
    Numerals(".", " "),
    Numerals(",", " "),
    Numerals(".", "'"),
    Numerals(",", "'"),
]


@pytest.mark.parametrize(
    ("text", "marks", "numbers"),
    [
        ("12", Marks("", ""), ["12"]),
        ("1234", Marks("", "", ungrouped=True), ["1234"]),
        ("1,5", Marks(",", ""), ["1.5"]),
        ("-.5e-3", Marks(".", ""), ["-.5e-3"]),
        ("0,234", Marks(",", ""), ["0.234"]),
        ("1234,5", Marks(",", "", ungrouped=True), ["1234.5"]),
        ("1,234", Marks(",", ","), ["1234", "1.234"]),
        ("1.234", Marks(".", "."), ["1234", "1.234"]),
        ("1,234,567", Marks("", ","), ["1234567"]),
        ("1.234,5", Marks(",", "."), ["1234.5"]),
        ("+1 234", Marks("", " "), ["+1234"]),
        ("1\u202f234\u00a0567,5", Marks(",", " "), ["1234567.5"]),
        ("1\u2019234.5", Marks(".", "'"), ["1234.5"]),
        ("12,", Marks("", ""), ["12."]),
    ],
)
def test_marks_are_found(text: str, marks: Marks, numbers: list[str]) -> None:
    """A number shows its marks; only a single group of three digits has two meanings."""
    assert find_marks(text) == marks
    assert possible_numbers(text, marks) == numbers
    assert marks.ambiguous == (len(numbers) == 2)


@pytest.mark.parametrize(
    "text", ["", ".", "-", "e5", "1,2,3", "1,234,5", "1.2.3", "1_000", "\u0661"]
)
def test_other_texts_have_no_marks(text: str) -> None:
    """Misplaced marks, and digits of other scripts, make no number."""
    assert find_marks(text) is None


@given(st.text(st.sampled_from("0123456789.,'+-e \u202f"), max_size=12).map(str.strip))
def test_the_marks_are_those_by_which_a_cell_is_read(text: str) -> None:
    """A text has marks exactly if some numerals read it, and they read its possible numbers."""
    read = {plain_number(text, numerals) for numerals in NUMERALS} - {None}
    marks = find_marks(text)

    assert read == (set() if marks is None else set(possible_numbers(text, marks)))


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


def test_doubtful_samples_are_reported() -> None:
    """Both marks, or only numbers whose mark may separate thousands."""
    with pytest.raises(MixedDecimals) as mixed:
        find_decimal([(2, "1,5"), (3, "2"), (4, "1.5")], ";")
    with pytest.raises(AmbiguousMark) as ambiguous:
        find_decimal([(2, "12"), (3, "1.234")], ";")

    assert mixed.value.cells == ((2, "1,5"), (4, "1.5"))
    assert (ambiguous.value.line, ambiguous.value.numbers) == (3, ["1234", "1.234"])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("5 kg", ("5", "kg")),
        ("$1,234.5", ("1,234.5", "")),
        ("EUR 5", ("5", "")),
        ("12%", ("12", "%")),
        ("80 m2", ("80", "m2")),
        ("5", None),
        ("12:30", None),
        ("2 + 3", None),
        ("red", None),
    ],
)
def test_text_next_to_a_number_is_split(text: str, parts: tuple[str, str] | None) -> None:
    """A currency before it or a unit after it."""
    assert split_affix(text) == parts


def test_what_resembles_a_number() -> None:
    """Any digits with marks, as in dates and versions, but no word."""
    assert all(map(resembles_number, ["1", "-1.5e3", ".5", "1.2.3", "2020.01.05", "1 234", "1."]))
    assert not any(map(resembles_number, ["", "x1", "1x", "-", "12:30"]))


@pytest.mark.parametrize(
    ("cell", "numerals", "hint"),
    [
        ("0,234", Numerals(), "Write 0.234: a point marks the decimals of this table."),
        ("1.5", Numerals(","), "Write 1,5: a comma marks the decimals of this table."),
        (
            "1,234",
            Numerals(),
            "Write 1234, or 1.234 if those are decimals; remove the thousands separators.",
        ),
        (
            "1'234.5",
            Numerals(",", "."),
            'Write 1234,5: only "." may separate the thousands of this table.',
        ),
        ("$5", Numerals(), "Write 5, without anything next to the number."),
        ("5 %", Numerals(), "Write 5, without the percent sign."),
        ("-Inf", Numerals(), "Infinity is not accepted."),
        ("#DIV/0!", Numerals(), "The spreadsheet could not compute this cell; fix it there."),
        ("red", Numerals(), "Write a number."),
    ],
)
def test_the_hint_for_a_cell_says_what_to_write(cell: str, numerals: Numerals, hint: str) -> None:
    """In the marks of the table."""
    assert number_hint(cell, numerals) == hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("45", "Send 45 without the quotes."),
        ("45,5", "Send 45.5: a point marks the decimals, and no quotes."),
        (
            "1,234",
            (
                "Send 1234, or 1.234 if the comma marks decimals; without a thousands separator "
                "and quotes."
            ),
        ),
        ("1,234.5", "Send 1234.5; without a thousands separator and quotes."),
        ("5 kg", "Send 5 without the unit and the quotes."),
        ("$5", "Send 5 without the unit and the quotes."),
        ("5%", "Send 5 without the percent sign and the quotes."),
        ("-Infinity", "NaN and infinity are not accepted; send null where a value may be missing."),
        (",5", "Send a JSON number, without quotes or unit."),
        ("red", "Send a JSON number, without quotes or unit."),
    ],
)
def test_the_hint_for_a_string_says_what_to_send(text: str, hint: str) -> None:
    """Only what JSON accepts as a number is suggested."""
    assert not_a_number(text, whole=False) == hint
