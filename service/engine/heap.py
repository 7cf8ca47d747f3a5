"""The heap of the C library: when its memory returns to the operating system."""

import asyncio
import ctypes
import sys
from collections.abc import Callable
from functools import cache

# Models are often evicted in groups, and their sessions are closed after the last response.
_TRIM_SECONDS = 1.0
# From glibc's malloc.h; musl has no mallopt, and returns large blocks anyway.
_M_MMAP_THRESHOLD = -3
_MAPPED_FROM_BYTES = 1024 * 1024


class Heap:
    """Returns freed memory to the operating system.

    The C library reuses freed memory, and returns free pages to the system only on demand.
    """

    _is_scheduled = False

    def trim(self) -> None:
        """Return all free memory; takes milliseconds."""
        if (malloc_trim := _find_glibc_function("malloc_trim")) is not None:
            malloc_trim(0)

    def trim_soon(self) -> None:
        """Return it in a thread, once for all calls of a second; to be called on the event loop."""
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_later(_TRIM_SECONDS, self._trim_in_thread)

    def _trim_in_thread(self) -> None:
        self._is_scheduled = False
        asyncio.get_running_loop().run_in_executor(None, self.trim)


def map_large_blocks() -> None:
    """Make malloc map every block above 1 MiB separately, so that freeing one returns its memory.

    By default glibc raises this threshold to up to 32 MiB when large blocks are freed. Growing
    request bodies then fragment the heap: fifteen concurrent uploads of 50 MB took 425 MB instead
    of the 256 MB that they may use.
    """
    if (mallopt := _find_glibc_function("mallopt")) is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)


@cache
def _find_glibc_function(name: str) -> Callable[..., int] | None:
    """Return a function of glibc; None for other C libraries, which do not need it."""
    if sys.platform != "linux":
        return None
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return function
