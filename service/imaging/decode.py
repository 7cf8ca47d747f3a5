"""An image file's bytes as an upright image in memory, or the sentence that says why not.

What a file is, its first bytes say, never its name. Only formats listed here are read, and what a
file's header promises is looked at before anything of that size is made. An image of any mode
becomes 8-bit grey or colour, reduced on the way without a second whole copy.
"""

import ctypes
import logging
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from ctypes.util import find_library
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
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

from service.filetypes import PNG_SIGNATURE, identify
from service.imaging.avif import frame_sizes, main_image
from service.imaging.limits import (
    MAX_ICON_PIXELS,
    InvalidImage,
    decoder_bytes,
    reader,
    require_declared,
    require_few_parts,
    require_frames,
    require_pixels,
)


def _silence_decoders() -> None:
    """Keep warnings about clients' files off standard error and out of the log.

    The response says what is wrong with a file. Python's `catch_warnings` is not thread-safe, so
    the warnings are disabled for good. libtiff writes to standard error by itself, through
    process-wide handlers for which Pillow has no setting.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    with suppress(AttributeError, OSError):
        libtiff = ctypes.CDLL(_libtiff())
        for set_handler in (libtiff.TIFFSetErrorHandler, libtiff.TIFFSetWarningHandler):
            set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
            set_handler(None)


def _libtiff() -> str | None:
    """The path of the library that Pillow has loaded: a wheel brings its own."""
    package = Path(Image.__file__).parent
    bundled = [*package.parent.glob("pillow.libs/libtiff*"), *package.glob(".dylibs/libtiff*")]
    return str(bundled[0]) if bundled else find_library("tiff")


_silence_decoders()

# Pillow's own limit on pixels, above twice of which it raises an error. GIF frames are measured
# against it before they can be measured here.
Image.MAX_IMAGE_PIXELS = 1 << 24

_PLUGINS: Mapping[str, Callable[[BytesIO], ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "PNM": PpmImagePlugin.PpmImageFile,
    "ICO": IcoImagePlugin.IcoImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "JPEG 2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
}
READ = "PNG, JPEG, WebP, GIF, BMP, TIFF, PNM, ICO, AVIF or JPEG 2000"

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
_RIGHT_TO_LEFT = {2, 3, 7, 8}
_BOTTOM_UP = {3, 4, 6, 7}
_INDEXED = {"P", "PA"}
_MODES = _INDEXED | {"1", "L", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "I", "F"}
_MODES |= {"I;16", "I;16L", "I;16B", "I;16N"}
# EXIF is at most a JPEG segment's length where it is not split; other formats do not limit it.
_MAX_EXIF_BYTES = 1 << 18

Plain = Literal["L", "RGB"]
# Pixels of one horizontal strip, which is converted at a time.
_STRIP_PIXELS = 1 << 18
_SIXTEEN_BITS = 65535.0
_EIGHT_BITS = 255.0


def open_image(content: bytes, max_pixels: int) -> tuple[str, ImageFile, int]:
    """The format's name, the image with its header read and nothing else, and what it costs.

    Args:
        content: the whole file.
        max_pixels: of an image.

    Returns:
        The memory that decoding needs besides the pixels themselves, in bytes, comes last.

    Raises:
        InvalidImage: it is no image, of no format that is read here, damaged, or too large.
    """
    kind = _format_of(content)
    if kind == "ICO":
        content, kind = _largest_icon(content, max_pixels)
    require_few_parts(kind, content)
    if kind == "WebP":
        require_declared(kind, _webp_size(content), max_pixels)  # opening it makes its canvas
    with decoder_errors(kind):
        if kind == "AVIF":
            require_frames(frame_sizes(content), max_pixels)
            content = main_image(content)
        image = _PLUGINS[kind](reader(content))
        return kind, image, decoder_bytes(kind, image, content, max_pixels)


class decoder_errors:  # noqa: N801 - used like a function, as `contextlib.suppress` is
    """Turn whatever Pillow raises on a broken file into `InvalidImage`.

    Its plug-ins meet broken files with errors of every class, from `AssertionError` to
    `ZeroDivisionError`. So any error is caught, and only around calls of Pillow: a fault in this
    program stays one.
    """

    __slots__ = ("_kind",)

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Raise the refusal in place of the error."""
        if isinstance(error, Exception) and not isinstance(error, InvalidImage):
            raise _damaged(self._kind, error) from error


def orientation(image: Image.Image) -> int:
    """How EXIF says the image must be turned, 1 to 8; 1, as it is, where it says nothing."""
    if not image.info or len(image.info.get("exif") or b"") > _MAX_EXIF_BYTES:
        return 1
    try:
        stated = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - broken EXIF of a good image
        return 1
    return stated if stated in _TURNS else 1


class DecodedImage:
    """A decoded image, to be read in parts, each upright.

    Turning it as a whole would take its memory twice.

    Args:
        kind: the format.
        image: with its header read. Of several frames the first is decoded.

    Raises:
        InvalidImage: the file is damaged, cut short, or of colours that are not read here.
    """

    def __init__(self, kind: str, image: Image.Image) -> None:
        with decoder_errors(kind):
            image.load()
        self.kind = kind
        self.image = image
        self._turn = orientation(image)
        width, height = image.size
        self.size = (height, width) if self._turn in SIDEWAYS else (width, height)
        if image.mode not in _MODES:
            raise InvalidImage(
                f"This {kind} file is in the colour space {image.mode}, which is not read here; "
                "save it in RGB."
            )
        if image.mode in _INDEXED and image.palette is None:
            raise InvalidImage(
                f"This {kind} file has indexed colours and no palette; save it in RGB."
            )

    def part(self, box: tuple[int, int, int, int]) -> Image.Image:
        """The part between left, top, right and bottom."""
        if self._turn == 1:
            return self.image if box == (0, 0, *self.size) else self.image.crop(box)
        left, top, right, bottom = box
        if self._turn in SIDEWAYS:
            left, top, right, bottom = top, left, bottom, right
        if self._turn in _RIGHT_TO_LEFT:
            left, right = self.image.width - right, self.image.width - left
        if self._turn in _BOTTOM_UP:
            top, bottom = self.image.height - bottom, self.image.height - top
        return self.image.crop((left, top, right, bottom)).transpose(_TURNS[self._turn])


