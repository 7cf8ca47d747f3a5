"""Threads for bodies whose decoding would hold up the event loop."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from service.limits import UNCOUNTED_BODY_BYTES, Limits, Reservation

T = TypeVar("T")

# One being decoded, and the next one, so that the thread does not wait for the event loop.
_SMALL_AT_ONCE = 8


class DecodeThreads:
    """Decodes bodies in threads, within the memory that all requests share.

    Large bodies are decoded one at a time: more would take turns at the interpreter's lock anyway,
    each with its parsed values in memory. Bodies that are not counted have a thread of their own,
    so that they do not wait for large ones. At most two of them are handed to it, so that one turn
    of the event loop never finds more than two decoded requests to run and encode; without that
    bound, a turn takes longer the more requests it finds, and finds more the longer it takes.

    Args:
        limits: of the process.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._large = ThreadPoolExecutor(1, "decode-large")
        self._small = ThreadPoolExecutor(1, "decode-small")
        self._small_turns = asyncio.Semaphore(_SMALL_AT_ONCE)
        self._turn = asyncio.Lock()

    async def decode(
        self, body: bytes, decode: Callable[[], T], *, json_bytes: int, strings: bool
    ) -> T:
        """What ``decode`` makes of a body.

        Args:
            body: to be decoded.
            decode: decodes it.
            json_bytes: how many of its first bytes are JSON.
            strings: whether the others may be a BYTES tensor.

        Raises:
            LimitExceeded: its JSON has too many values, or takes more memory than there may be.
            TooManyBytesInFlight: all requests together would take too much memory.
            Exception: what ``decode`` raises.
        """
        if len(body) <= UNCOUNTED_BODY_BYTES:
            async with self._small_turns:
                return await _result_of(self._small.submit(decode))
        measure = partial(self._limits.decoded_bytes, body, json_bytes, strings=strings)
        async with self._turn:
            needed = await _result_of(self._large.submit(measure))
            with self._limits.body_bytes.hold(needed) as memory:
                return await _result_of(self._large.submit(decode), memory)


async def _result_of(job: "Future[T]", memory: Reservation | None = None) -> T:
    """Wait for a thread's work.

    A thread cannot be interrupted. Where the wait is cancelled while it works, it keeps its memory
    reserved until it has finished.
    """
    try:
        return await asyncio.wrap_future(job)
    except asyncio.CancelledError:
        if memory is not None and not job.cancelled():
            _release_after(job, memory.move())
        raise
    finally:
        # The job holds an exception, which holds this frame: a cycle that would keep the body.
        del job


def _release_after(job: "Future[T]", memory: Reservation) -> None:
    loop = asyncio.get_running_loop()

    def release(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(memory.release)

    job.add_done_callback(release)
