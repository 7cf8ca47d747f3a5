"""A picture file's bytes as an upright picture in memory, or the sentence that says why not.

What a file is, its first bytes say, never its name. Only formats listed here are read, and what a
file's header promises is looked at before anything of that size is made.
"""

import re
import struct
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

# Odd metadata is no news to whoever posts a picture, and Python's own way to silence it for a
# while is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

_FORMATS: Mapping[str, tuple[re.Pattern[bytes], Callable[[BytesIO], ImageFile]]] = {
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    "JPEG": (re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    "WebP": (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
    "GIF": (re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    "BMP": (re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    "TIFF": (re.compile(rb"II[*+]\x00|MM\x00[*+]"), TiffImagePlugin.TiffImageFile),
    "PNM": (re.compile(rb"P(?:[1-6]|[Ff]|0CMYK|yRGBA|yP)\s"), PpmImagePlugin.PpmImageFile),
    "ICO": (re.compile(rb"\x00\x00\x01\x00"), IcoImagePlugin.IcoImageFile),
    "AVIF": (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), AvifImagePlugin.AvifImageFile),
    "JPEG 2000": (
        re.compile(rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
        Jpeg2KImagePlugin.Jpeg2KImageFile,
    ),
}
READ = "PNG, JPEG, WebP, GIF, BMP, TIFF, PNM, ICO, AVIF or JPEG 2000"

# What people send instead, by its first bytes: what it is, and what to do.
_OTHERS = (
    (rb"%PDF", "a PDF document; export the page as PNG or JPEG"),
    (rb"PK\x03\x04.{26}(?:\[Content_Types\]|_rels|xl/|word/)", "an Office document"),
    (rb"PK[\x03\x05]", "a zip archive; unpack it"),
    (rb"\xd0\xcf\x11\xe0", "an old Excel or Word document"),
    (rb".{4}ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", "a HEIC photograph; save it as JPEG"),
    (rb".{4}ftyp|\x1a\x45\xdf\xa3|RIFF.{4}AVI ", "a film; save one frame of it as PNG or JPEG"),
    (rb"(?i)(?:<\?xml.{0,400}?)?(?:<!--.{0,400}?-->\s{0,400}+)?(?:<!doctype svg.{0,400}?)?<svg",
     "an SVG drawing; export it as PNG"),
    (rb"(?i)<!doctype html|<html|<head|<body", "a web page; send the picture's own file"),
    (rb"8BPS", "a Photoshop document; export it as PNG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript document; export it as PNG"),
    (rb"\x1f\x8b", "packed by gzip; unpack it, or say Content-Encoding: gzip"),
    (rb"data:image/", "the text of a data URL; send it in JSON, or the bytes that it stands for"),
    (rb"[{\[]", "JSON; send it as application/json"),
)  # fmt: skip
_OTHER_KINDS = [(re.compile(pattern, re.DOTALL), what) for pattern, what in _OTHERS]

# Decoders that take several times the memory of the others' four bytes a pixel, and how many.
_HUNGRY = {"WebP": 4, "JPEG 2000": 4, "AVIF": 2}
# A progressive JPEG has about ten scans; one of hundreds exists to keep a decoder busy.
_MOST_SCANS = 100
_PNG_START = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = {5, 6, 7, 8}


class PictureRefused(ValueError):
    """A picture that cannot be used; its text is one sentence a person can act on."""


def open_picture(content: bytes, max_pixels: int) -> tuple[str, ImageFile]:
    """The format's name, and the picture with its header read and nothing else.

    Args:
        content: the whole file.
        max_pixels: the most that the header may promise; of formats whose decoders take more
            memory, a half or a quarter.

    Raises:
        PictureRefused: it is no picture, of no format that is read here, damaged, or too large.
    """
    kind = _kind_of(content)
    if kind == "ICO":
        content, kind = _largest_icon(content, max_pixels)
    max_pixels //= _HUNGRY.get(kind, 1)
    if kind == "WebP":
        _require_pixels(_webp_size(content), max_pixels)  # opening it makes its canvas
    if kind == "JPEG" and (scans := content.count(b"\xff\xda")) > _MOST_SCANS:
        raise PictureRefused(f"This JPEG is made of {scans} scans; save it anew, as a plain one.")
    try:
        image = _FORMATS[kind][1](BytesIO(content))
    except Exception as error:  # a decoder meets broken files with errors of every class
        raise _damaged(kind, error) from error
    _require_pixels(image.size, max_pixels)
    return kind, image


def orientation(image: Image.Image) -> int:
    """How EXIF says the picture must be turned, 1 to 8; 1, as it is, where it says nothing."""
    try:
        stated = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - broken EXIF of a good picture
        return 1
    return stated if stated in _TURNS else 1


def upright(kind: str, image: Image.Image) -> Image.Image:
    """The decoded picture, turned as EXIF says; the first of several frames.

    Raises:
        PictureRefused: the file is damaged or cut short.
    """
    try:
        image.load()
    except Exception as error:  # as above
        raise _damaged(kind, error) from error
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def _kind_of(content: bytes) -> str:
    for kind, (start, _) in _FORMATS.items():
        if start.match(content):
            return kind
    if not content:
        raise PictureRefused(f"The file is empty; send a picture as {READ}.")
    text = content[:2048].removeprefix(b"\xef\xbb\xbf").lstrip()
    for pattern, what in _OTHER_KINDS:
        if pattern.match(text):
            raise PictureRefused(f"This is {what}. Send a picture as {READ}.")
    what = "text" if _is_text(text) else "no picture that is read here"
    raise PictureRefused(f"This is {what}. Send one as {READ}.")


def _is_text(start: bytes) -> bool:
    return not any(byte < 32 and byte not in b"\t\r\n\f" for byte in start)  # noqa: PLR2004 - ASCII


def _require_pixels(size: tuple[int, int], most: int) -> None:
    width, height = size
    if width * height > most:
        raise PictureRefused(
            f"This picture has {width:,} x {height:,} pixels, and at most {most:,} in all are "
            "read here of its format; send a smaller copy of it, or a JPEG."
        )


def _damaged(kind: str, error: Exception) -> PictureRefused:
    if isinstance(error, MemoryError):
        return PictureRefused(f"This {kind} file needs more memory than there is; send a smaller.")
    reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
    return PictureRefused(
        f"This {kind} file is damaged or cut short ({reason}); save it anew and send all of it."
    )


def _webp_size(content: bytes) -> tuple[int, int]:
    """Width and height as the first chunk says (RFC 9649)."""
    start = content[12:30].ljust(18, b"\0")
    if start.startswith(b"VP8X"):
        sides = [int.from_bytes(start[place : place + 3], "little") + 1 for place in (12, 15)]
        return sides[0], sides[1]
    if start.startswith(b"VP8L"):
        bits = int.from_bytes(start[9:13], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", start, 14)
    return width & 0x3FFF, height & 0x3FFF


def _largest_icon(content: bytes, max_pixels: int) -> tuple[bytes, str]:
    """The largest icon of an ICO file: its own PNG file, or an ICO of it alone."""
    count = int.from_bytes(content[4:6], "little")
    entries = [content[6 + 16 * place : 22 + 16 * place] for place in range(count)]
    whole = [entry for entry in entries if len(entry) == 16]  # noqa: PLR2004 - of the directory
    if not whole:
        raise PictureRefused("This ICO file is cut short; save it anew and send all of it.")
    best = max(whole, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[6]))
    size, place = struct.unpack_from("<II", best, 8)
    icon = content[place : place + size]
    if icon.startswith(_PNG_START):
        return icon, "PNG"
    width, height = struct.unpack_from("<ii", icon.ljust(12, b"\0"), 4)
    _require_pixels((abs(width), abs(height)), max_pixels)
    alone = content[:4] + b"\1\0" + best[:12] + struct.pack("<I", 22) + icon
    return alone, "ICO"
