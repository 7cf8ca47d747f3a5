"""Limits on the memory and time for one image file, checked before it is decoded.

A limit on pixels alone is not enough. The memory that decoders need per pixel differs by a factor
of five, some formats allocate by numbers other than the image's size, and a small file can consist
of so many parts that reading it takes seconds.
"""

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO

from PIL import TiffTags
from PIL.ExifTags import IFD, Base
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

MAX_PIXELS = 24 * 1024**2

# What Pillow allocates per pixel, in color or gray.
BYTES_PER_PIXEL = 4
# The memory that each pixel of the limit allows: Pillow's, and one byte for a reduced copy. Any
# image may take a constant amount in addition.
_BYTES_OF_LIMIT = 5
_CONSTANT_BYTES = 8 << 20

# Reads by a parser written in Python; each holds the interpreter's lock for about a microsecond.
_MAX_READS = 1_000_000
# A JPEG is decoded at a reduced size, so it may declare this many times the limit.
_JPEG_PIXELS = 8
# A progressive JPEG has about ten scans, and each one updates all pixels.
_MAX_SCANS = 100
_SCANS_OF_LARGEST = 12
# Samples of an image that a decoder written in Python reads, at most a microsecond each.
_MAX_PYTHON_SAMPLES = 1_000_000
_PYTHON_DECODERS = {"bmp_rle", "ppm", "ppm_plain"}
# Decoders that need memory of their own for each pixel, and how many bytes (measured).
_DECODER_BYTES = {"WebP": 12, "JPEG 2000": 16, "AVIF": 8}
# Opening an icon decodes it. Its sides are one byte each, so a larger one is forged.
MAX_ICON_PIXELS = 1 << 20
# OpenJPEG takes about 10 kB for each tile before it reads the first.
_MAX_TILES = 2_000
_MAX_COMPONENTS = 4
_CODESTREAM = re.compile(rb"\xff\x4f\xff\x51(?s:.{38})")

# Parts that cost more than their own bytes and may occur many times in a file: Pillow joins EXIF
# segments one by one, unpacks texts and profiles to a megabyte each, and copies a block of a text
# PNM for each comment.
_COSTLY_PARTS: Mapping[str, tuple[tuple[bytes, ...], int, str]] = {
    "JPEG": ((b"Exif\0\0",), 32, "EXIF segments"),
    "PNG": ((b"iCCP", b"zTXt", b"iTXt"), 16, "profiles and texts"),
    "PNM": ((b"#",), 100, "comments"),
}
_TEXT_PNM = (b"P1", b"P2", b"P3")

# Each value of a TIFF tag becomes a Python object, unless the tag's type is a type of bytes.
_MAX_TAG_VALUES = 250_000
_BYTE_TYPES = {TiffTags.BYTE, TiffTags.ASCII, TiffTags.UNDEFINED}
_SUB_IFDS = {IFD.Exif, IFD.GPSInfo, IFD.Interop}
_SEPARATE_PLANES, _YCBCR = 2, 6
_BIG_TIFF = (b"II+\0", b"MM\0+")


class InvalidImage(ValueError):
    """The image cannot be used; the message is one sentence for the person who sent it."""


class _BoundedReader(BytesIO):
    """A file in memory that limits how often a parser reads from it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to this many bytes; raise `OSError` after too many calls."""
        self._reads += 1
        if self._reads > _MAX_READS:
            raise OSError(f"more than {_MAX_READS:,} parts")
        return super().read(size)


def open_bounded(content: bytes) -> BytesIO:
    """Wrap a file in memory for a parser, which may read at most a million parts of it."""
    # A shorter file cannot have more parts than bytes.
    return _BoundedReader(content) if len(content) > _MAX_READS else BytesIO(content)


