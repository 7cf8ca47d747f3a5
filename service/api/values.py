"""Single values as people send them: what is a number, and how a sentence shows one."""

import re
from collections.abc import Sequence

import orjson

from service.errors import nearest

_FLOAT32_MAX = 3.4028235e38
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


class Misfit(Exception):
    """A value that is not of its feature's kind; ``hint`` says what to do."""

    def __init__(self, hint: str | None) -> None:
        super().__init__(hint)
        self.hint = hint


def number_of(value: object) -> float:
    """A JSON number as a float that fits 32 bits.

    Raises:
        Misfit: it is something else, or too large.
    """
    if isinstance(value, bool):
        raise Misfit("Send a number, not true or false.")
    if isinstance(value, int | float):
        if abs(value) > _FLOAT32_MAX:
            raise Misfit("It does not fit a 32-bit number.")
        return float(value)
    if isinstance(value, str):
        raise Misfit(_hint_for_text(value.strip()))
    raise Misfit(None)


def _hint_for_text(text: str) -> str:
    if _NUMBER.fullmatch(text):
        return f"Send {text} without the quotes."
    if _DECIMAL_COMMA.fullmatch(text):
        return f"Send {text.replace(',', '.')}: a point marks the decimals, and no quotes."
    if text.endswith("%") and _NUMBER.fullmatch(text[:-1].strip()):
        return f"Send {text[:-1].strip()} without the percent sign and the quotes."
    if text.casefold() in {"nan", "inf", "-inf", "infinity", "-infinity"}:
        return "NaN and infinity are not numbers here; send null where a value may be missing."
    return "Send a JSON number, without quotes or unit."


def at(row: int | None, sentence: str) -> str:
    """The sentence, capitalised, with the row it is about where there are several."""
    placed = sentence if row is None else f"row {row}: {sentence}"
    return placed[0].upper() + placed[1:]


def listed(words: Sequence[str], most: int = 12) -> str:
    """Words as a list that stays readable however many there are."""
    text = ", ".join(shown(word) for word in words[:most])
    return text if len(words) <= most else f"{text} and {len(words) - most} more"


def nearest_of(word: str, known: Sequence[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them."""
    close = nearest(word, known)
    return f"did you mean {close!r}?" if close else f"it takes {listed(known) or 'none'}."


def shown(value: object, most: int = 60) -> str:
    """A value as JSON, shortened; a surprise of any size or kind stays one line."""
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
