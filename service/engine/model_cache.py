"""Keeps the models in memory within a budget: a load waits until others have left.

The size of a model is estimated from its files, so that it is known before anything is read. The
least recently used model is evicted first, one without requests before one that has some.
"""

import asyncio
import ctypes
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass

from service.bundle.store import EXAMPLES, MANIFEST, MODEL
from service.engine.model import ServedModel
from service.engine.repository import Candidate
from service.errors import LoadFailed
from service.observability.metrics import Metrics

_MIB = 1024 * 1024
# ONNX Runtime keeps a graph's weights once, and needs two more copies while it loads them; its
# session, the queue and the manifest take less than a mebibyte (docs/decisions/0012-memory.md).
_COPIES_LOADED = 1
_COPIES_LOADING = 3
_OVERHEAD = _MIB

# Models are often evicted in groups, and their sessions close a moment after the last response.
_TRIM_SECONDS = 1.0
# From glibc's malloc.h; musl has no mallopt, and returns large blocks anyway.
_M_MMAP_THRESHOLD = -3
_MAPPED_FROM_BYTES = 1024 * 1024


@dataclass(frozen=True)
class CachedModel:
    """A model in memory, and how it is evicted."""

    model: ServedModel
    is_awaited: Callable[[], bool]
    """Whether a request has waited for it to be loaded, and has not used it yet."""
    evict: Callable[[], None]


@dataclass(eq=False)
class Reservation:
    """The memory of one version, from before it is loaded until its last request has ended.

    While it is loading, the models of ``pinned`` stay.
    """

    size: int
    pinned: Collection[ServedModel]
    cached: CachedModel | None = None
    evicted: bool = False

    @property
    def model(self) -> ServedModel | None:
        """The model, once it is loaded."""
        return None if self.cached is None else self.cached.model


class ModelCache:
    """The memory for models, in bytes and in number; without limits it is only counted.

    Args:
        mebibytes: limit for all models, or 0.
        most_models: limit of models in memory, or 0.
        metrics: gets the bytes that are reserved.
    """

    def __init__(self, mebibytes: int, most_models: int, metrics: Metrics) -> None:
        self._mebibytes = mebibytes
        self._most_models = most_models
        self._metrics = metrics
        self._reservations: set[Reservation] = set()
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self.heap = Heap()

    @property
    def limited(self) -> bool:
        """Whether models are loaded only when they are used."""
        return self._mebibytes > 0 or self._most_models > 0

    def require_possible(self, candidate: Candidate) -> None:
        """Reject a version that would not fit even if it were the only one.

        Raises:
            LoadFailed: gives its size and the budget.
        """
        size = _loading_size(candidate)
        if not self._fits(size, 1):
            raise LoadFailed(
                f"it takes about {-(-size // _MIB)} MiB to load, and ONWARD_MEMORY_BUDGET_MIB is "
                f"{self._mebibytes}; raise it"
            )

    def fits_with(self, candidate: Candidate, pinned: Collection[ServedModel]) -> bool:
        """Whether a version can be loaded while these models stay."""
        sizes = [it.size for it in self._reservations if it.model in pinned]
        return self._fits(sum(sizes) + _loading_size(candidate), len(sizes) + 1)

    async def reserve(
        self, candidate: Candidate, pinned: Collection[ServedModel] = ()
    ) -> Reservation:
        """Wait for the memory to load a version; first come, first served.

        Args:
            candidate: the version, for which others may be evicted.
            pinned: the models that may not be; `fits_with` is true for them.
        """
        reservation = Reservation(_loading_size(candidate), pinned)
        async with self._lock:
            while not self._fits(reservation.size + self._size, 1 + len(self._reservations)):
                self._changed.clear()
                if not self._evict_one_for(reservation):
                    await self._changed.wait()
            self._reservations.add(reservation)
        self._report()
        return reservation

    def commit(self, reservation: Reservation, candidate: Candidate, cached: CachedModel) -> None:
        """Note that a version is loaded."""
        reservation.size, reservation.pinned = _loaded_size(candidate), ()
        reservation.cached = cached
        self._report()

    def release(self, reservation: Reservation) -> None:
        """Note that a version was not loaded, or has left memory."""
        self._reservations.discard(reservation)
        self._report()
        self.heap.trim_soon()

    def release_model(self, model: ServedModel) -> None:
        """Note that no request uses a retired model any more."""
        for reservation in [it for it in self._reservations if it.model is model]:
            self.release(reservation)

    def reconsider(self) -> None:
        """Note that a model is no longer awaited."""
        self._changed.set()

    def _evict_one_for(self, reservation: Reservation) -> bool:
        """Evict the least recently used model, unless those that are evicted already suffice."""
        staying = [other for other in self._reservations if not other.evicted]
        size = sum(other.size for other in staying)
        if self._fits(reservation.size + size, 1 + len(staying)):
            return False
        pinned = {model for other in (reservation, *staying) for model in other.pinned}
        free = [other.cached for other in staying if _is_evictable(other, pinned)]
        victim = min(filter(None, free), key=_last_use, default=None)
        if victim is None:
            return False
        next(other for other in staying if other.cached is victim).evicted = True
        self._metrics.count_eviction()
        victim.evict()
        return True

    def _fits(self, size: int, models: int) -> bool:
        fits = not self._mebibytes or size <= self._mebibytes * _MIB
        return fits and (not self._most_models or models <= self._most_models)

    @property
    def _size(self) -> int:
        return sum(it.size for it in self._reservations)

    def _report(self) -> None:
        self._changed.set()
        self._metrics.set_memory_bytes(self._size)


