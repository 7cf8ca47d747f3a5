"""What the query string of an explanation may ask for, beside what a prediction's may."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from service.errors import InvalidRequest
from service.spelling import nearest
from service.values import shown

_KNOWN = ("label", "resolution")
LEAST_CELLS = 2
MOST_CELLS = 32
USUAL_CELLS = 10


@dataclass(frozen=True)
class ExplanationOptions:
    """``label`` is the class to explain, by default the predicted one; ``resolution`` the cells."""

    label: str | None = None
    resolution: int | None = None


def read_explanation_options(query: bytes) -> ExplanationOptions:
    """Read the query string of an explanation.

    Raises:
        InvalidRequest: a parameter is misspelt, or its value is not one that it takes.
    """
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="utf-8"))
    for name in given:
        close = None if name in _KNOWN else nearest(name, _KNOWN)
        if close is not None:
            raise InvalidRequest(f"Unknown parameter {shown(name)}; did you mean {close!r}?")
    return ExplanationOptions(given.get("label"), _resolution(given))


def _resolution(given: Mapping[str, str]) -> int | None:
    text = given.get("resolution")
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and LEAST_CELLS <= int(text[:3]) <= MOST_CELLS:
        return int(text)
    raise InvalidRequest(
        f"Parameter 'resolution' must be a whole number from {LEAST_CELLS} to {MOST_CELLS}, "
        f"got {shown(text)}."
    )
