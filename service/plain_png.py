"""Small grey PNG files by the shortest way: their chunks read here, their rows by Pillow's decoder.

Opening a file takes Pillow longer than decoding a digit. What is not entirely plain, or not
entirely well, is left to it.
"""

import struct
from zlib import crc32

import numpy as np
import numpy.typing as npt

# Pillow does not document it; its version is pinned, and tests compare with its own pixels.
from PIL import _imaging

_START = b"\x89PNG\r\n\x1a\n"
# Eight bits of grey, deflated, filtered by row, not interlaced.
_PLAIN = struct.pack(">5B", 8, 0, 0, 0, 0)
# Of the others, these change no pixel, where they are as long as they are to be.
_HARMLESS = {(b"sRGB", 1), (b"gAMA", 4), (b"cHRM", 32), (b"pHYs", 9)}
_LENGTH_AND_KIND = struct.Struct(">I4s")
_CHECK = struct.Struct(">I")
_OVERHEAD = 12
# The signature, and the header with its length, kind and checksum.
_HEAD_BYTES = 8 + 25
_END = _CHECK.pack(0) + b"IEND" + _CHECK.pack(crc32(b"IEND"))


PlainPicture = tuple[npt.NDArray[np.uint8], tuple[int, int]]
"""Pixels ``[height, width]``, and the height and width of all in them that is not nought."""


class PlainPng:
    """Reads plain files of one size."""

    def __init__(self, height: int, width: int) -> None:
        self._shape = height, width
        self._size = width, height
        self._box = 0, 0, width, height
        self._head = _head(height, width)

    def read(self, content: bytes) -> PlainPicture | None:
        """The pixels as Pillow decodes them.

        Args:
            content: the whole file.

        Returns:
            None where the file is of another size or kind, has a chunk that may matter, or is
            damaged.
        """
        if not content.startswith(self._head):
            return None
        rows = _only_rows(content) or _rows(content)
        return None if rows is None else self._decoded(rows)

    def _decoded(self, rows: bytes) -> PlainPicture | None:
        """As `Image.frombytes` and `tobytes` do, which look up and check most of the time."""
        image = _imaging.new("L", self._size)
        decoder = _imaging.zip_decoder("L", "L", 0)
        decoder.setimage(image, self._box)
        left, error = decoder.decode(rows)
        if left >= 0 or error:
            return None
        height, width = self._shape
        encoder = _imaging.raw_encoder("L", "L", 0, 1)
        encoder.setimage(image, self._box)
        pixels = encoder.encode(height * width)[2]
        if len(pixels) != height * width:
            return None
        left, top, right, bottom = image.getbbox() or (0, 0, 0, 0)
        # Quicker than frombuffer and reshape.
        return np.ndarray(self._shape, np.uint8, pixels), (bottom - top, right - left)


def _head(height: int, width: int) -> bytes:
    """All that comes before the first chunk that may differ."""
    header = b"IHDR" + struct.pack(">2I", width, height) + _PLAIN
    return _START + _CHECK.pack(len(header) - 4) + header + _CHECK.pack(crc32(header))


def _only_rows(content: bytes) -> bytes | None:
    """What the one data chunk holds, where nothing else is between the header and the end."""
    start = _HEAD_BYTES + 8
    if len(content) < start:
        return None
    length, kind = _LENGTH_AND_KIND.unpack_from(content, _HEAD_BYTES)
    end = start + length
    if kind != b"IDAT" or content[end + 4 :] != _END:
        return None
    good = content[end : end + 4] == _CHECK.pack(crc32(content[start - 4 : end]))
    return content[start:end] if good else None


def _rows(content: bytes) -> bytes | None:
    """What the data chunks hold, where nothing else matters."""
    *chunks, last = _chunks(content) or [(b"", b"")]
    if last != (b"IEND", b""):
        return None
    if any(kind != b"IDAT" and (kind, len(data)) not in _HARMLESS for kind, data in chunks):
        return None
    return b"".join([data for kind, data in chunks if kind == b"IDAT"])


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Every chunk after the header by its kind, up to the first that is cut short or damaged."""
    found: list[tuple[bytes, bytes]] = []
    place = _HEAD_BYTES
    while place + _OVERHEAD <= len(content):
        length, kind = _LENGTH_AND_KIND.unpack_from(content, place)
        place += _OVERHEAD + length
        covered = content[place - length - 8 : place - 4]
        if place > len(content) or content[place - 4 : place] != _CHECK.pack(crc32(covered)):
            break
        found.append((kind, covered[4:]))
    return found
