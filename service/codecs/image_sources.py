"""A picture in any form that people send one: a file's bytes, text in base64, or pixels."""

import base64
import re
from binascii import a2b_base64
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_to_bytes

from service.codecs.pixels import Pixels, read_pixels
from service.imaging.preprocess import PictureRefused
from service.values import listed, shown

KEY = "image"
_BASE64 = "b64"
# {"image": {"b64": "..."}} is what clients of several protocols make of one picture.
_MOST_WRAPPERS = 2
_DATA_URL = re.compile(r"data:[^,]{0,200}?(;base64)?,", re.IGNORECASE)
_WEB = re.compile(r"(?:https?|ftp|file|blob):", re.IGNORECASE)
# White space between the lines of an e-mail, and the alphabet for addresses (RFC 4648).
_PLAIN = str.maketrans("-_", "+/", " \t\r\n")


def read_source(given: Any) -> bytes | Pixels:  # noqa: ANN401 - JSON is any of its types
    """The bytes of a picture's file, or its pixels.

    Raises:
        PictureRefused: it is neither, or its text cannot be read.
    """
    given = _unwrapped(given)
    if isinstance(given, bytes):
        return given
    if isinstance(given, str):
        return _file(given)
    if isinstance(given, list):
        return read_pixels(given)
    if isinstance(given, dict):
        got = f"an object of {listed(list(given)) or 'nothing'}"
    else:
        got = shown(given)
    raise PictureRefused(f'Send {{"{KEY}": "the file in base64"}}, or its pixels; got {got}.')


def bare(given: Any) -> Any:  # noqa: ANN401 - as above
    """A file's bytes or a list, taken out of what may be around it; anything else as it is."""
    given = _unwrapped(given)
    if not isinstance(given, str):
        return given
    try:
        return _file(given)
    except PictureRefused:
        return given


def weight(given: Any) -> int:  # noqa: ANN401 - as above
    """About how many bytes of files there are to decode."""
    given = _unwrapped(given)
    return len(given) if isinstance(given, bytes | str) else 0


def _unwrapped(given: Any) -> Any:  # noqa: ANN401 - as above
    """The picture in objects of one key; anything else as it is."""
    for _ in range(_MOST_WRAPPERS):
        if not (isinstance(given, dict) and len(given) == 1):
            break
        ((key, value),) = given.items()
        if key not in (KEY, _BASE64):
            break
        given = value
    return given


def _file(text: str) -> bytes:
    if url := _DATA_URL.match(text):
        text = text[url.end() :]
        if not url[1]:
            return unquote_to_bytes(text)
    elif _WEB.match(text):
        raise PictureRefused(
            f"Addresses are not fetched, got {shown(text)}; send the picture's file in base64."
        )
    with suppress(ValueError):
        return a2b_base64(text, strict_mode=True)  # as most clients write it, without a copy
    text = text.translate(_PLAIN).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise PictureRefused(
            f"Its text is not base64, got {shown(text)}; send the picture's file in base64."
        ) from None
