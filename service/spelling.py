"""Suggestions for misspelt words."""

import difflib
from collections.abc import Iterable
from itertools import islice

LONGEST_WORD = 64
"""Letters of a text that may get a hint; a longer one is no slip of the pen, and costs too much."""

# The comparison of two words takes time by the product of their lengths.
_MOST_CANDIDATES = 750


def nearest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The known word that ``word`` is most likely a misspelling of, if any is close enough.

    Only short words are compared, and only with the first 750 known ones.

    Args:
        word: as a client wrote it.
        known: what it may mean.
        likeness: from 0 to 1, of the two words together (`difflib.SequenceMatcher.ratio`).
    """
    if len(word) > LONGEST_WORD:
        return None
    candidates = islice((name for name in known if len(name) <= LONGEST_WORD), _MOST_CANDIDATES)
    by_folded = {name.casefold(): name for name in candidates}
    matches = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=likeness)
    return by_folded[matches[0]] if matches else None
