"""Decode the images of a request into one checked uint8 tensor.

An image is a file, base64 text, or pixels. The problems of all images are reported together, before
anything is queued. Large images are decoded in a few separate threads, so that their memory is
bounded.
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
from functools import partial
from math import prod
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import ImageInput, list_inputs
from service.codecs.json_reader import Numbers
from service.codecs.messages import ProblemCollector
from service.codecs.tensors import BASE64, convert_exactly
from service.engine.tensors import Arrays, Inputs
from service.errors import InvalidRequest, Problem
from service.imaging.decode import lower_priority
from service.imaging.limits import InvalidImage
from service.imaging.preprocess import InputImage, SmallPngReader
from service.limits import Limits
from service.values import format_value, join_values

KEY = "image"
# Some clients combine several protocols: {"image": {"b64": "..."}}.
_MAX_WRAPPERS = 2
_DATA_URL = re.compile(r"data:[^,]{0,200}?(;base64)?,", re.IGNORECASE)
_WEB = re.compile(r"(?:https?|ftp|file|blob):", re.IGNORECASE)
# White space from e-mails, and the alphabet for URLs (RFC 4648).
_PLAIN = str.maketrans("-_", "+/", " \t\r\n")

# Above these limits, decoding would delay the event loop longer than a switch to a thread.
_MAX_BYTES_AT_ONCE = 64 * 1024
_MAX_PIXELS_AT_ONCE = 300_000
# Files that `SmallPngReader` reads are no longer than this, in base64 too.
_MAX_PLAIN_BYTES = 16 * 1024
# Segmentation takes longer than decoding.
_MAX_DIGIT_PIXELS_AT_ONCE = 4096
# Images that take no more memory to decode share these threads. Larger ones wait for a separate
# thread, one at a time, so that their memory does not add up and they do not delay the others.
_MAX_SHARED_BYTES = 16 << 20
_SHARED_THREADS = 2

# The axes of an image in color, and the channels that it may have: gray, RGB or RGBA.
IMAGE_AXES = 3
CHANNELS = {1, 3, 4}
_WHITE = 255
_NUMBERS = {int, float}

Pixels = npt.NDArray[np.uint8]
Prefix = Callable[[int], str]
Opened = InputImage | Pixels


class DecodingPool:
    """Limits and threads for decoding images, shared by an app.

    Args:
        max_pixels: of one image, as declared in its header.
        max_bytes: of the images of one request at the model's own size.
        limits: on the parts of a form.
    """

    def __init__(self, max_pixels: int, max_bytes: int, limits: Limits) -> None:
        self.max_pixels = max_pixels
        self.max_bytes = max_bytes
        self.limits = limits
        self.shared = ThreadPoolExecutor(_SHARED_THREADS, "images", lower_priority)
        self.large = ThreadPoolExecutor(1, "large-images", lower_priority)


class ImageCodec:
    """Decodes images into the tensor of a model, with the preprocessing of its manifest."""

    names = frozenset({KEY})
    """The keys of objects with an image in them."""

    def __init__(self, spec: ImageInput, decoding: DecodingPool) -> None:
        self._spec = spec
        self._shape = list_inputs(spec)[0].shape
        self._batch_shape = -1, *self._shape
        self._count = prod(self._shape)
        self._decoding = decoding
        self._plain_files = SmallPngReader(spec, decoding.max_pixels)
        digits = spec.normalize == "digit"
        self._most_pixels_at_once = _MAX_DIGIT_PIXELS_AT_ONCE if digits else _MAX_PIXELS_AT_ONCE

    def is_single(self, data: Sequence[Any]) -> bool:
        """Return whether nested numbers are the pixels of one image, rather than several images."""
        shape = _nesting(data)
        if not shape or self._is_own(shape[1:]):
            return False
        return len(shape) < IMAGE_AXES or self._is_own(shape) or _is_color(shape)

    def takes(self, _: Any) -> bool:  # noqa: ANN401 - JSON is any of its types
        """Return whether values of a request are images, rather than the model's own tensor."""
        return True

    def decode(self, images: Sequence[Any] | Pixels, prefix: Prefix) -> Inputs:
        """Decode images into a tensor ``[images, height, width, channels]``.

        Args:
            images: at least one, each a value that `read_source` accepts; or the tensor that
                `decode_numbers` returned.
            prefix: returns the beginning of a message about the image with this number.

        Returns:
            The tensor, or a coroutine function that decodes large images in threads.

        Raises:
            InvalidInput: some images are invalid; the message names them.
            InvalidRequest: there are too many images.
        """
        if isinstance(images, np.ndarray):
            return (images,)
        if len(images) == 1 and (pixels := self._decode_plain(images[0])) is not None:
            return (pixels,)
        self.require_room(len(images))
        pending = _PendingImages(self._open_source, images, prefix)
        if sum(map(_encoded_size, images)) <= _MAX_BYTES_AT_ONCE:
            left = self._most_pixels_at_once

            def is_small(image: InputImage) -> bool:
                nonlocal left
                left -= image.pixels
                return left >= 0

            if pending.decode_while(is_small):
                return (pending.tensor(),)
        return partial(self._in_threads, pending)

    def decode_file(self, content: bytes) -> Pixels | None:
        """Decode one small gray PNG file of the model's own size as `decode` does; else None."""
        if len(content) > _MAX_PLAIN_BYTES:
            return None
        pixels = self._plain_files.read(content)
        return None if pixels is None else pixels.reshape(self._batch_shape)

    def _decode_plain(self, value: Any) -> Pixels | None:  # noqa: ANN401 - JSON is any of its types
        """Decode one small PNG file or flat list of pixels; None for anything else."""
        value = _unwrap(value)
        if isinstance(value, str) and len(value) <= _MAX_PLAIN_BYTES:
            with suppress(InvalidImage):
                value = _decode_text(value)
        if isinstance(value, bytes):
            return self.decode_file(value)
        if not isinstance(value, list) or len(value) != self._count:
            return None
        pixels = flat_pixels(value)
        return None if pixels is None else pixels.reshape(self._batch_shape)

    def decode_numbers(self, rows: Numbers | None) -> Pixels | None:
        """Decode images that are flat rows of numbers as `decode` does.

        None if the numbers are not integers from 0 to 255, or if there are too many.
        """
        if rows is None or rows.shape[1] != self._count:
            return None
        if len(rows) * self._count > self._decoding.max_bytes:
            return None
        pixels = whole_pixels(rows)
        return None if pixels is None else pixels.reshape(self._batch_shape)

    def require_parts(self, count: int) -> None:
        """Reject a form if it has too many parts.

        Raises:
            TooManyFormParts: there are too many for any request.
            InvalidRequest: there are too many for this model.
        """
        self._decoding.limits.require_form_parts(count)
        self.require_room(count)

    def require_room(self, count: int) -> None:
        """Raise `InvalidRequest` for more images than a request may hold."""
        most = self._decoding.max_bytes // self._count
        if count > most:
            raise InvalidRequest(
                f"{count:,} images are too many for a request to this model, which takes "
                f"{most:,}; send fewer at a time, or ask the operator to raise "
                "ONWARD_MAX_BODY_BYTES."
            )

    def is_raw(self, content: memoryview) -> bool:
        """Return whether bytes are pixels of the model's own size, rather than an image file."""
        return len(content) == self._count

    async def _in_threads(self, pending: "_PendingImages") -> Arrays:
        """Decode the images in threads, which stop early if the client disconnects."""
        run = asyncio.get_running_loop().run_in_executor
        try:
            shared = partial(pending.decode_while, lambda image: image.memory <= _MAX_SHARED_BYTES)
            if not await run(self._decoding.shared, shared):
                await run(self._decoding.large, pending.decode_while)
        finally:
            pending.abandoned.set()
        return (pending.tensor(),)

    def _open_source(self, value: Any) -> Opened:  # noqa: ANN401 - as above
        source = read_source(value)
        if isinstance(source, bytes):
            return InputImage.open(source, self._spec, self._decoding.max_pixels)
        if self._is_own(source.shape):
            return source.reshape(self._shape)
        if source.ndim == IMAGE_AXES - 1 or _is_color(source.shape):
            return InputImage.from_pixels(source, self._spec)
        height, width, channels = self._shape
        raise InvalidImage(
            f"Its pixels have the shape {list(source.shape)}; send {[height, width, channels]}, "
            f"or {self._count:,} numbers, or an image's file in base64."
        )

    def _is_own(self, shape: tuple[int, ...]) -> bool:
        height, width, channels = self._shape
        return shape in (self._shape, (self._count,)) or (
            channels == 1 and shape == (height, width)
        )


