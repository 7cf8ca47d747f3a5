"""A picture file as the pixels that a model sees: one rule, in training and in serving alike.

The filter is the triangle (bilinear) over all the pixels that a new one covers. What is more than
six times too large is first averaged in whole blocks, to no less than three times the size, and a
JPEG decoded no larger than that; neither can be seen in the result.
"""

from io import BytesIO
from math import ceil
from typing import Literal, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, __version__
from PIL.JpegImagePlugin import JpegImageFile

from service.digits import normalised_already, normalised_digit
from service.ink import NoInk
from service.picture_files import SIDEWAYS, PictureRefused, open_picture, orientation, upright
from service.picture_modes import Plain, flattened, has_transparency
from service.plain_png import PlainPng

__all__ = [
    "DECODER",
    "MAX_PIXELS",
    "Picture",
    "PictureRefused",
    "PlainReader",
    "Rule",
    "example_picture",
    "read_picture",
]

DECODER = f"Pillow {__version__}, rule 1"
MAX_PIXELS = 8192 * 8192

# How many times the wanted size is left for the filter (see Pillow's reducing_gap).
_GAP = 3.0
# Pillow's sum over a block loses its last bit where that has many more pixels than this squared.
_LARGEST_BLOCK = 128
# Above it, decoding takes longer than everything around it.
_SMALL_PIXELS = 64 * 64
# The longer side at which ink is looked for; a pen's stroke is a few of these pixels.
_DIGIT_SIDE = 400


class Rule(Protocol):
    """What a manifest says about pictures; `service.bundle.inputs.ImageInput` is one."""

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
        """How a picture of another shape is fitted."""

    @property
    def background(self) -> int:
        """The grey around a padded picture and behind transparent places, 0 to 255."""

    @property
    def normalise(self) -> Literal["none", "digit"]:
        """Whether ink is found, scaled and centred as in MNIST."""


class _Placement(NamedTuple):
    """The part of a picture that is kept, as left, top, right, bottom, and the size it gets."""

    box: tuple[float, float, float, float]
    size: tuple[int, int]

    def is_whole(self, size: tuple[int, int]) -> bool:
        """Whether all of a picture of this size is kept."""
        return self.box == (0.0, 0.0, *size)

    @property
    def factors(self) -> tuple[float, float]:
        """How many pixels of the picture make one, by width and height."""
        left, top, right, bottom = self.box
        return (right - left) / self.size[0], (bottom - top) / self.size[1]


