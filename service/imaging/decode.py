"""Decode image files: any supported format, mode and orientation, within limits.

The first bytes of a file, not its name, determine its format. Only the formats listed here are
read, and the header is checked against the limits before anything of that size is allocated.
"""

import ctypes
import logging
import os
import struct
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from ctypes.util import find_library
from functools import cache
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
from PIL.ExifTags import Base
from PIL.ImageFile import ImageFile

from service.filetypes import PNG_SIGNATURE, identify
from service.imaging.avif import read_frame_sizes, select_main_image
from service.imaging.limits import (
    MAX_ICON_PIXELS,
    InvalidImage,
    estimate_decoder_bytes,
    open_bounded,
    require_declared,
    require_few_parts,
    require_frames,
    require_pixels,
)


@cache
def _configure_pillow() -> None:
    """Apply settings of the process, before the first image is opened; later calls do nothing.

    A frame of a GIF file, which Pillow opens before its size can be checked here, may have twice
    `_MAX_FRAME_PIXELS`. Warnings about clients' files stay off standard error and out of the log,
    since the response says what is wrong with a file. Python's `catch_warnings` is not thread-safe,
    so they are disabled for good. libtiff writes to standard error by itself, through process-wide
    handlers for which Pillow has no setting.
    """
    Image.MAX_IMAGE_PIXELS = _MAX_FRAME_PIXELS
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    with suppress(AttributeError, OSError):
        libtiff = ctypes.CDLL(_find_libtiff())
        for set_handler in (libtiff.TIFFSetErrorHandler, libtiff.TIFFSetWarningHandler):
            set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
            set_handler(None)


def _find_libtiff() -> str | None:
    """Return the path of the library that Pillow has loaded; its wheels contain their own."""
    package = Path(Image.__file__).parent
    bundled = [*package.parent.glob("pillow.libs/libtiff*"), *package.glob(".dylibs/libtiff*")]
    return str(bundled[0]) if bundled else find_library("tiff")


