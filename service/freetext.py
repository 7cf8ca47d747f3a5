"""Free text in the form in which a graph reads it, in training and in serving."""

import re
import unicodedata

MAX_CHARACTERS = 10_000
"""A graph reads this many characters of a text; the others are left out."""

# Words, numbers, and each other character. Control characters and halves of surrogate pairs, which
# a string of ONNX cannot hold, are no token.
_TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s\x00-\x1f\x7f-\x9f\ud800-\udfff]|_")


def normalize_text(text: str) -> str:
    """Return the tokens of a text in lower case, with a space between two; none gives ``""``.

    ONNX's own StringNormalizer depends on the locale of the machine.
    """
    text = text[:MAX_CHARACTERS]
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(_TOKEN.findall(text.lower()))
