"""Hints for values that are not numbers."""

import pytest

from service.values import not_a_number


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
