"""Formats of dates are detected from all cells of a column."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from service.timetext import DatetimeFormat
from training.data.datetimes import DetectedFormat, as_datetimes, detect_datetime_format

_DAYS = [date(2013, 1, 1) + timedelta(days=3 * k) for k in range(60)]
_EARLY = [day for day in _DAYS if day.day <= 12]


def detect(cells: list[str]) -> DetectedFormat | None:
    """The format of a column."""
    return detect_datetime_format(pl.Series("day", cells))


@pytest.mark.parametrize(
    ("pattern", "text_format"),
    [
        ("%Y-%m-%d", "YYYY-MM-DD"),
        ("%Y-%m-%dT07:30:15Z", "YYYY-MM-DD"),
        ("%Y-%m-%d 07:30:15.250+02:00", "YYYY-MM-DD"),
        ("%Y/%m/%d", "YYYY/MM/DD"),
        ("%Y%m%d", "YYYYMMDD"),
        ("%Y%m%dT000000", "YYYYMMDD"),
        ("%d.%m.%Y 07:30", "DD.MM.YYYY"),
        ("%d.%m.%y", "DD.MM.YYYY"),
        ("%d/%m/%Y", "DD/MM/YYYY"),
        ("%m/%d/%Y 7:30 PM", "MM/DD/YYYY"),
        ("%m/%d/%y", "MM/DD/YYYY"),
        ("%d-%m-%Y", "DD-MM-YYYY"),
        ("%m-%d-%Y", "MM-DD-YYYY"),
        ("%Y-%m", "YYYY-MM"),
        ("%m/%Y", "MM/YYYY"),
        ("%d-%b-%Y", "DD Month YYYY"),
        ("%d %B %Y 07:30", "DD Month YYYY"),
        ("%b %d, %Y", "DD Month YYYY"),
        ("%B %Y", "Month YYYY"),
        ("%b-%y", "Month YYYY"),
    ],
)
def test_the_format_of_most_cells_is_found(pattern: str, text_format: DatetimeFormat) -> None:
    """Days above 12 decide where the month is; polars is the oracle for dates."""
    cells = [day.strftime(pattern) for day in _DAYS]

    found = detect(cells)

    assert found == DetectedFormat(text_format)
    if "%d" in pattern:
        numbers = as_datetimes(pl.Series(cells), text_format)
        expected = pl.Series(_DAYS).to_physical().cast(pl.Float64)
        np.testing.assert_array_equal(numbers.floor().to_numpy(), expected.to_numpy())


@pytest.mark.parametrize(
    ("mark", "text_format", "alternative"),
    [("/", "MM/DD/YYYY", "DD/MM/YYYY"), ("-", "DD-MM-YYYY", "MM-DD-YYYY")],
)
def test_an_ambiguous_order_is_reported(
    mark: str, text_format: DatetimeFormat, alternative: DatetimeFormat
) -> None:
    """With slashes the month is first; one day above 12 decides otherwise."""
    ambiguous = [day.strftime(f"%d{mark}%m{mark}%Y") for day in _EARLY]

    assert detect(ambiguous) == DetectedFormat(text_format, alternative)
    for cell in (f"13{mark}01{mark}2013", f"01{mark}13{mark}2013"):
        decided = detect([*ambiguous, cell])
        assert decided is not None
        assert decided.alternative is None
        assert decided.text_format.startswith("DD" if cell.startswith("13") else "MM")


def test_a_mixture_of_formats_has_none() -> None:
    """Half of the cells begin with the day, and half with the month."""
    cells = [day.strftime("%d/%m/%Y") for day in _DAYS] + [day.strftime("%m/%d/%Y") for day in _DAYS]  # fmt: skip  # noqa: E501

    assert detect(cells) is None
    assert detect(["2013-02-30", "2013-02-31"]) is None
    assert detect([]) is None


def test_cells_that_are_no_dates_are_null() -> None:
    """As missing ones are."""
    numbers = as_datetimes(pl.Series(["1970-01-02", None, "soon", "1970-02-30"]), "YYYY-MM-DD")

    assert numbers.to_list() == [1.0, None, None, None]
    assert as_datetimes(pl.Series([None, None], dtype=pl.String), "HH:MM").null_count() == 2
