"""Parse a column of times, so that its rows can be ordered."""

import polars as pl

from service.tabletext import POINT, NumberFormat
from service.timetext import TIME_OF_DAY
from training.data.datetimes import as_datetimes, detect_datetime_format
from training.data.numbers import as_numbers


def parse_times(cells: pl.Series, number_format: NumberFormat = POINT) -> pl.Series | None:
    """Return numbers in the order of the times, as Float64; None if the cells are not times.

    Times are numbers, or dates with or without a time of day in one format that fits all cells.
    Dates become days. Null cells stay null.
    """
    known = cells.drop_nulls()
    if not len(known):
        return None
    numbers = as_numbers(cells, number_format)
    return numbers if numbers.count() == len(known) else parse_dates(cells)


def parse_dates(cells: pl.Series) -> pl.Series | None:
    """Return the days since 1970-01-01, as Float64; None if no format of dates fits all cells."""
    known = cells.drop_nulls()
    found = detect_datetime_format(known)
    if found is None or found.text_format == TIME_OF_DAY:
        return None
    days = as_datetimes(cells, found.text_format)
    return days if days.count() == len(known) else None