def read_picture(content: bytes, rule: Rule, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """The pixels of a picture file, as `Picture` reads them."""
    plain = PlainReader(rule, max_pixels).read(content)
    return Picture.open(content, max_pixels).read(rule) if plain is None else plain[:, :, None]


class PlainReader:
    """Reads small grey files that are as the model wants them already, in a third of the time.

    Args:
        rule: of the model.
        max_pixels: a larger picture is left to `Picture`, which refuses it.
    """

    def __init__(self, rule: Rule, max_pixels: int = MAX_PIXELS) -> None:
        is_small = rule.height * rule.width <= min(max_pixels, _SMALL_PIXELS)
        self._png = PlainPng(rule.height, rule.width) if rule.channels == 1 and is_small else None
        self._normalises = rule.normalise == "digit"

    def read(self, content: bytes) -> npt.NDArray[np.uint8] | None:
        """The pixels ``[height, width]`` that `Picture` reads; None of any other file."""
        found = None if self._png is None else self._png.read(content)
        if found is None:
            return None
        grey, extent = found
        return normalised_already(grey, extent) if self._normalises else grey


class Picture:
    """A picture of any format, mode, size and orientation, not yet decoded.

    Args:
        kind: what sentences call its file.
        image: opened.
    """

    def __init__(self, kind: str, image: Image.Image) -> None:
        self._kind = kind
        self._image = image

    @classmethod
    def open(cls, content: bytes, max_pixels: int = MAX_PIXELS) -> Self:
        """A picture of this file, whose header is read and held against the limit.

        Args:
            content: the whole file.
            max_pixels: a picture whose header promises more is refused.

        Raises:
            PictureRefused: it is no picture that is read here, damaged, or too large.
        """
        return cls(*open_picture(content, max_pixels))

    @classmethod
    def of(cls, pixels: npt.NDArray[np.uint8]) -> Self:
        """A picture of pixels, ``[height, width]`` or with 1, 3 or 4 channels (grey to RGBA)."""
        plain = pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels
        return cls("pixels", Image.fromarray(np.ascontiguousarray(plain)))

    @property
    def pixels(self) -> int:
        """As its header promises."""
        return self._image.width * self._image.height

    def read(self, rule: Rule) -> npt.NDArray[np.uint8]:
        """What a model of this rule sees, uint8 ``[height, width, channels]``; to be called once.

        Raises:
            PictureRefused: it is damaged, or shows no digit where one is looked for.
        """
        if isinstance(self._image, JpegImageFile):
            _draft(self._image, rule)
        image = upright(self._kind, self._image)
        if rule.normalise == "digit":
            pixels = _digit(image, rule)[:, :, None]
            return pixels if rule.channels == 1 else pixels.repeat(rule.channels, axis=2)
        mode: Plain = "L" if rule.channels == 1 else "RGB"
        # A draft's sides are rounded up, so what is kept is told from what was decoded.
        fitted = _scaled(image, mode, rule.background, _placement(image.size, rule))
        pixels = np.asarray(_framed(fitted, rule))
        return pixels.reshape(rule.height, rule.width, rule.channels)


def example_picture(rule: Rule) -> bytes:
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
    placed = _within(size) if rule.normalise == "digit" else _placement(size, rule)
    least = min(placed.factors) / _GAP
    if least >= 2:  # noqa: PLR2004 - the first such step
        file.draft(None, (ceil(file.width / least), ceil(file.height / least)))


def _scaled(image: Image.Image, mode: Plain, background: int, placed: _Placement) -> Image.Image:
    if image.size == placed.size and placed.is_whole(image.size):
        return flattened(image, mode, background, (1, 1))
    across, down = (min(max(int(factor / _GAP), 1), _LARGEST_BLOCK) for factor in placed.factors)
    plain = flattened(image, mode, background, (across, down))
    left, top, right, bottom = placed.box
    box = (left / across, top / down, right / across, bottom / down)
    return plain.resize(placed.size, Image.Resampling.BILINEAR, box)


def _framed(image: Image.Image, rule: Rule) -> Image.Image:
    """The picture in the middle of the model's own size."""
    if image.size == (rule.width, rule.height):
        return image
    behind = (rule.background,) * rule.channels if rule.channels > 1 else rule.background
    framed = Image.new(image.mode, (rule.width, rule.height), behind)
    framed.paste(image, ((rule.width - image.width) // 2, (rule.height - image.height) // 2))
    return framed


def _digit(image: Image.Image, rule: Rule) -> npt.NDArray[np.uint8]:
    # Behind a transparent drawing belongs whatever its ink stands out from.
    behind = (rule.background, 255 - rule.background)[: 1 + has_transparency(image)]
    for background in behind:
        grey = np.asarray(_scaled(image, "L", background, _within(image.size)))
        try:
            return normalised_digit(grey, rule.height, rule.width)
        except NoInk:
            continue
    raise PictureRefused(
        "No ink is found in this picture; send one of a single digit that stands out from its "
        "background."
    )


def _within(size: tuple[int, int]) -> _Placement:
    """All of the picture, made smaller where it is larger than ink needs."""
    width, height = size
    scale = min(_DIGIT_SIDE / max(size), 1.0)
    inner = max(round(width * scale), 1), max(round(height * scale), 1)
    return _Placement((0.0, 0.0, float(width), float(height)), inner)
