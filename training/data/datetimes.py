"""Convert columns of dates and times to numbers, and detect how they are written.

`service.timetext` has the rule for a single cell.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from service.timetext import FORMATS, ISO, DatetimeFormat, parse_datetime

_SAMPLE = 1000
_MOSTLY = 0.95
_HALF = 0.5
_PREFERRED: Mapping[DatetimeFormat, DatetimeFormat] = {"DD/MM/YYYY": "MM/DD/YYYY"}


@dataclass(frozen=True)
class DetectedFormat:
    """How the dates of a column are written."""

    text_format: DatetimeFormat
    alternative: DatetimeFormat | None = None
    """Another format with the day and the month swapped, in which the cells are dates too."""


def as_datetimes(cells: pl.Series, text_format: DatetimeFormat) -> pl.Series:
    """Return each cell's days since 1970-01-01 as Float64, null if it is no date of the format."""
    known = cells.drop_nulls().unique()
    numbers = pl.Series([parse_datetime(cell, text_format) for cell in known], dtype=pl.Float64)
    return cells.replace_strict(known, numbers, default=None, return_dtype=pl.Float64)


def detect_datetime_format(cells: pl.Series) -> DetectedFormat | None:
    """Return the format in which nearly all cells are dates; None if there is no such format.

    The format with the most dates is chosen. If the order of the day and the month makes no
    difference, a date with slashes begins with the month, and one with hyphens with the day.

    Args:
        cells: text, without nulls.
    """
    distinct = cells.unique(maintain_order=True)
    sample = distinct.head(_SAMPLE)
    if _count(sample, ISO) >= _MOSTLY * len(sample):
        likely: list[DatetimeFormat] = [ISO]  # which every other format includes
    else:
        likely = [one for one in FORMATS if _count(sample, one) >= _HALF * len(sample)]
    counts = {one: int(as_datetimes(cells, one).count()) for one in likely}
    most = max(counts.values(), default=0)
    if most == 0 or most < _MOSTLY * len(cells):
        return None
    best = [one for one in likely if counts[one] == most]
    if len(best) == 1:
        return DetectedFormat(best[0])
    preferred = _PREFERRED.get(best[0], best[0])
    return DetectedFormat(preferred, next(one for one in best if one != preferred))


def _count(cells: pl.Series, text_format: DatetimeFormat) -> int:
    return sum(parse_datetime(cell, text_format) is not None for cell in cells)
