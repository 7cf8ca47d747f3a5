"""Numbers in reports: four significant digits, and one precision in a column."""

import pytest

from service.numbertext import format_number
from training.report.numbers import (
    align_points,
    format_duration,
    format_metrics,
    format_numbers,
    format_range,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.5e-9, "1.5e-09"),
        (0.123456, "0.1235"),
        (12.3456, "12.35"),
        (1900, "1900"),
        (2015.4, "2015"),
        (9999.6, "10,000"),
        (-1234567.8, "-1,234,568"),
        (1.5e13, "1.5e+13"),
    ],
)
def test_years_have_no_separator(value: float, text: str) -> None:
    """Numbers of five digits and more have one."""
    assert format_number(value) == text


def test_rounding_next_to_larger_numbers_is_zero() -> None:
    """Small numbers are shown where all are small, such as amounts in moles."""
    assert format_number(1e-9, largest=0.5) == "0"
    assert format_number(1e-9, largest=4e-9) == "1e-09"


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([], []),
        ([4, 10, 15], ["4", "10", "15"]),
        ([2.612, 11.3, 15.488], ["2.61", "11.30", "15.49"]),
        ([0.5, 0.25], ["0.50", "0.25"]),
        ([1.0691, 5.575, 0], ["1.069", "5.575", "0.000"]),
        ([1990, 2015], ["1990", "2015"]),
        ([999, 12345.6], ["999", "12,346"]),
        ([9999.7, 3], ["10,000", "3"]),
        ([-0.0001, 5], ["0", "5"]),
        ([2e13, 1], ["2e+13", "1"]),
    ],
)
def test_the_numbers_of_a_column_have_the_same_decimals(
    values: list[float], texts: list[str]
) -> None:
    """As many as the largest needs for four digits, without zeros at the end of all."""
    assert format_numbers(values) == texts


def test_shares_have_four_decimals() -> None:
    """Six, if one of them would have too few digits."""
    assert format_metrics([0.765, 0.7]) == ["0.7650", "0.7000"]
    assert format_metrics([0.00041, 2.3]) == ["0.000410", "2.300000"]


def test_both_ends_of_a_range_have_separators_or_none() -> None:
    """Years have none."""
    assert format_range([1900, 2015]) == "1900 to 2015"
    assert format_range([1300, 215245]) == "1,300 to 215,245"
    assert format_range([-0.5, 12]) == "-0.5 to 12"


def test_decimal_points_are_aligned() -> None:
    """Blanks as wide as digits and points follow shorter numbers."""
    padded = align_points(["116,674", "0.9211", "1.2", ""])

    assert padded == [
        "116,674\N{PUNCTUATION SPACE}" + 4 * "\N{FIGURE SPACE}",
        "0.9211",
        "1.2" + 3 * "\N{FIGURE SPACE}",
        "",
    ]
    assert align_points(["1", "2"]) == ["1", "2"]
    assert align_points(["1.5e+12", "0.9"]) == ["1.5e+12", "0.9"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.84, "0.8 s"), (43.3, "43 s"), (719, "12 min"), (9000, "2.5 h")]
)
def test_durations_have_few_digits(seconds: float, text: str) -> None:
    """In seconds, minutes or hours."""
    assert format_duration(seconds) == text
