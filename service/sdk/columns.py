"""The columns of a DataFrame, or the entries of a Series, that are the features of a model.

Unknown columns are dropped, except those that are probably misspelled features. The rule is that
of CSV tables, whose header the service checks.
"""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.sdk.errors import InvalidData, Problem
from service.sdk.results import Json

# A column with a name this similar to a required or to an optional feature is a misspelling.
_SIMILAR, _VERY_SIMILAR = 0.6, 0.85
# A search for a similar name takes time by the number of columns.
_MAX_SEARCHES, _MAX_SEARCHED, _LONGEST_NAME = 100, 1000, 64
_MAX_SENTENCES, _MAX_SHOWN = 5, 12


@dataclass(frozen=True)
class Source:
    """What has the columns, in messages: a DataFrame with columns, or a Series with entries."""

    name: str
    part: str


FRAME, SERIES = Source("DataFrame", "column"), Source("Series", "entry")


def find_columns(
    names: Sequence[str], features: Sequence[Json], source: Source = FRAME
) -> dict[str, int]:
    """Return the position of each feature's column; an optional feature may have none.

    Args:
        names: of the columns.
        features: of the model, as the service describes them.
        source: what has the columns.

    Raises:
        InvalidData: a required feature has no column, a column is probably a misspelled feature,
            two columns have the name of a feature, or no column is a feature.
    """
    counts = Counter(names)
    positions = {_compose(name): position for position, name in enumerate(names)}
    positions |= {name: position for position, name in enumerate(names)}
    found, lacking = {}, []
    for feature in features:
        name = feature["name"]
        if counts[name] > 1:
            raise InvalidData(f"The {source.name} has the {source.part} {name!r} more than once.")
        position = positions.get(name, positions.get(_compose(name)))
        if position is None:
            lacking.append(feature)
        else:
            found[name] = position
    used = set(found.values())
    free = [name for position, name in enumerate(names) if position not in used]
    if problems := _find_problems(lacking, free, names, source):
        raise _error_of(problems)
    if features and not found:
        wanted = _join([feature["name"] for feature in features])
        raise InvalidData(
            f"The {source.name} has no {source.part} of a feature; the features are {wanted}. "
            f"It has {_join(names) or 'none'}."
        )
    return found


def _find_problems(
    lacking: Sequence[Json], free: Sequence[str], names: Sequence[str], source: Source
) -> list[Problem]:
    """Return a problem for each misspelled column, and for each required one that is missing."""
    free = list(dict.fromkeys(free))
    problems = []
    for number, feature in enumerate(lacking):
        name = feature["name"]
        close = _find_misspelled(feature, free, search=number < _MAX_SEARCHES)
        if close is not None:
            free.remove(close)
            sentence = (
                f"{source.name} {source.part} {close!r} is unknown; is it a misspelling of "
                f"{name!r}? Rename it, or drop it if it is something else."
            )
            problems.append(Problem(sentence, feature=name, got=close))
        elif _is_required(feature):
            sentence = f"The {source.name} has no {source.part} {name!r}; it has {_join(names)}."
            problems.append(Problem(sentence, feature=name))
    return problems


def _error_of(problems: Sequence[Problem]) -> InvalidData:
    sentences = [problem.sentence for problem in problems[:_MAX_SENTENCES]]
    if (more := len(problems) - len(sentences)) > 0:
        sentences.append(f"{more} more {'feature is' if more == 1 else 'features are'} missing.")
    return InvalidData(" ".join(sentences), problems=problems)


def _is_required(feature: Json) -> bool:
    """Return whether a table must have the column, as in CSV; its cells may be missing."""
    return not feature.get("optional") or bool(feature.get("complete"))


def _find_misspelled(feature: Json, free: Sequence[str], *, search: bool) -> str | None:
    """Return the column that is probably a misspelling of a feature; an equal one if no search."""
    name = feature["name"]
    simple = {_simplify(column): column for column in reversed(free)}
    if (equal := simple.get(_simplify(name))) is not None and _simplify(name):
        return equal
    if not search:
        return None
    if _is_required(feature):
        return _closest(name.casefold(), {column.casefold(): column for column in free}, _SIMILAR)
    return _closest(_simplify(name), simple, _VERY_SIMILAR)


def _closest(word: str, known: Mapping[str, str], likeness: float) -> str | None:
    if len(word) > _LONGEST_NAME:
        return None
    candidates = [name for name in known if len(name) <= _LONGEST_NAME][:_MAX_SEARCHED]
    matches = difflib.get_close_matches(word, candidates, n=1, cutoff=likeness)
    return known[matches[0]] if matches else None


def _simplify(name: str) -> str:
    """Return the name without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _compose(name: str) -> str:
    """Return the name with composed characters: letters with accents have two forms in Unicode."""
    return unicodedata.normalize("NFC", name)


def _join(names: Sequence[str]) -> str:
    text = ", ".join(map(repr, names[:_MAX_SHOWN]))
    more = len(names) - _MAX_SHOWN
    return f"{text} and {more:,} more" if more > 0 else text