class Heap:
    """Returns freed memory to the operating system.

    The C library keeps what was freed for later use, and returns the free pages only on demand.
    """

    def __init__(self) -> None:
        self._trim = _malloc_trim()
        self._scheduled = False

    def trim(self) -> None:
        """Return what is free now; takes milliseconds."""
        if self._trim is not None:
            self._trim(0)

    def trim_soon(self) -> None:
        """Return it from a thread, once for all calls of a second; on the event loop only."""
        if self._trim is not None and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(_TRIM_SECONDS, self._trim_in_thread)

    def _trim_in_thread(self) -> None:
        self._scheduled = False
        asyncio.get_running_loop().run_in_executor(None, self.trim)


def map_large_blocks() -> None:
    """Make malloc map every block above 1 MiB by itself, so that freeing it returns it immediately.

    By default glibc raises this threshold, up to 32 MiB, when large blocks are freed. Request
    bodies of that size, growing at the same time, then leave gaps in the heap as large as
    themselves: fifteen uploads of 50 MB took 425 MB instead of the 256 MB that they may use.
    """
    if sys.platform != "linux":
        return
    mallopt: Callable[[int, int], int] | None = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)


def _is_evictable(reservation: Reservation, pinned: Collection[ServedModel]) -> bool:
    cached = reservation.cached
    return cached is not None and cached.model not in pinned and not cached.is_awaited()


def _last_use(cached: CachedModel) -> tuple[bool, float]:
    """Sort key for eviction."""
    return cached.model.in_use, cached.model.last_used


def _loading_size(candidate: Candidate) -> int:
    return _COPIES_LOADING * _weights_size(candidate) + _OVERHEAD


def _loaded_size(candidate: Candidate) -> int:
    return _COPIES_LOADED * _weights_size(candidate) + _OVERHEAD


def _weights_size(candidate: Candidate) -> int:
    """The bytes of a bundle's graph; of all files of a bare model, which may keep weights there."""
    sizes = {name: size for name, size, *_ in candidate.fingerprint}
    is_bundle = MANIFEST in sizes or EXAMPLES in sizes
    return sizes.get(MODEL, 0) if is_bundle else sum(sizes.values())


def _malloc_trim() -> Callable[[int], int] | None:
    """The C library's function, if it has one; other libraries need none."""
    if sys.platform != "linux":
        return None
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim
