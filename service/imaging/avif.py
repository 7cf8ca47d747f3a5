"""Read the sizes of the AV1 frames in an AVIF file from the frames themselves.

Pillow reports the size in the container, and libavif decodes whatever size a frame has: a file of
three kilobytes that declares 64 x 64 pixels may hold a frame of 16,000 x 16,000. Only the fields
that lead to a frame's size are read (ISO 14496-12, 8.11.3; AV1 specification, 5.3 and 5.5).
"""

from collections.abc import Iterator
from typing import NamedTuple

_SEQUENCE_HEADER = 1
# libavif compares each item of its tables with every other; a thousand tiles use half of this.
_MAX_TABLE_BYTES = 32 * 1024
# Boxes that may be longer: properties, such as color profiles, and data.
_NO_TABLES = {b"idat", b"iprp", b"ipco"}
# An image has about five; its header is shorter than this.
_MAX_UNITS = 1000
_HEADER_BYTES = 512
# From this level on, an operating point has a tier.
_TIERED_LEVEL = 8


class _Box(NamedTuple):
    kind: bytes
    content: memoryview


class _Fields:
    """Consecutive unsigned integers of given lengths in bytes."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._offset = 0
        self._reads = 0

    def take(self, size: int) -> int:
        """Return the next number, of this many bytes; raise `ValueError` at the end."""
        self._reads += 1
        if self._reads > _MAX_TABLE_BYTES:
            raise ValueError("a table has too many entries")
        field = self._content[self._offset : self._offset + size]
        if len(field) < size:
            raise ValueError("a table is cut short")
        self._offset += size
        return int.from_bytes(field, "big")


class _Bits:
    """Consecutive unsigned integers of given lengths in bits."""

    def __init__(self, content: memoryview) -> None:
        self._value = int.from_bytes(content, "big")
        self._left = 8 * len(content)

    def take(self, bits: int) -> int:
        """Return the next number; raise `ValueError` at the end."""
        self._left -= bits
        return self._value >> self._left & (1 << bits) - 1


def main_image(content: bytes) -> bytes:
    """Return the file with only its main image marked for decoding, if it has an animation too."""
    return content[:8] + b"avif" + content[12:] if content[8:12] == b"avis" else content


def frame_sizes(content: bytes) -> list[tuple[int, int]]:
    """Return width and height of each frame of each item; transparency is a separate item.

    Raise `ValueError` if the file is damaged, or a video.
    """
    return [
        _frame_size(_Bits(unit[:_HEADER_BYTES]))
        for item in _items(content)
        for unit in _sequence_headers(item)
    ]


def _boxes(content: memoryview) -> Iterator[_Box]:
    offset = 0
    while offset + 8 <= len(content):
        size, kind = (
            int.from_bytes(content[offset : offset + 4], "big"),
            content[offset + 4 : offset + 8],
        )
        start = offset + 8
        if size == 1:
            size, start = int.from_bytes(content[start : start + 8], "big"), start + 8
        end = offset + size if size else len(content)
        if end < start:
            raise ValueError("a box is too short")
        yield _Box(bytes(kind), content[start:end])
        offset = end


def _items(content: bytes) -> Iterator[memoryview]:
    """Yield the data of each item that the metadata locates."""
    view = memoryview(content)
    for meta in (box.content[4:] for box in _boxes(view) if box.kind == b"meta"):
        inner = list(_boxes(meta))
        properties = [
            box for outer in inner if outer.kind == b"iprp" for box in _boxes(outer.content)
        ]
        tables = [box for box in (*inner, *properties) if box.kind not in _NO_TABLES]
        if sum(len(box.content) for box in tables) > _MAX_TABLE_BYTES:
            raise ValueError("its tables are too long")
        data = next((box.content for box in inner if box.kind == b"idat"), view[:0])
        for located in (box.content for box in inner if box.kind == b"iloc"):
            yield from _located(located, view, data)


def _located(table: memoryview, file: memoryview, data: memoryview) -> Iterator[memoryview]:
    """Yield the data of each item of an ``iloc`` box, its extents joined."""
    fields = _Fields(table)
    version = fields.take(4) >> 24
    sizes = fields.take(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    wide = 4 if version > 1 else 2
    for _ in range(fields.take(wide)):
        fields.take(wide)
        source = data if version and fields.take(2) & 15 else file
        fields.take(2)
        base = fields.take(base_size)
        extents: list[memoryview] = []
        for _ in range(fields.take(2)):
            fields.take(index_size)
            start = base + fields.take(offset_size)
            length = fields.take(length_size)
            extents.append(source[start : start + length] if length else source[start:])
        if sum(map(len, extents)) > len(file):
            raise ValueError("an item is larger than the file")
        yield extents[0] if len(extents) == 1 else memoryview(b"".join(extents))


def _sequence_headers(item: memoryview) -> Iterator[memoryview]:
    """Yield the sequence headers among the units of an item."""
    offset = 0
    for _ in range(_MAX_UNITS):
        if offset >= len(item):
            return
        head = item[offset]
        kind, extended, sized = head >> 3 & 15, head >> 2 & 1, head >> 1 & 1
        offset += 1 + extended
        size = len(item) - offset
        if sized:
            size, offset = _variable(item, offset)
        if kind == _SEQUENCE_HEADER:
            yield item[offset : offset + size]
        offset += size
    raise ValueError("an image has too many parts")


def _variable(item: memoryview, offset: int) -> tuple[int, int]:
    """Decode a number with seven bits per byte; return it and the offset of its end."""
    value = 0
    for shift, byte in enumerate(item[offset : offset + 8]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:  # noqa: PLR2004 - the last
            return value, offset + shift + 1
    return len(item), offset


def _frame_size(bits: _Bits) -> tuple[int, int]:
    """Return the maximum width and height of a frame from its sequence header."""
    bits.take(4)
    if bits.take(1):  # the short header of a still image
        bits.take(5)
    else:
        if bits.take(1):
            raise ValueError("it is a video; save one frame of it")
        delayed = bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) >= _TIERED_LEVEL:
                bits.take(1)
            if delayed and bits.take(1):
                bits.take(4)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(wide) + 1, bits.take(high) + 1
