"""A model's images: whatever was sent in, one checked uint8 tensor out.

An image comes as a file's bytes, as text in base64, or as pixels. What is wrong is reported for
every image at once, before anything is queued. Large images are decoded in threads of their
own, few enough that their memory has a bound.
"""

import asyncio
import base64
import re
import struct
import threading
from binascii import a2b_base64
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from math import prod
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import ImageInput, input_shape
from service.codecs.json_numbers import Numbers
from service.codecs.messages import Findings
from service.engine.dtypes import Arrays, Inputs
from service.errors import InvalidRequest, Problem
from service.imaging.preprocess import InputImage, InvalidImage, SmallPngReader, example_image
from service.imaging.priority import lower_priority
from service.limits import Limits
from service.values import listed, shown

KEY = "image"
_BASE64 = "b64"
# {"image": {"b64": "..."}} is what clients of several protocols make of one image.
_MOST_WRAPPERS = 2
_DATA_URL = re.compile(r"data:[^,]{0,200}?(;base64)?,", re.IGNORECASE)
_WEB = re.compile(r"(?:https?|ftp|file|blob):", re.IGNORECASE)
# White space between the lines of an e-mail, and the alphabet for addresses (RFC 4648).
_PLAIN = str.maketrans("-_", "+/", " \t\r\n")

# What takes longer to decode than a thread's hand-over costs, and holds up the event loop.
_MOST_BYTES_AT_ONCE = 64 * 1024
_MOST_PIXELS_AT_ONCE = 300_000
# A plain file of the few pixels that `SmallPngReader` reads is no longer than this, in base64 too.
_MOST_PLAIN_BYTES = 16 * 1024
# Looking for ink takes longer than any decoding.
_MOST_DIGIT_PIXELS_AT_ONCE = 4096
# Images that take no more memory to decode share these threads. Larger ones wait for a thread of
# their own, one at a time, so that they neither add up nor hold up the others.
_MOST_SHARED_BYTES = 16 << 20
_SHARED_THREADS = 2

# Of an image's own pixels, and how many each may have: grey, colour, or colour and alpha.
_AXES = 3
_CHANNELS = {1, 3, 4}
_WHITE = 255
_NUMBERS = {int, float}

Pixels = npt.NDArray[np.uint8]
Place = Callable[[int], str]
Opened = InputImage | Pixels


class Decoding:
    """What an app allows images to take: pixels each, bytes all together, and threads.

    Args:
        max_pixels: of one image, as its header states.
        max_bytes: of one request's images at the model's own size.
        limits: on the parts of a form.
    """

    def __init__(self, max_pixels: int, max_bytes: int, limits: Limits) -> None:
        self.max_pixels = max_pixels
        self.max_bytes = max_bytes
        self.limits = limits
        self.shared = ThreadPoolExecutor(_SHARED_THREADS, "images", lower_priority)
        self.large = ThreadPoolExecutor(1, "large-images", lower_priority)