# Pillow raises an error above twice this number of pixels.
_MAX_FRAME_PIXELS = 1 << 24

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
SUPPORTED_FORMATS = "PNG, JPEG, WebP, GIF, BMP, TIFF, PNM, ICO, AVIF or JPEG 2000"

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPS_SIDES = {5, 6, 7, 8}
_RIGHT_TO_LEFT = {2, 3, 7, 8}
_BOTTOM_UP = {3, 4, 6, 7}
_INDEXED = {"P", "PA"}
_DEEP = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_MODES = _INDEXED | _DEEP | {"1", "L", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
# Unless it is split, EXIF data is at most as long as a JPEG segment; other formats have no limit.
_MAX_EXIF_BYTES = 1 << 18

# Each step gives a thread a fifth less of a contended core; ten leave a tenth. With more steps, a
# large image would exceed its deadline if small requests use all of a single core.
_PRIORITY_STEPS = 10

Mode = Literal["L", "RGB"]
# Images are converted in horizontal strips of about this many pixels.
_STRIP_PIXELS = 1 << 18
_SIXTEEN_BITS = 65535.0
_EIGHT_BITS = 255.0


def open_image(content: bytes, max_pixels: int) -> tuple[str, ImageFile, int]:
    """Read the header of an image file.

    Args:
        content: the whole file.
        max_pixels: the limit for one image.

    Returns:
        The name of the format, the image before decoding, and the memory in bytes that its decoder
        needs in addition to the pixels.

    Raises:
        InvalidImage: the file is not an image, not of a supported format, damaged, or too large.
    """
    _configure_pillow()
    kind = _identify_format(content)
    if kind == "ICO":
        content, kind = _extract_largest_icon(content, max_pixels)
    require_few_parts(kind, content)
    if kind == "WebP":
        require_declared(
            kind, _read_webp_size(content), max_pixels
        )  # opening it allocates the canvas
    with decoder_errors(kind):
        if kind == "AVIF":
            require_frames(read_frame_sizes(content), max_pixels)
            content = select_main_image(content)
        image = _PLUGINS[kind](open_bounded(content))
        return kind, image, estimate_decoder_bytes(kind, image, content, max_pixels)


@contextmanager
def decoder_errors(kind: str) -> Iterator[None]:
    """Raise `InvalidImage` in place of any error that Pillow raises for a damaged file.

    Pillow's plug-ins raise errors of every class, from `AssertionError` to `ZeroDivisionError`.
    So any error is replaced, but only around calls of Pillow: a bug in this program stays visible.
    """
    try:
        yield
    except InvalidImage:
        raise
    except MemoryError as error:
        raise InvalidImage(
            f"This {kind} file needs more memory than is available; send a smaller one."
        ) from error
    except Exception as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise InvalidImage(
            f"This {kind} file is damaged or cut short ({reason}); save it again and send all of "
            "it."
        ) from error


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1, upright, if there is none."""
    if not image.info or len(image.info.get("exif") or b"") > _MAX_EXIF_BYTES:
        return 1
    try:
        stated = image.getexif().get(Base.Orientation)
    except Exception:  # noqa: BLE001 - damaged EXIF in an intact image
        return 1
    return stated if stated in _TRANSPOSE else 1


class DecodedImage:
    """A decoded image that can be cropped upright.

    Rotating all of it at once would take twice its memory. Of several frames the first is decoded.
    Raise `InvalidImage` if the file is damaged, cut short, or has an unsupported color space.
    """

    def __init__(self, kind: str, image: Image.Image) -> None:
        with decoder_errors(kind):
            image.load()
        self.kind = kind
        self.image = image
        self._orientation = read_orientation(image)
        width, height = image.size
        self.size = (height, width) if self._orientation in SWAPS_SIDES else (width, height)
        if image.mode not in _MODES:
            raise InvalidImage(
                f"This {kind} file is in the color space {image.mode}, which is not supported; "
                "save it in RGB."
            )
        if image.mode in _INDEXED and image.palette is None:
            raise InvalidImage(
                f"This {kind} file has indexed colors and no palette; save it in RGB."
            )

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image:
        """Return the upright part between left, top, right and bottom."""
        if self._orientation == 1:
            return self.image if box == (0, 0, *self.size) else self.image.crop(box)
        left, top, right, bottom = box
        if self._orientation in SWAPS_SIDES:
            left, top, right, bottom = top, left, bottom, right
        if self._orientation in _RIGHT_TO_LEFT:
            left, right = self.image.width - right, self.image.width - left
        if self._orientation in _BOTTOM_UP:
            top, bottom = self.image.height - bottom, self.image.height - top
        return self.image.crop((left, top, right, bottom)).transpose(_TRANSPOSE[self._orientation])


def convert(
    decoded: DecodedImage, mode: Mode, background: int, block: tuple[int, int]
) -> Image.Image:
    """Convert the image to ``mode``, averaging each ``block`` of (columns, rows) into one pixel.

    It is converted in strips, so there is no second copy of the whole image. Transparent pixels
    show ``background``. 16-bit gray is scaled from its full range. 32-bit and floating-point
    values are scaled from 0 to 1, 0 to 255 or 0 to 65,535, whichever range contains them all, and
    otherwise from their minimum to their maximum. Raise `InvalidImage` if the palette or the
    transparency is damaged.
    """
    image = decoded.image
    if image.mode == mode and block == (1, 1) and "transparency" not in image.info:
        return decoded.crop((0, 0, *decoded.size))
    levels = _find_levels(decoded) if image.mode in _DEEP else None
    width, height = decoded.size
    columns, rows = block
    result = Image.new(mode, (-(-width // columns), -(-height // rows)))
    for top, strip in _split_into_strips(decoded, rows):
        with decoder_errors(decoded.kind):
            if levels is None:
                converted = _convert_strip(strip, mode, background)
            else:
                converted = _to_eight_bits(strip, levels, background).convert(mode)
            result.paste(converted.reduce(block), (0, top // rows))
    return result


def lower_priority() -> None:
    """Lower the priority of the calling thread, so that decoding yields to small requests.

    Linux only: on other systems threads do not have their own priority.
    """
    # In POSIX, nice applies to a process; on Linux it applies only to the calling thread.
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may forbid it
            os.nice(_PRIORITY_STEPS)


def _identify_format(content: bytes) -> str:
    if not content:
        raise InvalidImage(f"The file is empty; send an image as {SUPPORTED_FORMATS}.")
    found = identify(content)
    if found is None:
        # A control character is no text, except for these.
        is_text = all(byte >= ord(" ") or byte in b"\t\r\n\f" for byte in content[:2048])
        what = "text" if is_text else "not a supported image"
        raise InvalidImage(f"This is {what}; send an image as {SUPPORTED_FORMATS}.")
    if found.image_format is None:
        what = "; ".join(filter(None, (found.description, found.advice)))
        raise InvalidImage(f"This is {what}. Send an image as {SUPPORTED_FORMATS}.")
    return found.image_format


def _read_webp_size(content: bytes) -> tuple[int, int]:
    """Return width and height from the first chunk (RFC 9649)."""
    start = content[12:30].ljust(18, b"\0")
    if start.startswith(b"VP8X"):
        sides = [int.from_bytes(start[offset : offset + 3], "little") + 1 for offset in (12, 15)]
        return sides[0], sides[1]
    if start.startswith(b"VP8L"):
        bits = int.from_bytes(start[9:13], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", start, 14)
    return width & 0x3FFF, height & 0x3FFF


def _extract_largest_icon(content: bytes, max_pixels: int) -> tuple[bytes, str]:
    """Extract the largest icon of an ICO file, as a PNG file or as an ICO file with one icon."""
    # The directory has 16 bytes for each icon.
    count = min(int.from_bytes(content[4:6], "little"), (len(content) - 6) // 16)
    entries = [content[6 + 16 * number : 22 + 16 * number] for number in range(count)]
    if not entries:
        raise InvalidImage("This ICO file is cut short; save it again and send all of it.")
    best = max(entries, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[6]))
    size, offset = struct.unpack_from("<II", best, 8)
    icon = content[offset : offset + size]
    if icon.startswith(PNG_SIGNATURE):
        return icon, "PNG"
    width, height = struct.unpack_from("<ii", icon.ljust(12, b"\0"), 4)
    require_pixels((abs(width), abs(height)), min(max_pixels, MAX_ICON_PIXELS))
    single = content[:4] + b"\1\0" + best[:12] + struct.pack("<I", 22) + icon
    return single, "ICO"


def _split_into_strips(decoded: DecodedImage, multiple: int) -> Iterator[tuple[int, Image.Image]]:
    """Yield the image from top to bottom in strips, each with its first row.

    The number of rows is a multiple of ``multiple``, except in the last strip.
    """
    width, height = decoded.size
    rows = max(_STRIP_PIXELS // width // multiple, 1) * multiple
    for top in range(0, height, rows):
        yield top, decoded.crop((0, top, width, min(height, top + rows)))


def _convert_strip(image: Image.Image, mode: Mode, background: int) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        backdrop = Image.new("RGB", image.size, (background,) * 3)
        backdrop.paste(image.convert("RGB"), mask=image.getchannel("A"))
        image = backdrop
    elif image.mode not in {"1", "L"}:
        image = image.convert("RGB")
    return image.convert(mode)


def _find_levels(decoded: DecodedImage) -> tuple[float, float]:
    """Return the values that become black and white."""
    image = decoded.image
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        return 0.0, _SIXTEEN_BITS
    ranges = [_find_range(np.asarray(strip)) for _, strip in _split_into_strips(decoded, 1)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    maxima = (1.0, _EIGHT_BITS) if image.mode == "F" else (_EIGHT_BITS, _SIXTEEN_BITS)
    for white in maxima:
        if low >= 0 and high <= white:
            return 0.0, white
    return low, high


def _find_range(values: npt.NDArray[np.generic]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _to_eight_bits(image: Image.Image, levels: tuple[float, float], background: int) -> Image.Image:
    """Convert a strip of 16-bit, 32-bit or floating-point gray to eight bits."""
    low, high = levels
    values = np.asarray(image).astype(np.float64)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low or 1.0)
    pixels = np.floor(np.clip(scaled, 0, 1) * _EIGHT_BITS + 0.5).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        pixels[values == transparent] = background
    return Image.fromarray(pixels)
