"""Small image files that are intended to take much memory or time, or to write many warnings."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from PIL import Image

from tests.images import Pixels, encoded, png_chunk, png_of_size

_SIDE = 8192
Tag = tuple[int, int, Sequence[int]]
"""Number, type (3: 16 bits, 4: 32 bits, 5: fractions) and values."""


@cache
def hostile_images(size: int) -> Mapping[str, bytes]:
    """One file of each kind, with parts repeated to about ``size`` bytes."""
    return {
        "PNG of tiny chunks": _png_with(png_chunk(b"abCd", b"") * (size // 12)),
        "PNG of packed profiles": _png_with(_packed(b"iCCP", b"k\0\0") * (size // 1060)),
        "PNG of nameless texts": _png_with(_packed(b"zTXt", b"\0\0") * (size // 1060)),
        "PNG of EXIF with many values": _png_with(png_chunk(b"eXIf", _exif(size // 8))),
        "JPEG of tiny EXIF segments": _jpeg_with(b"\xff\xe1\0\x09Exif\0\0x" * (size // 11)),
        "JPEG of comments": _jpeg_with(b"\xff\xfe\0\2" * (size // 4)),
        "JPEG of padding": _jpeg_with(b"\xff" * size),
        "GIF of tiny blocks": _gif_with(b"!\xfe" + b"\1x" * (size // 2) + b"\0"),
        "BMP of runs": _runs(300, b"\1\7" * (size // 2)),
        "BMP of line ends": _runs(300, b"\0\0" * (size // 2)),
        "PNM of comments": b"P2 1000 1000 255\n" + b"#\n" * (size // 2),
        "PNM of numbers": b"P2 500 500 255\n" + b"1 " * (size // 2),
        "PNM of one number": b"P2 10 10 255\n" + b"1" * size,
        "TIFF of many tag values": tiff((16, 16), [(282, 5, [1, 1] * (size // 8))]),
        "TIFF of many tiles": _tiles(size // 8),
        "AVIF of many items": _avif_with_items(size // 3),
        "JPEG 2000 of comments": _jpeg2000_with(b"\xff\x64\0\5\0\1x" * (size // 7)),
    }


@cache
def bombs() -> Mapping[str, bytes]:
    """Files of at most some hundred kilobytes that would take hundreds of megabytes or seconds."""
    small = encoded(Image.new("RGB", (64, 64)), "JPEG", subsampling=0)
    slow = encoded(Image.new("RGB", (64, 64)), "JPEG", subsampling=0, progressive=True)
    gray = encoded(Image.new("L", (2048, 2048)), "JPEG", progressive=True)
    scan = gray[gray.rindex(b"\xff\xda") : -2]
    tiny = (b"\xff\xda\0\x08\1" + bytes([part]) + b"\0\0\x3f\0" for part in (1, 2, 3))
    head = small[: small.index(b"\xff\xda")]
    return {
        "PNG": png_of_size(_SIDE, _SIDE, bytes(10_000_000)),
        "JPEG of many scans": gray[:-2] + scan * 95 + b"\xff\xd9",
        "progressive JPEG": _resized_jpeg(slow, b"\xff\xc2"),
        "progressive JPEG of arithmetic codes": _resized_jpeg(
            slow.replace(b"\xff\xc2", b"\xff\xca", 1), b"\xff\xca"
        ),
        "JPEG of a scan for each color": _resized_jpeg(
            head + b"".join(tiny) + b"\xff\xd9", b"\xff\xc0"
        ),
        "GIF frame larger than its screen": b"GIF89a"
        + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0)
        + bytes(6)
        + b"!\xf9\4\x09\0\0\0\0,"
        + struct.pack("<HHHHB", 0, 0, 13_000, 13_000, 0)
        + b"\2\2L\1\0;",
        "BMP of runs": _runs(8_000, b"\1\7\0\0" * 8_000),
        "BMP without pixels": b"BM"
        + struct.pack("<IHHI", 0, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, _SIDE, _SIDE, 1, 32, 0, 0, 0, 0, 0, 0),
        "PNM of an odd scale": b"P5 8192 8192 300\n1 2 3",
        "TIFF of one huge tile": tiff(
            (16, 16), [(322, 4, [11_584]), (323, 4, [11_584]), (324, 4, [8]), (325, 4, [9])], 8
        ),
        "TIFF of one huge strip": tiff((_SIDE, _SIDE), [], 8),
        "TIFF of sixteen bits": tiff((4096, 6000), [(258, 3, [16, 16, 16])], 8),
        "ICO of a forged size": _forged_icon(),
        "WebP canvas": b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x1f\0\xff\x1f\0",
        "AVIF with a frame larger than its header": _forged_avif(),
        "JPEG 2000 of many tiles": _retiled((2040, 2048), (8, 8)),
        "JPEG 2000 larger than its container": _forged_jpeg2000(),
    }


def tiff(size: tuple[int, int], tags: Sequence[Tag], compression: int = 1) -> bytes:
    """A TIFF of eight bits per color with a strip of a few bytes; ``tags`` replace others."""
    width, height = size
    default: list[Tag] = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [8, 8, 8]),
        (259, 3, [compression]),
        (262, 3, [2]),
        (277, 3, [3]),
    ]
    if 322 not in {tag for tag, _, _ in tags}:
        default += [(273, 4, [8]), (278, 4, [height]), (279, 4, [9])]
    every = sorted({tag: (tag, kind, values) for tag, kind, values in (*default, *tags)}.values())
    data = b""
    entries = b""
    start = 8 + 2 + 12 * len(every) + 4
    for tag, kind, values in every:
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        count = len(values) // (2 if kind == 5 else 1)
        offset = (
            packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", start + len(data))
        )
        entries += struct.pack("<HHI", tag, kind, count) + offset
        data += packed if len(packed) > 4 else b""
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(every)) + entries + bytes(4) + data


def sparse_image(height: int, width: int, seed: int, share: float) -> Pixels:
    """A white image with some black pixels."""
    image: Pixels = np.full((height, width), 255, np.uint8)
    image[np.random.default_rng(seed).random((height, width)) < share] = 0
    return image


def _png_with(chunks: bytes) -> bytes:
    content = png_of_size(2, 2, bytes(6))
    return content[:33] + chunks + content[33:]


def _packed(kind: bytes, head: bytes) -> bytes:
    return png_chunk(kind, head + zlib.compress(bytes(1_000_000), 9))


def _exif(values: int) -> bytes:
    """EXIF with an orientation of ``values`` fractions."""
    entry = struct.pack("<HHII", 0x0112, 5, values, 26)
    return b"II*\0\x08\0\0\0\1\0" + entry + bytes(4) + b"\1\0\0\0\1\0\0\0" * values


def _jpeg_with(segments: bytes) -> bytes:
    content = encoded(Image.new("L", (8, 8)), "JPEG")
    return content[:2] + segments + content[2:]


def _resized_jpeg(content: bytes, frame: bytes) -> bytes:
    offset = content.index(frame) + 5
    return content[:offset] + struct.pack(">HH", _SIDE, _SIDE) + content[offset + 4 :]


def _gif_with(blocks: bytes) -> bytes:
    content = encoded(Image.new("P", (8, 8)), "GIF")
    offset = content.index(b",", 13)
    return content[:offset] + blocks + content[offset:]


def _runs(side: int, runs: bytes) -> bytes:
    """A BMP with run-length encoding."""
    head = struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024)
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + head + info + bytes(range(256)) * 4 + runs


def _tiles(count: int) -> bytes:
    tiles: list[Tag] = [(322, 4, [1]), (323, 4, [1]), (324, 4, [8] * count), (325, 4, [3] * count)]
    return tiff((count, 1), tiles)


def _forged_icon() -> bytes:
    icon = encoded(Image.new("RGBA", (16, 16)), "ICO", bitmap_format="bmp")
    return icon[:26] + struct.pack("<ii", 4000, 8000) + icon[34:]


def _avif_with_items(count: int) -> bytes:
    """An AVIF whose table of properties contains ``count`` items."""
    content = bytearray(encoded(Image.new("RGB", (16, 16)), "AVIF", speed=10))
    start = content.index(b"ipma") - 4
    (length,) = struct.unpack_from(">I", content, start)
    entries = b"".join(struct.pack(">HB", 1 + number % 65_535, 0) for number in range(count))
    table = struct.pack(">I4sII", 16 + len(entries), b"ipma", 0, count) + entries
    content[start : start + length] = table
    for outer in (b"meta", b"iprp"):
        offset = content.index(outer) - 4
        (size,) = struct.unpack_from(">I", content, offset)
        struct.pack_into(">I", content, offset, size + len(table) - length)
    return bytes(content)


def _forged_avif() -> bytes:
    """The frame of a large image in the container of a small one."""
    small, large = (
        encoded(Image.new("RGB", (side, side)), "AVIF", speed=10) for side in (64, _SIDE // 2)
    )
    frame = large[large.index(b"mdat") + 4 :]
    forged = bytearray(small[: small.index(b"mdat") + 4] + frame)
    length = struct.pack(">I", len(small) - small.index(b"mdat") - 4)
    offset = forged.index(length, forged.index(b"iloc"))
    struct.pack_into(">I", forged, offset, len(frame))
    struct.pack_into(">I", forged, forged.index(b"mdat") - 4, 8 + len(frame))
    return bytes(forged)


def _retiled(size: tuple[int, int], tile: tuple[int, int]) -> bytes:
    stream = bytearray(encoded(Image.new("L", (64, 64)), "JPEG2000", no_jp2=True))
    struct.pack_into(">IIIIII", stream, 8, *size, 0, 0, *tile)
    return bytes(stream)


def _forged_jpeg2000() -> bytes:
    content = bytearray(encoded(Image.new("L", (64, 64)), "JPEG2000"))
    offset = content.index(b"\xff\x4f\xff\x51") + 8
    struct.pack_into(">IIIIII", content, offset, _SIDE, _SIDE, 0, 0, _SIDE, _SIDE)
    return bytes(content)


def _jpeg2000_with(segments: bytes) -> bytes:
    content = encoded(Image.new("L", (64, 64)), "JPEG2000", no_jp2=True)
    offset = content.index(b"\xff\x52")
    return content[:offset] + segments + content[offset:]
