"""The published models: their versions with states and reasons, and how requests are routed.

`Registry` is the one source for all endpoints. `build_published_versions` makes a model's part of
it from the selected versions, `TrafficSplitter` chooses an alias for a request without a version,
and `Readiness` says whether this process should get requests.
"""

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, Self

from service.bundle.policy import STABLE, Policy, Routes, Selection, Shadow
from service.bundle.store import is_version
from service.engine.model import ModelInfo, ServedModel
from service.engine.repository import Candidate, Fingerprint, ModelFolder
from service.engine.session import DeviceChoice
from service.errors import ModelNotFound, ModelNotReady, ModelUnservable, VersionNotFound

LAZY = "its first request loads it"
"""Reason of a lazy version."""

_HASH_RANGE = 2**64
Strictness = Literal["lenient", "strict"]


class State(StrEnum):
    """A version's state, in the terms of the Open Inference Protocol's repository index."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True)
class Entry:
    """One version in the registry.

    Attributes:
        state: a READY version serves, immediately or after it was loaded.
        reason: why it does not serve. A READY version has one if its files have changed since it
            was loaded, and the new files were rejected.
        model: the version in memory.
        is_lazy: whether its first request loads it.
        info: the metadata of a version that serves; None for a bare model that was never loaded.
        is_servable: False for a bare model whose graph ONNX Runtime rejects.
        is_superseded: whether it is not opened because another version serves instead.
        is_absent: whether an alias or the policy names it, but it has no folder.
        fingerprint: of the files that were loaded or rejected.
    """

    name: str
    version: str
    state: State
    reason: str = ""
    model: ServedModel | None = None
    is_lazy: bool = False
    info: ModelInfo | None = None
    is_servable: bool = True
    is_superseded: bool = False
    is_absent: bool = False
    fingerprint: Fingerprint = ()

    @classmethod
    def ready(
        cls, candidate: Candidate, info: ModelInfo | None, model: ServedModel | None = None
    ) -> Self:
        """Return the entry of a version that serves; without a model it is lazy."""
        return cls(
            candidate.name,
            candidate.version,
            State.READY,
            LAZY if model is None else "",
            model,
            is_lazy=model is None,
            info=info,
            fingerprint=candidate.fingerprint,
        )

    @classmethod
    def rejected(cls, candidate: Candidate, reason: str, *, is_servable: bool = True) -> Self:
        """Return the entry of a version whose files cannot be served."""
        return cls(
            candidate.name,
            candidate.version,
            State.UNAVAILABLE,
            reason,
            is_servable=is_servable,
            fingerprint=candidate.fingerprint,
        )

    @property
    def serves(self) -> bool:
        """Whether it serves requests, immediately or after it was loaded."""
        return self.model is not None or self.is_lazy


@dataclass(frozen=True)
class PublishedVersions:
    """The versions of one model as clients see them, and how requests are routed.

    Attributes:
        entries: the versions, newest first.
        routes: the version that serves each alias; None is the key of the default version.
        aliases: the version that each alias is set to, whether or not it serves.
        split: each alias's share of the requests that name no version.
        shadow: how each shadow alias is compared with the version that serves.
    """

    entries: Sequence[Entry]
    routes: Routes = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    split: Mapping[str, float] = field(default_factory=dict)
    shadow: Mapping[str, Shadow] = field(default_factory=dict)


_NONE = PublishedVersions(())


class Registry:
    """The models of one app. Only `Publisher` changes it, on the event loop."""

    def __init__(self, requested: str) -> None:
        self._published: dict[str, PublishedVersions] = {}
        self._unloading: dict[tuple[str, str], Entry] = {}
        self._loaded: dict[tuple[str, str | None], ServedModel] = {}
        self.routed: set[str] = set()
        """The models whose requests without a version are split between aliases or mirrored."""
        self.revision = 0
        """Increases with every change of the published versions."""
        self.device = DeviceChoice(requested, "cpu", "not chosen yet")

    def publish(self, name: str, published: PublishedVersions) -> None:
        """Replace the published versions of a model; a model without versions is removed."""
        self.revision += 1
        for version in _list_routes(self._published.get(name, _NONE)):
            self._loaded.pop((name, version), None)
        self.routed.discard(name)
        if published.split or published.shadow:
            self.routed.add(name)
        if not published.entries:
            self._published.pop(name, None)
            return
        if name in self._published:
            self._published[name] = published
        else:
            self._published = dict(sorted({**self._published, name: published}.items()))
        models = {entry.version: entry.model for entry in published.entries}
        for requested, version in _list_routes(published).items():
            if model := models.get(version):
                self._loaded[name, requested] = model

    def add_unloading(self, entry: Entry) -> None:
        """List a version that is finishing its last requests."""
        self._unloading[entry.name, entry.version] = entry

    def remove_unloading(self, entry: Entry) -> None:
        """Remove it from the list."""
        if self._unloading.get((entry.name, entry.version)) is entry:
            del self._unloading[entry.name, entry.version]

    @property
    def is_ready(self) -> bool:
        """Whether at least one model serves."""
        return any(None in published.routes for published in self._published.values())

    @property
    def names(self) -> list[str]:
        """The names of all models, ready or not, sorted."""
        unloading = {name for name, _ in self._unloading if name not in self._published}
        return sorted({*self._published, *unloading}) if unloading else list(self._published)

    def find(self, name: str, version: str | None = None) -> ServedModel | None:
        """Return the model in memory that serves a version or an alias; None if there is none.

        Every request finds its model here; without a version it is the default one. `entry` gives
        the reason if there is none.
        """
        return self._loaded.get((name, version))

    def entry(self, name: str, version: str | None = None, *, serving: bool = False) -> Entry:
        """Return the entry of a version or an alias.

        Without a version it is the entry of the one that serves, or else of the newest. If no
        version serves an alias, it is the entry of the version that the alias is set to.

        Raises:
            NotFound: there is no such model, version or alias.
            ModelNotReady: the version does not serve, and ``serving`` requires it; with the reason.
            ModelUnservable: as before, because ONNX Runtime cannot serve it; with the reason.
        """
        published, entries = self.published(name), self.versions(name)
        aliases = published.aliases
        alias, default = (STABLE, entries[0].version) if version is None else (version, version)
        number = published.routes.get(version) or aliases.get(alias, default)
        found = next((entry for entry in entries if entry.version == number), None)
        if found is not None and (found.serves or not serving):
            return found
        if found is None or found.is_absent:
            existing = [entry.version for entry in reversed(entries) if not entry.is_absent]
            absent_alias = version if found is not None and version in aliases else None
            raise VersionNotFound(name, number, existing, list(aliases), absent_alias)
        if not found.is_servable:
            raise ModelUnservable(name, found.version, found.reason)
        raise ModelNotReady(name, found.version, found.reason)

    def versions(self, name: str) -> Sequence[Entry]:
        """Return the entries of a model, newest first, including those that are unloading.

        Raise `ModelNotFound` if there is no such model.
        """
        entries = {entry.version: entry for entry in self.published(name).entries}
        for (model, version), unloading in self._unloading.items():
            if model == name and not (version in entries and entries[version].serves):
                entries[version] = unloading
        if not entries:
            raise ModelNotFound(name, self.names)
        return list(entries.values())

    def published(self, name: str) -> PublishedVersions:
        """Return the published versions of a model; none if there is no such model."""
        return self._published.get(name, _NONE)

    def shadows(self, name: str) -> Sequence[tuple[ServedModel, Shadow]]:
        """Return the shadow versions, which get copies of the requests that name no version."""
        if name not in self.routed or (serving := self.find(name)) is None:
            return ()
        shadow = self.published(name).shadow
        candidates = [(self.find(name, alias), how) for alias, how in shadow.items()]
        return [(one, how) for one, how in candidates if one is not None and one is not serving]

    def model_infos(self) -> Iterator[ModelInfo]:
        """Yield the metadata of every version that serves."""
        for published in self._published.values():
            yield from (entry.info for entry in published.entries if entry.serves and entry.info)


class TrafficSplitter:
    """Splits the requests that name no version by the shares of the policy."""

    def __init__(self, registry: Registry, seed: int | None) -> None:
        self._registry = registry
        self._random = random.Random(seed)  # noqa: S311 - not a secret

    def choose_alias(self, name: str, client: str | None) -> str | None:
        """Return the alias that serves a request; None for the default version.

        A client with an id gets the same alias while the shares do not change, and keeps it while
        that share grows. Without an id the choice is random.
        """
        published = self._registry.published(name)
        position = _hash_client(name, client) if client else self._random.random()
        for alias, share in published.split.items():
            if position < share:
                # If no version serves the alias, the default version does.
                return alias if alias in published.routes else None
            position -= share
        return None


class Readiness:
    """Whether this process should get requests.

    It is ready while at least one model serves, until the service begins to stop. ``strict`` also
    requires that every model found at the start has served once. Models that are added or fail
    later do not matter: the others serve.
    """

    def __init__(self, registry: Registry, strictness: Strictness) -> None:
        self._registry = registry
        self._strict = strictness == "strict"
        self._never_served: set[str] = set()
        self.is_draining = False

    def record_first_loads(self) -> None:
        """Record which models failed their first load; to be called when all were tried."""
        self._never_served = {name for name in self._registry.names if self._failed(name)}

    def drain(self) -> None:
        """Stop being ready; requests are still served."""
        self.is_draining = True

    @property
    def not_ready_reason(self) -> str | None:
        """Why this process is not ready, or None."""
        if self.is_draining:
            return "The service is stopping."
        if not self._registry.is_ready:
            return "No model serves."
        # A model that was fixed has served; one that was removed is no longer required.
        self._never_served = {name for name in self._never_served if self._failed(name)}
        if self._strict and self._never_served:
            name = min(self._never_served)
            reason = self._registry.entry(name).reason
            return f"Model {name!r} has not served since the start: {reason}"
        return None

    def _failed(self, name: str) -> bool:
        entries = self._registry.published(name).entries
        return bool(entries) and all(entry.state is State.UNAVAILABLE for entry in entries)


def build_published_versions(
    policy: Policy,
    selection: Selection,
    folder: ModelFolder,
    opened: Mapping[str, Entry],
) -> PublishedVersions:
    """Return the published versions of a model when all selected versions are open.

    The policy is the previous one if that of the folder has a problem; ``opened`` contains the
    entries of all versions that were opened or rejected.
    """
    candidates = folder.candidates or ()
    aliases = {alias: str(alias_state.version) for alias, alias_state in policy.aliases.items()}
    entries = [
        opened[candidate.version]
        if candidate.version in selection.examined or candidate.rejected
        else _supersede(candidate, policy, selection)
        for candidate in candidates
    ]
    present = {candidate.version for candidate in candidates}
    entries += _list_absent(folder.name, policy, aliases, present)
    entries = sort_newest_first(_add_fallbacks(entry, aliases, selection) for entry in entries)
    if folder.problem:
        reasons = [entries[0].reason, folder.problem, "the previous policy stays in effect"]
        entries[0] = replace(entries[0], reason="; ".join(filter(None, reasons)))
    split = dict(sorted(policy.split.items()))
    return PublishedVersions(entries, selection.routes, aliases, split, policy.shadow)


def sort_newest_first(entries: Iterable[Entry]) -> list[Entry]:
    """Sort entries by version, highest first; invalid version numbers such as "01" come last."""
    return sorted(
        entries,
        key=lambda entry: (-int(entry.version) if is_version(entry.version) else 1, entry.version),
    )


def _supersede(candidate: Candidate, policy: Policy, selection: Selection) -> Entry:
    if isinstance(policy.versions, tuple):
        listed = ", ".join(map(str, policy.versions))
        reason = f"its policy chooses {listed}"
    else:
        reason = (
            f"version {selection.chosen[0]} serves instead; to serve this one: "
            f"onward publish {candidate.name} {candidate.version}"
        )
    return Entry(candidate.name, candidate.version, State.UNAVAILABLE, reason, is_superseded=True)


def _list_absent(
    name: str, policy: Policy, aliases: Mapping[str, str], present: set[str]
) -> Iterable[Entry]:
    """Yield an entry for each version without a folder that an alias or the policy names."""
    named = {version: f"alias {alias!r} is set to it" for alias, version in aliases.items()}
    if isinstance(policy.versions, tuple):
        named |= {str(version): "its policy chooses it" for version in policy.versions}
    for version in named.keys() - present:
        reason = f"{named[version]}, and it has no folder"
        yield Entry(name, version, State.UNAVAILABLE, reason, is_absent=True)


def _add_fallbacks(entry: Entry, aliases: Mapping[str, str], selection: Selection) -> Entry:
    """Return the entry; its reason names the versions that serve its aliases in the meantime."""
    fallbacks = [
        f"version {selection.routes[alias]} serves alias {alias!r}"
        for alias, version in aliases.items()
        if version == entry.version and selection.routes.get(alias, version) != version
    ]
    return replace(entry, reason="; ".join([entry.reason, *fallbacks])) if fallbacks else entry


def _list_routes(published: PublishedVersions) -> Mapping[str | None, str]:
    """Return the version that serves each version or alias in a request."""
    return {entry.version: entry.version for entry in published.entries} | dict(published.routes)


def _hash_client(name: str, client: str) -> float:
    """Return a client's position from 0 to 1; it differs between models."""
    digest = hashlib.blake2b(f"{name}\0{client}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / _HASH_RANGE
