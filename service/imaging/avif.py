"""The sizes of the AV1 frames in an AVIF file, as the frames themselves state them.

Pillow tells the size that the container states, and libavif decodes whatever size a frame has: a
file of three kilobytes that states 64 x 64 pixels may hold a frame of 16,000 x 16,000. Only what
leads to a frame's size is read here (ISO 14496-12, 8.11.3; AV1 specification, 5.3 and 5.5).
"""

from collections.abc import Iterator
from typing import NamedTuple

_SEQUENCE_HEADER = 1
# libavif compares each item of its tables with every other; a thousand tiles take half of this.
_MAX_TABLE_BYTES = 32 * 1024
# What may be longer: properties, as colour profiles are, and data.
_NO_TABLES = {b"idat", b"iprp", b"ipco"}
# An image has about five; its header is shorter than this.
_MAX_UNITS = 1000
_HEADER_BYTES = 512
# From this level on, an operating point states its tier.
_TIERED_LEVEL = 8


class _Box(NamedTuple):
    kind: bytes
    content: memoryview


class _Fields:
    """Whole numbers that follow each other, of given lengths."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._place = 0
        self._taken = 0

    def take(self, size: int) -> int:
        """The next number, of this many bytes; raises `ValueError` at the end."""
        self._taken += 1
        if self._taken > _MAX_TABLE_BYTES:
            raise ValueError("a table has too many entries")
        taken = self._content[self._place : self._place + size]
        if len(taken) < size:
            raise ValueError("a table is cut short")
        self._place += size
        return int.from_bytes(taken, "big")


class _Bits:
    """Numbers of given lengths in bits."""

    def __init__(self, content: memoryview) -> None:
        self._value = int.from_bytes(content, "big")
        self._left = 8 * len(content)

    def take(self, bits: int) -> int:
        """The next number; raises `ValueError` at the end."""
        self._left -= bits
        return self._value >> self._left & (1 << bits) - 1


def main_image(content: bytes) -> bytes:
    """The file, of which only the main image is read, where it is an animation too."""
    return content[:8] + b"avif" + content[12:] if content[8:12] == b"avis" else content


def frame_sizes(content: bytes) -> list[tuple[int, int]]:
    """Width and height of each frame of each item in the file; transparency is one of its own.

    Raises:
        ValueError: it is damaged, or holds a film.
    """
    return [
        _frame_size(_Bits(unit[:_HEADER_BYTES]))
        for item in _items(content)
        for unit in _sequence_headers(item)
    ]


def _boxes(content: memoryview) -> Iterator[_Box]:
    place = 0
    while place + 8 <= len(content):
        size, kind = (
            int.from_bytes(content[place : place + 4], "big"),
            content[place + 4 : place + 8],
        )
        start = place + 8
        if size == 1:
            size, start = int.from_bytes(content[start : start + 8], "big"), start + 8
        end = place + size if size else len(content)
        if end < start:
            raise ValueError("a box is too short")
        yield _Box(bytes(kind), content[start:end])
        place = end


def _items(content: bytes) -> Iterator[memoryview]:
    """The data of each item that the file's metadata locates."""
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
    """The data of each item of an ``iloc`` box, its extents joined."""
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
    """The sequence headers among the units of an item; none where it holds something else."""
    place = 0
    for _ in range(_MAX_UNITS):
        if place >= len(item):
            return
        head = item[place]
        kind, extended, sized = head >> 3 & 15, head >> 2 & 1, head >> 1 & 1
        place += 1 + extended
        size = len(item) - place
        if sized:
            size, place = _variable(item, place)
        if kind == _SEQUENCE_HEADER:
            yield item[place : place + size]
        place += size
    raise ValueError("an image has too many parts")


def _variable(item: memoryview, place: int) -> tuple[int, int]:
    """A number in seven bits a byte, and where it ends."""
    value = 0
    for shift, byte in enumerate(item[place : place + 8]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:  # noqa: PLR2004 - the last
            return value, place + shift + 1
    return len(item), place


def _frame_size(bits: _Bits) -> tuple[int, int]:
    """The greatest width and height of a frame, by its sequence header."""
    bits.take(4)
    if bits.take(1):  # the short header of a still image
        bits.take(5)
    else:
        if bits.take(1):
            raise ValueError("it is a film; save one frame of it")
        delayed = bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) >= _TIERED_LEVEL:
                bits.take(1)
            if delayed and bits.take(1):
                bits.take(4)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(wide) + 1, bits.take(high) + 1
