"""A model's pictures: whatever was sent in, one checked uint8 tensor out.

What is wrong is reported for every picture at once, before anything is queued. Large pictures are
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

from service.bundle.inputs import ImageInput, input_shape
from service.codecs.image_sources import KEY, bare, read_source, weight
from service.codecs.json_reader import Numbers
from service.codecs.messages import Findings
from service.codecs.pixels import Pixels, flat_pixels, whole_pixels
from service.engine.dtypes import Arrays, Inputs
from service.errors import InvalidRequest, Problem
from service.imaging.preprocess import Picture, PictureRefused, PlainReader, example_picture
from service.imaging.priority import step_back
from service.limits import Limits

# What takes longer to decode than a thread's hand-over costs, and holds up the event loop.
_MOST_BYTES_AT_ONCE = 64 * 1024
_MOST_PIXELS_AT_ONCE = 300_000
# A plain file of the few pixels that `PlainReader` reads is no longer than this, in base64 too.
_MOST_PLAIN_BYTES = 16 * 1024
# Looking for ink takes longer than any decoding.
_MOST_DIGIT_PIXELS_AT_ONCE = 4096
# Pictures that take no more memory to decode share these threads. Larger ones wait for a thread of
# their own, one at a time, so that they neither add up nor hold up the others.
_MOST_SHARED_BYTES = 16 << 20
_SHARED_THREADS = 2

# Of a picture's own pixels, and how many each may have: grey, colour, or colour and alpha.
_AXES = 3
_CHANNELS = {1, 3, 4}

Place = Callable[[int], str]
Opened = Picture | Pixels


class Decoding:
    """What an app allows pictures to take: pixels each, bytes all together, and threads.

    Args:
        max_pixels: of one picture, as its header states.
        max_bytes: of one request's pictures at the model's own size.
        limits: on the parts of a form.
    """

    def __init__(self, max_pixels: int, max_bytes: int, limits: Limits) -> None:
        self.max_pixels = max_pixels
        self.max_bytes = max_bytes
        self.limits = limits
        self.shared = ThreadPoolExecutor(_SHARED_THREADS, "pictures", step_back)
        self.large = ThreadPoolExecutor(1, "large-pictures", step_back)


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
        reading = _Reading(self._opened, given, place)
        if sum(map(weight, given)) <= _MOST_BYTES_AT_ONCE:
            left = self._most_pixels_at_once

            def is_small(picture: Picture) -> bool:
                nonlocal left
                left -= picture.pixels
                return left >= 0

            if reading.proceed(is_small):
                return (reading.tensor(),)
        return partial(self._in_threads, reading)

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

    def require_parts(self, count: int) -> None:
        """Reject a form with so many parts.

        Raises:
            TooManyFormParts: they are too many for any request.
            InvalidRequest: they are too many for this model.
        """
        self._decoding.limits.require_form_parts(count)
        self.require_room(count)

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

    async def _in_threads(self, reading: "_Reading") -> Arrays:
        """Read the pictures in threads, which stop at the next one when the client has gone."""
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
            return Picture.open(source, self._rule, self._decoding.max_pixels)
        if self._is_own(source.shape):
            return source.reshape(self._shape)
        if source.ndim == _AXES - 1 or _is_colour(source.shape):
            return Picture.of(source, self._rule)
        height, width, channels = self._shape
        raise PictureRefused(
            f"Its pixels have the shape {list(source.shape)}; send {[height, width, channels]}, "
            f"or {prod(self._shape):,} numbers, or a picture's file in base64."
        )

    def _is_own(self, shape: tuple[int, ...]) -> bool:
        """Whether pixels of this shape are the model's own."""
        height, width, channels = self._shape
        return shape in (self._shape, (prod(self._shape),)) or (
            channels == 1 and shape == (height, width)
        )


class _Reading:
    """The pictures of one request, read one after another, by one thread at a time.

    Args:
        open_picture: makes pixels or a picture of any form of one.
        given: each picture, in any form.
        place: how the sentence about a picture begins.
    """

    def __init__(
        self, open_picture: Callable[[Any], Opened], given: Sequence[Any], place: Place
    ) -> None:
        self._open = open_picture
        self._given = given
        self._place = place
        self._next = 0
        self._made: list[Pixels] = []
        self._found = Findings()
        self.abandoned = threading.Event()
        """Set when nobody waits for the pictures any more."""

    def proceed(self, fits: Callable[[Picture], bool] = lambda _: True) -> bool:
        """Read pictures up to the first that does not fit; tells whether all have been read.

        That one is opened anew later: while it waits it must not hold what its decoder allocates.

        Raises:
            TimeoutError: nobody waits any more.
        """
        for number in range(self._next, len(self._given)):
            if self.abandoned.is_set():
                raise TimeoutError
            try:
                opened = self._open(self._given[number])
                if isinstance(opened, Picture):
                    if not fits(opened):
                        return False
                    opened = opened.read()
                self._made.append(opened)
            except PictureRefused as error:
                row = number if len(self._given) > 1 else None
                self._found.add(1, [Problem(f"{self._place(number)}{error}", row)])
            self._next = number + 1
        return True

    def tensor(self) -> Pixels:
        """All pictures, ``[pictures, height, width, channels]``.

        Raises:
            InvalidInput: some were refused; says which.
        """
        self._found.raise_any()
        # A batch of one needs no copy.
        return self._made[0][None] if len(self._made) == 1 else np.stack(self._made)


def _is_shared(picture: Picture) -> bool:
    return picture.memory <= _MOST_SHARED_BYTES


def _nesting(data: Any) -> tuple[int, ...]:  # noqa: ANN401 - as above
    """The lengths of nested lists of numbers, by their first items; none where they hold others."""
    lengths: list[int] = []
    while isinstance(data, list) and data:
        lengths.append(len(data))
        data = data[0]
    return tuple(lengths) if isinstance(data, int | float) else ()


def _is_colour(shape: Sequence[int]) -> bool:
    return len(shape) == _AXES and shape[-1] in _CHANNELS
