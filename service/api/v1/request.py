"""What surrounds the values of a request: the document, and inputs by name."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from service.api.body import FORM, JSON, parse_json
from service.engine.session import TensorSpec
from service.errors import InvalidRequest
from service.values import nearest_of, shown

# The documented examples of TensorFlow Serving use curl, which calls every body a form.
MEDIA_TYPES = (JSON, FORM)

# Of a name that is like none of the model's.
_LONGEST_COMPARED = 100

Example = Callable[[], Mapping[str, object]]


def read_document(body: bytes, example: Example) -> Mapping[str, Any]:
    """The JSON object of a request.

    Keys that a call does not know are left alone, as both families of servers do.

    Args:
        body: what was sent.
        example: makes a request that this call takes.

    Raises:
        InvalidRequest: it is no object, or its ``signature_name`` is no string.
    """
    document = parse_json(body, lambda: orjson.dumps(example()))
    if not isinstance(document, dict):
        text = orjson.dumps(example()).decode()
        raise InvalidRequest(f"Expected an object, got {shown(document)}. Send {text}")
    signature = document.get("signature_name")
    if signature is not None and not isinstance(signature, str):
        raise InvalidRequest(f"'signature_name' must be a string, got {shown(signature)}.")
    return document


def read_list(document: Mapping[str, Any], key: str) -> Sequence[Any]:
    """The rows under a key.

    Raises:
        InvalidRequest: they are no list, or there are none.
    """
    rows = document.get(key)
    if not isinstance(rows, list):
        raise InvalidRequest(f"{key!r} must be a list with one item a row, got {shown(rows)}.")
    if not rows:
        raise InvalidRequest(f"{key!r} holds no row; send at least one.")
    return rows


def require_names(given: Iterable[str], specs: Sequence[TensorSpec], place: str) -> None:
    """Refuse inputs that the model does not have, and the lack of one that it needs.

    Raises:
        InvalidRequest: names the first; ``place`` begins the sentence.
    """
    names, known = set(given), [spec.name for spec in specs]
    if unknown := names - set(known):
        first = min(unknown)
        advice = nearest_of(first[:_LONGEST_COMPARED], known)
        raise InvalidRequest(f"{place} has an unknown input {shown(first)}; {advice}")
    if missing := [spec.name for spec in specs if spec.name not in names and not spec.optional]:
        raise InvalidRequest(f"{place} lacks the input {missing[0]!r}.")
