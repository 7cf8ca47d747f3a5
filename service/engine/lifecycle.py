"""The lifecycle of one model's versions: which are opened, which serve, which are closed.

A version is opened, checked, self-tested and warmed up in a thread while the previous one serves;
the swap is one assignment on the event loop. A version that fails is kept with its reason, and
tried again only when its files change. Where memory is limited, a version that no request has used
yet is lazy: its manifest is read, and its first request waits until it is loaded.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from service.bundle.policy import Policy, Selection, select
from service.engine.loader import LAZY, VersionLoader
from service.engine.model import ServedModel, Statistics
from service.engine.model_cache import CachedModel, ModelCache
from service.engine.registry import (
    Entry,
    PublishedVersions,
    Registry,
    State,
    build_published,
    newest_first,
    rejected,
)
from service.engine.repository import Candidate, ModelFolder
from service.observability.metrics import Metrics
from service.settings import VersionPolicy

_log = logging.getLogger(__name__)


class Publisher:
    """The only writer of one model's part of the registry and of its gauges."""

    def __init__(self, name: str, registry: Registry, metrics: Metrics, cache: ModelCache) -> None:
        self._name = name
        self._registry = registry
        self._metrics = metrics
        self._cache = cache
        self._reported: Mapping[str, tuple[State, str]] = {}

    @property
    def published(self) -> PublishedVersions:
        """What clients see now."""
        return self._registry.published(self._name)

    def find(self, version: str | None) -> ServedModel | None:
        """The model in memory that serves a version, an alias or neither now."""
        return self._registry.find(self._name, version)

    def publish(self, published: PublishedVersions) -> None:
        """Serve these versions from now on, and retire the models that are no longer among them."""
        before = self.published.entries
        self._registry.publish(self._name, published)
        for version in {e.version for e in before} - {e.version for e in published.entries}:
            self._metrics.expire_version(self._name, version)
        staying = {entry.model for entry in published.entries if entry.model}
        for entry in before:
            if entry.model is not None and entry.model not in staying:
                self.retire(entry, entry.model, "replaced" if staying else "not chosen")
        self._update_gauges()

    def update(self, entry: Entry) -> None:
        """Publish another state of one version; the routes stay."""
        published = self.published
        others = [other for other in published.entries if other.version != entry.version]
        entries = newest_first([entry, *others])
        self._registry.publish(self._name, replace(published, entries=entries))
        self._update_gauges()

    def retire(self, entry: Entry, model: ServedModel, cause: str) -> None:
        """Let a model finish its last requests, and list it as UNLOADING in the meantime."""
        facts = {"model": self._name, "version": entry.version, "cause": cause}
        reason = "it finishes its last requests"
        unloading = replace(entry, state=State.UNLOADING, reason=reason, model=None, lazy=False)
        if model.in_use:
            self._registry.add_unloading(unloading)
            _log.info("model unloading", extra=facts)
        model.close_when_idle(partial(self._closed, unloading, model, facts))

    def _closed(self, unloading: Entry, model: ServedModel, facts: Mapping[str, object]) -> None:
        self._cache.release_model(model)
        self._registry.remove_unloading(unloading)
        _log.info("model unloaded", extra=facts)
        self._update_gauges()

    def _update_gauges(self) -> None:
        """Report changed states as metrics; versions that were not opened have none."""
        listed = self._name in self._registry.names
        states = {
            entry.version: (entry.state, self._device(entry))
            for entry in (self._registry.versions(self._name) if listed else ())
            if not entry.superseded and not entry.absent
        }
        for version, (state, device) in self._reported.items():
            if states.get(version, (state, ""))[1] != device:
                self._metrics.remove_model_state(self._name, version, device)
        for version, (state, device) in states.items():
            if self._reported.get(version) != (state, device):
                self._metrics.set_model_state(self._name, version, device, state)
        self._reported = states

    def _device(self, entry: Entry) -> str:
        """Where a version runs, which its tuning.json may have chosen."""
        return entry.info.device if entry.info else self._registry.device.actual


