"""Cells as CSV writes them."""

import re

_NEEDS_QUOTES = re.compile(r'["\r\n]|^\s|\s$')


def quoted(cell: str, separator: str) -> str:
    """The cell, in quotes where it would not come back without them."""
    if separator in cell or _NEEDS_QUOTES.search(cell):
        return '"' + cell.replace('"', '""') + '"'
    return cell
