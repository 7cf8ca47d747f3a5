"""Read an image file as the input of a model, in training and in serving.

Images are resized with a triangle filter (bilinear, antialiased). An image that is more than six
times too large is first averaged in blocks, to no less than three times the size, and a large JPEG
is decoded at a reduced size; neither makes a visible difference.
"""

from io import BytesIO
from math import ceil, prod
from struct import pack
from typing import NamedTuple, Self
from zlib import crc32

import numpy as np
import numpy.typing as npt
from PIL import Image, __version__
from PIL.JpegImagePlugin import JpegImageFile

from service.bundle.manifest import ImageInput
from service.filetypes import PNG_SIGNATURE
from service.imaging.decode import (
    SWAPS_SIDES,
    DecodedImage,
    Mode,
    convert,
    open_image,
    read_orientation,
)
from service.imaging.digits import match_normalized, normalize_digit, to_array
from service.imaging.limits import (
    BYTES_PER_PIXEL,
    MAX_PIXELS,
    InvalidImage,
    require_memory,
    require_pixels,
)
from service.imaging.segmentation import NoForeground

DECODER = f"Pillow {__version__}, rule 1"

# How many times the final size is left for the filter (see Pillow's reducing_gap).
_GAP = 3.0
# In a much larger block, Pillow's sum over the pixels loses its last bit.
_LARGEST_BLOCK = 128
# Above it, decoding takes longer than everything else in a request.
_SMALL_PIXELS = 64 * 64
# The longer side at which digits are segmented; a pen's stroke is a few of these pixels wide.
_DIGIT_SIDE = 400


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return pack(">I", len(data)) + kind + data + pack(">I", crc32(kind + data))


_PNG_END = _png_chunk(b"IEND", b"")
# The end, and the checksum of the pixels before it, which Pillow does not read either.
_PNG_TAIL_BYTES = 4 + len(_PNG_END)


