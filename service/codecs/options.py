"""What the query string of a plain prediction may ask for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import parse_qsl

from service.errors import InvalidRequest
from service.spelling import nearest
from service.tabletext.cells import Decimal
from service.values import shown

T = TypeVar("T")

_KNOWN = ("top", "probabilities", "warnings", "decimal", "interval")
_ALL_OR_NONE = {"all": True, "none": False}
_TRUE_OR_FALSE = {"true": True, "false": False}
_MARKS: Mapping[str, Decimal] = {"point": ".", "comma": ","}
_MOST_DIGITS = 9
_SHARE = re.compile(r"0?\.[0-9]{1,9}")


@dataclass(frozen=True)
class Parameters:
    """What an answer shall hold, and how a table writes its numbers.

    ``interval`` is the share of truths that an interval around a value shall hold; None is none.
    ``top`` is how many labels, the most probable first; None is all, in the manifest's order.
    ``warnings`` None leaves it to the form of the answer, ``decimal`` None to the table itself.
    """

    top: int | None = None
    probabilities: bool = True
    warnings: bool | None = None
    decimal: Decimal | None = None
    interval: float | None = None


USUAL = Parameters()


def read_parameters(query: bytes) -> Parameters:
    """Read a query string; a parameter that is nothing like ours is somebody else's.

    Raises:
        InvalidRequest: a parameter is misspelt, or its value is not one that it takes.
    """
    if not query:
        return USUAL
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    for name in given:
        close = None if name in _KNOWN else nearest(name, _KNOWN)
        if close is not None:
            raise InvalidRequest(f"Unknown parameter {shown(name)}; did you mean {close!r}?")
    top = _count(given, "top")
    probabilities = _choice(given, "probabilities", _ALL_OR_NONE)
    return Parameters(
        None if probabilities is False else top,
        probabilities is not False,
        _choice(given, "warnings", _TRUE_OR_FALSE),
        _choice(given, "decimal", _MARKS),
        _share(given, "interval"),
    )


def _count(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and text.strip("0")):
        raise InvalidRequest(
            f"Parameter {name!r} must be a whole number from 1, got {shown(text)}."
        )
    return int(text[:_MOST_DIGITS])


def _share(given: Mapping[str, str], name: str) -> float | None:
    text = given.get(name)
    if text is None:
        return None
    if not _SHARE.fullmatch(text):
        raise InvalidRequest(
            f"Parameter {name!r} must be a share between 0 and 1, such as 0.9, got {shown(text)}."
        )
    return float(text)


def _choice(given: Mapping[str, str], name: str, choices: Mapping[str, T]) -> T | None:
    """What one of several words stands for; None where the parameter is not given."""
    text = given.get(name)
    if text is None:
        return None
    if text not in choices:
        words = " or ".join(repr(word) for word in choices)
        raise InvalidRequest(f"Parameter {name!r} must be {words}, got {shown(text)}.")
    return choices[text]
