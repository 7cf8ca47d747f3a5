"""One worker process, and what all workers do together: load, unload, scan and list models."""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from operator import itemgetter

from service.engine.reconciler import Reconciler
from service.engine.registry import Entry, Readiness, Registry, State, sort_newest_first
from service.errors import ModelUnservable, WorkerFailed
from service.observability.metrics import Metrics
from service.settings import Settings
from service.workers.ipc import Channel, SharedNameSet, Slot
from service.workers.totals import Totals

SCAN = "scan"
_LOAD = "load"
_INDEX = "index"
# If the states of the workers differ, the first of these is reported.
_PRECEDENCE = (State.READY, State.LOADING, State.UNLOADING, State.UNAVAILABLE)
_UNKNOWN = (State.UNAVAILABLE, "it has not seen it yet")

_log = logging.getLogger(__name__)

StateAndReason = tuple[State, str]
VersionStates = Sequence[tuple[str, str, str, str]]
"""Model, version, state and reason of every version in one worker."""


class ModelControl:
    """Loads and unloads models in this worker, and through the channel in all others.

    The names of unloaded models are shared, so that workers which start later do not load them.

    ``seconds`` is how long to wait for each of the other workers.
    """

    def __init__(self, reconciler: Reconciler, channel: Channel, seconds: float) -> None:
        self._reconciler = reconciler
        self._channel = channel
        self._seconds = seconds
        channel.handle(_LOAD, reconciler.reload_model)
        channel.handle(SCAN, self._scan)

    async def start(self) -> None:
        """Load the models, connect to the other workers, and make all of them scan the folder.

        Raise `CannotStart` if the machine does not support the settings.
        """
        await self._reconciler.start()
        await self._channel.open()
        # A request may have changed the models before the socket was open. And the other workers
        # need the models that this one has found, since they may scan rarely or never.
        await self._reconciler.refresh()
        await self._channel.request(SCAN)

    async def close(self) -> None:
        """Disconnect from the other workers, and finish the requests of every model."""
        await self._channel.close()
        await self._reconciler.close()

    async def rescan(self) -> None:
        """Make every worker scan the folder; a worker that fails logs why."""
        _log.info("scan of the models folder requested")
        with contextlib.suppress(Exception):
            await self._scan(None)
        await self._channel.request(SCAN)

    async def load_model(self, name: str) -> None:
        """Load or reload a model in every worker.

        Raises:
            WorkerFailed: only another worker has failed.
            NotAllowed, ModelNotFound, ModelUnservable: as for `Reconciler.load_model`.
        """
        try:
            await self._reconciler.load_model(name)
        except ModelUnservable:
            await self._channel.request(_LOAD, name, seconds=self._seconds)
            raise
        await self._require_all(name, _LOAD, name)

    async def unload_model(self, name: str) -> None:
        """Unload a model in every worker until it is loaded again.

        Raises:
            WorkerFailed: only another worker has failed.
            NotAllowed, ModelNotFound: as for `Reconciler.unload_model`.
        """
        await self._reconciler.unload_model(name)
        await self._require_all(name, SCAN)

    async def _require_all(self, name: str, method: str, argument: str | None = None) -> None:
        """Send a request to all other workers; raise an error if one of them fails."""
        replies = await self._channel.request(method, argument, seconds=self._seconds)
        failed = {reply.worker: reply.error for reply in replies if reply.error is not None}
        if failed:
            raise WorkerFailed(name, failed, len(replies) + 1)

    async def _scan(self, _: object) -> None:
        try:
            await self._reconciler.refresh()
        except Exception as error:
            # Logged, too, since the sender may not wait for the reply.
            _log.error("models folder cannot be read", extra={"reason": str(error)})
            raise


class ClusterIndex:
    """The merged registries of all workers, so that all of them report the same.

    A version is READY while any worker serves it, because some requests succeed; its reason lists
    the workers that do not serve it, and why.
    """

    def __init__(self, registry: Registry, channel: Channel) -> None:
        self._registry = registry
        self._channel = channel
        channel.handle(_INDEX, self._reply)

    async def entries(self, name: str | None = None) -> Sequence[Entry]:
        """Return the entries of one model or of all (None), the newest version first.

        Raise `ModelNotFound` if there is no such model.
        """
        own = list(self._list_own(name))
        replies = await self._channel.request(_INDEX, name)
        others = [(reply.worker, reply.content) for reply in replies if reply.error is None]
        if not others:
            return own
        seen = sorted([(str(os.getpid()), _list_states(own)), *others], key=itemgetter(0))
        return _merge(own, seen)

    def _list_own(self, name: str | None) -> Iterator[Entry]:
        for model in self._registry.names if name is None else [name]:
            yield from self._registry.versions(model)

    async def _reply(self, name: str | None) -> VersionStates:
        if name is not None and name not in self._registry.names:
            return []
        return _list_states(self._list_own(name))


class Worker:
    """One process of the service: the parts that all protocols use.

    Without a slot, it is the only process.
    """

    def __init__(self, settings: Settings, metrics: Metrics, slot: Slot | None) -> None:
        self._metrics = metrics
        self.channel = Channel(slot)
        unloaded = set[str]() if slot is None else SharedNameSet(slot.folder / "unloaded")
        self.registry = Registry(settings.device)
        self.readiness = Readiness(self.registry, settings.readiness)
        self.reconciler = Reconciler(settings, metrics, self.registry, unloaded)
        self.index = ClusterIndex(self.registry, self.channel)
        self.control = ModelControl(self.reconciler, self.channel, settings.worker_seconds)
        self.totals = Totals(metrics, self.channel, slot)

    async def start(self) -> None:
        """Restore the totals, then do as `ModelControl.start`."""
        self.totals.restore()
        await self.control.start()
        entries = [entry for name in self.registry.names for entry in self.registry.versions(name)]
        self._metrics.expire_versions_except({(entry.name, entry.version) for entry in entries})
        self.readiness.record_first_loads()


def _list_states(entries: Iterable[Entry]) -> VersionStates:
    return [(entry.name, entry.version, entry.state, entry.reason) for entry in entries]


def _merge(own: Sequence[Entry], seen: Sequence[tuple[str, VersionStates]]) -> list[Entry]:
    """Return the entries of all workers, given the states in each worker by its process id."""
    views = [
        (worker, {(model, version): (State(state), why) for model, version, state, why in states})
        for worker, states in seen
    ]
    known = {(entry.name, entry.version): entry for entry in own}
    by_model: dict[str, list[Entry]] = {}
    for key in sorted({key for _, view in views for key in view}):
        state, reason = _merge_states([(worker, view.get(key, _UNKNOWN)) for worker, view in views])
        entry = known.get(key) or Entry(*key, state)
        by_model.setdefault(key[0], []).append(replace(entry, state=state, reason=reason))
    return [entry for entries in by_model.values() for entry in sort_newest_first(entries)]


def _merge_states(seen: Sequence[tuple[str, StateAndReason]]) -> StateAndReason:
    """Return one state for all workers, and why some workers have another."""
    states = {state for _, (state, _) in seen}
    state = next(state for state in _PRECEDENCE if state in states)
    if len(states) == 1:
        return state, next((reason for _, (_, reason) in seen if reason), "")
    differing = (
        f"process {worker}: {reason or other}"
        for worker, (other, reason) in seen
        if other is not state
    )
    return state, "; ".join(differing)
