"""What one picture file may cost, checked by its header before it is decoded.

A limit on pixels alone is not enough. Decoders differ fivefold in the memory they need for a pixel,
some formats allocate by numbers other than the picture's size, and a small file can be made of so
many parts that reading them takes seconds.
"""

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO

from PIL import TiffImagePlugin
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

MAX_PIXELS = 24 * 1024**2

# Pillow's own for a pixel, in colour or grey.
BYTES_PER_PIXEL = 4
# The memory that each pixel of the limit stands for: Pillow's, and one for its smaller copy; and
# what any picture may take besides.
_BYTES_OF_LIMIT = 5
_BYTES_BESIDES = 8 << 20

# Reads by a parser written in Python; each takes about a microsecond of the interpreter's lock.
_MAX_READS = 1_000_000
# A JPEG is decoded at a part of its size, so it may declare this many times the limit.
_JPEG_PIXELS = 8
# A progressive JPEG has about ten scans, and each goes through all pixels again.
_MAX_SCANS = 100
_SCANS_OF_LARGEST = 12
# Samples of a picture that a decoder written in Python reads, at most a microsecond each.
_MAX_PYTHON_SAMPLES = 1_000_000
_PYTHON_DECODERS = {"bmp_rle", "ppm", "ppm_plain"}
# Decoders that need memory of their own for each pixel, and how many bytes (measured).
_DECODER_BYTES = {"WebP": 12, "JPEG 2000": 16, "AVIF": 8}
# SessionConfig an icon decodes it; its sides are one byte each, so a larger one is forged.
MAX_ICON_PIXELS = 1 << 20
# OpenJPEG takes about 10 kB for each tile before it reads the first.
_MAX_TILES = 2_000
_MAX_COMPONENTS = 4
_CODESTREAM = re.compile(rb"\xff\x4f\xff\x51(?s:.{38})")

# What a format may have many of in one file, each of which costs more than its own bytes: Pillow
# joins EXIF segments one by one, unpacks text and profiles to a megabyte each, and copies a block
# of a text PNM for each comment.
_COSTLY_PARTS: Mapping[str, tuple[tuple[bytes, ...], int, str]] = {
    "JPEG": ((b"Exif\0\0",), 32, "EXIF segments"),
    "PNG": ((b"iCCP", b"zTXt", b"iTXt"), 16, "profiles and texts"),
    "PNM": ((b"#",), 100, "comments"),
}
_TEXT_PNM = (b"P1", b"P2", b"P3")

# TIFF tags become Python objects, one for each value, unless their type is one of bytes.
_MAX_TAG_VALUES = 250_000
_BYTE_TYPES = {1, 2, 7}
_SUB_IFDS = {34665, 34853, 40965}
_WIDTH, _LENGTH, _BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION = 256, 257, 258, 262, 274
_ROWS_PER_STRIP, _PLANES, _TILE_WIDTH, _TILE_LENGTH = 278, 284, 322, 323
_SEPARATE, _YCBCR = 2, 6
_BIG_TIFF = (b"II+\0", b"MM\0+")


class PictureRefused(ValueError):
    """A picture that cannot be used; its text is one sentence a person can act on."""


class _BoundedReader(BytesIO):
    """A file in memory that ends a parser which reads it in too many small parts."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to this many bytes; raises `OSError` after too many calls."""
        self._reads += 1
        if self._reads > _MAX_READS:
            raise OSError(f"more than {_MAX_READS:,} parts")
        return super().read(size)


def reader(content: bytes) -> BytesIO:
    """A file in memory, for a parser that may read it in at most a million parts."""
    # A shorter file has no more parts than bytes.
    return _BoundedReader(content) if len(content) > _MAX_READS else BytesIO(content)