def read_source(value: Any) -> bytes | Pixels:  # noqa: ANN401 - JSON is any of its types
    """Return the bytes of an image file, or pixels; raise `InvalidImage` for any other value."""
    value = _unwrap(value)
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _decode_text(value)
    if isinstance(value, list):
        return read_pixels(value)
    if isinstance(value, dict):
        got = f"an object of {join_values(list(value)) or 'nothing'}"
    else:
        got = format_value(value)
    raise InvalidImage(f'Send {{"{KEY}": "the file in base64"}}, or its pixels; got {got}.')


def _encoded_size(value: Any) -> int:  # noqa: ANN401 - as above
    """Return the approximate size of a file, by which the cost of decoding is estimated."""
    value = _unwrap(value)
    return len(value) if isinstance(value, bytes | str) else 0


def read_pixels(data: Sequence[Any]) -> Pixels:
    """Convert nested lists to an array of the same shape.

    Raise `InvalidImage` if they are ragged, or hold other values than numbers from 0 to 255.
    """
    pixels = flat_pixels(data)
    return _round_pixels(_read_numbers(data)) if pixels is None else pixels


def flat_pixels(data: Sequence[Any]) -> Pixels | None:
    """Convert a flat list of integers from 0 to 255, in any notation; None for anything else.

    An image without a pixel above 1 is None too, unless all are 0.
    """
    try:
        if type(data[0]) is int:
            content = bytes(data)
            return None if _is_unscaled(content) else np.frombuffer(content, np.uint8)
        if type(data[0]) is not float:
            return None  # a list of booleans would be accepted as numbers
        # In 64 bits, because 32 bits would round a value slightly out of range into the range.
        numbers = np.frombuffer(struct.pack(f"{len(data)}d", *data))
    except (IndexError, TypeError, ValueError, OverflowError, struct.error):
        return None
    return whole_pixels(numbers)


