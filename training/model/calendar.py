"""Parts of dates, computed inside the exported graph.

Each part is computed for all columns that have it at once, because ONNX Runtime needs about half a
microsecond for each operator. All arithmetic is on float64 numbers that are whole or far from the
next whole one, so that ONNX Runtime finds the same day, month and hour as PyTorch. A missing date
has missing parts.
"""

from collections.abc import Callable, Container, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from training.data.table import Floats

_DAYS_OF_YEAR = 365.2425
_HOURS = 24
# Hours are not exact in binary; this is a third of a millisecond.
_HOUR_TOLERANCE = 1e-7
_DAYS_OF_WEEK = 7
# From March 1 of the year 0, which began before every date, to 1970-01-01.
_FIRST_DAY = 719_468
# Of that day, which was a Wednesday, from Monday as 0.
_FIRST_WEEKDAY = 2
# The mean length of a century and, where each fourth year is a leap year, of a year.
_DAYS_OF_CENTURY, _DAYS_OF_JULIAN_YEAR = 36_524.25, 365.25


def find_weekday(days: Tensor) -> Tensor:
    """Return the weekday, from 0 for Monday to 6."""
    return torch.fmod(torch.floor(days) + (_FIRST_DAY + _FIRST_WEEKDAY), _DAYS_OF_WEEK)


def find_hour(days: Tensor) -> Tensor:
    """Return the hour of the day, 0 to 23."""
    return torch.floor(_find_day_phase(days) * _HOURS + _HOUR_TOLERANCE)


def find_month(days: Tensor) -> Tensor:
    """Return the month, 1 to 12.

    The formulas of Cassio Neri and Lorenz Schneider, "Euclidean affine functions and their
    application to calendar algorithms" (2022), with fractions instead of whole numbers. In years
    that begin in March, the leap day is the last one, and months have a regular pattern of lengths:
    153 days in five of them.
    """
    # Seven eighths of a day, and less below, make the results independent of rounding.
    day = torch.floor(days) + (_FIRST_DAY + 0.875)
    century = torch.floor(day / _DAYS_OF_CENTURY)
    # With the leap days that three of four centuries leave out.
    day = day + torch.floor(century * 0.75 + 0.875)
    day_of_year = torch.floor(torch.fmod(day, _DAYS_OF_JULIAN_YEAR))
    from_january = torch.floor((day_of_year + 61.7) / 30.6)
    return torch.fmod(from_january, 12) + 1


def _find_day_phase(days: Tensor) -> Tensor:
    return days - torch.floor(days)


def _find_year_phase(days: Tensor) -> Tensor:
    # The exporter writes numbers of Python in 32 bits.
    years = days * torch.tensor(1 / _DAYS_OF_YEAR, dtype=torch.float64)
    return years - torch.floor(years)


_CYCLES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "year": _find_year_phase,
    "day": _find_day_phase,
}
"""The position within a period, 0 to 1; the model gets its sine and cosine too."""

_GROUPS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "month": find_month,
    "weekday": find_weekday,
    "hour": find_hour,
}
"""Parts that are one-hot encoded."""

_TREND = "trend"
_FORMULAS = {**_CYCLES, **_GROUPS}
NUMBERS = (_TREND, *_CYCLES)
"""The names of the parts that are numbers; the others are groups."""
CYCLES = tuple(_CYCLES)


class Calendar:
    """The parts of one column of dates that vary in the training set.

    They are the days since the first date, the position in the year and in the day with its sine
    and cosine, and the values of month, weekday and hour. Dates outside the training range have the
    number of days of its ends, so that a trend does not continue beyond what was measured.
    """

    def __init__(self, position: int, training: Floats, *, trend: bool = True) -> None:
        """Choose the parts by the cells of the training set, ``[rows]``; NaN is missing.

        Without a ``trend``, the days since the first date are no part.
        """
        self.position = position
        self.trend = trend
        known = torch.from_numpy(training[~np.isnan(training)])
        self.low, self.high = float(known.min()), float(known.max())
        is_monthly = _are_ends_of_months(training[~np.isnan(training)])
        # A season that was not seen twice is part of the trend.
        has_years = self.high - self.low >= _DAYS_OF_YEAR
        self.cycles = [
            name
            for name, find_phase in _CYCLES.items()
            if _varies(find_phase(known)) and (name != "year" or has_years)
        ]
        self.groups = {
            name: torch.unique(find(known)).tolist()
            for name, find in _GROUPS.items()
            if _varies(find(known)) and not (name == "weekday" and is_monthly)
        }

    @property
    def parts(self) -> list[str]:
        """The names of the parts: numbers, then groups."""
        return [_TREND] * self.trend + self.cycles + list(self.groups)


def list_parts(calendars: Sequence[Calendar], names: Container[str]) -> list[int]:
    """Return the positions of the parts with these names in the result of `find_parts`."""
    parts = [name for calendar in calendars for name in calendar.parts]
    return [k for k, name in enumerate(parts) if name in names]


def find_parts(calendars: Sequence[Calendar], x: Tensor) -> Tensor:
    """Map ``[rows, columns]`` in float64 to all parts of each calendar, ``[rows, parts]``.

    There must be one at least. Positions have no sine: its last digits differ between libraries,
    and a narrow bin magnifies that difference.
    """
    blocks, order = [], []
    for name in (_TREND, *_FORMULAS):
        having = [calendar for calendar in calendars if name in calendar.parts]
        if having:
            days = x.index_select(1, torch.tensor([calendar.position for calendar in having]))
            formula = _FORMULAS.get(name)
            blocks.append(_find_elapsed(having, days) if formula is None else formula(days))
            order += list_parts(calendars, [name])
    found = torch.cat(blocks, dim=1)
    is_sorted = order == sorted(order)
    return found if is_sorted else found.index_select(1, torch.tensor(order).argsort())


def _find_elapsed(calendars: Sequence[Calendar], days: Tensor) -> Tensor:
    """Return the days since the first one of the training set, at most those to its last one."""
    low = torch.tensor([calendar.low for calendar in calendars], dtype=torch.float64)
    high = torch.tensor([calendar.high for calendar in calendars], dtype=torch.float64)
    return torch.minimum(torch.maximum(days, low), high) - low


def _are_ends_of_months(days: Floats) -> bool:
    """Return whether all dates are the first or all the last of a month.

    The weekday of a month is noise.
    """
    dates = np.floor(days).astype(np.int64).astype("datetime64[D]")
    return any(
        bool((shifted == shifted.astype("datetime64[M]")).all()) for shifted in (dates, dates + 1)
    )


def _varies(values: Tensor) -> bool:
    return bool((values != values[0]).any())
