"""Single values in requests: which are numbers, and how messages show them."""

import math
import re
from collections.abc import Collection, Container, Sequence
from typing import TypeGuard

import numpy as np
import numpy.typing as npt
import orjson

from service.bundle.features import WHOLE_MAX
from service.spelling import LONGEST_WORD, closest_name, format_suggestion, join_names
from service.tabletext import (
    CURRENCY,
    DIGITS,
    INFINITY,
    MISSING,
    UNIT,
    USUAL_MARKS,
    Marks,
    find_marks,
    lower_words,
    plain_sign,
)

MAX_ROUNDED_TO_FLOAT32 = math.nextafter(2.0**128 - 2.0**103, 0)
"""The largest number that rounds to a finite 32-bit one."""
LARGEST_WHOLE = f"The largest whole number is {WHOLE_MAX:,}."
"""The hint for a larger one."""
_MOST_DIGITS = 18
# Possessive quantifiers never backtrack, so that a match takes time by the length of its text.
_NUMBER_LIKE = re.compile(rf"[+-]?[.,]?{DIGITS}[.,]?(?:[eE][+-]?[0-9]+)?")
_WITH_AFFIX = re.compile(rf"(?:{CURRENCY}|[^\W\d_]{{0,4}})\s*+([+-]?{DIGITS})\s*+({UNIT}[23]?)?")
_MISSING = lower_words(MISSING)


def is_number(value: object, largest: float = MAX_ROUNDED_TO_FLOAT32) -> TypeGuard[float]:
    """Return whether a JSON value is a number up to this magnitude; by default, of 32 bits."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= largest


def is_integer(number: float) -> bool:
    """Return whether a finite number has no fraction: the rule of `are_integers` for one number.

    Defining either by the other is slow: numpy's floor takes four times as long for one number, and
    its remainder fifty times as long for an array.
    """
    return number % 1 == 0


def are_integers(numbers: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Return which finite numbers have no fraction."""
    whole: npt.NDArray[np.bool_] = np.floor(numbers) == numbers
    return whole


def are_exact_integers(numbers: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Return which numbers are integers that every JSON parser reads exactly."""
    exact: npt.NDArray[np.bool_] = are_integers(numbers) & (np.abs(numbers) <= WHOLE_MAX)
    return exact


def not_a_number(value: object, *, whole: bool) -> str | None:
    """Say what to send instead of a value that is not a number, or not a whole one."""
    if isinstance(value, bool):
        return "Send a number, not true or false."
    if isinstance(value, str):
        return _hint_for_text(value.strip())
    if not isinstance(value, int | float):
        return None
    if whole and abs(value) > WHOLE_MAX:
        return LARGEST_WHOLE
    return None if is_number(value) else "It does not fit a 32-bit number."


def _hint_for_text(text: str) -> str:
    if text.casefold().lstrip("+-") in ("nan", *INFINITY):
        return "NaN and infinity are not accepted; send null where a value may be missing."
    if text.lower() in _MISSING:
        return "Send a JSON number, or null where a value may be missing."
    hint = None if len(text) > LONGEST_WORD else _hint_for_number(text)
    return hint or "Send a JSON number, without quotes or unit."


def _is_json_number(text: str) -> bool:
    try:
        return is_number(orjson.loads(text))
    except orjson.JSONDecodeError:
        return False


def _hint_for_number(text: str) -> str | None:
    if _is_json_number(text):
        return f"Send {text} without the quotes."
    marks = find_marks(text)
    numbers = possible_numbers(text, marks) if marks else [""]
    if marks and all(map(_is_json_number, numbers)):
        if not marks.thousands:
            return f"Send {numbers[0]}: a point marks the decimals, and no quotes."
        decimals = f", or {numbers[1]} if the comma marks decimals" if marks.ambiguous else ""
        return f"Send {numbers[0]}{decimals}; without a thousands separator and quotes."
    number, after = split_affix(text) or ("", "")
    if _is_json_number(number):
        what = "percent sign" if after == "%" else "unit"
        return f"Send {number} without the {what} and the quotes."
    return None


def resembles_number(text: str) -> bool:
    """Return whether a text may be a number, with any marks at any position, as in 2020.01.05."""
    return _NUMBER_LIKE.fullmatch(text) is not None


def find_word(text: str, words: Container[str], missing: Collection[str]) -> str | None:
    """Return a word of a table or a request; None if it is one for a missing value.

    One of the known words may have blanks around it, or mean a missing value elsewhere.

    Args:
        text: as it is sent.
        words: that are known.
        missing: the words for missing values.
    """
    if text in words:
        return text
    stripped = text.strip()
    return None if stripped in missing and stripped not in words else stripped


def possible_numbers(text: str, marks: Marks) -> list[str]:
    """Return what a number with these marks can mean, in the notation of Python.

    An ambiguous one has two meanings: without thousands marks, and with decimals.
    """
    text = plain_sign(text).translate(USUAL_MARKS)
    meanings = [text.replace(marks.thousands, "")]
    if marks.ambiguous:
        meanings.append(text)
    return [meaning.replace(",", ".") for meaning in meanings]


def split_affix(text: str) -> tuple[str, str] | None:
    """Return a number with any marks and the text after it; None if there is no text next to it."""
    found = _WITH_AFFIX.fullmatch(text)
    if found is None or found[1] == text or find_marks(found[1]) is None:
        return None
    return found[1], found[2] or ""


def parse_integer(text: str) -> int | None:
    """Return the number of a text of ASCII digits; None for any other text.

    A number of more than 18 digits counts as the smallest one of 19.
    """
    if not (text.isascii() and text.isdecimal()):
        return None
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS


def prefix_row(row: int | None, sentence: str) -> str:
    """Return a message with its row, unless there is only one, and with a capital letter."""
    text = sentence if row is None else f"row {row}: {sentence}"
    return text[0].upper() + text[1:]


def join_values(words: Sequence[str], most: int = 12) -> str:
    """Join words into a list of readable length."""
    return join_names(words, most, format_value)


def suggestion(word: str, known: Sequence[str]) -> str:
    """Return the end of a message about an unknown name: the closest known one, or all of them."""
    return suggest_closest(closest_name(word, known), known)


def suggest_closest(close: str | None, known: Sequence[str]) -> str:
    """Return the end of a message about an unknown name, given its closest known one, if any."""
    return format_suggestion(close, f"known names: {join_values(known) or 'none'}.")


def format_value(value: object, most: int = 60) -> str:
    """Return a value as JSON in one short line, whatever its size or type."""
    if isinstance(value, str):
        value = value[: most + 1]
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        text = _represent(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _represent(value: object) -> str:
    """Return a value that JSON cannot write: lone surrogates, large integers, too many levels."""
    try:
        return repr(value)
    except RecursionError:
        return "a deeply nested value"


def format_number(value: float | np.floating) -> str:
    """Return a number in as few digits as identify it among those of its type."""
    return str(value).removesuffix(".0")
