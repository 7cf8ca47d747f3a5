"""An image file as the pixels that a model sees: one rule, in training and in serving alike.

The filter is the triangle (bilinear) over all the pixels that a new one covers. What is more than
six times too large is first averaged in whole blocks, to no less than three times the size, and a
JPEG decoded no larger than that; neither can be seen in the result.
"""

from io import BytesIO
from math import ceil, prod
from struct import pack
from typing import Literal, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, __version__
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from service.filetypes import PNG_SIGNATURE
from service.imaging.decode import (
    SIDEWAYS,
    DecodedImage,
    Plain,
    decoder_errors,
    flattened,
    has_transparency,
    open_image,
    orientation,
)
from service.imaging.digits import normalized_already, normalized_digit
from service.imaging.limits import (
    BYTES_PER_PIXEL,
    MAX_PIXELS,
    InvalidImage,
    require_memory,
    require_pixels,
)
from service.imaging.segmentation import NoForeground

__all__ = [
    "DECODER",
    "MAX_PIXELS",
    "InputImage",
    "InvalidImage",
    "Rule",
    "SmallPngReader",
    "example_image",
    "read_image",
]

DECODER = f"Pillow {__version__}, rule 1"

# How many times the wanted size is left for the filter (see Pillow's reducing_gap).
_GAP = 3.0
# Pillow's sum over a block loses its last bit where that has many more pixels than this squared.
_LARGEST_BLOCK = 128
# Above it, decoding takes longer than everything around it.
_SMALL_PIXELS = 64 * 64
# The longer side at which ink is looked for; a pen's stroke is a few of these pixels.
_DIGIT_SIDE = 400


class Rule(Protocol):
    """What a manifest says about images; `service.bundle.manifest.ImageInput` is one."""

    @property
    def height(self) -> int:
        """In pixels."""

    @property
    def width(self) -> int:
        """In pixels."""

    @property
    def channels(self) -> Literal[1, 3]:
        """Grey, or red, green and blue."""

    @property
    def fit(self) -> Literal["stretch", "crop", "pad"]:
        """How an image of another shape is fitted."""

    @property
    def background(self) -> int:
        """The grey around a padded image and behind transparent places, 0 to 255."""

    @property
    def normalize(self) -> Literal["none", "digit"]:
        """Whether the foreground is found, scaled and centred as in MNIST."""


