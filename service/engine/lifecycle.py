"""One model's way through its versions: what is opened, what serves, what is let go.

A version is opened, checked, proved and warmed in a thread while the one before it serves; the
swap is one assignment on the event loop. What fails is kept with its reason, and tried again only
when its files have changed. Where memory is limited, a version that nobody has asked for yet is
asleep: its manifest is read, and its first request waits until it is open.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from service.bundle.policy import Policy
from service.bundle.version_policy import Selection, select
from service.engine.loader import ASLEEP, Opener
from service.engine.model import ServedModel, Statistics
from service.engine.model_cache import Memory, Occupant
from service.engine.registry import (
    Entry,
    Offer,
    Registry,
    State,
    newest_first,
    offer,
    refused,
)
from service.engine.repository import Candidate, Home
from service.observability.metrics import Metrics
from service.settings import VersionPolicy

_log = logging.getLogger(__name__)


class Publisher:
    """The only writer of what the registry offers of one model."""

    def __init__(self, name: str, registry: Registry, metrics: Metrics, memory: Memory) -> None:
        self._name = name
        self._registry = registry
        self._metrics = metrics
        self._memory = memory
        self._told: Mapping[str, tuple[State, str]] = {}

    @property
    def offer(self) -> Offer:
        """What is offered now."""
        return self._registry.offer(self._name)

    def find(self, asked: str | None) -> ServedModel | None:
        """What answers from memory now."""
        return self._registry.find(self._name, asked)

    def publish(self, offer: Offer) -> None:
        """Serve this from now on, and let go the models that are no longer in it."""
        before = self.offer.entries
        self._registry.put(self._name, offer)
        for version in {e.version for e in before} - {e.version for e in offer.entries}:
            self._metrics.version_removed(self._name, version)
        staying = {entry.model for entry in offer.entries if entry.model}
        for entry in before:
            if entry.model is not None and entry.model not in staying:
                self.let_go(entry, entry.model, "replaced" if staying else "not chosen")
        self._tell()

    def show(self, entry: Entry) -> None:
        """Tell of another state of one version; what answers to what stays."""
        offer = self.offer
        others = [other for other in offer.entries if other.version != entry.version]
        entries = newest_first([entry, *others])
        self._registry.put(self._name, replace(offer, entries=entries))
        self._tell()

    def let_go(self, entry: Entry, model: ServedModel, cause: str) -> None:
        """Let a model answer its last callers, and show it as UNLOADING meanwhile."""
        facts = {"model": self._name, "version": entry.version, "cause": cause}
        reason = "it answers its last callers"
        leaving = replace(entry, state=State.UNLOADING, reason=reason, model=None, asleep=False)
        if model.held:
            self._registry.leave(leaving)
            _log.info("model unloading", extra=facts)
        model.retire(partial(self._gone, leaving, model, facts))

    def _gone(self, leaving: Entry, model: ServedModel, facts: Mapping[str, object]) -> None:
        self._memory.left(model)
        self._registry.left(leaving)
        _log.info("model let go", extra=facts)
        self._tell()

    def _tell(self) -> None:
        """Bring the gauges in line with the index; versions that were not opened have none."""
        states = {
            entry.version: (entry.state, self._device(entry))
            for entry in self._registry.shown(self._name)
            if not entry.superseded and not entry.absent
        }
        for version, (state, device) in self._told.items():
            if states.get(version, (state, ""))[1] != device:
                self._metrics.model_gone(self._name, version, device)
        for version, (state, device) in states.items():
            if self._told.get(version) != (state, device):
                self._metrics.model_state(self._name, version, device, state)
        self._told = states

    def _device(self, entry: Entry) -> str:
        """Where a version runs, which its tuning.json may have chosen."""
        return entry.about.device if entry.about else self._registry.device.actual


class Lifecycle:
    """Decides what is open of one model.

    Args:
        name: the model.
        opener: what opens versions.
        publisher: what shows callers the outcome.
        default: which versions serve where the model does not say.
    """

    def __init__(
        self, name: str, opener: Opener, publisher: Publisher, default: VersionPolicy
    ) -> None:
        self._name = name
        self._opener = opener
        self._publisher = publisher
        self._default = default
        self._one_change = asyncio.Lock()
        self._home = Home(name, (), None)
        self._policy: Policy | None = None
        # What was opened, looked into or refused, by version.
        self._entries: dict[str, Entry] = {}
        self._waking: dict[str, asyncio.Task[None]] = {}
        self._awaited: Counter[str] = Counter()

    async def follow(self, home: Home, *, again: bool = False) -> Sequence[Entry]:
        """Bring the model in line with its folder, as it is now.

        Args:
            home: the folder; of one that cannot be read, what serves serves on.
            again: whether to open even what has not changed.

        Returns:
            What became of its versions.
        """
        async with self._one_change:
            if home.candidates is not None:
                self._home = home
                self._policy = home.policy or self._policy
                await self._bring_in_line(again=again)
            if again and (version := self._publisher.offer.routes.get(None)):
                await self._load(version)
            return self._publisher.offer.entries

    async def wake(self, version: str) -> None:
        """Load a version that is asleep; once, however many wait for it."""
        self._awaited[version] += 1
        try:
            # Who waits may leave; what they have begun is done for the next.
            await asyncio.shield(self._set_out(version))
        finally:
            self._awaited[version] -= 1
            self._opener.memory.reconsider()

    async def unload(self, home: Home) -> None:
        """Serve no version until the folder is followed again."""
        async with self._one_change:
            self._entries = {}
            entries = [refused(it, "it was unloaded by a call") for it in home.candidates or ()]
            self._publisher.publish(Offer(entries[:1]))

    async def leave(self) -> None:
        """Forget the model, whose folder is gone."""
        async with self._one_change:
            self._forget()

    async def close(self) -> None:
        """Let every version finish what waits, and forget them."""
        for task in self._waking.values():
            task.cancel()
        models = [entry.model for entry in self._publisher.offer.entries]
        await asyncio.gather(*(model.close() for model in models if model is not None))
        self._forget()

    def _forget(self) -> None:
        self._entries = {}
        self._policy = None
        self._publisher.publish(Offer(()))

    async def _wake(self, version: str) -> None:
        try:
            async with self._one_change:
                await self._load(version)
        finally:
            del self._waking[version]

    async def _load(self, version: str) -> None:
        """Open a version that is asleep; should it fail, what stands behind it comes forward."""
        entry = self._entries.get(version)
        if entry is None or not entry.asleep:
            return
        loading = replace(entry, state=State.LOADING, reason="its first request waits for it")
        self._publisher.show(loading)
        candidate = next(it for it in self._home.candidates or () if it.version == version)
        serving = self._publisher.find(None)
        beside = [] if serving is None else [serving]
        fits = self._opener.memory.holds_both(candidate, beside)
        self._entries[version] = await self._open(candidate, beside if fits else [])
        await self._bring_in_line()

    async def _bring_in_line(self, *, again: bool = False) -> None:
        """Open versions one after the other, until all serve that are to; then swap."""
        candidates = self._home.candidates or ()
        if self._policy is None:
            self._publisher.publish(Offer([refused(it, self._home.problem) for it in candidates]))
            return
        there = {candidate.version: candidate for candidate in candidates}
        self._entries = {version: e for version, e in self._entries.items() if version in there}
        for it in candidates:
            if it.refused:
                self._entries[it.version] = _kept(
                    self._entries.get(it.version), refused(it, it.refused)
                )
        tried = {it.version for it in candidates if it.refused}
        while True:
            hopeful = there.keys() - tried if again else set()
            selection = self._select(self._policy, there, hopeful)
            version = self._next(selection, there, tried, again=again)
            if version is None:
                break
            tried.add(version)
            await self._try(there[version], selection)
        offered = offer(self._policy, selection, self._home, self._entries)
        # What was refused is remembered, and no longer what serves no more.
        self._entries = {
            version: entry
            for version, entry in self._entries.items()
            if version in selection.served or not entry.serves
        }
        self._publisher.publish(offered)
        self._wake_shadows(offered, there)

    def _wake_shadows(self, offered: Offer, there: Mapping[str, Candidate]) -> None:
        """Load what is compared with a version in memory, where there is room for both."""
        serving = self._publisher.find(None)
        for version in {offered.routes.get(alias) for alias in offered.shadow}:
            entry = self._entries.get(version or "")
            if serving is None or entry is None or not entry.asleep:
                continue
            if self._opener.memory.holds_both(there[entry.version], [serving]):
                self._set_out(entry.version)

    def _set_out(self, version: str) -> "asyncio.Task[None]":
        """The one task that wakes a version."""
        if version not in self._waking:
            self._waking[version] = asyncio.create_task(self._wake(version))
        return self._waking[version]

    def _select(
        self, policy: Policy, there: Mapping[str, Candidate], hopeful: set[str]
    ) -> Selection:
        """What is to serve as far as is known; of a version that is ``hopeful`` the best."""
        failed = {
            version
            for version, entry in self._entries.items()
            if not entry.serves and entry.fingerprint == there[version].fingerprint
        }
        current = self._publisher.offer.routes
        return select(policy, self._default, list(there), failed - hopeful, current)

    def _next(
        self,
        selection: Selection,
        there: Mapping[str, Candidate],
        tried: set[str],
        *,
        again: bool,
    ) -> str | None:
        """The newest version that is to serve and does not yet, or not as its files are."""
        for version, candidate in there.items():
            if version not in selection.served or version in tried:
                continue
            entry = self._entries.get(version)
            if again or entry is None or entry.fingerprint != candidate.fingerprint:
                return version
            if entry.asleep and self._replaced(version, selection):
                return version
        return None

    async def _try(self, candidate: Candidate, selection: Selection) -> None:
        """Open one version, or only look into it where memory is limited and nobody uses it."""
        version = candidate.version
        before = self._entries.get(version)
        if before is None or not before.serves:
            self._publisher.show(Entry(self._name, version, State.LOADING, "it is being loaded"))
        beside = self._replaced(version, selection)
        memory = self._opener.memory
        if memory.limited and not (beside and memory.holds_both(candidate, beside)):
            opened = await self._opener.peek(candidate)
        else:
            opened = await self._open(candidate, beside)
        self._entries[version] = _kept(self._entries.get(version), opened)

    def _replaced(self, version: str, selection: Selection) -> set[ServedModel]:
        """The models in memory whose callers this version is to have."""
        asked = [asked for asked, answering in selection.routes.items() if answering == version]
        models = {self._publisher.find(one) for one in [*asked, version]}
        return {model for model in models if model is not None}

    async def _open(self, candidate: Candidate, beside: Collection[ServedModel] = ()) -> Entry:
        version = candidate.version
        before = self._entries.get(version)
        known = before.about if before is not None else None
        return await self._opener.open(
            candidate,
            known.statistics if known is not None else Statistics(),
            lambda model: Occupant(
                model, partial(self._is_awaited, version), partial(self._evict, version, model)
            ),
            beside,
        )

    def _is_awaited(self, version: str) -> bool:
        return self._awaited[version] > 0

    def _evict(self, version: str, model: ServedModel) -> None:
        """Put a version to sleep, whose room another needs."""
        entry = self._entries.get(version)
        if entry is None or entry.model is not model:
            return  # it has left already
        asleep = replace(entry, reason=ASLEEP, model=None, asleep=True)
        self._entries[version] = asleep
        shown = [other.model for other in self._publisher.offer.entries]
        if model in shown:
            self._publisher.show(asleep)
        self._publisher.let_go(entry, model, "evicted")


def _kept(before: Entry | None, opened: Entry) -> Entry:
    """The new entry; where it was refused in place of one in memory, that one with the reason."""
    if before is None or before.model is None or opened.serves:
        return opened
    return replace(
        before,
        reason="its files have changed and are refused; what was loaded before serves: "
        + opened.reason,
        fingerprint=opened.fingerprint,
    )
