"""The lifecycle of one model's versions: which are opened, which serve, which are closed.

A version is opened, self-tested and warmed up in a thread while the previous one serves; the swap
is one assignment on the event loop. A version that fails is listed with its reason, and tried again
only when its files change. If memory is limited, a version without requests is lazy: only its
manifest is read, and its first request waits until it is loaded.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from service.bundle.policy import Policy, Selection, select
from service.engine.loader import VersionLoader
from service.engine.model import ServedModel, Statistics
from service.engine.model_cache import ModelCache
from service.engine.registry import (
    LAZY,
    Entry,
    PublishedVersions,
    Registry,
    State,
    build_published_versions,
    sort_newest_first,
)
from service.engine.repository import Candidate, ModelFolder
from service.observability.metrics import Metrics
from service.settings import VersionPolicy

# Causes in the log why a version stops serving.
_REMOVED = "its folder was removed"
_NOT_CHOSEN = "not chosen"

_log = logging.getLogger(__name__)


class Publisher:
    """Publishes the versions of one model in the registry and in the metrics."""

    def __init__(self, name: str, registry: Registry, metrics: Metrics, cache: ModelCache) -> None:
        self._name = name
        self._registry = registry
        self._metrics = metrics
        self._cache = cache
        self._exported: Mapping[str, tuple[State, str]] = {}

    @property
    def published(self) -> PublishedVersions:
        """The versions as clients see them now."""
        return self._registry.published(self._name)

    def find(self, version: str | None) -> ServedModel | None:
        """Return the model in memory that serves a version or an alias now."""
        return self._registry.find(self._name, version)

    def publish(self, published: PublishedVersions, without_entry: str = _REMOVED) -> None:
        """Serve these versions from now on, and retire the models of all others.

        ``without_entry`` is the cause to log for versions that are not listed any more.
        """
        before = self.published.entries
        self._registry.publish(self._name, published)
        present = {entry.version for entry in published.entries if not entry.is_absent}
        for version in {e.version for e in before} - {e.version for e in published.entries}:
            self._metrics.expire_version(self._name, version)
        if before and not published.entries:
            self._metrics.expire_version(self._name, "")  # of requests that found no version
        serving = {entry.model for entry in published.entries if entry.model}
        for entry in before:
            if entry.model is None or entry.model in serving:
                continue
            chosen = "replaced" if serving else _NOT_CHOSEN
            self.retire(entry, entry.model, chosen if entry.version in present else without_entry)
        self._update_gauges()

    def update(self, entry: Entry) -> None:
        """Publish another state of one version, without changing the routes."""
        published = self.published
        others = [other for other in published.entries if other.version != entry.version]
        entries = sort_newest_first([entry, *others])
        self._registry.publish(self._name, replace(published, entries=entries))
        self._update_gauges()

    def retire(self, entry: Entry, model: ServedModel, cause: str) -> None:
        """Close a model after its last requests, and list it as UNLOADING in the meantime."""
        extra = {"model": self._name, "version": entry.version, "cause": cause}
        reason = "it finishes its last requests"
        unloading = replace(entry, state=State.UNLOADING, reason=reason, model=None, is_lazy=False)
        if model.is_used:
            self._registry.add_unloading(unloading)
            _log.info("model unloading", extra=extra)
        model.close_when_idle(partial(self._closed, unloading, model, extra))

    def _closed(self, unloading: Entry, model: ServedModel, extra: Mapping[str, object]) -> None:
        self._cache.release_model(model)
        self._registry.remove_unloading(unloading)
        _log.info("model unloaded", extra=extra)
        self._update_gauges()

    def _update_gauges(self) -> None:
        """Update the metrics of changed states; versions that were not opened have none."""
        listed = self._name in self._registry.names
        states = {
            entry.version: (entry.state, self._get_device(entry))
            for entry in (self._registry.versions(self._name) if listed else ())
            if not entry.is_superseded and not entry.is_absent
        }
        for version, (state, device) in self._exported.items():
            if states.get(version, (state, ""))[1] != device:
                self._metrics.remove_model_state(self._name, version, device)
        for version, (state, device) in states.items():
            if self._exported.get(version) != (state, device):
                self._metrics.set_model_state(self._name, version, device, state)
        self._exported = states

    def _get_device(self, entry: Entry) -> str:
        """Return the device of a version, which its tuning.json may have chosen."""
        return entry.info.device if entry.info else self._registry.device.actual


class Lifecycle:
    """Opens and closes the versions of one model; ``default`` applies if it has no policy."""

    def __init__(
        self, name: str, loader: VersionLoader, publisher: Publisher, default: VersionPolicy
    ) -> None:
        self._name = name
        self._loader = loader
        self._publisher = publisher
        self._default = default
        self._lock = asyncio.Lock()
        self._folder = ModelFolder(name, (), None)
        self._policy: Policy | None = None
        # The versions that were opened, made lazy or rejected.
        self._entries: dict[str, Entry] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._waiting_requests: Counter[str] = Counter()

    async def sync(self, folder: ModelFolder, *, reload: bool = False) -> Sequence[Entry]:
        """Open the versions that the policy selects, and close all others; return their entries.

        If the folder cannot be read, the open versions continue to serve. ``reload`` also opens
        versions whose files have not changed.
        """
        async with self._lock:
            if folder.candidates is not None:
                self._folder = folder
                self._policy = folder.policy or self._policy
                await self._open_selected(reload=reload)
            if reload and (version := self._publisher.published.routes.get(None)):
                await self._load(version)
            return self._publisher.published.entries

    async def ensure_loaded(self, version: str) -> None:
        """Load a lazy version once, for all requests that wait for it."""
        self._waiting_requests[version] += 1
        try:
            # A client that disconnects must not cancel the load: other requests may wait for it.
            await asyncio.shield(self._load_task(version))
        finally:
            self._waiting_requests[version] -= 1
            self._loader.cache.notify_waiting()

    async def unload(self, folder: ModelFolder) -> None:
        """Serve no version until the next `sync`."""
        async with self._lock:
            self._entries = {}
            entries = [
                Entry.rejected(candidate, "it was unloaded on request")
                for candidate in folder.candidates or ()
            ]
            self._publisher.publish(PublishedVersions(entries[:1]), _NOT_CHOSEN)

    async def remove(self) -> None:
        """Remove the model, because its folder was removed."""
        async with self._lock:
            self._clear(_REMOVED)

    async def close(self) -> None:
        """Finish all requests, and remove all versions."""
        for task in self._loads.values():
            task.cancel()
        models = [entry.model for entry in self._publisher.published.entries]
        await asyncio.gather(*(model.close() for model in models if model is not None))
        self._clear(_NOT_CHOSEN)

    def _clear(self, cause: str) -> None:
        self._entries = {}
        self._policy = None
        self._publisher.publish(PublishedVersions(()), cause)

    def _load_task(self, version: str) -> "asyncio.Task[None]":
        """Return the task that loads a lazy version; start it if there is none."""
        if version not in self._loads:
            self._loads[version] = asyncio.create_task(self._run_load(version))
        return self._loads[version]

    async def _run_load(self, version: str) -> None:
        try:
            async with self._lock:
                await self._load(version)
        finally:
            del self._loads[version]

    async def _load(self, version: str) -> None:
        """Open a lazy version; if that fails, its fallback serves."""
        entry = self._entries.get(version)
        if entry is None or not entry.is_lazy:
            return
        loading = replace(entry, state=State.LOADING, reason="its first request waits for it")
        self._publisher.update(loading)
        candidates = self._folder.candidates or ()
        candidate = next(one for one in candidates if one.version == version)
        serving = self._publisher.find(None)
        pinned = [] if serving is None else [serving]
        fits = self._loader.cache.fits_alongside(candidate, pinned)
        self._record(await self._open(candidate, pinned if fits else []))
        await self._open_selected()

    async def _open_selected(self, *, reload: bool = False) -> None:
        """Open versions one by one until all selected ones serve; then publish them."""
        candidates = self._folder.candidates or ()
        if self._policy is None:
            entries = [Entry.rejected(candidate, self._folder.problem) for candidate in candidates]
            self._publisher.publish(PublishedVersions(entries))
            return
        present = {candidate.version: candidate for candidate in candidates}
        self._entries = {version: e for version, e in self._entries.items() if version in present}
        tried = set()
        for candidate in candidates:
            if candidate.rejected:
                tried.add(candidate.version)
                self._record(Entry.rejected(candidate, candidate.rejected))
        while True:
            untried = present.keys() - tried if reload else set()
            selection = self._select(self._policy, present, untried)
            version = self._find_next_version(selection, present, tried, reload=reload)
            if version is None:
                break
            tried.add(version)
            await self._open_or_make_lazy(present[version], selection)
        published = build_published_versions(self._policy, selection, self._folder, self._entries)
        # Rejected versions are not tried again; versions that no longer serve may be opened again.
        self._entries = {
            version: entry
            for version, entry in self._entries.items()
            if version in selection.served or not entry.serves
        }
        self._publisher.publish(published)
        self._load_shadows(published, present)

    def _load_shadows(self, published: PublishedVersions, present: Mapping[str, Candidate]) -> None:
        """Load the shadow versions of a model in memory, if both fit."""
        serving = self._publisher.find(None)
        for version in {published.routes.get(alias) for alias in published.shadow}:
            entry = self._entries.get(version or "")
            if serving is None or entry is None or not entry.is_lazy:
                continue
            if self._loader.cache.fits_alongside(present[entry.version], [serving]):
                self._load_task(entry.version)

    def _select(
        self, policy: Policy, present: Mapping[str, Candidate], untried: set[str]
    ) -> Selection:
        """Select versions by the results so far; ``untried`` versions are assumed to load."""
        failed = {
            version
            for version, entry in self._entries.items()
            if not entry.serves and entry.fingerprint == present[version].fingerprint
        }
        current = self._publisher.published.routes
        return select(policy, self._default, list(present), failed - untried, current)

    def _find_next_version(
        self,
        selection: Selection,
        present: Mapping[str, Candidate],
        tried: set[str],
        *,
        reload: bool,
    ) -> str | None:
        """Return the newest selected version that does not serve yet or has changed files."""
        for version, candidate in present.items():
            if version not in selection.served or version in tried:
                continue
            entry = self._entries.get(version)
            if reload or entry is None or entry.fingerprint != candidate.fingerprint:
                return version
            if entry.is_lazy and self._find_replaced(version, selection):
                return version
        return None

    async def _open_or_make_lazy(self, candidate: Candidate, selection: Selection) -> None:
        """Open a version; if memory is limited and no request uses it, make it lazy instead."""
        version = candidate.version
        before = self._entries.get(version)
        if before is None or not before.serves:
            self._publisher.update(Entry(self._name, version, State.LOADING, "it is being loaded"))
        replaced = self._find_replaced(version, selection)
        cache = self._loader.cache
        if cache.is_limited and not (replaced and cache.fits_alongside(candidate, replaced)):
            opened = await self._loader.read_metadata(candidate)
        else:
            opened = await self._open(candidate, replaced)
        self._record(opened)

    def _record(self, opened: Entry) -> None:
        """Record a new entry; if it was rejected, the model in memory stays, with the reason."""
        before = self._entries.get(opened.version)
        if before is not None and before.model is not None and not opened.serves:
            reason = "its files have changed and are rejected; what was loaded before serves: "
            opened = replace(before, reason=reason + opened.reason, fingerprint=opened.fingerprint)
        self._entries[opened.version] = opened

    def _find_replaced(self, version: str, selection: Selection) -> set[ServedModel]:
        """Return the models in memory whose requests this version will get."""
        aliases = [alias for alias, served_by in selection.routes.items() if served_by == version]
        models = {self._publisher.find(requested) for requested in (*aliases, version)}
        return {model for model in models if model is not None}

    async def _open(self, candidate: Candidate, pinned: Collection[ServedModel]) -> Entry:
        version = candidate.version
        before = self._entries.get(version)
        return await self._loader.open(
            candidate,
            before.info.statistics if before is not None and before.info else Statistics(),
            pinned,
            is_awaited=lambda: self._waiting_requests[version] > 0,
            evict=partial(self._evict, version),
        )

    def _evict(self, version: str, model: ServedModel) -> None:
        """Make a version lazy, because another one needs its memory."""
        entry = self._entries.get(version)
        if entry is None or entry.model is not model:
            return  # it is already unloading
        lazy = replace(entry, reason=LAZY, model=None, is_lazy=True)
        self._entries[version] = lazy
        if model in [other.model for other in self._publisher.published.entries]:
            self._publisher.update(lazy)
        self._publisher.retire(entry, model, "evicted")
