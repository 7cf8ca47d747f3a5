"""Parts of dates, computed inside the exported graph.

All arithmetic is on float64 numbers that are whole or far from the next whole one, so that ONNX
Runtime finds the same day, month and hour as PyTorch. A missing date has missing parts.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from training.data.table import Floats

_DAYS_OF_YEAR = 365.2425
_HOURS = 24
# Hours are not exact in binary; this is a third of a millisecond.
_HOUR_TOLERANCE = 1e-7
_DAYS_OF_WEEK = 7
_THURSDAY = 3
"""The weekday of 1970-01-01, from Monday as 0."""


def find_weekday(days: Tensor) -> Tensor:
    """Return the weekday, from 0 for Monday to 6."""
    from_monday = torch.floor(days) + _THURSDAY
    return from_monday - _DAYS_OF_WEEK * _divide(from_monday, _DAYS_OF_WEEK)


def find_hour(days: Tensor) -> Tensor:
    """Return the hour of the day, 0 to 23."""
    return torch.floor(_find_day_phase(days) * _HOURS + _HOUR_TOLERANCE)


def find_month(days: Tensor) -> Tensor:
    """Return the month, 1 to 12.

    The algorithm `civil_from_days` of Howard Hinnant: in years that begin in March, the leap day is
    the last one, and months have a regular pattern of lengths. Eras are 400 years.
    """
    from_era = torch.floor(days) + 719_468
    day = from_era - 146_097 * _divide(from_era, 146_097)
    leap_days = _divide(day, 1460) - _divide(day, 36_524) + _divide(day, 146_096)
    year = _divide(day - leap_days, 365)
    day_of_year = day - (365 * year + _divide(year, 4) - _divide(year, 100))
    from_march = _divide(5 * day_of_year + 2, 153)
    return torch.where(from_march < 10, from_march + 3, from_march - 9)  # noqa: PLR2004 - January


def _divide(number: Tensor, divisor: int) -> Tensor:
    """Return the quotient of whole numbers, rounded down.

    The half makes the result independent of the rounding of the division.
    """
    return torch.floor((number + 0.5) / divisor)


def _constant(number: float) -> Tensor:
    """Return a number in 64 bits; the exporter writes those of Python with 32."""
    return torch.tensor(number, dtype=torch.float64)


def _find_day_phase(days: Tensor) -> Tensor:
    return days - torch.floor(days)


def _find_year_phase(days: Tensor) -> Tensor:
    years = days * _constant(1 / _DAYS_OF_YEAR)
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


class Calendar:
    """The parts of one column of dates that vary in the training set.

    They are the days since the first date, the position in the year and in the day with its sine
    and cosine, and the values of month, weekday and hour. Dates outside the training range have the
    number of days of its ends, so that a trend does not continue beyond what was measured.
    """

    def __init__(self, position: int, training: Floats) -> None:
        """Choose the parts by the cells of the training set, ``[rows]``; NaN is missing."""
        self.position = position
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
        self.numbers_width = 1 + len(self.cycles)

    def find_numbers(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Map ``[rows, columns]`` in float64 to the days and positions, ``[rows, numbers_width]``.

        They have no sine: its last digits differ between libraries, and a narrow bin magnifies
        that difference.
        """
        days = x[:, self.position]
        # Not a minimum and a maximum, which may replace NaN.
        low, high = _constant(self.low), _constant(self.high)
        late = torch.where(days > high, high, days)
        elapsed = torch.where(days < low, low, late) - low
        numbers = [elapsed, *(_CYCLES[name](days) for name in self.cycles)]
        return torch.stack(numbers, dim=1).to(dtype)

    def find_ordinals(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Map the same rows to the numbers that trees compare, ``[rows, ordinals_width]``.

        They are those of `find_numbers`, and the month, the weekday and the hour.
        """
        groups = [self.find_group(x, name, dtype).unsqueeze(1) for name in self.groups]
        return torch.cat([self.find_numbers(x, dtype), *groups], dim=1)

    def find_waves(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Map the same rows to sine and cosine of each position, zero where the date is missing.

        The result is ``[rows, 2 * cycles]``.
        """
        days = x[:, self.position]
        waves = []
        for name in self.cycles:
            angle = _CYCLES[name](days).to(dtype) * (2 * math.pi)
            waves += [torch.sin(angle), torch.cos(angle)]
        joined = torch.stack(waves, dim=1)
        return torch.where(torch.isnan(joined), 0.0, joined)

    def find_group(self, x: Tensor, name: str, dtype: torch.dtype) -> Tensor:
        """Return the month, the weekday or the hour of each row, ``[rows]``."""
        return _GROUPS[name](x[:, self.position]).to(dtype)


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
