"""Hundreds of unusual image files with four quarters of known colors, and invalid files."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from tests.images import Pixels, encoded, png_chunk, png_of_size, turned

QUARTERS = np.array(
    [[[220, 30, 30], [30, 200, 40]], [[40, 40, 220], [240, 240, 240]]], dtype=np.uint8
)
_SIZES = [(16, 16), (37, 21), (64, 200), (480, 640)]
_LOSSY = 40
_EXACT = 3


@dataclass(frozen=True)
class OddImage:
    """A file, the colors of its quarters as ``[2, 2, 3]``, and their tolerance."""

    name: str
    content: bytes
    quarters: Pixels = field(default_factory=lambda: QUARTERS)
    tolerance: int = _EXACT


@cache
def odd_images() -> tuple[OddImage, ...]:
    """Valid files of every supported format, mode, size and orientation."""
    images = [*_turned(), *_modes(), *_compressions(), *_frames(), *_oddities()]
    return tuple({image.content: image for image in images}.values())


def broken_images() -> Iterator[tuple[str, bytes]]:
    """Files that are not a complete image, each with its name."""
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000"):
        rng = np.random.default_rng(3)
        content = encoded(rng.integers(0, 256, (60, 80, 3), np.uint8), kind)
        for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9):
            yield f"{kind} cut at {share:.0%}", content[: int(len(content) * share)]
        yield f"{kind} of its first bytes and zeros", content[:16] + bytes(500)
    yield from _bombs()
    yield "nothing", b""
    yield "zeros", bytes(1000)
    yield "noise", np.random.default_rng(1).bytes(1000)
    yield from (
        ("pdf", b"%PDF-1.7\n%"),
        ("html", b"<!doctype html><html></html>"),
        ("svg", b'<svg xmlns="http://www.w3.org/2000/svg"></svg>'),
        ("zip", b"PK\x03\x04" + bytes(40)),
        ("xlsx", b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml"),
        ("xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)),
        ("heic", b"\0\0\0\x18ftypheic" + bytes(100)),
        ("mp4", b"\0\0\0\x18ftypisom" + bytes(100)),
        ("csv", b"a,b\n1,2\n"),
        ("json", b'{"image": 1}'),
        ("psd", b"8BPS" + bytes(100)),
        ("eps", b"%!PS-Adobe-3.0 EPSF-3.0"),
        ("tar.gz", b"\x1f\x8b\x08" + bytes(50)),
        ("elf", b"\x7fELF" + bytes(100)),
    )


def corrupted_images() -> Iterator[bytes]:
    """Valid files with some bytes changed, which may be rejected or decoded."""
    rng = np.random.default_rng(7)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000", "ICO"):
        content = encoded(Image.fromarray(quarters(40, 30)), kind)
        for _ in range(6):
            corrupted = bytearray(content)
            for offset in rng.integers(4, len(content), 5):
                corrupted[offset] = rng.integers(0, 256)
            yield bytes(corrupted)


def quarters(height: int, width: int, orientation: int = 1) -> Pixels:
    """The four colors, stored so that the image is upright after applying this orientation."""
    if orientation >= 5:  # rotated by 90 degrees
        height, width = width, height
    upright = np.empty((height, width, 3), np.uint8)
    for row, part in enumerate((slice(None, height // 2), slice(height // 2, None))):
        upright[part, : width // 2] = QUARTERS[row, 0]
        upright[part, width // 2 :] = QUARTERS[row, 1]
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    return np.ascontiguousarray(stored)


def _gray() -> Pixels:
    luma = np.rint(QUARTERS @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return np.repeat(luma[:, :, None], 3, axis=2)


def _turned() -> Iterator[OddImage]:
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        for orientation in range(1, 9):
            for height, width in ((40, 24), (300, 700)):
                content = encoded(
                    quarters(height, width, orientation), kind, exif=turned(orientation)
                )
                yield OddImage(
                    f"{kind} turned {orientation} {width}x{height}", content, tolerance=_LOSSY
                )


def _modes() -> Iterator[OddImage]:
    stored = {
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"),
        "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
        "WEBP": ("RGB", "RGBA"),
        "GIF": ("1", "L", "P", "RGB"),
        "BMP": ("1", "L", "P", "RGB", "RGBA"),
        "PPM": ("1", "L", "RGB", "I;16"),
        "JPEG2000": ("L", "LA", "RGB", "RGBA"),
        "AVIF": ("RGB", "RGBA"),
    }
    for kind, modes in stored.items():
        for mode in modes:
            for height, width in _SIZES:
                image = Image.fromarray(quarters(height, width))
                is_gray = mode in {"1", "L", "LA", "I;16", "I", "F"}
                if mode in {"I;16", "I", "F"}:
                    levels = np.asarray(image.convert("L")).astype(np.float64)
                    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
                    image = Image.fromarray((levels * (257 if mode == "I;16" else 1)).astype(dtype))
                else:
                    image = image.convert(mode)
                tolerance = 130 if mode == "1" else _LOSSY
                expected = _gray() if is_gray else QUARTERS
                name = f"{kind} of mode {mode} {width}x{height}"
                yield OddImage(name, encoded(image, kind), expected, tolerance)


def _compressions() -> Iterator[OddImage]:
    image = Image.fromarray(quarters(48, 80))
    for compression in (
        "raw",
        "tiff_lzw",
        "tiff_deflate",
        "tiff_adobe_deflate",
        "packbits",
        "jpeg",
    ):
        content = encoded(image, "TIFF", compression=compression)
        yield OddImage(f"TIFF packed by {compression}", content, tolerance=_LOSSY)
    fax = encoded(image.convert("1", dither=Image.Dither.NONE), "TIFF", compression="group4")
    yield OddImage("TIFF of a fax", fax, np.where(_gray() > 127, 255, 0).astype(np.uint8))
    yield OddImage("TIFF of 64 bits", encoded(image, "TIFF", big_tiff=True))
    for quality in (1, 30, 75, 100):
        for options in ({}, {"progressive": True}, {"optimize": True, "subsampling": 0}):
            content = encoded(image, "JPEG", quality=quality, **options)
            yield OddImage(
                f"JPEG {quality} {options}", content, tolerance=90 if quality == 1 else _LOSSY
            )
    for level in (0, 9):
        yield OddImage(f"PNG packed {level}", encoded(image, "PNG", compress_level=level))
    yield OddImage("PNG interlaced", _interlaced())
    for bits in (1, 2, 4):
        few = image.quantize(1 << bits, dither=Image.Dither.NONE)
        if bits > 1:
            yield OddImage(f"PNG of {bits} bits", encoded(few, "PNG", bits=bits), tolerance=_LOSSY)
            yield OddImage(f"GIF of {bits} bits", encoded(few, "GIF"), tolerance=_LOSSY)
    yield OddImage("WebP without loss", encoded(image, "WEBP", lossless=True))
    yield OddImage(
        "ICO of PNG", encoded(image, "ICO", sizes=[(48, 80), (80, 48)]), tolerance=_LOSSY
    )
    small = Image.fromarray(quarters(32, 32))
    yield OddImage("ICO of bitmaps", encoded(small, "ICO", sizes=[(32, 32)], bitmap_format="bmp"))
    yield OddImage("JPEG 2000 codestream", encoded(image, "JPEG2000", no_jp2=True))


def _frames() -> Iterator[OddImage]:
    first = Image.fromarray(quarters(50, 40))
    others = [Image.new("RGB", (40, 50), (k * 60, 0, 0)) for k in range(3)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF", "MPO"):
        content = encoded(first, kind, save_all=True, append_images=others)
        yield OddImage(f"{kind} of four frames", content, tolerance=_LOSSY)


def _oddities() -> Iterator[OddImage]:
    image = Image.fromarray(quarters(60, 40))
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP"):
        content = encoded(image, kind)
        yield OddImage(
            f"{kind} followed by other bytes", content + b"other bytes" * 50, tolerance=_LOSSY
        )
    for value in (0, 9, 255):
        for kind in ("JPEG", "PNG"):
            content = encoded(image, kind, exif=turned(value))
            yield OddImage(f"{kind} of orientation {value}", content, tolerance=_LOSSY)
    for kind in ("JPEG", "PNG", "WEBP"):
        content = encoded(image, kind, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 30)
        yield OddImage(f"{kind} of broken EXIF", content, tolerance=_LOSSY)
        content = encoded(image, kind, icc_profile=b"not a profile")
        yield OddImage(f"{kind} of a broken profile", content, tolerance=_LOSSY)
    for height, width in ((2000, 16), (16, 2000), (1200, 1600), (2500, 3000)):
        large = quarters(height, width)
        for kind in ("JPEG", "PNG"):
            yield OddImage(f"{kind} {width}x{height}", encoded(large, kind), tolerance=_LOSSY)
    clear = np.dstack([quarters(24, 24), np.zeros((24, 24), np.uint8)])
    for kind in ("PNG", "WEBP", "TIFF"):
        content = encoded(clear, kind)
        yield OddImage(f"{kind} that is fully transparent", content, np.full_like(QUARTERS, 255))


def _interlaced() -> bytes:
    """A PNG with the seven passes of Adam7, which Pillow cannot write."""
    pixels = quarters(40, 56)
    passes = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    rows = b"".join(
        b"\0" + row.tobytes()
        for top, left, down, across in passes
        for row in pixels[top::down, left::across]
    )
    header = struct.pack(">IIBBBBB", 56, 40, 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def _bombs() -> Iterator[tuple[str, bytes]]:
    """Small files whose headers contain sizes of billions of pixels."""
    huge = 60_000
    small: Any = Image.fromarray(quarters(12, 16))
    yield "PNG bomb", png_of_size(huge, huge, bytes(10_000_000))
    frame = b"," + struct.pack("<HHHHB", 0, 0, huge, huge, 0) + b"\x02\x02\x4c\x01\x00;"
    yield "GIF bomb", b"GIF89a" + struct.pack("<HHBBB", huge, huge, 0x80, 0, 0) + bytes(6) + frame
    jpeg = bytearray(encoded(small, "JPEG"))
    offset = jpeg.index(b"\xff\xc0") + 5
    jpeg[offset : offset + 4] = struct.pack(">HH", huge, huge)
    yield "JPEG bomb", bytes(jpeg)
    tiff = bytearray(encoded(small, "TIFF"))
    for tag in (256, 257):
        offset = tiff.index(struct.pack("<H", tag), 8)
        tiff[offset + 2 : offset + 12] = struct.pack("<HII", 4, 1, huge)
    yield "TIFF bomb", bytes(tiff)
    yield "WebP bomb", b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0\xff\x3f\0"
    icon = encoded(Image.new("RGBA", (16, 16)), "ICO", bitmap_format="bmp")
    yield "ICO bomb", icon[:26] + struct.pack("<ii", huge, huge) + icon[34:]
    bmp = bytearray(encoded(small, "BMP"))
    bmp[18:26] = struct.pack("<ii", huge, huge)
    yield "BMP bomb", bytes(bmp)
    yield "PNM bomb", b"P5 60000 60000 255\n"
    packed = png_of_size(huge, huge, bytes(1_000_000))
    yield (
        "ICO of a PNG bomb",
        (b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + struct.pack("<II", len(packed), 22) + packed),
    )


def bombs() -> list[bytes]:
    """The files that are rejected because of the size in their headers."""
    return [content for _, content in _bombs()]
