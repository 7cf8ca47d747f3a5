"""Times in many formats are ordered as Python's datetime orders them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from service.tabletext import NumberFormat
from training.data.times import parse_dates, parse_times


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%d %H:%M:%S.%f",
        "%Y/%m/%d %H:%M",
        "%Y%m%dT%H%M%S",
        "%m/%d/%Y",
        "%m/%d/%y",
        "%m/%d/%Y %I:%M %p",
        "%d.%m.%Y",
        "%d.%m.%y %H:%M",
        "%d-%m-%Y %H:%M:%S",
        "%d %b %Y",
        "%d-%B-%Y",
        "%B %d, %Y",
        "%Y-%m",
        "%b-%Y",
        "%B %Y",
    ],
)
def test_dates_are_days(form: str) -> None:
    """Each instant has the days of Python's datetime, as far as the format writes them."""
    generator = np.random.default_rng(1)
    first = datetime(1995, 3, 1, tzinfo=UTC)
    instants = [first + timedelta(seconds=int(s)) for s in generator.integers(0, 10**9, 200)]
    cells = [instant.strftime(form) for instant in instants]

    parsed = parse_dates(pl.Series(cells))

    assert parsed is not None
    expected = [datetime.strptime(cell, form).replace(tzinfo=UTC).timestamp() for cell in cells]
    np.testing.assert_allclose(parsed.to_numpy() * 86_400, expected, rtol=0, atol=1e-5)


def test_short_days_and_offsets_are_read() -> None:
    """Days without a leading zero, and instants with different offsets."""
    days = parse_dates(pl.Series(["1/9/2011", "1/10/2011", "12/31/2011"]))
    instants = parse_dates(pl.Series(["2024-01-01T12:00:00+02:00", "2024-01-01T11:00:00Z"]))

    assert days is not None
    assert days.is_sorted()
    assert instants is not None
    assert round((instants[1] - instants[0]) * 24, 6) == 1


def test_numbers_are_times() -> None:
    """Years and timestamps are ordered as numbers, with the marks of the table."""
    assert parse_times(pl.Series(["2011", "2009.5"])).to_list() == [2011, 2009.5]  # type: ignore[union-attr]
    german = parse_times(pl.Series(["1.000,5", "999,5"]), NumberFormat(",", "."))
    assert german is not None
    assert german.to_list() == [1000.5, 999.5]


def test_missing_times_stay_missing() -> None:
    """A null cell does not decide the format."""
    parsed = parse_times(pl.Series([None, "2024-01-31", "2024-02-29"]))

    assert parsed is not None
    assert parsed.is_null().to_list() == [True, False, False]


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-01-31", "31.01.2024", "01/31/2024"],
        ["2023-02-29"],
        ["soon", "later"],
        ["07:30"],
        ["13/13/2024"],
        [None],
        ["2024-01-31", "12"],
    ],
)
def test_other_columns_are_not_times(cells: list[str | None]) -> None:
    """Mixed formats, impossible dates, words, and times of day have no order."""
    assert parse_times(pl.Series(cells, dtype=pl.String)) is None
