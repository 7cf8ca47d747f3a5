"""A model's pictures: whatever was sent in, one checked uint8 tensor out.

What is wrong is told of every picture at once, before anything is queued. Large pictures are
decoded in threads of their own, few enough that their memory has a bound.
"""

import asyncio
import base64
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from math import prod
from typing import Any

import numpy as np

from service.api.asking import Inputs
from service.api.numbers import Numbers
from service.api.pictures.pixels import Pixels, flat_pixels, whole_pixels
from service.api.pictures.sources import KEY, bare, read_source, weight
from service.api.problems import Findings
from service.bundle.inputs import ImageInput, input_shape
from service.engine.datatypes import Arrays
from service.errors import InvalidRequest, Problem
from service.pictures import Picture, PictureRefused, PlainReader, example_picture
from service.priority import step_back

# What takes longer to decode than a thread's hand-over costs, and holds up the event loop.
_MOST_BYTES_AT_ONCE = 64 * 1024
_MOST_PIXELS_AT_ONCE = 300_000
# A plain file of the few pixels that `PlainReader` reads is no longer than this, in base64 too.
_MOST_PLAIN_BYTES = 16 * 1024
# Looking for ink takes longer than any decoding.
_MOST_DIGIT_PIXELS_AT_ONCE = 4096
# Each may hold a decoded picture and a copy of a part of it.
_THREADS = 2

# Of a picture's own pixels, and how many each may have: grey, colour, or colour and alpha.
_AXES = 3
_CHANNELS = {1, 3, 4}

Place = Callable[[int], str]
Work = Callable[[Any], Any]


class Decoding:
    """What an app allows pictures to take: pixels each, bytes all together, and threads.

    Args:
        max_pixels: of one picture, as its header promises.
        max_bytes: of one request's pictures at the model's own size.
    """

    def __init__(self, max_pixels: int, max_bytes: int) -> None:
        self.max_pixels = max_pixels
        self.max_bytes = max_bytes
        self.threads = ThreadPoolExecutor(_THREADS, "pictures", step_back)