def whole_pixels(numbers: Numbers) -> Pixels | None:
    """Convert the numbers of one image, or rows of images, to pixels, as `flat_pixels` does."""
    if not (numbers.min() >= 0 and numbers.max() <= _WHITE):
        return None
    pixels = convert_exactly(numbers, "UINT8")
    return None if pixels is None or has_unscaled(np.atleast_2d(pixels)) else pixels


def has_unscaled(images: Pixels) -> bool:
    """Return whether 1 is the largest pixel of an image of ``[images, ...]``, as in a mask."""
    return any(_is_unscaled(image.tobytes()) for image in images)


def _is_unscaled(pixels: bytes) -> bool:
    # This runs for every image. Stripping ends at the first larger pixel, usually an early one.
    return not pixels.lstrip(b"\0\1") and 1 in pixels


class _PendingImages:
    """The images of one request, decoded one after another, by one thread at a time."""

    def __init__(
        self, open_image: Callable[[Any], Opened], images: Sequence[Any], prefix: Prefix
    ) -> None:
        self._open = open_image
        self._images = images
        self._prefix = prefix
        self._position = 0
        self._decoded: list[Pixels] = []
        self._problems = ProblemCollector()
        self.abandoned = threading.Event()
        """Set when the client has disconnected or the request has timed out."""

    def decode_while(self, fits: Callable[[InputImage], bool] = lambda _: True) -> bool:
        """Decode images up to the first that does not fit; return whether all are decoded.

        That image is opened again later, so that the memory of its decoder is not held meanwhile.
        Raise `TimeoutError` if the client has disconnected or the request has timed out.
        """
        for number in range(self._position, len(self._images)):
            if self.abandoned.is_set():
                raise TimeoutError
            try:
                opened = self._open(self._images[number])
                if isinstance(opened, InputImage):
                    if not fits(opened):
                        return False
                    opened = opened.read()
                self._decoded.append(opened)
            except InvalidImage as error:
                row = number if len(self._images) > 1 else None
                self._problems.add(1, [Problem(f"{self._prefix(number)}{error}", row)])
            self._position = number + 1
        return True

    def tensor(self) -> Pixels:
        """Return all images as ``[images, height, width, channels]``, or raise `InvalidInput`."""
        self._problems.raise_any()
        # A batch of one needs no copy.
        return self._decoded[0][None] if len(self._decoded) == 1 else np.stack(self._decoded)


