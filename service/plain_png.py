"""Small grey PNG files by the shortest way: their chunks read here, their rows by Pillow's decoder.

Opening a file takes Pillow longer than decoding a digit. What is not entirely plain, or not
entirely well, is left to it.
"""

import struct
from zlib import crc32

import numpy as np
import numpy.typing as npt
from PIL import Image

_START = b"\x89PNG\r\n\x1a\n"
# Eight bits of grey, deflated, filtered by row, not interlaced.
_PLAIN = struct.pack(">5B", 8, 0, 0, 0, 0)
# Of the others, these change no pixel, where they are as long as they are to be.
_HARMLESS = {(b"sRGB", 1), (b"gAMA", 4), (b"cHRM", 32), (b"pHYs", 9)}
_LENGTH_AND_KIND = struct.Struct(">I4s")
_CHECK = struct.Struct(">I")
_OVERHEAD = 12
_FEWEST = 3


def plain_png(content: bytes, height: int, width: int) -> npt.NDArray[np.uint8] | None:
    """The pixels ``[height, width]`` as Pillow decodes them.

    Args:
        content: the whole file.
        height: of the picture that is looked for.
        width: of it.

    Returns:
        None where the file is of another size or kind, has a chunk that may matter, or is damaged.
    """
    if not content.startswith(_START):
        return None
    rows = _rows(content, struct.pack(">2I", width, height) + _PLAIN)
    if rows is None:
        return None
    try:
        image = Image.frombytes("L", (width, height), rows, "zip", "L", 0)
    except (ValueError, OSError):
        return None
    return np.frombuffer(image.tobytes(), np.uint8).reshape(height, width)


def _rows(content: bytes, header: bytes) -> bytes | None:
    """What the data chunks hold, where the header is this one and nothing else matters."""
    chunks = _chunks(content)
    if len(chunks) < _FEWEST or chunks[0] != (b"IHDR", header) or chunks[-1] != (b"IEND", b""):
        return None
    between = chunks[1:-1]
    if any(kind != b"IDAT" and (kind, len(data)) not in _HARMLESS for kind, data in between):
        return None
    return b"".join([data for kind, data in between if kind == b"IDAT"])


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Every chunk by its kind, up to the first that is cut short or damaged."""
    found: list[tuple[bytes, bytes]] = []
    place = len(_START)
    while place + _OVERHEAD <= len(content):
        length, kind = _LENGTH_AND_KIND.unpack_from(content, place)
        place += _OVERHEAD + length
        covered = content[place - length - 8 : place - 4]
        if place > len(content) or content[place - 4 : place] != _CHECK.pack(crc32(covered)):
            break
        found.append((kind, covered[4:]))
    return found