class _Placement(NamedTuple):
    """The part of an image that is kept, as left, top, right, bottom, and the size it gets."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]

    def is_whole(self, size: tuple[int, int]) -> bool:
        """Whether all of an image of this size is kept."""
        return self.box == (0.0, 0.0, *size)

    @property
    def factors(self) -> tuple[float, float]:
        """How many pixels of the image make one, by width and height."""
        left, top, right, bottom = self.box
        return (right - left) / self.size[0], (bottom - top) / self.size[1]

    @property
    def blocks(self) -> tuple[int, int]:
        """The columns and rows of the blocks that are averaged before the filter."""
        across, down = (min(max(int(factor / _GAP), 1), _LARGEST_BLOCK) for factor in self.factors)
        return across, down


def read_image(content: bytes, rule: Rule, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """What a model of this rule sees of an image file, as `InputImage` has it."""
    plain = SmallPngReader(rule, max_pixels).read(content)
    return InputImage.open(content, rule, max_pixels).read() if plain is None else plain[:, :, None]


class SmallPngReader:
    """Reads small grey PNG files of the model's own size, faster than `InputImage`.

    Args:
        rule: of the model.
        max_pixels: a larger image is left to `InputImage`, which refuses it.
    """

    def __init__(self, rule: Rule, max_pixels: int = MAX_PIXELS) -> None:
        is_small = rule.height * rule.width <= min(max_pixels, _SMALL_PIXELS)
        self._takes = rule.channels == 1 and is_small
        self._size = rule.width, rule.height
        # The signature, the size, eight bits of grey.
        self._head = PNG_SIGNATURE + b"\0\0\0\rIHDR" + pack(">IIBB", *self._size, 8, 0)
        self._normalizes = rule.normalize == "digit"

    def read(self, content: bytes) -> npt.NDArray[np.uint8] | None:
        """The pixels ``[height, width]`` that `InputImage` reads; None of any other file."""
        if not (self._takes and content.startswith(self._head)):
            return None
        try:
            with decoder_errors("PNG"):
                image = PngImageFile(BytesIO(content))
                pixels = image.tobytes()
        except InvalidImage:
            return None  # `InputImage` says why
        if image.size != self._size or image.mode != "L" or image.info:
            return None  # a chunk that may change pixels or turn them
        grey = np.ndarray(self._size[::-1], np.uint8, pixels)
        if not self._normalizes:
            return grey
        left, top, right, bottom = image.getbbox() or (0, 0, 0, 0)
        return normalized_already(grey, (bottom - top, right - left))


class InputImage:
    """An image of any format, mode, size and orientation, not yet decoded.

    Args:
        kind: what sentences call its file.
        image: with its header read, and set to be decoded at a part of its size where that does.
        rule: of the model that is to see it.
        memory: that decoding takes, in bytes.
    """

    def __init__(self, kind: str, image: Image.Image, rule: Rule, memory: int) -> None:
        self._kind = kind
        self._image = image
        self._rule = rule
        self.memory = memory
        self.pixels = image.width * image.height

    @classmethod
    def open(cls, content: bytes, rule: Rule, max_pixels: int = MAX_PIXELS) -> Self:
        """An image of this file, whose header is read and held against the limits.

        Args:
            content: the whole file.
            rule: of the model that is to see it.
            max_pixels: the limit. The memory that decoding takes is at most that of an image in
                colour of so many pixels, so formats whose decoders take more have a part of it.

        Raises:
            InvalidImage: it is no image that is read here, damaged, or too large.
        """
        kind, image, memory = open_image(content, max_pixels)
        size = image.size
        if isinstance(image, JpegImageFile):
            _draft(image, rule)
        require_pixels(image.size, max_pixels)
        pixels = image.width * image.height
        memory += BYTES_PER_PIXEL * (pixels + pixels // _averaged(image.size, rule))
        require_memory(kind, size, memory, max_pixels)
        return cls(kind, image, rule, memory)

    @classmethod
    def of(cls, pixels: npt.NDArray[np.uint8], rule: Rule) -> Self:
        """An image of pixels, ``[height, width]`` or with 1, 3 or 4 channels (grey to RGBA)."""
        plain = pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels
        image = Image.fromarray(np.ascontiguousarray(plain))
        return cls("pixels", image, rule, pixels.nbytes)

    def read(self) -> npt.NDArray[np.uint8]:
        """What the model sees, uint8 ``[height, width, channels]``; to be called once.

        Raises:
            InvalidImage: it is damaged, or shows no digit where one is looked for.
        """
        rule = self._rule
        decoded = DecodedImage(self._kind, self._image)
        if rule.normalize == "digit":
            pixels = _digit(decoded, rule)[:, :, None]
            return pixels if rule.channels == 1 else pixels.repeat(rule.channels, axis=2)
        mode: Plain = "L" if rule.channels == 1 else "RGB"
        # A draft's sides are rounded up, so the placement follows from what was decoded.
        fitted = _scaled(decoded, mode, rule.background, _placed(decoded.size, rule))
        return _array(_framed(fitted, rule), rule.channels)


def example_image(rule: Rule) -> bytes:
    """A PNG file that a model of this rule takes: a light bar, a one, on dark."""
    pixels = np.zeros((rule.height, rule.width), np.uint8)
    left, top = rule.width * 12 // 28, rule.height * 4 // 28
    pixels[top : rule.height - top, left : rule.width - left] = 255
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _placement(size: tuple[int, int], rule: Rule) -> _Placement:
    width, height = size
    whole = (0.0, 0.0, float(width), float(height))
    ratios = rule.width / width, rule.height / height
    if rule.fit == "pad":
        scale = min(ratios)
        inner = max(round(width * scale), 1), max(round(height * scale), 1)
        return _Placement(whole, inner)
    if rule.fit == "crop":
        scale = max(ratios)
        left = max((width - rule.width / scale) / 2, 0.0)
        top = max((height - rule.height / scale) / 2, 0.0)
        return _Placement((left, top, width - left, height - top), (rule.width, rule.height))
    return _Placement(whole, (rule.width, rule.height))


def _draft(file: JpegImageFile, rule: Rule) -> None:
    """Let a large JPEG be decoded at a half, a quarter or an eighth of its size, if that does."""
    sideways = orientation(file) in SIDEWAYS
    size = (file.height, file.width) if sideways else file.size
    least = min(_placed(size, rule).factors) / _GAP
    if least >= 2:  # noqa: PLR2004 - the first such step
        file.draft(None, (ceil(file.width / least), ceil(file.height / least)))


def _averaged(size: tuple[int, int], rule: Rule) -> int:
    """How many pixels are averaged into one before the filter, at least, however it is turned."""
    return min(prod(_placed(sides, rule).blocks) for sides in (size, size[::-1]))


def _placed(size: tuple[int, int], rule: Rule) -> _Placement:
    return _within(size) if rule.normalize == "digit" else _placement(size, rule)


def _scaled(decoded: DecodedImage, mode: Plain, background: int, placed: _Placement) -> Image.Image:
    if decoded.size == placed.size and placed.is_whole(decoded.size):
        return flattened(decoded, mode, background, (1, 1))
    across, down = placed.blocks
    plain = flattened(decoded, mode, background, (across, down))
    left, top, right, bottom = placed.box
    box = (left / across, top / down, right / across, bottom / down)
    return plain.resize(placed.size, Image.Resampling.BILINEAR, box)


def _array(image: Image.Image, channels: int) -> npt.NDArray[np.uint8]:
    """The pixels ``[height, width, channels]``; in half of the time that `numpy.asarray` takes."""
    return np.ndarray((image.height, image.width, channels), np.uint8, image.tobytes())


def _framed(image: Image.Image, rule: Rule) -> Image.Image:
    """The image in the middle of the model's own size."""
    if image.size == (rule.width, rule.height):
        return image
    behind = (rule.background,) * rule.channels if rule.channels > 1 else rule.background
    framed = Image.new(image.mode, (rule.width, rule.height), behind)
    framed.paste(image, ((rule.width - image.width) // 2, (rule.height - image.height) // 2))
    return framed


def _digit(decoded: DecodedImage, rule: Rule) -> npt.NDArray[np.uint8]:
    # Behind a transparent drawing belongs whatever its ink stands out from.
    behind = (rule.background, 255 - rule.background)[: 1 + has_transparency(decoded)]
    for background in behind:
        grey = _array(_scaled(decoded, "L", background, _within(decoded.size)), 1)[:, :, 0]
        try:
            return normalized_digit(grey, rule.height, rule.width)
        except NoForeground:
            continue
    raise InvalidImage(
        "No foreground is found in this image; send one of a single digit that stands out from its "
        "background."
    )


def _within(size: tuple[int, int]) -> _Placement:
    """All of the image, made smaller where it is larger than ink needs."""
    width, height = size
    scale = min(_DIGIT_SIDE / max(size), 1.0)
    inner = max(round(width * scale), 1), max(round(height * scale), 1)
    return _Placement((0.0, 0.0, float(width), float(height)), inner)
