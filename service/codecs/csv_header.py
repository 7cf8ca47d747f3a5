"""The first row of a table: which column is which feature."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.bundle.features import Feature
from service.codecs.messages import Findings, describe
from service.errors import InvalidRequest, Problem
from service.spelling import nearest
from service.values import listed, shown

# A column so near to an optional feature is taken for a misspelling of it, not for one to carry.
_VERY_NEAR = 0.85
# A search for a near name takes time by the number of columns.
_MOST_SEARCHES, _MOST_SEARCHED = 20, 100
_MOST_COLUMNS = 16_384  # of a spreadsheet
_MOST_TOLD = 12
_NUMBER = re.compile(r"[+-]?(?:\d++(?:[.,]\d++)?|[.,]\d++)(?:[eE][+-]?\d++)?")


@dataclass(frozen=True)
class Header:
    """The names of a table's columns, and the column of each feature that it has."""

    names: Sequence[str]
    columns: Mapping[int, int]


def find_columns(cells: Sequence[str], features: Sequence[Feature], line: int) -> Header:
    """The column of each feature, by name and in any order.

    Args:
        cells: of the first row.
        features: that the model takes.
        line: where the row stands, from 1.

    Raises:
        InvalidInput: a feature's column is missing, misspelt, or there twice.
        InvalidRequest: there are too many columns.
    """
    if len(cells) > _MOST_COLUMNS:
        raise InvalidRequest(
            f"Line {line} names {len(cells):,} columns, and at most {_MOST_COLUMNS:,} are read; "
            "send only those of features and the few that you want back."
        )
    names = [cell.strip() for cell in cells]
    counts = Counter(names)
    lacking = [feature for feature in features if feature.name not in counts]
    found = Findings()
    if len(lacking) == len(features) and _holds_values(names):
        found.add(1, [_headless(names, features, line)])
        found.raise_any()
    if len(names) == 1 and len(lacking) == len(features) > 1:
        found.add(1, [_undivided(names[0], line)])
        found.raise_any()
    repeated = [feature for feature in features if counts[feature.name] > 1]
    found.add(len(repeated), (_twice(feature, names, line) for feature in repeated))
    places = {feature.name: place for place, feature in enumerate(features)}
    free = [name for name in counts if name not in places][:_MOST_SEARCHED]
    for number, feature in enumerate(lacking):
        close = _misspelt(feature, free) if number < _MOST_SEARCHES else None
        if close is not None:
            free.remove(close)
            found.add(1, [_misspelling(feature, close, line)])
        elif not feature.optional:
            found.add(1, [_missing(feature, names, line)])
    found.raise_any()
    columns = {places[name]: column for column, name in enumerate(names) if name in places}
    return Header(list(cells), columns)


def _holds_values(names: Sequence[str]) -> bool:
    return any(_NUMBER.fullmatch(name) for name in names)


def _headless(names: Sequence[str], features: Sequence[Feature], line: int) -> Problem:
    wanted = ",".join(feature.name for feature in features)
    return Problem(
        f"Line {line} holds values ({listed(names, 4)}) where the columns must be named.",
        hint=f"Put a line with the names above it, such as {wanted}",
    )


def _undivided(name: str, line: int) -> Problem:
    return Problem(
        f"Line {line} is a single cell, {shown(name)}.",
        hint="Cells are separated by a comma, a semicolon, a tab or |; write the table so.",
    )


def _twice(feature: Feature, names: Sequence[str], line: int) -> Problem:
    columns = [str(place) for place, name in enumerate(names, 1) if name == feature.name]
    told = " and ".join(columns[:_MOST_TOLD])
    more = f" and {len(columns) - _MOST_TOLD} more" if len(columns) > _MOST_TOLD else ""
    return Problem(
        f"Line {line} names {feature.name!r} in columns {told}{more}.",
        feature=feature.name,
        hint="Rename or remove all but one, so that it is clear which is meant.",
    )


def _misspelling(feature: Feature, name: str, line: int) -> Problem:
    return Problem(
        f"Line {line} has no column {feature.name!r}; did you mean it by {shown(name)}?",
        feature=feature.name,
        got=shown(name),
        hint=f"Rename that column to {feature.name}.",
    )


def _missing(feature: Feature, names: Sequence[str], line: int) -> Problem:
    return Problem(
        f"Line {line} has no column {feature.name!r}; its columns are {listed(names)}.",
        feature=feature.name,
        expected=describe(feature),
        hint=f"Add a column of that name: {describe(feature)} in each row.",
    )


def _misspelt(feature: Feature, free: Sequence[str]) -> str | None:
    """The column that was probably meant for the feature."""
    if not feature.optional:
        return nearest(feature.name, free)
    folded = {_folded(name): name for name in free}
    near = nearest(_folded(feature.name), folded, _VERY_NEAR)
    return None if near is None else folded[near]


def _folded(name: str) -> str:
    """The name without what people write differently without meaning anything by it."""
    return re.sub(r"[\W_]+", "", name.casefold())
