"""How reports and charts write numbers: four significant digits."""

_SIGNIFICANT = 4
# Years are below, and need no separator.
_SEPARATED = 10_000
_LARGE = 1000
_TOO_LONG = 1e12
# Smaller ones are the rounding of float32.
_TINY = 1e-6


def format_number(value: float) -> str:
    """Format four significant digits: large numbers as integers, with separators from 10,000 on."""
    size = abs(value)
    if _LARGE <= size < _TOO_LONG:
        return f"{value:,.0f}" if round(size) >= _SEPARATED else f"{value:.0f}"
    return f"{value:.{_SIGNIFICANT}g}" if size >= _TINY else "0"
