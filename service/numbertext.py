"""How reports and charts write numbers: four significant digits."""

SIGNIFICANT = 4
# Years are below, and need no separator.
SEPARATED = 10_000
LARGE = 1000
TOO_LONG = 1e12
# Of the largest number of the same kind; what is smaller is the rounding of float32.
ROUNDING = 1e-6


def format_number(value: float, largest: float = 0.0) -> str:
    """Format four significant digits: large numbers as integers, with separators from 10,000 on.

    Next to the largest number of a chart or column, what is only rounding is written as 0.
    """
    size = abs(value)
    if LARGE <= size < TOO_LONG:
        return f"{value:,.0f}" if round(size) >= SEPARATED else f"{value:.0f}"
    return f"{value:.{SIGNIFICANT}g}" if size and size >= ROUNDING * abs(largest) else "0"
