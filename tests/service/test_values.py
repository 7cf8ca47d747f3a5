"""Which values are integers, and hints for those that are not numbers."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.values import are_integers, is_integer, not_a_number


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


@given(number=st.floats(allow_infinity=False) | st.integers(-(2**64), 2**64))
@example(number=-0.0)
@example(number=2**53 - 0.5)
@example(number=1e300)
@example(number=-5e-324)
def test_one_number_and_an_array_have_the_same_integers(number: float) -> None:
    """A row that is read cell by cell accepts what many rows accept together."""
    assert is_integer(number) == are_integers(np.array([number], np.float64))[0]


@given(number=st.floats(width=32, allow_infinity=False))
def test_rounding_to_32_bits_does_not_change_the_comparison(number: float) -> None:
    """The numbers of many rows are checked after rounding."""
    assert is_integer(number) == are_integers(np.array([number], np.float32))[0]