class ImageCodec:
    """Turns images into the tensor that a model takes, by the rule of its manifest."""

    def __init__(self, rule: ImageInput, decoding: Decoding) -> None:
        self._rule = rule
        self._shape = input_shape(rule)
        self._one = 1, *self._shape
        self._count = prod(self._shape)
        self._decoding = decoding
        self._plain_files = SmallPngReader(rule, decoding.max_pixels)
        digits = rule.normalize == "digit"
        self._most_pixels_at_once = _MOST_DIGIT_PIXELS_AT_ONCE if digits else _MOST_PIXELS_AT_ONCE

    @cached_property
    def example(self) -> dict[str, str]:
        """An image that this model takes."""
        return {KEY: base64.b64encode(example_image(self._rule)).decode()}

    def is_single(self, data: Sequence[Any]) -> bool:
        """Whether nested numbers are the pixels of one image, rather than several images."""
        shape = _nesting(data)
        if not shape or self._is_own(shape[1:]):
            return False
        return len(shape) < _AXES or self._is_own(shape) or _is_colour(shape)

    def read(self, given: Sequence[Any] | Pixels, place: Place) -> Inputs:
        """The tensor ``[images, height, width, channels]``, or what makes it in a thread.

        Args:
            given: each image, in any form that `read_source` knows; at least one. Or the tensor,
                as `numbers` has it.
            place: how the sentence about an image begins.

        Raises:
            InvalidInput: some are no images that are read here; says which.
            InvalidRequest: they are too many.
        """
        if isinstance(given, np.ndarray):
            return (given,)
        if len(given) == 1 and (pixels := self._plain(given[0])) is not None:
            return (pixels,)
        self.require_room(len(given))
        reading = _Reading(self._opened, given, place)
        if sum(map(weight, given)) <= _MOST_BYTES_AT_ONCE:
            left = self._most_pixels_at_once

            def is_small(image: InputImage) -> bool:
                nonlocal left
                left -= image.pixels
                return left >= 0

            if reading.proceed(is_small):
                return (reading.tensor(),)
        return partial(self._in_threads, reading)

    def file(self, content: bytes) -> Pixels | None:
        """The tensor of one image's file that is small and plain, as `read` has it.

        None of any other, at which `read` must look closer.
        """
        if len(content) > _MOST_PLAIN_BYTES:
            return None
        pixels = self._plain_files.read(content)
        return None if pixels is None else pixels.reshape(self._one)

    def _plain(self, given: Any) -> Pixels | None:  # noqa: ANN401 - JSON is any of its types
        """The tensor of what needs neither Pillow nor a rule; None where more must be looked at."""
        if not isinstance(given, bytes):
            given = bare(given) if weight(given) <= _MOST_PLAIN_BYTES else None
        if isinstance(given, bytes):
            return self.file(given)
        if not isinstance(given, list) or len(given) != self._count:
            return None
        pixels = flat_pixels(given)
        return None if pixels is None else pixels.reshape(self._one)

    def numbers(self, given: Numbers | None) -> Pixels | None:
        """The tensor of images that were sent as flat rows of numbers, as `read` has them.

        None where they are not whole numbers from 0 to 255, or there are too many.
        """
        if given is None or given.shape[1] != self._count:
            return None
        if len(given) * self._count > self._decoding.max_bytes:
            return None
        pixels = whole_pixels(given)
        return None if pixels is None else pixels.reshape(-1, *self._shape)

    def require_parts(self, count: int) -> None:
        """Reject a form with so many parts.

        Raises:
            TooManyFormParts: they are too many for any request.
            InvalidRequest: they are too many for this model.
        """
        self._decoding.limits.require_form_parts(count)
        self.require_room(count)

    def require_room(self, count: int) -> None:
        """Refuse more images than a request may hold.

        Raises:
            InvalidRequest: this count is more.
        """
        most = self._decoding.max_bytes // prod(self._shape)
        if count > most:
            raise InvalidRequest(
                f"{count:,} images are too many for a request to this model, which takes "
                f"{most:,}; send fewer at a time, or ask the operator to raise "
                "ONWARD_MAX_BODY_BYTES."
            )

    def is_raw(self, content: memoryview) -> bool:
        """Whether bytes are the model's own pixels, rather than an image's file."""
        return len(content) == prod(self._shape)

    async def _in_threads(self, reading: "_Reading") -> Arrays:
        """Read the images in threads, which stop at the next one when the client has gone."""
        run = asyncio.get_running_loop().run_in_executor
        try:
            if not await run(self._decoding.shared, reading.proceed, _is_shared):
                await run(self._decoding.large, reading.proceed)
        finally:
            reading.abandoned.set()
        return (reading.tensor(),)

    def _opened(self, given: Any) -> Opened:  # noqa: ANN401 - as above
        source = read_source(given)
        if isinstance(source, bytes):
            return InputImage.open(source, self._rule, self._decoding.max_pixels)
        if self._is_own(source.shape):
            return source.reshape(self._shape)
        if source.ndim == _AXES - 1 or _is_colour(source.shape):
            return InputImage.of(source, self._rule)
        height, width, channels = self._shape
        raise InvalidImage(
            f"Its pixels have the shape {list(source.shape)}; send {[height, width, channels]}, "
            f"or {prod(self._shape):,} numbers, or an image's file in base64."
        )

    def _is_own(self, shape: tuple[int, ...]) -> bool:
        """Whether pixels of this shape are the model's own."""
        height, width, channels = self._shape
        return shape in (self._shape, (prod(self._shape),)) or (
            channels == 1 and shape == (height, width)
        )


