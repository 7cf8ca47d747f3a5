"""Whether the cells of a column are numbers, and what speaks against it."""

from dataclasses import dataclass

import polars as pl

from training.data.numerals import Numerals, as_numbers, common_affix, like_numbers

_MOSTLY = 0.95
_MOSTLY_BUT_FOR_MARKS = 0.8
_MOST_MARKS = 5
_HALF = 0.5
_SHOWN = 5


@dataclass(frozen=True)
class Numbers:
    """A column's cells as numbers."""

    cells: pl.Series
    """Float64, null where a cell is no number."""
    plain: bool
    """Whether so many are numbers that the others mean: no value."""
    affix: str | None
    strays: tuple[str, ...]
    """The cells that are no numbers, each once; empty unless plainly numbers."""
    note: str
    """What people should know of it."""


def read_numbers(known: pl.Series, numerals: Numerals) -> Numbers:
    """Read a column's cells as numbers, leaving out a unit that they have in common.

    Nearly all must be numbers, or most and a few words that come again, such as ``-`` or
    ``unknown``, must be the others.
    """
    affix = None
    numbers = as_numbers(known, numerals)
    if numbers.count() < _MOSTLY * len(known):
        affix = common_affix(known)
        numbers = as_numbers(known, numerals, affix)
    others = known.filter(numbers.is_null())
    words = others.alias("word").value_counts()
    strays = tuple(words.sort(["count", "word"], descending=[True, False])["word"])
    share = numbers.count() / max(len(known), 1)
    plain = share >= _MOSTLY or (share >= _MOSTLY_BUT_FOR_MARKS and len(strays) <= _MOST_MARKS)
    some = ", ".join(map(repr, strays[:_SHOWN])) + (" …" if len(strays) > _SHOWN else "")
    notes = []
    if plain and affix:
        without = int((numbers.is_not_null() & ~known.str.contains(affix, literal=True)).sum())
        notes.append(f"read without {affix!r}" + (f", which {without} cells lack" * bool(without)))
    if plain and strays:
        notes.append(f"{len(others)} cells are no numbers ({some}), taken as missing")
    if not plain and share >= _HALF:
        notes.append(f"{share:.0%} of the cells are numbers, but {len(others)} are not ({some})")
    if share < _HALF and like_numbers(known).sum() >= _MOSTLY_BUT_FOR_MARKS * len(known) > 0:
        notes.append(f"numbers, but not with the table's marks: decimal {numerals.decimal!r}")
    return Numbers(numbers, plain, affix, strays if plain else (), "; ".join(notes))
