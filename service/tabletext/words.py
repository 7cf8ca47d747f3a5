"""The words with which tables write missing values, true and false."""

from collections.abc import Collection, Mapping

MISSING = ("", "?", "NA", "N/A", "n/a", "nan", "NaN", "null", "NULL", "None")
"""Cells without a value, unless a recipe lists others."""

TRUTHS: Mapping[str, bool] = dict.fromkeys(("true", "yes", "t", "y", "1", "1.0"), True) | (
    dict.fromkeys(("false", "no", "f", "n", "0", "0.0"), False)
)
"""By the word in lower case."""


def folded(words: Collection[str]) -> frozenset[str]:
    """Missing words as they are compared in columns of numbers and truth values: in any case.

    In columns of words the case counts, since "none" may be a category where "None" is missing.
    """
    return frozenset(map(str.lower, words))