def read_source(given: Any) -> bytes | Pixels:  # noqa: ANN401 - JSON is any of its types
    """The bytes of an image's file, or its pixels.

    Raises:
        InvalidImage: it is neither, or its text cannot be read.
    """
    given = _unwrapped(given)
    if isinstance(given, bytes):
        return given
    if isinstance(given, str):
        return _file(given)
    if isinstance(given, list):
        return read_pixels(given)
    if isinstance(given, dict):
        got = f"an object of {listed(list(given)) or 'nothing'}"
    else:
        got = shown(given)
    raise InvalidImage(f'Send {{"{KEY}": "the file in base64"}}, or its pixels; got {got}.')


def bare(given: Any) -> Any:  # noqa: ANN401 - as above
    """A file's bytes or a list, taken out of what may be around it; anything else as it is."""
    given = _unwrapped(given)
    if not isinstance(given, str):
        return given
    try:
        return _file(given)
    except InvalidImage:
        return given


def weight(given: Any) -> int:  # noqa: ANN401 - as above
    """About how many bytes of files there are to decode."""
    given = _unwrapped(given)
    return len(given) if isinstance(given, bytes | str) else 0


def read_pixels(data: Sequence[Any]) -> Pixels:
    """An array of nested lists, in the shape of their nesting.

    Raises:
        InvalidImage: they are ragged, or hold other than numbers from 0 to 255.
    """
    if not data:
        raise InvalidImage("It holds no pixels; send numbers from 0 to 255, row by row.")
    pixels = flat_pixels(data)
    return _checked(_numbers(data)) if pixels is None else pixels


def flat_pixels(data: Sequence[Any]) -> Pixels | None:
    """A flat list of whole numbers from 0 to 255, however written; None where it is not."""
    try:
        if type(data[0]) is int:
            return np.frombuffer(bytes(data), np.uint8)
        if type(data[0]) is not float:
            return None  # a list of booleans would pass for one of numbers
        # In 64 bits, for 32 round what is a little beyond an end to that end.
        numbers = np.frombuffer(struct.pack(f"{len(data)}d", *data))
    except (TypeError, ValueError, OverflowError, struct.error):
        return None
    return whole_pixels(numbers)


def whole_pixels(numbers: Numbers) -> Pixels | None:
    """Whole numbers from 0 to 255 as such; None where one is anything else."""
    if not (numbers.min() >= 0 and numbers.max() <= _WHITE):
        return None
    pixels = numbers.astype(np.uint8)
    return pixels if np.count_nonzero(pixels == numbers) == numbers.size else None


