"""Images as instances or as a column: ``{"b64": "…"}``, bare base64, or pixels."""

from collections.abc import Sequence
from typing import Any

from service.codecs.images import KEY
from service.errors import InvalidRequest
from service.values import shown


def instance(number: int) -> str:
    """How a sentence about an instance begins."""
    return f"Instance {number}: "


def picture_column(given: Any) -> Sequence[Any]:  # noqa: ANN401 - JSON is any of its types
    """The images of ``inputs``, bare or under the name of the graph's input.

    Raises:
        InvalidRequest: they are no list, or there are none.
    """
    if isinstance(given, dict) and set(given) == {KEY}:
        given = given[KEY]
    if not isinstance(given, list) or not given:
        raise InvalidRequest(
            f"'inputs' must be a list of images, bare or under {KEY!r}, got {shown(given)}."
        )
    return given
