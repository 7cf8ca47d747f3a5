"""Read the sizes of the AV1 frames in an AVIF file from the frames themselves.

Pillow reports the size in the container, and libavif decodes whatever size a frame has: a file of
three kilobytes that declares 64 x 64 pixels may hold a frame of 16,000 x 16,000. Only the fields
that lead to a frame's size are read (ISO 14496-12, 8.11.3; AV1 specification, 5.3 and 5.5).
"""

from collections.abc import Iterator

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


class _BitReader:
    """Reads consecutive unsigned integers of given lengths in bits."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._position = 0
        self._reads = 0

    def read(self, bits: int) -> int:
        """Return the next number; raise `ValueError` at the end."""
        self._reads += 1
        if self._reads > _MAX_TABLE_BYTES:  # a number may also have no bits
            raise ValueError("a table has too many entries")
        start = self._position // 8
        self._position += bits
        end = -(-self._position // 8)
        if end > len(self._content):
            raise ValueError("a table is cut short")
        number = int.from_bytes(self._content[start:end], "big")
        return number >> 8 * end - self._position & (1 << bits) - 1


def select_main_image(content: bytes) -> bytes:
    """Return the file with only its main image marked for decoding, if it has an animation too."""
    return content[:8] + b"avif" + content[12:] if content[8:12] == b"avis" else content


def read_frame_sizes(content: bytes) -> list[tuple[int, int]]:
    """Return width and height of each frame of each item; transparency is a separate item.

    Raise `ValueError` if the file is damaged, or a video.
    """
    return [
        _read_frame_size(_BitReader(unit[:_HEADER_BYTES]))
        for item in _find_items(content)
        for unit in _find_sequence_headers(item)
    ]


def _read_boxes(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the type and the content of each box."""
    offset = 0
    while offset + 8 <= len(content):
        size = int.from_bytes(content[offset : offset + 4], "big")
        kind = bytes(content[offset + 4 : offset + 8])
        start = offset + 8
        if size == 1:
            size, start = int.from_bytes(content[start : start + 8], "big"), start + 8
        end = offset + size if size else len(content)
        if end < start:
            raise ValueError("a box is too short")
        yield kind, content[start:end]
        offset = end


def _find_items(file: bytes) -> Iterator[memoryview]:
    """Yield the data of each item that the metadata locates."""
    view = memoryview(file)
    for meta in (content[4:] for kind, content in _read_boxes(view) if kind == b"meta"):
        boxes = list(_read_boxes(meta))
        properties = [
            box for kind, content in boxes if kind == b"iprp" for box in _read_boxes(content)
        ]
        tables = [content for kind, content in (*boxes, *properties) if kind not in _NO_TABLES]
        if sum(map(len, tables)) > _MAX_TABLE_BYTES:
            raise ValueError("its tables are too long")
        data = next((content for kind, content in boxes if kind == b"idat"), view[:0])
        for locations in (content for kind, content in boxes if kind == b"iloc"):
            yield from _read_items(locations, view, data)


def _read_items(table: memoryview, file: memoryview, data: memoryview) -> Iterator[memoryview]:
    """Yield the data of each item of an ``iloc`` box, its extents joined."""
    bits = _BitReader(table)
    version = bits.read(8)
    bits.read(24)
    offset_bits, length_bits, base_bits, index_bits = (8 * bits.read(4) for _ in range(4))
    if not version:
        index_bits = 0
    wide = 32 if version > 1 else 16
    for _ in range(bits.read(wide)):
        bits.read(wide)
        source = data if version and bits.read(16) & 15 else file
        bits.read(16)
        base = bits.read(base_bits)
        extents: list[memoryview] = []
        for _ in range(bits.read(16)):
            bits.read(index_bits)
            start = base + bits.read(offset_bits)
            length = bits.read(length_bits)
            extents.append(source[start : start + length] if length else source[start:])
        if sum(map(len, extents)) > len(file):
            raise ValueError("an item is larger than the file")
        yield extents[0] if len(extents) == 1 else memoryview(b"".join(extents))


def _find_sequence_headers(item: memoryview) -> Iterator[memoryview]:
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
            size, offset = _read_leb128(item, offset)
        if kind == _SEQUENCE_HEADER:
            yield item[offset : offset + size]
        offset += size
    raise ValueError("an image has too many parts")


def _read_leb128(item: memoryview, offset: int) -> tuple[int, int]:
    """Decode a number with seven bits per byte; return it and the offset of its end."""
    value = 0
    for shift, byte in enumerate(item[offset : offset + 8]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:  # noqa: PLR2004 - the last
            return value, offset + shift + 1
    return len(item), offset


def _read_frame_size(bits: _BitReader) -> tuple[int, int]:
    """Return the maximum width and height of a frame from its sequence header."""
    bits.read(4)
    if bits.read(1):  # the short header of a still image
        bits.read(5)
    else:
        if bits.read(1):
            raise ValueError("it is a video; save one frame of it")
        delayed = bits.read(1)
        for _ in range(bits.read(5) + 1):
            bits.read(12)
            if bits.read(5) >= _TIERED_LEVEL:
                bits.read(1)
            if delayed and bits.read(1):
                bits.read(4)
    wide, high = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(wide) + 1, bits.read(high) + 1
