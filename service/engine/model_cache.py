"""Keeps the models in memory within a budget: a load waits until other models are evicted.

The memory of a model is estimated from the size of its files, before any is read. The least
recently used model is evicted first, and models without requests before those with some.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from service.bundle.store import EXAMPLES, MANIFEST, MODEL
from service.engine.devices import MIB
from service.engine.heap import Heap
from service.engine.model import ServedModel
from service.engine.repository import Candidate
from service.errors import LoadFailed
from service.observability.metrics import Metrics

# ONNX Runtime stores the weights of a graph once, and needs two more copies while it loads them;
# session, queue and manifest take less than a mebibyte (docs/decisions/0012-memory.md).
_COPIES_LOADED = 1
_COPIES_LOADING = 3
_OVERHEAD = MIB


@dataclass(eq=False)
class Reservation:
    """The memory of one version, from before its load until its last request has ended.

    Attributes:
        size: in bytes.
        pinned: models that must not be evicted while the version is loading.
        is_awaited: returns whether a request that waited for the load has not used the model yet.
        evict: evicts the model.
        model: the version in memory; None while it is loading.
        evicted: whether the model was evicted, and only finishes its last requests.
    """

    size: int
    pinned: Collection[ServedModel]
    is_awaited: Callable[[], bool]
    evict: Callable[[ServedModel], None]
    model: ServedModel | None = None
    evicted: bool = False


class ModelCache:
    """The models in memory, limited in bytes and in number; 0 is no limit."""

    def __init__(self, max_mib: int, max_models: int, metrics: Metrics) -> None:
        self._max_mib = max_mib
        self._max_models = max_models
        self._metrics = metrics
        self._reservations: set[Reservation] = set()
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self.heap = Heap()

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit, so that models are loaded by their first request."""
        return self._max_mib > 0 or self._max_models > 0

    def require_loadable(self, candidate: Candidate) -> None:
        """Raise `LoadFailed` if a version exceeds the budget even when it is alone."""
        size = _estimate_loading(candidate)
        if not self._fits(size, 1):
            raise LoadFailed(
                f"it takes about {-(-size // MIB)} MiB to load, and ONWARD_MEMORY_BUDGET_MIB is "
                f"{self._max_mib}; raise it"
            )

    def fits_alongside(self, candidate: Candidate, pinned: Collection[ServedModel]) -> bool:
        """Return whether a version can be loaded without evicting these models."""
        sizes = [other.size for other in self._reservations if other.model in pinned]
        return self._fits(sum(sizes) + _estimate_loading(candidate), len(sizes) + 1)

    async def reserve(
        self,
        candidate: Candidate,
        pinned: Collection[ServedModel],
        is_awaited: Callable[[], bool],
        evict: Callable[[ServedModel], None],
    ) -> Reservation:
        """Wait for the memory to load a version, evicting others; first come, first served.

        The arguments are those of `Reservation`; for ``pinned``, `fits_alongside` is true.
        """
        reservation = Reservation(_estimate_loading(candidate), pinned, is_awaited, evict)
        async with self._lock:
            while not self._fits(reservation.size + self._size, 1 + len(self._reservations)):
                self._changed.clear()
                if not self._evict_one_for(reservation):
                    await self._changed.wait()
            self._reservations.add(reservation)
        self._update()
        return reservation

    def commit(self, reservation: Reservation, candidate: Candidate, model: ServedModel) -> None:
        """Reduce the reservation to the memory of a loaded version."""
        reservation.size = _COPIES_LOADED * _sum_weights(candidate) + _OVERHEAD
        reservation.pinned = ()
        reservation.model = model
        self._update()

    def release(self, reservation: Reservation) -> None:
        """Release the memory of a version that failed to load or was closed."""
        self._reservations.discard(reservation)
        self._update()
        self.heap.trim_soon()

    def release_model(self, model: ServedModel) -> None:
        """Release the memory of a closed model."""
        for reservation in [other for other in self._reservations if other.model is model]:
            self.release(reservation)

    def notify_waiting(self) -> None:
        """Let waiting reservations check again, since a model may have become evictable."""
        self._changed.set()

    def _evict_one_for(self, reservation: Reservation) -> bool:
        """Evict the least recently used model, and return whether there was one to evict.

        Nothing is evicted if the models that are closing already free enough.
        """
        active = [other for other in self._reservations if not other.evicted]
        size = sum(other.size for other in active)
        if self._fits(reservation.size + size, 1 + len(active)):
            return False
        pinned = {model for other in (reservation, *active) for model in other.pinned}
        evictable = {
            other.model: other
            for other in active
            if other.model is not None and other.model not in pinned and not other.is_awaited()
        }
        least_used = min(
            evictable, key=lambda model: (model.is_used, model.last_used), default=None
        )
        if least_used is None:
            return False
        evictable[least_used].evicted = True
        self._metrics.count_eviction()
        evictable[least_used].evict(least_used)
        return True

    def _fits(self, size: int, models: int) -> bool:
        fits = not self._max_mib or size <= self._max_mib * MIB
        return fits and (not self._max_models or models <= self._max_models)

    @property
    def _size(self) -> int:
        return sum(reservation.size for reservation in self._reservations)

    def _update(self) -> None:
        self._changed.set()
        self._metrics.set_memory_bytes(self._size)


def _estimate_loading(candidate: Candidate) -> int:
    return _COPIES_LOADING * _sum_weights(candidate) + _OVERHEAD


def _sum_weights(candidate: Candidate) -> int:
    """Return the bytes of a bundle's graph, or of all files of a bare model with its weights."""
    sizes = {name: size for name, size, *_ in candidate.fingerprint}
    is_bundle = MANIFEST in sizes or EXAMPLES in sizes
    return sizes.get(MODEL, 0) if is_bundle else sum(sizes.values())
