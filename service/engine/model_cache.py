"""Keeps the models in memory within a budget: who wants room waits until others have left.

The size of a model is told from its files, so that it is known before anything is read. What
leaves is the model that has been used least recently, one that answers nobody before one that does.
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

# Models often go in groups, as their sessions do a moment after the last answer.
_SOON_SECONDS = 1.0
# Of glibc's malloc.h; musl has no mallopt, and gives large blocks back anyway.
_M_MMAP_THRESHOLD = -3
_MAPPED_FROM_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Occupant:
    """A model in memory, and how it leaves."""

    model: ServedModel
    is_awaited: Callable[[], bool]
    """Whether somebody waited for it to be loaded, and has not come by yet."""
    evict: Callable[[], None]


@dataclass(eq=False)
class Room:
    """What one version takes, from before it is loaded until nobody holds its model any more.

    While it is loading, the models of ``beside`` stay.
    """

    size: int
    beside: Collection[ServedModel]
    occupant: Occupant | None = None
    leaving: bool = False


class Memory:
    """The room for models, in bytes and in number; without limits it is only counted.

    Args:
        mebibytes: that models may take in all, or 0.
        most_models: that may be in memory at a time, or 0.
        metrics: told how much is taken.
    """

    def __init__(self, mebibytes: int, most_models: int, metrics: Metrics) -> None:
        self._mebibytes = mebibytes
        self._most_models = most_models
        self._metrics = metrics
        self._rooms: set[Room] = set()
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self.heap = Heap()

    @property
    def limited(self) -> bool:
        """Whether models are loaded only when they are used."""
        return self._mebibytes > 0 or self._most_models > 0

    def require_possible(self, candidate: Candidate) -> None:
        """Refuse a version that could not be loaded if it were alone.

        Raises:
            LoadFailed: names its size and the budget.
        """
        size = _loading_size(candidate)
        if not self._fits(size, 1):
            raise LoadFailed(
                f"it takes some {-(-size // _MIB)} MiB to load, and ONWARD_MEMORY_BUDGET_MIB is "
                f"{self._mebibytes}; raise it"
            )

    def holds_both(self, candidate: Candidate, beside: Collection[ServedModel]) -> bool:
        """Whether a version can be loaded while these stay."""
        sizes = [room.size for room in self._rooms if _model_of(room) in beside]
        return self._fits(sum(sizes) + _loading_size(candidate), len(sizes) + 1)

    async def enter(self, candidate: Candidate, beside: Collection[ServedModel] = ()) -> Room:
        """Wait for the room to load a version; first come, first served.

        Args:
            candidate: the version, for which others may have to leave.
            beside: the models that may not; `holds_both` was asked.
        """
        room = Room(_loading_size(candidate), beside)
        async with self._turn:
            while not self._fits(room.size + self._taken(), 1 + len(self._rooms)):
                self._changed.clear()
                if not self._evict_one_for(room):
                    await self._changed.wait()
            self._rooms.add(room)
        self._tell()
        return room

    def settle(self, room: Room, candidate: Candidate, occupant: Occupant) -> None:
        """Note that a version is loaded."""
        room.size, room.beside, room.occupant = _loaded_size(candidate), (), occupant
        self._tell()

    def leave(self, room: Room) -> None:
        """Note that a version was not loaded."""
        self._rooms.discard(room)
        self._tell()
        self.heap.give_back_soon()

    def left(self, model: ServedModel) -> None:
        """Note that nobody holds a model any more."""
        for room in [room for room in self._rooms if _model_of(room) is model]:
            self.leave(room)

    def reconsider(self) -> None:
        """Note that a model which was awaited is so no more."""
        self._changed.set()

    def _evict_one_for(self, room: Room) -> bool:
        """Make the least recently used one leave, unless those that leave already will do."""
        staying = [other for other in self._rooms if not other.leaving]
        size = sum(other.size for other in staying)
        if self._fits(room.size + size, 1 + len(staying)):
            return False
        kept = {model for other in (room, *staying) for model in other.beside}
        free = [other.occupant for other in staying if _may_leave(other, kept)]
        victim = min(filter(None, free), key=_use, default=None)
        if victim is None:
            return False
        next(other for other in staying if other.occupant is victim).leaving = True
        self._metrics.evicted()
        victim.evict()
        return True

    def _fits(self, size: int, models: int) -> bool:
        fits = not self._mebibytes or size <= self._mebibytes * _MIB
        return fits and (not self._most_models or models <= self._most_models)

    def _taken(self) -> int:
        return sum(room.size for room in self._rooms)

    def _tell(self) -> None:
        self._changed.set()
        self._metrics.memory(self._taken())


def _may_leave(room: Room, kept: Collection[ServedModel]) -> bool:
    occupant = room.occupant
    return occupant is not None and occupant.model not in kept and not occupant.is_awaited()


def _use(occupant: Occupant) -> tuple[bool, float]:
    """What orders models by how easily they can be missed."""
    return occupant.model.held, occupant.model.last_used


def _model_of(room: Room) -> ServedModel | None:
    return None if room.occupant is None else room.occupant.model


def _loading_size(candidate: Candidate) -> int:
    return _COPIES_LOADING * _weights(candidate) + _OVERHEAD


def _loaded_size(candidate: Candidate) -> int:
    return _COPIES_LOADED * _weights(candidate) + _OVERHEAD


def _weights(candidate: Candidate) -> int:
    """The bytes of a bundle's graph; of all files of a bare model, which may keep weights there."""
    sizes = {name: size for name, size, *_ in candidate.fingerprint}
    is_bundle = MANIFEST in sizes or EXAMPLES in sizes
    return sizes.get(MODEL, 0) if is_bundle else sum(sizes.values())


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
