"""Numbers as text in reports: four significant digits, and one precision for a column."""

import math
from collections.abc import Sequence

from service.numbertext import LARGE, SEPARATED, SIGNIFICANT, TOO_LONG, format_number

# Smaller numbers have an exponent.
_TINY = 1e-6
_MOST_DECIMALS = 6
_FEW_SECONDS, _MINUTE, _HOUR = 10, 60, 3600
# As wide as a digit and as a point, so that points of right-aligned numbers are aligned.
_DIGIT_BLANK, _POINT_BLANK = "\N{FIGURE SPACE}", "\N{PUNCTUATION SPACE}"


def format_numbers(values: Sequence[float]) -> list[str]:
    """Format the numbers of a column with the same number of decimals.

    The largest has four significant digits, and zeros at the end of all are omitted. Very large
    numbers are written as by `format_number`.
    """
    largest = max(map(abs, values), default=0.0)
    if not _TINY <= largest < TOO_LONG:
        return [format_number(value) for value in values]
    digits_before_point = math.floor(math.log10(largest)) + 1
    most = min(max(SIGNIFICANT - digits_before_point, 0), _MOST_DECIMALS)
    rounded = [round(value, most) for value in values]
    decimals = next(d for d in range(most + 1) if all(round(v, d) == v for v in rounded))
    separated = round(largest, decimals) >= SEPARATED
    return [_write(value, decimals, separated=separated) for value in values]


def format_metrics(values: Sequence[float]) -> list[str]:
    """Format the values of one metric without a unit, with four decimals, or six if it is tiny."""
    smallest = min((abs(value) for value in values if abs(value) >= _TINY), default=1.0)
    decimals = SIGNIFICANT if smallest >= 10.0 ** (1 - SIGNIFICANT) else _MOST_DECIMALS
    return [_write(value, decimals, separated=abs(value) >= SEPARATED) for value in values]


def format_range(ends: Sequence[float]) -> str:
    """Format the ends of a range, both with separators or both without: ``1900 to 2015``."""
    texts = [format_number(end) for end in ends]
    if any("," in text for text in texts):
        texts = [
            _write(end, 0, separated=True) if LARGE <= abs(end) < TOO_LONG else text
            for end, text in zip(ends, texts, strict=True)
        ]
    return " to ".join(texts)


def format_duration(seconds: float) -> str:
    """Format a duration in the unit in which it has few digits: 0.8 s, 43 s, 12 min."""
    if seconds < _FEW_SECONDS:
        return f"{seconds:.1f} s"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"


def align_points(texts: Sequence[str]) -> list[str]:
    """Pad the numbers of a right-aligned column so that their decimal points are aligned.

    A column with an exponent remains as it is.
    """
    if any("e" in text for text in texts):
        return list(texts)
    decimals = [len(text.partition(".")[2]) for text in texts]
    widest = max(decimals, default=0)
    return [
        text + (_POINT_BLANK if widest and not count else "") + _DIGIT_BLANK * (widest - count)
        if text
        else ""
        for text, count in zip(texts, decimals, strict=True)
    ]


def _write(value: float, decimals: int, *, separated: bool) -> str:
    text = f"{value:,.{decimals}f}" if separated else f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text