class _Reading:
    """The images of one request, read one after another, by one thread at a time.

    Args:
        open_image: makes pixels or an image of any form of one.
        given: each image, in any form.
        place: how the sentence about an image begins.
    """

    def __init__(
        self, open_image: Callable[[Any], Opened], given: Sequence[Any], place: Place
    ) -> None:
        self._open = open_image
        self._given = given
        self._place = place
        self._next = 0
        self._made: list[Pixels] = []
        self._found = Findings()
        self.abandoned = threading.Event()
        """Set when nobody waits for the images any more."""

    def proceed(self, fits: Callable[[InputImage], bool] = lambda _: True) -> bool:
        """Read images up to the first that does not fit; tells whether all have been read.

        That one is opened anew later: while it waits it must not hold what its decoder allocates.

        Raises:
            TimeoutError: nobody waits any more.
        """
        for number in range(self._next, len(self._given)):
            if self.abandoned.is_set():
                raise TimeoutError
            try:
                opened = self._open(self._given[number])
                if isinstance(opened, InputImage):
                    if not fits(opened):
                        return False
                    opened = opened.read()
                self._made.append(opened)
            except InvalidImage as error:
                row = number if len(self._given) > 1 else None
                self._found.add(1, [Problem(f"{self._place(number)}{error}", row)])
            self._next = number + 1
        return True

    def tensor(self) -> Pixels:
        """All images, ``[images, height, width, channels]``.

        Raises:
            InvalidInput: some were refused; says which.
        """
        self._found.raise_any()
        # A batch of one needs no copy.
        return self._made[0][None] if len(self._made) == 1 else np.stack(self._made)


def _is_shared(image: InputImage) -> bool:
    return image.memory <= _MOST_SHARED_BYTES


def _nesting(data: Any) -> tuple[int, ...]:  # noqa: ANN401 - as above
    """The lengths of nested lists of numbers, by their first items; none where they hold others."""
    lengths: list[int] = []
    while isinstance(data, list) and data:
        lengths.append(len(data))
        data = data[0]
    return tuple(lengths) if isinstance(data, int | float) else ()


def _is_colour(shape: Sequence[int]) -> bool:
    return len(shape) == _AXES and shape[-1] in _CHANNELS


def _unwrapped(given: Any) -> Any:  # noqa: ANN401 - as above
    """The image in objects of one key; anything else as it is."""
    for _ in range(_MOST_WRAPPERS):
        if not (isinstance(given, dict) and len(given) == 1):
            break
        ((key, value),) = given.items()
        if key not in (KEY, _BASE64):
            break
        given = value
    return given


def _file(text: str) -> bytes:
    if url := _DATA_URL.match(text):
        text = text[url.end() :]
        if not url[1]:
            return unquote_to_bytes(text)
    elif _WEB.match(text):
        raise InvalidImage(
            f"Addresses are not fetched, got {shown(text)}; send the image's file in base64."
        )
    with suppress(ValueError):
        return a2b_base64(text, strict_mode=True)  # as most clients write it, without a copy
    text = text.translate(_PLAIN).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise InvalidImage(
            f"Its text is not base64, got {shown(text)}; send the image's file in base64."
        ) from None


def _numbers(data: Sequence[Any]) -> npt.NDArray[np.float64]:
    # As objects first: next to a long text, numpy would give every number as much room.
    values = np.array(data, np.object_)
    kinds = set(map(type, values.ravel().tolist()))
    if list in kinds:
        raise InvalidImage(
            "Its pixels are ragged; send rows of the same length, or the image's file in base64."
        )
    if kinds - _NUMBERS:
        odd = next(value for value in values.ravel() if type(value) not in _NUMBERS)
        raise InvalidImage(f"A pixel is {shown(odd)}; pixels are numbers from 0 to {_WHITE}.")
    try:
        return values.astype(np.float64)
    except OverflowError:
        raise InvalidImage(
            f"A pixel is too large; pixels are numbers from 0 to {_WHITE}."
        ) from None


def _checked(numbers: npt.NDArray[np.float64]) -> Pixels:
    if not numbers.size:
        raise InvalidImage("It holds no pixels; send numbers from 0 to 255, row by row.")
    low, high = float(numbers.min()), float(numbers.max())
    if not (low >= 0 and high <= _WHITE):
        odd = high if low >= 0 else low
        raise InvalidImage(f"A pixel is {odd:g}; pixels are numbers from 0 to {_WHITE}.")
    rounded = np.rint(numbers)
    if high <= 1 and (rounded != numbers).any():
        raise InvalidImage(
            f"Its pixels lie between 0 and 1; send them from 0 to {_WHITE}, as files have them."
        )
    pixels: Pixels = rounded.astype(np.uint8)
    return pixels