class PictureCodec:
    """Turns pictures into the tensor that a model takes, by the rule of its manifest."""

    def __init__(self, rule: ImageInput, decoding: Decoding) -> None:
        self._rule = rule
        self._shape = input_shape(rule)
        self._one = 1, *self._shape
        self._count = prod(self._shape)
        self._decoding = decoding
        self._plain_files = PlainReader(rule, decoding.max_pixels)
        digits = rule.normalise == "digit"
        self._most_pixels_at_once = _MOST_DIGIT_PIXELS_AT_ONCE if digits else _MOST_PIXELS_AT_ONCE

    @cached_property
    def example(self) -> dict[str, str]:
        """A picture that this model takes."""
        return {KEY: base64.b64encode(example_picture(self._rule)).decode()}

    def is_single(self, data: Sequence[Any]) -> bool:
        """Whether nested numbers are the pixels of one picture, rather than several pictures."""
        shape = _nesting(data)
        if not shape or self._is_own(shape[1:]):
            return False
        return len(shape) < _AXES or self._is_own(shape) or _is_colour(shape)

    def read(self, given: Sequence[Any] | Pixels, place: Place) -> Inputs:
        """The tensor ``[pictures, height, width, channels]``, or what makes it in a thread.

        Args:
            given: each picture, in any form that `read_source` knows; at least one. Or the tensor,
                as `numbers` has it.
            place: how the sentence about a picture begins.

        Raises:
            InvalidInput: some are no pictures that are read here; says which.
            InvalidRequest: they are too many.
        """
        if isinstance(given, np.ndarray):
            return (given,)
        if len(given) == 1 and (pixels := self._plain(given[0])) is not None:
            return (pixels,)
        self.require_room(len(given))
        if sum(map(weight, given)) > _MOST_BYTES_AT_ONCE:
            return partial(self._in_thread, self._taken, given, place)
        opened = each(self._opened, given, place)
        if sum(map(_pixels_of, opened)) > self._most_pixels_at_once:
            return partial(self._in_thread, self._finished, opened, place)
        return (_stacked(each(self._finished, opened, place)),)

    def file(self, content: bytes) -> Pixels | None:
        """The tensor of one picture's file that is small and plain, as `read` has it.

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
        """The tensor of pictures that were sent as flat rows of numbers, as `read` has them.

        None where they are not whole numbers from 0 to 255, or there are too many.
        """
        if given is None or given.shape[1] != self._count:
            return None
        if len(given) * self._count > self._decoding.max_bytes:
            return None
        pixels = whole_pixels(given)
        return None if pixels is None else pixels.reshape(-1, *self._shape)

    def require_room(self, count: int) -> None:
        """Refuse more pictures than a request may hold.

        Raises:
            InvalidRequest: this count is more.
        """
        most = self._decoding.max_bytes // prod(self._shape)
        if count > most:
            raise InvalidRequest(
                f"{count:,} pictures are too many for a request to this model, which takes "
                f"{most:,}; send fewer at a time, or ask the operator to raise "
                "ONWARD_MAX_BODY_BYTES."
            )

    def is_raw(self, content: memoryview) -> bool:
        """Whether bytes are the model's own pixels, rather than a picture's file."""
        return len(content) == prod(self._shape)

    async def _in_thread(self, work: Work, given: Sequence[Any], place: Place) -> Arrays:
        """Do it in a thread, which goes no further than a picture when the caller has gone."""
        gone = threading.Event()
        reading = partial(each, work, given, place, gone.is_set)
        try:
            pixels = await asyncio.get_running_loop().run_in_executor(
                self._decoding.threads, reading
            )
        finally:
            gone.set()
        return (_stacked(pixels),)

    def _taken(self, given: Any) -> Pixels:  # noqa: ANN401 - JSON is any of its types
        return self._finished(self._opened(given))

    def _opened(self, given: Any) -> Picture | Pixels:  # noqa: ANN401 - as above
        source = read_source(given)
        if isinstance(source, bytes):
            return Picture.open(source, self._decoding.max_pixels)
        if self._is_own(source.shape):
            return source.reshape(self._shape)
        if source.ndim == _AXES - 1 or _is_colour(source.shape):
            return Picture.of(source)
        height, width, channels = self._shape
        raise PictureRefused(
            f"Its pixels have the shape {list(source.shape)}; send {[height, width, channels]}, "
            f"or {prod(self._shape):,} numbers, or a picture's file in base64."
        )

    def _finished(self, opened: Picture | Pixels) -> Pixels:
        return opened.read(self._rule) if isinstance(opened, Picture) else opened

    def _is_own(self, shape: tuple[int, ...]) -> bool:
        """Whether pixels of this shape are the model's own."""
        height, width, channels = self._shape
        return shape in (self._shape, (prod(self._shape),)) or (
            channels == 1 and shape == (height, width)
        )


def each(
    work: Work, given: Sequence[Any], place: Place, gone: Callable[[], bool] = lambda: False
) -> list[Any]:
    """What ``work`` makes of each picture.

    Args:
        work: may refuse a picture.
        given: pictures at any stage.
        place: how the sentence about a picture begins.
        gone: whether nobody waits for it any more.

    Raises:
        InvalidInput: some were refused; says which.
    """
    found = Findings()
    made: list[Any] = []
    for number, one in enumerate(given):
        if gone():
            raise TimeoutError
        try:
            made.append(work(one))
        except PictureRefused as error:
            row = number if len(given) > 1 else None
            found.add(1, [Problem(f"{place(number)}{error}", row)])
    found.raise_any()
    return made


def _stacked(pixels: Sequence[Pixels]) -> Pixels:
    # A batch of one needs no copy.
    return pixels[0][None] if len(pixels) == 1 else np.stack(pixels)


def _pixels_of(opened: Picture | Pixels) -> int:
    return opened.pixels if isinstance(opened, Picture) else 0


def _nesting(data: Any) -> tuple[int, ...]:  # noqa: ANN401 - as above
    """The lengths of nested lists of numbers, by their first items; none where they hold others."""
    lengths: list[int] = []
    while isinstance(data, list) and data:
        lengths.append(len(data))
        data = data[0]
    return tuple(lengths) if isinstance(data, int | float) else ()


def _is_colour(shape: Sequence[int]) -> bool:
    return len(shape) == _AXES and shape[-1] in _CHANNELS