class Lifecycle:
    """Decides which versions of one model are open.

    Args:
        name: of the model.
        loader: opens versions.
        publisher: publishes the result.
        default: which versions serve if the model's policy does not say.
    """

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
        # What was opened, made lazy or rejected, by version.
        self._entries: dict[str, Entry] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._awaited: Counter[str] = Counter()

    async def sync(self, folder: ModelFolder, *, reload: bool = False) -> Sequence[Entry]:
        """Bring the model in line with its folder.

        Args:
            folder: as it is now; if it cannot be read, what serves continues to serve.
            reload: whether to open even what has not changed.

        Returns:
            The entries of its versions.
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
        """Load a lazy version; once, however many requests wait for it."""
        self._awaited[version] += 1
        try:
            # A client that disconnects must not cancel the load, for which others may wait.
            await asyncio.shield(self._load_task(version))
        finally:
            self._awaited[version] -= 1
            self._loader.cache.reconsider()

    async def unload(self, folder: ModelFolder) -> None:
        """Serve no version until the next `sync`."""
        async with self._lock:
            self._entries = {}
            entries = [rejected(it, "it was unloaded by a call") for it in folder.candidates or ()]
            self._publisher.publish(PublishedVersions(entries[:1]))

    async def remove(self) -> None:
        """Remove the model, whose folder is gone."""
        async with self._lock:
            self._clear()

    async def close(self) -> None:
        """Let every version finish its requests, and remove them."""
        for task in self._loads.values():
            task.cancel()
        models = [entry.model for entry in self._publisher.published.entries]
        await asyncio.gather(*(model.close() for model in models if model is not None))
        self._clear()

    def _clear(self) -> None:
        self._entries = {}
        self._policy = None
        self._publisher.publish(PublishedVersions(()))

    def _load_task(self, version: str) -> "asyncio.Task[None]":
        """The one task that loads a lazy version."""
        if version not in self._loads:
            self._loads[version] = asyncio.create_task(self._load_and_forget(version))
        return self._loads[version]

    async def _load_and_forget(self, version: str) -> None:
        try:
            async with self._lock:
                await self._load(version)
        finally:
            del self._loads[version]

    async def _load(self, version: str) -> None:
        """Open a lazy version; if it fails, its fallback serves."""
        entry = self._entries.get(version)
        if entry is None or not entry.lazy:
            return
        loading = replace(entry, state=State.LOADING, reason="its first request waits for it")
        self._publisher.update(loading)
        candidate = next(it for it in self._folder.candidates or () if it.version == version)
        serving = self._publisher.find(None)
        pinned = [] if serving is None else [serving]
        fits = self._loader.cache.fits_with(candidate, pinned)
        self._entries[version] = await self._open(candidate, pinned if fits else [])
        await self._open_selected()

    async def _open_selected(self, *, reload: bool = False) -> None:
        """Open versions one after the other until all selected ones serve; then publish."""
        candidates = self._folder.candidates or ()
        if self._policy is None:
            entries = [rejected(it, self._folder.problem) for it in candidates]
            self._publisher.publish(PublishedVersions(entries))
            return
        present = {candidate.version: candidate for candidate in candidates}
        self._entries = {version: e for version, e in self._entries.items() if version in present}
        for it in candidates:
            if it.rejected:
                self._entries[it.version] = _unless_worse(
                    self._entries.get(it.version), rejected(it, it.rejected)
                )
        tried = {it.version for it in candidates if it.rejected}
        while True:
            untried = present.keys() - tried if reload else set()
            selection = self._select(self._policy, present, untried)
            version = self._next(selection, present, tried, reload=reload)
            if version is None:
                break
            tried.add(version)
            await self._try(present[version], selection)
        published = build_published(self._policy, selection, self._folder, self._entries)
        # Rejected versions are remembered; those that no longer serve are not.
        self._entries = {
            version: entry
            for version, entry in self._entries.items()
            if version in selection.served or not entry.serves
        }
        self._publisher.publish(published)
        self._load_shadows(published, present)

    def _load_shadows(self, published: PublishedVersions, present: Mapping[str, Candidate]) -> None:
        """Load versions that shadow a model in memory, if both fit."""
        serving = self._publisher.find(None)
        for version in {published.routes.get(alias) for alias in published.shadow}:
            entry = self._entries.get(version or "")
            if serving is None or entry is None or not entry.lazy:
                continue
            if self._loader.cache.fits_with(present[entry.version], [serving]):
                self._load_task(entry.version)

    def _select(
        self, policy: Policy, present: Mapping[str, Candidate], untried: set[str]
    ) -> Selection:
        """Select by what is known so far; ``untried`` versions are assumed to load."""
        failed = {
            version
            for version, entry in self._entries.items()
            if not entry.serves and entry.fingerprint == present[version].fingerprint
        }
        current = self._publisher.published.routes
        return select(policy, self._default, list(present), failed - untried, current)

    def _next(
        self,
        selection: Selection,
        present: Mapping[str, Candidate],
        tried: set[str],
        *,
        reload: bool,
    ) -> str | None:
        """The newest selected version that does not serve yet, or whose files have changed."""
        for version, candidate in present.items():
            if version not in selection.served or version in tried:
                continue
            entry = self._entries.get(version)
            if reload or entry is None or entry.fingerprint != candidate.fingerprint:
                return version
            if entry.lazy and self._replaced_by(version, selection):
                return version
        return None

    async def _try(self, candidate: Candidate, selection: Selection) -> None:
        """Open one version; only its metadata if memory is limited and no request uses it."""
        version = candidate.version
        before = self._entries.get(version)
        if before is None or not before.serves:
            self._publisher.update(Entry(self._name, version, State.LOADING, "it is being loaded"))
        replaced = self._replaced_by(version, selection)
        cache = self._loader.cache
        if cache.limited and not (replaced and cache.fits_with(candidate, replaced)):
            opened = await self._loader.read_lazy(candidate)
        else:
            opened = await self._open(candidate, replaced)
        self._entries[version] = _unless_worse(self._entries.get(version), opened)

    def _replaced_by(self, version: str, selection: Selection) -> set[ServedModel]:
        """The models in memory whose requests this version is to get."""
        requested = [it for it, serving in selection.routes.items() if serving == version]
        models = {self._publisher.find(it) for it in [*requested, version]}
        return {model for model in models if model is not None}

    async def _open(self, candidate: Candidate, pinned: Collection[ServedModel] = ()) -> Entry:
        version = candidate.version
        before = self._entries.get(version)
        info = before.info if before is not None else None
        return await self._loader.open(
            candidate,
            info.statistics if info is not None else Statistics(),
            lambda model: CachedModel(
                model, partial(self._is_awaited, version), partial(self._evict, version, model)
            ),
            pinned,
        )

    def _is_awaited(self, version: str) -> bool:
        return self._awaited[version] > 0

    def _evict(self, version: str, model: ServedModel) -> None:
        """Make a version lazy, because another needs its memory."""
        entry = self._entries.get(version)
        if entry is None or entry.model is not model:
            return  # it is unloading already
        lazy = replace(entry, reason=LAZY, model=None, lazy=True)
        self._entries[version] = lazy
        if model in [other.model for other in self._publisher.published.entries]:
            self._publisher.update(lazy)
        self._publisher.retire(entry, model, "evicted")


def _unless_worse(before: Entry | None, opened: Entry) -> Entry:
    """The new entry; or if it was rejected, the one in memory with the reason."""
    if before is None or before.model is None or opened.serves:
        return opened
    return replace(
        before,
        reason="its files have changed and are rejected; what was loaded before serves: "
        + opened.reason,
        fingerprint=opened.fingerprint,
    )