class _Fit(NamedTuple):
    """The part of an image that is used, as left, top, right, bottom, and its final size."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]

    @property
    def factors(self) -> tuple[float, float]:
        """Pixels of the image for each pixel of the result, by width and height."""
        left, top, right, bottom = self.box
        return (right - left) / self.size[0], (bottom - top) / self.size[1]

    @property
    def blocks(self) -> tuple[int, int]:
        """Columns and rows of the blocks that are averaged before the filter."""
        across, down = (min(max(int(factor / _GAP), 1), _LARGEST_BLOCK) for factor in self.factors)
        return across, down


def read_image(
    content: bytes, spec: ImageInput, max_pixels: int = MAX_PIXELS
) -> npt.NDArray[np.uint8]:
    """Read an image file as the input of a model, uint8 ``[height, width, channels]``."""
    gray = SmallPngReader(spec, max_pixels).read(content)
    return InputImage.open(content, spec, max_pixels).read() if gray is None else gray[:, :, None]


class SmallPngReader:
    """Reads small gray PNG files of the model's own size, faster than `InputImage`.

    Such a file usually has three chunks: its header, which is always the same, the pixels, and the
    end. Only these files are read, so no chunk can change or rotate the pixels.
    """

    def __init__(self, spec: ImageInput, max_pixels: int = MAX_PIXELS) -> None:
        is_small = spec.height * spec.width <= min(max_pixels, _SMALL_PIXELS)
        self._is_supported = spec.channels == 1 and is_small
        self._size = spec.width, spec.height
        # Eight bits of gray, not interlaced.
        header = _png_chunk(b"IHDR", pack(">IIBBBBB", *self._size, 8, 0, 0, 0, 0))
        self._start = PNG_SIGNATURE + header
        self._normalizes = spec.normalize == "digit"

    def read(self, content: bytes) -> npt.NDArray[np.uint8] | None:
        """Return the pixels ``[height, width]``, as `InputImage` does; None for any other file."""
        if not (self._is_supported and content.startswith(self._start)):
            return None
        offset = len(self._start)
        data = content[offset + 8 : -_PNG_TAIL_BYTES]
        if content[offset : offset + 8] != pack(">I4s", len(data), b"IDAT"):
            return None
        if not content.endswith(_PNG_END):
            return None
        try:
            image = Image.frombytes("L", self._size, data, "zip", "L")
        except ValueError:
            return None  # `InputImage` reports the reason
        return match_normalized(image) if self._normalizes else to_array(image)


class InputImage:
    """An image of any format, mode, size and orientation, before decoding.

    Args:
        kind: the name of the format.
        image: the image with its header read, set to be decoded at a reduced size where possible.
        spec: the model's.
        memory: that decoding takes, in bytes.
    """

    def __init__(self, kind: str, image: Image.Image, spec: ImageInput, memory: int) -> None:
        self._kind = kind
        self._image = image
        self._spec = spec
        self.memory = memory
        self.pixels = image.width * image.height

    @classmethod
    def open(cls, content: bytes, spec: ImageInput, max_pixels: int = MAX_PIXELS) -> Self:
        """Read the header of an image file and check it against the limits.

        Decoding may take at most the memory of a color image with ``max_pixels`` pixels, so the
        limit is lower for formats whose decoders take more. Raise `InvalidImage` if the file is not
        an image, not of a supported format, damaged, or too large.
        """
        kind, image, memory = open_image(content, max_pixels)
        size = image.size
        if isinstance(image, JpegImageFile):
            _draft(image, spec)
        require_pixels(image.size, max_pixels)
        # The fewest pixels that become one before the filter, in either orientation.
        sides = image.size, image.size[::-1]
        least_block = min(prod(_fit_image(turned, spec).blocks) for turned in sides)
        pixels = image.width * image.height
        memory += BYTES_PER_PIXEL * (pixels + pixels // least_block)
        require_memory(kind, size, memory, max_pixels)
        return cls(kind, image, spec, memory)

    @classmethod
    def from_pixels(cls, pixels: npt.NDArray[np.uint8], spec: ImageInput) -> Self:
        """Create an image from pixels ``[height, width]`` or with 1, 3 or 4 channels."""
        pixels = pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return cls("pixels", image, spec, pixels.nbytes)

    def read(self) -> npt.NDArray[np.uint8]:
        """Return the input of the model, uint8 ``[height, width, channels]``. Call it once.

        Raise `InvalidImage` if the image is damaged, or shows no digit where the model needs one.
        """
        spec = self._spec
        decoded = DecodedImage(self._kind, self._image)
        if spec.normalize == "digit":
            return _read_digit(decoded, spec)[:, :, None].repeat(spec.channels, axis=2)
        mode: Mode = "L" if spec.channels == 1 else "RGB"
        # A reduced JPEG has its sides rounded up, so the fit depends on what was decoded.
        fitted = _resize(decoded, mode, spec.background, _fit_image(decoded.size, spec))
        pixels = _pad(fitted, spec).tobytes()
        return np.ndarray((spec.height, spec.width, spec.channels), np.uint8, pixels)


def create_example_image(spec: ImageInput) -> bytes:
    """Create a PNG file for a model: a light bar, like a one, on a dark background."""
    pixels = np.zeros((spec.height, spec.width), np.uint8)
    left, top = spec.width * 12 // 28, spec.height * 4 // 28
    pixels[top : spec.height - top, left : spec.width - left] = 255
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _fit_image(size: tuple[int, int], spec: ImageInput) -> _Fit:
    width, height = size
    if spec.normalize == "digit":  # for segmentation
        return _scale_image(size, min(_DIGIT_SIDE / max(size), 1.0))
    ratios = spec.width / width, spec.height / height
    if spec.fit == "pad":
        return _scale_image(size, min(ratios))
    left = top = 0.0
    if spec.fit == "crop":
        scale = max(ratios)
        left = max((width - spec.width / scale) / 2, 0.0)
        top = max((height - spec.height / scale) / 2, 0.0)
    return _Fit((left, top, width - left, height - top), (spec.width, spec.height))


def _scale_image(size: tuple[int, int], scale: float) -> _Fit:
    width, height = size
    scaled = max(round(width * scale), 1), max(round(height * scale), 1)
    return _Fit((0, 0, width, height), scaled)


def _draft(file: JpegImageFile, spec: ImageInput) -> None:
    """Decode a large JPEG at a half, a quarter or an eighth of its size, if that is enough."""
    swapped = read_orientation(file) in SWAPS_SIDES
    size = (file.height, file.width) if swapped else file.size
    least = min(_fit_image(size, spec).factors) / _GAP
    if least >= 2:  # noqa: PLR2004 - the first such step
        file.draft(None, (ceil(file.width / least), ceil(file.height / least)))


def _resize(decoded: DecodedImage, mode: Mode, background: int, fit: _Fit) -> Image.Image:
    if fit == _Fit((0, 0, *decoded.size), decoded.size):
        return convert(decoded, mode, background, (1, 1))
    across, down = fit.blocks
    reduced = convert(decoded, mode, background, (across, down))
    left, top, right, bottom = fit.box
    box = (left / across, top / down, right / across, bottom / down)
    return reduced.resize(fit.size, Image.Resampling.BILINEAR, box)


def _pad(image: Image.Image, spec: ImageInput) -> Image.Image:
    if image.size == (spec.width, spec.height):
        return image
    backdrop = (spec.background,) * spec.channels
    padded = Image.new(image.mode, (spec.width, spec.height), backdrop)
    padded.paste(image, ((spec.width - image.width) // 2, (spec.height - image.height) // 2))
    return padded


def _read_digit(decoded: DecodedImage, spec: ImageInput) -> npt.NDArray[np.uint8]:
    backgrounds = [spec.background]
    if decoded.image.has_transparency_data:
        backgrounds.append(255 - spec.background)  # the drawing may be light or dark
    fit = _fit_image(decoded.size, spec)
    for background in backgrounds:
        try:
            gray = _resize(decoded, "L", background, fit)
            return normalize_digit(gray, spec.height, spec.width)
        except NoForeground:
            continue
    raise InvalidImage(
        "No foreground is found in this image; send one of a single digit that stands out from its "
        "background."
    )
