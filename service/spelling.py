"""Words in messages: lists of names, and suggestions for misspelled ones."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

LONGEST_WORD = 64
"""Letters of a text that may get a hint; a longer text is no typing error, and costs too much."""
NAMES_SHOWN = 20
"""Models, versions or aliases in one message."""

# Comparing two words takes time by the product of their lengths.
_MAX_CANDIDATES = 750
_LONGEST_VERSION = 60


def join_names(
    names: Sequence[str],
    most: int,
    show: Callable[[str], str] = str,
    count: int | None = None,
) -> str:
    """Join the first names with commas, and say how many more there are.

    ``show`` returns how to write a name; ``count`` is that of all names if ``names`` has only some.
    """
    more = (len(names) if count is None else count) - most
    text = ", ".join(map(show, names[:most]))
    return f"{text} and {more:,} more" if more > 0 else text


def format_count(count: int, noun: str) -> str:
    """Return a number with its noun: 1 row, 2 rows."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_subject(count: int, noun: str) -> str:
    """Return a number with its noun and verb: 1 row is, 2 rows are."""
    return f"{format_count(count, noun)} {'is' if count == 1 else 'are'}"


def number_repeated(names: Sequence[str]) -> list[str]:
    """Return names without repetition: a second column a is a_2, unless that is another column."""
    used, numbered, times = set(names), list[str](), Counter[str]()
    for name in names:
        times[name] += 1
        unique = name
        if times[name] > 1:
            while (unique := f"{name}_{times[name]}") in used:
                times[name] += 1
        used.add(unique)
        numbered.append(unique)
    return numbered


def closest_name(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the known word that ``word`` is most likely a misspelling of, if one is close enough.

    Only short words are compared, and only with the first 750 known ones. ``likeness`` is the least
    similarity from 0 to 1 (`difflib.SequenceMatcher.ratio`).
    """
    if len(word) > LONGEST_WORD:
        return None
    candidates = islice((name for name in known if len(name) <= LONGEST_WORD), _MAX_CANDIDATES)
    by_folded = {name.casefold(): name for name in candidates}
    matches = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=likeness)
    return by_folded[matches[0]] if matches else None


def format_suggestion(close: str | None, otherwise: str, show: Callable[[str], str] = repr) -> str:
    """Return a question that suggests the closest name; without one, another text.

    ``show`` returns how to write the name.
    """
    return otherwise if close is None else f"did you mean {show(close)}?"


def format_install(extra: str) -> str:
    """Return how to install an extra; a checkout is where it comes from, not a package index."""
    command = f'.venv/bin/python -m pip install -c constraints.txt --editable ".[{extra}]"'
    return f"to install it, run in the checkout: {command}"


def suggest_model(name: str, available: Sequence[str]) -> str:
    """Return the end of a message about an unknown model: the closest name, or all names."""
    existing = join_names(available, NAMES_SHOWN) or "none"
    return format_suggestion(closest_name(name, available), f"available: {existing}.")


def describe_missing_alias(alias: str, existing: Sequence[str]) -> str:
    """Return the message about an unknown alias: the closest one, or all aliases."""
    known = join_names(existing, NAMES_SHOWN) or "none"
    end = format_suggestion(closest_name(alias, existing), f"existing: {known}.")
    return f"there is no alias {alias!r}; {end}"


def describe_missing_version(
    name: str, version: str, available: Sequence[str], aliases: Sequence[str] | None = None
) -> str:
    """Return the message about an unknown version of a model.

    ``aliases`` are those of the model; None if only a number is accepted.
    """
    existing = join_names(available, NAMES_SHOWN) or "none"
    if aliases is not None:
        existing += f"; aliases: {join_names(aliases, NAMES_SHOWN) or 'none'}"
    close = closest_name(version, aliases or ())
    hint = f"; did you mean the alias {close!r}?" if close else "."
    return (
        f"Model {name!r} has no version {version[:_LONGEST_VERSION]!r}; available: {existing}{hint}"
    )
