"""Parse a column of times, so that its rows can be ordered."""

from itertools import product

import polars as pl

from service.tabletext import POINT, NumberFormat
from training.data.numbers import as_numbers

_SAMPLE = 100
_FIRST_YEAR = 1000
# With two-digit years first, since %Y also matches them. Day and month are ambiguous if no day is
# above 12: with slashes the month is first, otherwise the day.
_DATES = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y%m%d",
    "%m/%d/%y",
    "%m/%d/%Y",
    "%d/%m/%y",
    "%d/%m/%Y",
    "%d.%m.%y",
    "%d.%m.%Y",
    "%d-%m-%y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    *(f"%d{mark}{month}{mark}%Y" for mark in (" ", "-") for month in ("%b", "%B")),
    *(f"{month} %d, %Y" for month in ("%b", "%B")),
)
_TIMES = (
    "",
    *(
        f"{mark}{time}{zone}"
        for mark, time, zone in product(" T", ("%H:%M:%S%.f", "%H:%M", "%H%M%S"), ("", "%#z"))
    ),
    " %I:%M %p",
    " %I:%M:%S %p",
)
# The first day of the month is appended to the cells.
_MONTHS = ("%Y-%m", "%Y/%m", "%b-%Y", "%b %Y", "%B-%Y", "%B %Y")
_FIRST_DAY = " 01"
# Most columns have no dates, which is found faster than by all formats.
_SHAPE = (
    r"^(?:\d{1,4}[-/.]\d{1,2}[-/.]\d|\d{4}[-/]\d{1,2}$|\d{8}(?:$|[T ])|\d{1,2}[ -][A-Za-z]{3}"
    r"|[A-Za-z]{3,9}[ -]\d)"
)
_FORMATS = [(f"{date}{time}", "") for time, date in product(_TIMES, _DATES)] + [
    (f"{month} %d", _FIRST_DAY) for month in _MONTHS
]


def parse_times(cells: pl.Series, number_format: NumberFormat = POINT) -> pl.Series | None:
    """Return numbers in the order of the times, as Float64; None if the cells are not times.

    Times are numbers, or dates with or without a time of day in one format that fits all cells.
    Dates become seconds. Null cells stay null.
    """
    known = cells.drop_nulls()
    if not len(known):
        return None
    numbers = as_numbers(cells, number_format)
    return numbers if numbers.count() == len(known) else parse_dates(cells)


def parse_dates(cells: pl.Series) -> pl.Series | None:
    """Return the seconds since 1970, as Float64; None if no format of dates fits all cells."""
    known = cells.drop_nulls()
    sample = known.head(_SAMPLE)
    if not len(known) or not sample.str.contains(_SHAPE).all():
        return None
    for form, suffix in _FORMATS:
        if _parse(sample, form, suffix).count() == len(sample):
            parsed = _parse(cells, form, suffix)
            if parsed.count() == len(known):
                return parsed
    return None


def _parse(cells: pl.Series, form: str, suffix: str) -> pl.Series:
    """Return the seconds of the cells that have the format, null for the others."""
    instants = (cells + suffix).str.to_datetime(form, strict=False, time_unit="us")
    instants = instants.set(instants.dt.year() < _FIRST_YEAR, None)
    return instants.dt.timestamp("us").cast(pl.Float64) / 1e6
