"""Many rows of numbers from the text of a request, without a list for each of them.

What JSON's reader makes of nested arrays is a list a row, each taken apart again at once. Here the
text's shape is compared with that of so many rows, and then its numbers are read as one flat list.
"""

import re
from functools import lru_cache

import orjson

# A body that has nothing but rows under this key.
_SPACE = b" \t\r\n"
_INSTANCES = re.compile(rb'[%b]*\{[%b]*"instances"[%b]*:(.*)\}[%b]*' % ((_SPACE,) * 4), re.DOTALL)
# What numbers are made of, and white space; what is left is the shape.
_IN_NUMBERS = b"0123456789+-.eE" + _SPACE
# What writers of JSON have between two rows.
_BETWEEN = (b"],[", b"], [")
# With fewer rows, nothing is gained.
_FEWEST_ROWS = 8


def flat_instances(body: bytes, width: int) -> tuple[list[float], int] | None:
    """The numbers of all rows one after the other, and how many rows there are.

    Args:
        body: that may have, under ``instances``, an array of arrays of ``width`` numbers each.
        width: of a row, at least 1.

    Returns:
        None where it is or has anything else, or too little to be worth it.
    """
    found = _INSTANCES.fullmatch(body)
    if found is None:
        return None
    text = found[1].strip(_SPACE)
    end = text.find(b"]")
    if not text.startswith(b"[[") or not text.endswith(b"]]") or end > len(text) // _FEWEST_ROWS:
        return None  # no rows, or the first is too long for many
    # Where every two rows have the same between them, no number stands outside its brackets.
    between = text[end : text.find(b"[", end) + 1]
    if between not in _BETWEEN:
        return None
    flat = text[1:-1].replace(between, b",")[1:-1]
    rows = 1 + (len(text) - 4 - len(flat)) // (len(between) - 1)
    if b"[" in flat or b"]" in flat or text.translate(None, _IN_NUMBERS) != _shape(rows, width):
        return None
    # That there is one number between two commas is seen by the reader of the flat array.
    try:
        return orjson.loads(b"[%b]" % flat), rows
    except orjson.JSONDecodeError:
        return None


@lru_cache(maxsize=64)
def _shape(rows: int, width: int) -> bytes:
    row = b"[" + b"," * (width - 1) + b"]"
    return b"[" + b",".join([row] * rows) + b"]"
