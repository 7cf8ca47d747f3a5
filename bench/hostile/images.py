"""Images that are large in memory, or that are invalid."""

import base64
import zlib
from functools import cache, partial

import numpy as np
from PIL import Image

from bench.hostile.connection import CLIENT_CLOSED, Connection, HostileClient, allowed
from bench.hostile.requests import DIGIT, PHOTOGRAPH, post
from tests.images import encoded, png_chunk, png_of_size

_SIDE = 8192
_PNG_START = b"\x89PNG\r\n\x1a\n"
_SCANS = 2000
_OTHER_KINDS = ("GIF", "WEBP", "JPEG", "JPEG2000", "BMP")
_DIGIT_SIDE = 28


async def tiff_small(connection: Connection) -> None:
    """Sends a TIFF of two kilobytes with 67 million pixels."""
    await connection.request(post(PHOTOGRAPH, _tiff(), kind="image/tiff"))


async def tiff_broken(connection: Connection) -> None:
    """Sends TIFF files of noise, for which libtiff writes lines to standard error."""
    for content in _broken_tiffs():
        await connection.request(post(PHOTOGRAPH, content, kind="image/tiff"))


async def dots(connection: Connection) -> None:
    """Sends images with a few dark pixels or with noise to a model of digits."""
    for content in _sparse_images():
        await connection.request(post(DIGIT, content, kind="image/png"))


async def no_palette(connection: Connection) -> None:
    """Sends PNG files without a palette or without other required chunks."""
    for content in _incomplete_pngs():
        await connection.request(post(PHOTOGRAPH, content, kind="image/png"))


async def big_png(connection: Connection) -> None:
    """Sends a PNG of 8192 x 8192 pixels."""
    await connection.request(post(PHOTOGRAPH, _large("PNG"), kind="image/png"))


async def big_others(connection: Connection) -> None:
    """Sends files of other formats with as many pixels as allowed."""
    kind = connection.attack.in_turn(_OTHER_KINDS)
    await connection.request(post(PHOTOGRAPH, _large(kind), kind="image/*"))


async def jpeg_scans(connection: Connection) -> None:
    """Sends a JPEG with thousands of scans."""
    await connection.request(post(PHOTOGRAPH, _jpeg_of_scans(), kind="image/jpeg"))


async def png_chunks(connection: Connection) -> None:
    """Sends PNG files with 50,000 texts, and with texts that decompress to megabytes."""
    for content in _pngs_with_texts():
        await connection.request(post(PHOTOGRAPH, content, kind="image/png"))


async def images_in_json(connection: Connection) -> None:
    """Sends twenty large images in one JSON body."""
    packed = base64.b64encode(_large("PNG"))
    body = b"[" + b",".join([b'{"image":"%b"}' % packed] * 20) + b"]"
    await connection.request(post(PHOTOGRAPH, body))


async def images_left(connection: Connection) -> None:
    """Sends a large image and closes."""
    await connection.send(post(PHOTOGRAPH, _large("PNG"), kind="image/png"))
    connection.close()


@cache
def _tiff() -> bytes:
    return encoded(Image.new("1", (_SIDE, _SIDE), 1), "TIFF", compression="group4")


@cache
def _broken_tiffs() -> list[bytes]:
    random = np.random.default_rng(1)
    lines = Image.fromarray(random.integers(0, 2, (2000, 64), np.uint8).astype(bool))
    contents = []
    for compression in ("group4", "group3", "tiff_lzw", "tiff_deflate", "packbits"):
        content = bytearray(encoded(lines, "TIFF", compression=compression))
        # The noise follows the header; the directory at the end stays valid.
        noise = random.bytes(len(content) // 2)
        content[12 : 12 + len(noise)] = noise
        contents.append(bytes(content))
    return contents


@cache
def _sparse_images() -> list[bytes]:
    random = np.random.default_rng(1)
    sparse = []
    for side, count in ((_DIGIT_SIDE, 3), (200, 5), (200, 1), (3, 2)):
        pixels = np.full((side, side), 255, np.uint8)
        pixels.flat[random.integers(0, side * side, count)] = 0
        sparse.append(encoded(pixels))
    values = np.array([0, 255], np.uint8)
    noise = [random.choice(values, (side, side)) for side in (_DIGIT_SIDE, 100, 500)]
    return [*sparse, *map(encoded, noise)]


@cache
def _incomplete_pngs() -> list[bytes]:
    with_palette = (16).to_bytes(4, "big") * 2 + b"\x08\x03\x00\x00\x00"
    content = png_chunk(b"IDAT", zlib.compress(bytes(17 * 16)))
    end = png_chunk(b"IEND", b"")
    start = _PNG_START + png_chunk(b"IHDR", with_palette)
    return [
        start + content + end,
        start + png_chunk(b"PLTE", b"") + content + end,
        start + png_chunk(b"PLTE", b"abc") + end,
        start + png_chunk(b"PLTE", b"abc") + png_chunk(b"tRNS", bytes(300)) + content + end,
        png_of_size(0, 0),
        _PNG_START + content + end,
    ]


@cache
def _large(kind: str) -> bytes:
    side = {"WEBP": _SIDE // 2, "JPEG2000": _SIDE // 4}.get(kind, _SIDE)
    mode = "L" if kind in {"GIF", "BMP"} else "RGB"
    return encoded(Image.new(mode, (side, side), 128), kind)


@cache
def _jpeg_of_scans() -> bytes:
    random = np.random.default_rng(1)
    colors = random.integers(0, 256, (256, 256, 3), np.uint8)
    content = encoded(colors, "JPEG", progressive=True, quality=50)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * _SCANS + content[-2:]


@cache
def _pngs_with_texts() -> list[bytes]:
    start, end = _PNG_START + encoded(Image.new("L", (9, 9)))[8:33], png_chunk(b"IEND", b"")
    content = png_chunk(b"IDAT", zlib.compress(bytes(90)))
    text = png_chunk(b"tEXt", b"Comment\0hello")
    packed = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(900_000)))
    profile = png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(50_000_000)))
    return [
        start + text * 50_000 + content + end,
        start + packed * 2000 + content + end,
        start + profile + content + end,
    ]


def _large_others() -> list[bytes]:
    return [_large(kind) for kind in _OTHER_KINDS]


_BAD = allowed(200, 400, 413, 429, 504)
CLIENTS = (
    HostileClient("tiff_small", tiff_small, _BAD),
    HostileClient("tiff_broken", tiff_broken, allowed(200, 400)),
    HostileClient("dots", dots, allowed(200, 400)),
    HostileClient("no_palette", no_palette, allowed(200, 400)),
    HostileClient("big_png", big_png, _BAD, connections=2, prepare=partial(_large, "PNG")),
    HostileClient("big_others", big_others, _BAD, connections=2, prepare=_large_others),
    HostileClient("jpeg_scans", jpeg_scans, _BAD, connections=2, prepare=_jpeg_of_scans),
    HostileClient("png_chunks", png_chunks, _BAD, connections=2, prepare=_pngs_with_texts),
    HostileClient("images_in_json", images_in_json, _BAD, connections=1),
    HostileClient("images_left", images_left, allowed(CLIENT_CLOSED), 2, pause=0.1),
)
