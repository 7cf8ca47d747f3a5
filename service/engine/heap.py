"""Memory given back to the system when models have gone.

The C library keeps what was freed for the next who asks, model after model; only when told does it
give back the pages that hold nothing.
"""

import asyncio
import ctypes
import sys
from collections.abc import Callable

# Models often go in groups, as their sessions do a moment after the last answer.
_SOON_SECONDS = 1.0
# Of glibc's malloc.h; musl has no mallopt, and gives large blocks back anyway.
_M_MMAP_THRESHOLD = -3
_MAPPED_FROM_BYTES = 1024 * 1024


def _trim() -> Callable[[int], int] | None:
    """The C library's own way, where it has one; other libraries need none, or have none."""
    if sys.platform != "linux":
        return None
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


def map_large_blocks() -> None:
    """Have malloc map every block above 1 MiB by itself, so that freeing it gives it back at once.

    By default glibc maps fewer blocks the larger those are that are freed, up to 32 MiB. Bodies of
    that size, growing at the same time, then leave gaps in the heap as large as themselves: fifteen
    uploads of 50 MB took 425 MB instead of the 256 MB that they may hold.
    """
    if sys.platform != "linux":
        return
    mallopt: Callable[[int, int], int] | None = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)


class Heap:
    """Gives memory back soon after it was asked to, once for all who have asked meanwhile."""

    def __init__(self) -> None:
        self._trim = _trim()
        self._due = False

    def give_back(self) -> None:
        """Let the system have what is free now; takes milliseconds."""
        if self._trim is not None:
            self._trim(0)

    def give_back_soon(self) -> None:
        """Let the system have what is free, in a thread; callable on an event loop only."""
        if self._trim is not None and not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(_SOON_SECONDS, self._give_back)

    def _give_back(self) -> None:
        self._due = False
        asyncio.get_running_loop().run_in_executor(None, self.give_back)