def flattened(
    decoded: DecodedImage, mode: Plain, background: int, factor: tuple[int, int]
) -> Image.Image:
    """The image in ``mode``, each ``factor`` block of (columns, rows) averaged into one pixel.

    Transparent places show ``background``. Sixteen bits of grey are all of their range, whatever
    part of it is used; 32 bits and floating point are taken as 0 to 1, 0 to 255 or 0 to 65,535
    where they lie within, and else from their least to their greatest value.

    Raises:
        InvalidImage: its palette or transparency is broken.
    """
    image = decoded.image
    if image.mode == mode and factor == (1, 1) and "transparency" not in image.info:
        return decoded.part((0, 0, *decoded.size))
    limits = _limits(decoded) if _is_wide(image) else None
    width, height = decoded.size
    columns, rows = factor
    result = Image.new(mode, (-(-width // columns), -(-height // rows)))
    for top, strip in _strips(decoded, rows):
        with decoder_errors(decoded.kind):
            if limits is None:
                plain = _plain(strip, mode, background)
            else:
                plain = _narrowed(strip, limits, background).convert(mode)
            result.paste(plain.reduce(factor), (0, top // rows))
    return result


def has_transparency(decoded: DecodedImage) -> bool:
    """Whether some places may show what lies behind the image."""
    return decoded.image.has_transparency_data or "transparency" in decoded.image.info


def _format_of(content: bytes) -> str:
    if not content:
        raise InvalidImage(f"The file is empty; send an image as {READ}.")
    found = identify(content)
    if found is None:
        what = "text" if _is_text(content[:2048]) else "no image that is read here"
        raise InvalidImage(f"This is {what}. Send one as {READ}.")
    if found.image_format is None:
        what = "; ".join(filter(None, (found.description, found.advice)))
        raise InvalidImage(f"This is {what}. Send an image as {READ}.")
    return found.image_format


def _is_text(start: bytes) -> bool:
    return not any(byte < 32 and byte not in b"\t\r\n\f" for byte in start)  # noqa: PLR2004 - ASCII


def _damaged(kind: str, error: Exception) -> InvalidImage:
    if isinstance(error, MemoryError):
        return InvalidImage(f"This {kind} file needs more memory than there is; send a smaller.")
    reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
    return InvalidImage(
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
        raise InvalidImage("This ICO file is cut short; save it anew and send all of it.")
    best = max(whole, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[6]))
    size, place = struct.unpack_from("<II", best, 8)
    icon = content[place : place + size]
    if icon.startswith(PNG_SIGNATURE):
        return icon, "PNG"
    width, height = struct.unpack_from("<ii", icon.ljust(12, b"\0"), 4)
    require_pixels((abs(width), abs(height)), min(max_pixels, MAX_ICON_PIXELS))
    alone = content[:4] + b"\1\0" + best[:12] + struct.pack("<I", 22) + icon
    return alone, "ICO"


def _strips(decoded: DecodedImage, multiple: int) -> Iterator[tuple[int, Image.Image]]:
    """The image from top to bottom, some 100,000 pixels at a time; rows in whole multiples."""
    width, height = decoded.size
    rows = max(_STRIP_PIXELS // width // multiple, 1) * multiple
    for top in range(0, height, rows):
        yield top, decoded.part((0, top, width, min(height, top + rows)))


def _plain(image: Image.Image, mode: Plain, background: int) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGB", image.size, (background,) * 3)
        behind.paste(image.convert("RGB"), mask=image.getchannel("A"))
        image = behind
    elif image.mode not in {"1", "L"}:
        image = image.convert("RGB")
    return image.convert(mode)


def _is_wide(image: Image.Image) -> bool:
    return image.mode in {"I", "F"} or image.mode.startswith("I;16")


def _limits(decoded: DecodedImage) -> tuple[float, float]:
    """The values that become black and white."""
    image = decoded.image
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        return 0.0, _SIXTEEN_BITS
    ends = [_finite_ends(np.asarray(strip)) for _, strip in _strips(decoded, 1)]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    whole = (1.0, _EIGHT_BITS) if image.mode == "F" else (_EIGHT_BITS, _SIXTEEN_BITS)
    for white in whole:
        if low >= 0 and high <= white:
            return 0.0, white
    return low, high


def _finite_ends(values: npt.NDArray[np.generic]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _narrowed(image: Image.Image, limits: tuple[float, float], background: int) -> Image.Image:
    """A strip of wide grey in eight bits."""
    low, high = limits
    values = np.asarray(image).astype(np.float64)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low or 1.0)
    narrow = np.floor(np.clip(scaled, 0, 1) * _EIGHT_BITS + 0.5).astype(np.uint8)
    see_through = image.info.get("transparency")
    if isinstance(see_through, int):
        narrow[values == see_through] = background
    return Image.fromarray(narrow)