def _nesting(data: Any) -> tuple[int, ...]:  # noqa: ANN401 - as above
    """Return the lengths of nested lists of numbers, by their first items; else nothing."""
    lengths: list[int] = []
    while isinstance(data, list) and data:
        lengths.append(len(data))
        data = data[0]
    return tuple(lengths) if isinstance(data, int | float) else ()


def _is_color(shape: Sequence[int]) -> bool:
    return len(shape) == IMAGE_AXES and shape[-1] in CHANNELS


def _unwrap(value: Any) -> Any:  # noqa: ANN401 - as above
    """Return the value inside objects with a single known key; any other value unchanged."""
    for _ in range(_MAX_WRAPPERS):
        if not (isinstance(value, dict) and len(value) == 1):
            break
        ((key, inner),) = value.items()
        if key not in (KEY, BASE64):
            break
        value = inner
    return value


def _decode_text(text: str) -> bytes:
    """Return the file in base64 or a data URL; raise `InvalidImage` for any other text."""
    if url := _DATA_URL.match(text):
        text = text[url.end() :]
        if not url[1]:
            return unquote_to_bytes(text)
    elif _WEB.match(text):
        raise InvalidImage(
            f"Addresses are not fetched, got {format_value(text)}; send the image's file in base64."
        )
    with suppress(ValueError):
        return a2b_base64(text, strict_mode=True)  # as most clients encode it, without a copy
    text = text.translate(_PLAIN).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise InvalidImage(
            f"Its text is not base64, got {format_value(text)}; send the image's file in base64."
        ) from None


def _read_numbers(data: Sequence[Any]) -> npt.NDArray[np.float64]:
    # As objects first: next to a long string, numpy would allocate as much for every number.
    values = np.array(data, np.object_)
    kinds = set(map(type, values.ravel().tolist()))
    if list in kinds:
        raise InvalidImage(
            "Its pixels are ragged; send rows of the same length, or the image's file in base64."
        )
    if kinds - _NUMBERS:
        odd = next(value for value in values.ravel() if type(value) not in _NUMBERS)
        raise InvalidImage(
            f"A pixel is {format_value(odd)}; pixels are numbers from 0 to {_WHITE}."
        )
    try:
        return values.astype(np.float64)
    except OverflowError:
        raise InvalidImage(
            f"A pixel is too large; pixels are numbers from 0 to {_WHITE}."
        ) from None


def _round_pixels(numbers: npt.NDArray[np.float64]) -> Pixels:
    if not numbers.size:
        raise InvalidImage("It holds no pixels; send numbers from 0 to 255, row by row.")
    low, high = float(numbers.min()), float(numbers.max())
    if not (low >= 0 and high <= _WHITE):
        odd = high if low >= 0 else low
        raise InvalidImage(f"A pixel is {odd:g}; pixels are numbers from 0 to {_WHITE}.")
    if 0 < high <= 1:
        raise InvalidImage(f"Its pixels are between 0 and 1; multiply them by {_WHITE}.")
    pixels: Pixels = np.rint(numbers).astype(np.uint8)
    return pixels