def require_few_parts(kind: str, content: bytes) -> None:
    """Refuse a file with too many parts that are costly to read.

    Raises:
        PictureRefused: it has.
    """
    if kind == "TIFF":
        _require_few_tag_values(content)
    if kind not in _COSTLY_PARTS or (kind == "PNM" and not content.startswith(_TEXT_PNM)):
        return
    names, most, what = _COSTLY_PARTS[kind]
    count = sum(map(content.count, names))
    if count > most:
        raise PictureRefused(
            f"This {kind} file has {count:,} {what}, and at most {most} are read here; save it "
            "without its metadata."
        )


def require_pixels(size: tuple[int, int], most: int) -> None:
    """Refuse a picture by its size.

    Raises:
        PictureRefused: it has more than ``most`` pixels.
    """
    width, height = size
    if width * height > most:
        raise PictureRefused(
            f"This picture has {width:,} x {height:,} pixels, and at most {most:,} in all are "
            "read here of its format; send a smaller copy of it, or a JPEG."
        )


def require_declared(kind: str, size: tuple[int, int], max_pixels: int) -> None:
    """Refuse a picture by the size that its header states, before its decoder is made.

    Raises:
        PictureRefused: decoding it would take more memory than ``max_pixels`` stand for.
    """
    per_pixel = BYTES_PER_PIXEL + _DECODER_BYTES.get(kind, 0)
    require_pixels(size, min(max_pixels * _BYTES_OF_LIMIT // per_pixel, max_pixels))


def require_frames(sizes: Sequence[tuple[int, int]], max_pixels: int) -> None:
    """Refuse an AVIF file by the sizes of its frames, the colour's and the transparency's.

    Raises:
        PictureRefused: one has too many pixels, or together they have more than two may have.
    """
    for size in sizes:
        require_declared("AVIF", size, max_pixels)
    require_declared("AVIF", (sum(width * height for width, height in sizes) // 2, 1), max_pixels)


def require_memory(kind: str, size: tuple[int, int], memory: int, max_pixels: int) -> None:
    """Refuse a picture by the memory that decoding it takes, in bytes.

    Raises:
        PictureRefused: that is more than ``max_pixels`` stand for.
    """
    most = _BYTES_OF_LIMIT * max_pixels + _BYTES_BESIDES
    if memory > most:
        raise PictureRefused(
            f"This {kind} file of {size[0]:,} x {size[1]:,} pixels takes {memory / 2**20:,.0f} MiB "
            f"to decode, and at most {most / 2**20:,.0f} MiB are used here; send a smaller copy of "
            "it, or a baseline JPEG."
        )


def decoder_bytes(kind: str, image: ImageFile, content: bytes, max_pixels: int) -> int:
    """The memory that decoding needs besides the pixels that come out of it, in bytes.

    Args:
        kind: the format.
        image: its header, read by Pillow.
        content: the whole file.
        max_pixels: of a picture.

    Raises:
        PictureRefused: decoding would take too long, or the header contradicts itself.
    """
    width, height = image.size
    pixels = width * height
    if image.tile and image.tile[0][0] in _PYTHON_DECODERS:
        require_pixels(image.size, _MAX_PYTHON_SAMPLES // len(image.getbands()))
    if isinstance(image, JpegImageFile):
        require_pixels(image.size, _JPEG_PIXELS * max_pixels)
        return _coefficients(image, content, max_pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _tiff_bytes(image)
    if kind == "JPEG 2000":
        _require_codestreams(content, max_pixels)
    return _DECODER_BYTES.get(kind, 0) * pixels


def _coefficients(image: JpegImageFile, content: bytes, max_pixels: int) -> int:
    """The memory for the coefficients of a JPEG whose scans do not hold whole pixels."""
    # Pillow has read as far as the end of the first scan's header.
    start = 0 if image.fp is None else image.fp.tell()
    if "progressive" not in image.info and _is_interleaved(content, start, image.layers):
        return 0
    pixels = image.width * image.height
    scans = content.count(b"\xff\xda")
    if scans > _MAX_SCANS or scans * pixels > _SCANS_OF_LARGEST * max_pixels:
        raise PictureRefused(
            f"This JPEG is made of {scans} scans, too many for {image.width:,} x "
            f"{image.height:,} pixels; save it as a baseline JPEG."
        )
    factors = [across * down for _, across, down, _ in image.layer]
    largest = max(a for _, a, _, _ in image.layer) * max(d for _, _, d, _ in image.layer)
    return 2 * pixels * sum(factors) // max(largest, 1)


def _is_interleaved(content: bytes, start: int, components: int) -> bool:
    """Whether the scan that starts here has all components, by its header (ITU-T T.81, B.2.3)."""
    for count in range(1, 5):
        scan = struct.pack(">HHB", 0xFFDA, 6 + 2 * count, count)
        if content.startswith(scan, start - 8 - 2 * count):
            return count == components
    return False


def _tiff_bytes(image: TiffImagePlugin.TiffImageFile) -> int:
    """The memory for one strip or tile of a compressed TIFF, or for the picture's turned copy."""
    tags = image.tag_v2
    width, height = tags[_WIDTH], tags[_LENGTH]
    turned = BYTES_PER_PIXEL * width * height if tags.get(_ORIENTATION, 1) != 1 else 0
    if image.info.get("compression") == "raw":
        return int(turned)
    bits = tags.get(_BITS_PER_SAMPLE, (1,))
    depth = (max(bits) if tags.get(_PLANES) == _SEPARATE else sum(bits)) // 8
    if tags.get(_PHOTOMETRIC) == _YCBCR:
        depth += BYTES_PER_PIXEL  # libtiff converts it in a buffer of its own
    if _TILE_WIDTH in tags:
        pixels = tags[_TILE_WIDTH] * tags[_TILE_LENGTH]
    else:
        pixels = width * min(tags.get(_ROWS_PER_STRIP, height), height)
    return int(max(pixels * max(depth, 1), turned))


def _require_few_tag_values(content: bytes) -> None:
    values = sum(count for kind, count in _tags(content) if kind not in _BYTE_TYPES)
    if values > _MAX_TAG_VALUES:
        raise PictureRefused(
            f"The tags of this TIFF file hold {values:,} values, and at most {_MAX_TAG_VALUES:,} "
            "are read here; save it as a PNG."
        )


def _tags(content: bytes) -> Iterator[tuple[int, int]]:
    """Type and number of values of each tag that Pillow reads of the first picture."""
    order = "<" if content.startswith(b"II") else ">"
    is_big = content.startswith(_BIG_TIFF)
    number, entry, first = ("Q", "HHQQ", 8) if is_big else ("H", "HHII", 4)
    size = struct.calcsize(order + entry)
    places = {int.from_bytes(content[first : 2 * first], "little" if order == "<" else "big")}
    seen: set[int] = set()
    while (ahead := places - seen) and len(seen) <= len(_SUB_IFDS):
        place = ahead.pop()
        seen.add(place)
        start = place + struct.calcsize(order + number)
        if start > len(content):
            continue
        (entries,) = struct.unpack_from(order + number, content, place)
        end = start + size * min(entries, (len(content) - start) // size)
        for tag, kind, count, value in struct.iter_unpack(order + entry, content[start:end]):
            yield kind, count
            if tag in _SUB_IFDS:
                places.add(value)


def _require_codestreams(content: bytes, max_pixels: int) -> None:
    """Hold each JPEG 2000 codestream's own header against the limits; a container's may differ."""
    for found in _CODESTREAM.finditer(content):
        _, _, right, down, left, top, across, high, x, y, components = struct.unpack_from(
            ">HH8IH", found[0], 4
        )
        require_declared("JPEG 2000", (max(right - left, 0), max(down - top, 0)), max_pixels)
        tiles = -(-max(right - x, 0) // max(across, 1)) * -(-max(down - y, 0) // max(high, 1))
        if tiles > _MAX_TILES or components > _MAX_COMPONENTS:
            raise PictureRefused(
                f"This JPEG 2000 file has {tiles:,} tiles of {components:,} components, and at "
                f"most {_MAX_TILES:,} of {_MAX_COMPONENTS} are read here; save it anew."
            )