def require_few_parts(kind: str, content: bytes) -> None:
    """Raise `InvalidImage` if a file has too many parts that are costly to read."""
    if kind == "TIFF":
        _require_few_tag_values(content)
    if kind not in _COSTLY_PARTS or (kind == "PNM" and not content.startswith(_TEXT_PNM)):
        return
    markers, limit, noun = _COSTLY_PARTS[kind]
    count = sum(map(content.count, markers))
    if count > limit:
        raise InvalidImage(
            f"This {kind} file has {count:,} {noun}, and at most {limit} are supported; save it "
            "without its metadata."
        )


def require_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Raise `InvalidImage` if an image has more pixels than this."""
    width, height = size
    if width * height > max_pixels:
        raise InvalidImage(
            f"This image has {width:,} x {height:,} pixels, and at most {max_pixels:,} in all are "
            "supported for its format; send a smaller copy of it, or a JPEG."
        )


def require_declared(kind: str, size: tuple[int, int], max_pixels: int) -> None:
    """Reject an image by the size in its header, before its decoder is created.

    Raise `InvalidImage` if decoding would take more memory than ``max_pixels`` allow.
    """
    per_pixel = BYTES_PER_PIXEL + _DECODER_BYTES.get(kind, 0)
    require_pixels(size, min(max_pixels * _BYTES_OF_LIMIT // per_pixel, max_pixels))


def require_frames(sizes: Sequence[tuple[int, int]], max_pixels: int) -> None:
    """Reject an AVIF file by the sizes of its frames: the colors and the transparency.

    Raise `InvalidImage` if one has too many pixels, or together they have more than two may have.
    """
    for size in sizes:
        require_declared("AVIF", size, max_pixels)
    require_declared("AVIF", (sum(width * height for width, height in sizes) // 2, 1), max_pixels)


def require_memory(kind: str, size: tuple[int, int], memory: int, max_pixels: int) -> None:
    """Raise `InvalidImage` if decoding takes more memory, in bytes, than ``max_pixels`` allow."""
    limit = _BYTES_OF_LIMIT * max_pixels + _CONSTANT_BYTES
    if memory > limit:
        raise InvalidImage(
            f"This {kind} file of {size[0]:,} x {size[1]:,} pixels takes {memory / 2**20:,.0f} MiB "
            f"to decode, and at most {limit / 2**20:,.0f} MiB are allowed; send a smaller copy of "
            "it, or a baseline JPEG."
        )


def estimate_decoder_bytes(kind: str, image: ImageFile, content: bytes, max_pixels: int) -> int:
    """Return the memory in bytes that decoding needs in addition to the decoded pixels.

    Raise `InvalidImage` if decoding would take too long, or the header contradicts itself.
    """
    width, height = image.size
    pixels = width * height
    if image.tile and image.tile[0][0] in _PYTHON_DECODERS:
        require_pixels(image.size, _MAX_PYTHON_SAMPLES // len(image.getbands()))
    if isinstance(image, JpegImageFile):
        require_pixels(image.size, _JPEG_PIXELS * max_pixels)
        return _estimate_jpeg_bytes(image, content, max_pixels)
    if isinstance(image, TiffImageFile):
        return _estimate_tiff_bytes(image)
    if kind == "JPEG 2000":
        _require_codestreams(content, max_pixels)
    return _DECODER_BYTES.get(kind, 0) * pixels


def _estimate_jpeg_bytes(image: JpegImageFile, content: bytes, max_pixels: int) -> int:
    """Return the memory for the coefficients of a JPEG whose scans lack components."""
    # Pillow has read up to the end of the first scan's header.
    start = 0 if image.fp is None else image.fp.tell()
    if "progressive" not in image.info and _is_interleaved(content, start, image.layers):
        return 0
    pixels = image.width * image.height
    scans = content.count(b"\xff\xda")
    if scans > _MAX_SCANS or scans * pixels > _SCANS_OF_LARGEST * max_pixels:
        raise InvalidImage(
            f"This JPEG is made of {scans} scans, too many for {image.width:,} x "
            f"{image.height:,} pixels; save it as a baseline JPEG."
        )
    factors = [across * down for _, across, down, _ in image.layer]
    largest = max(a for _, a, _, _ in image.layer) * max(d for _, _, d, _ in image.layer)
    return 2 * pixels * sum(factors) // max(largest, 1)


def _is_interleaved(content: bytes, start: int, components: int) -> bool:
    """Return whether the scan that starts here has all components (ITU-T T.81, B.2.3)."""
    for count in range(1, 5):
        scan = struct.pack(">HHB", 0xFFDA, 6 + 2 * count, count)
        if content.startswith(scan, start - 8 - 2 * count):
            return count == components
    return False


def _estimate_tiff_bytes(image: TiffImageFile) -> int:
    """Return the memory for a strip or tile of a compressed TIFF, or for a rotated copy."""
    tags = image.tag_v2
    width, height = tags[Base.ImageWidth], tags[Base.ImageLength]
    rotated = BYTES_PER_PIXEL * width * height if tags.get(Base.Orientation, 1) != 1 else 0
    if image.info.get("compression") == "raw":
        return int(rotated)
    bits = tags.get(Base.BitsPerSample, (1,))
    is_planar = tags.get(Base.PlanarConfiguration) == _SEPARATE_PLANES
    depth = (max(bits) if is_planar else sum(bits)) // 8
    if tags.get(Base.PhotometricInterpretation) == _YCBCR:
        depth += BYTES_PER_PIXEL  # libtiff converts it in a separate buffer
    if Base.TileWidth in tags:
        pixels = tags[Base.TileWidth] * tags[Base.TileLength]
    else:
        pixels = width * min(tags.get(Base.RowsPerStrip, height), height)
    return int(max(pixels * max(depth, 1), rotated))


def _require_few_tag_values(content: bytes) -> None:
    values = sum(
        count for value_type, count in _read_tags(content) if value_type not in _BYTE_TYPES
    )
    if values > _MAX_TAG_VALUES:
        raise InvalidImage(
            f"The tags of this TIFF file hold {values:,} values, and at most {_MAX_TAG_VALUES:,} "
            "are supported; save it as a PNG."
        )


def _read_tags(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield type and number of values of each tag that Pillow reads for the first image."""
    order = "<" if content.startswith(b"II") else ">"
    is_big = content.startswith(_BIG_TIFF)
    number, entry, first = ("Q", "HHQQ", 8) if is_big else ("H", "HHII", 4)
    size = struct.calcsize(order + entry)
    unread = {int.from_bytes(content[first : 2 * first], "little" if order == "<" else "big")}
    seen: set[int] = set()
    while (remaining := unread - seen) and len(seen) <= len(_SUB_IFDS):
        offset = remaining.pop()
        seen.add(offset)
        start = offset + struct.calcsize(order + number)
        if start > len(content):
            continue
        (entries,) = struct.unpack_from(order + number, content, offset)
        end = start + size * min(entries, (len(content) - start) // size)
        for tag, value_type, count, value in struct.iter_unpack(order + entry, content[start:end]):
            yield value_type, count
            if tag in _SUB_IFDS:
                unread.add(value)


def _require_codestreams(content: bytes, max_pixels: int) -> None:
    """Check the header of each JPEG 2000 codestream; the container's may differ."""
    for found in _CODESTREAM.finditer(content):
        _, _, right, down, left, top, across, high, x, y, components = struct.unpack_from(
            ">HH8IH", found[0], 4
        )
        require_declared("JPEG 2000", (max(right - left, 0), max(down - top, 0)), max_pixels)
        tiles = -(-max(right - x, 0) // max(across, 1)) * -(-max(down - y, 0) // max(high, 1))
        if tiles > _MAX_TILES or components > _MAX_COMPONENTS:
            raise InvalidImage(
                f"This JPEG 2000 file has {tiles:,} tiles of {components:,} components, and at "
                f"most {_MAX_TILES:,} of {_MAX_COMPONENTS} are supported; save it again."
            )
