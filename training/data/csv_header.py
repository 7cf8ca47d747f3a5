"""Which lines of a file stand above its rows: titles, and the names of the columns."""

import polars as pl

from training.data.numerals import like_numbers
from training.data.table import MISSING

_ROWS_BELOW = 200
_LEAST_BELOW = 8
_SELDOM = 0.25
_MOST_TITLES = 10
_TITLED_WIDTH = 3


def titles_above(frame: pl.DataFrame) -> int:
    """How many first rows have one cell only, in a table of three columns or more."""
    if frame.width < _TITLED_WIDTH:
        return 0
    rows = frame.head(_MOST_TITLES).rows()
    filled = [sum(bool(cell and cell.strip()) for cell in row) for row in rows]
    titles = next((k for k, cells in enumerate(filled) if cells > 1), 0)
    return titles if titles < frame.height else 0


def has_header(frame: pl.DataFrame) -> bool:
    """Whether the first row names the columns.

    A word above numbers is a name. A word that comes again below it is a cell, and one that does
    not, above words that keep coming again, is a name. Where no column shows anything, a first row
    with a number is one of cells.
    """
    columns = [_evidence(cells) for cells in frame.head(1 + _ROWS_BELOW)]
    if "name above numbers" in columns:
        return True
    if columns.count("comes again") > columns.count("stands apart"):
        return False
    if "stands apart" in columns and "fraction" not in columns:
        return True
    return not {"fraction", "whole number"} & set(columns)


def _evidence(cells: pl.Series) -> str:
    """What the first cell of a column shows."""
    cells = cells.str.strip_chars()
    first, below = str(cells[0] or ""), cells[1:].drop_nulls()
    if first in MISSING:
        return "nothing"
    if like_numbers(cells[:1]).item():
        return "whole number" if first.isdecimal() else "fraction"
    if first in below:
        return "comes again"
    if like_numbers(below).sum() > len(below) / 2:
        return "name above numbers"
    seldom = len(below) >= _LEAST_BELOW and below.n_unique() <= _SELDOM * len(below)
    return "stands apart" if seldom else "nothing"
