"""Single cells: which marks a number has, and what they can mean."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.tabletext import (
    Marks,
    NumberFormat,
    find_marks,
    plain_number,
)
from service.values import possible_numbers, resembles_number, split_affix

NUMBER_FORMATS = [
    NumberFormat(),
    NumberFormat(","),
    NumberFormat(".", ","),
    NumberFormat(",", "."),
    NumberFormat(".", " "),
    NumberFormat(",", " "),
    NumberFormat(".", "'"),
    NumberFormat(",", "'"),
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
    """A text has marks exactly if a format reads it, and all formats read its possible numbers."""
    read = {plain_number(text, number_format) for number_format in NUMBER_FORMATS} - {None}
    marks = find_marks(text)

    assert read == (set() if marks is None else set(possible_numbers(text, marks)))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("5 kg", ("5", "kg")),
        ("$1,234.5", ("1,234.5", "")),
        ("EUR 5", ("5", "")),
        ("12%", ("12", "%")),
        ("5  %", ("5", "%")),
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


def test_every_currency_sign_is_known() -> None:
    """All characters that Unicode calls currency symbols, except those of historical scripts."""
    signs = [chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) == "Sc"]

    assert [sign for sign in signs if split_affix(f"{sign}5") != ("5", "")] == []


def test_what_resembles_a_number() -> None:
    """Any digits with marks, as in dates and versions, but no word."""
    assert all(map(resembles_number, ["1", "-1.5e3", ".5", "1.2.3", "2020.01.05", "1 234", "1."]))
    assert not any(map(resembles_number, ["", "x1", "1x", "-", "12:30"]))


@pytest.mark.parametrize(
    ("text", "affix", "number"),
    [
        ("\u22125.46", None, -5.46),
        ("(1.75)", None, -1.75),
        ("( 2 )", None, -2),
        ("4.07-", None, -4.07),
        ("($1.5)", "$", -1.5),
        ("-$1.5", "$", -1.5),
        ("\u20ac14.3M", "\u20ac", 14.3e6),
        ("565K EUR", "EUR", 565e3),
        ("$-2B", "$", -2e9),
        ("5M", None, None),
        ("5M", "kg", None),
        ("(5", None, None),
        ("-5-", None, None),
        ("()", None, None),
        ("-(5)", None, None),
    ],
)
def test_signs_and_magnitudes_are_read(text: str, affix: str | None, number: float | None) -> None:
    """As accounting and typography write them; magnitudes only next to a currency."""
    plain = plain_number(text, affix=affix)

    assert (None if plain is None else float(plain)) == number
