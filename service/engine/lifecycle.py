"""One model's way through its versions: what is opened, what serves, what is let go.

A version is opened, checked, proved and warmed in a thread while the one before it serves; the
swap is one assignment on the event loop. What fails is kept with its reason, and tried again only
when its files have changed.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from service.bundle.policy import Policy
from service.engine.model import ServedModel
from service.engine.offering import newest_first, offer, refused
from service.engine.opener import Opener
from service.engine.registry import Entry, Offer, Registry, State
from service.engine.repository import Candidate, Home
from service.engine.selection import select
from service.metrics import Metrics
from service.settings import VersionPolicy

_log = logging.getLogger(__name__)


class Lifecycle:
    """The only writer of what the registry offers of one model.

    Args:
        name: the model.
        opener: what opens versions.
        registry: where the outcome goes.
        metrics: where it is told.
        default: which versions serve where the model does not say.
    """

    def __init__(
        self,
        name: str,
        opener: Opener,
        registry: Registry,
        metrics: Metrics,
        default: VersionPolicy,
    ) -> None:
        self._name = name
        self._opener = opener
        self._registry = registry
        self._metrics = metrics
        self._default = default
        self._lock = asyncio.Lock()
        self._entries: dict[str, Entry] = {}
        self._policy: Policy | None = None
        self._told: Mapping[str, State] = {}

    async def follow(self, home: Home, *, again: bool = False) -> Sequence[Entry]:
        """Bring the model in line with its folder, as it is now.

        Args:
            home: the folder; of one that cannot be read, what serves serves on.
            again: whether to open even what has not changed.

        Returns:
            What became of its versions.
        """
        async with self._lock:
            self._policy = home.policy or self._policy
            if home.candidates is not None and self._policy is not None:
                await self._open_what_serves(self._policy, home, again=again)
            elif home.candidates is not None:
                self._publish(Offer([refused(it, home.problem) for it in home.candidates]))
            return self._registry.offer(self._name).entries

    async def unload(self, home: Home) -> None:
        """Serve no version until the folder is followed again."""
        async with self._lock:
            self._entries = {}
            entries = [refused(it, "it was unloaded by a call") for it in home.candidates or ()]
            self._publish(Offer(entries[:1]))

    async def leave(self) -> None:
        """Forget the model, whose folder is gone."""
        async with self._lock:
            self._forget()

    async def close(self) -> None:
        """Let every version finish what waits, and forget them."""
        for entry in self._registry.offer(self._name).entries:
            if entry.model is not None:
                await entry.model.close()
        self._forget()

    def _forget(self) -> None:
        self._entries = {}
        self._policy = None
        self._publish(Offer(()))

    async def _open_what_serves(self, policy: Policy, home: Home, *, again: bool) -> None:
        """Open versions one after the other, until all serve that are to; then swap."""
        candidates = home.candidates or ()
        there = {candidate.version: candidate for candidate in candidates}
        known = {version: e for version, e in self._entries.items() if version in there}
        known |= {c.version: refused(c, c.refused) for c in candidates if c.refused}
        again_yet = {version for version in there if again and not there[version].refused}
        while True:
            current = self._registry.offer(self._name).routes
            failed = {version for version in there if _failed(known.get(version), there[version])}
            selection = select(policy, self._default, list(there), failed - again_yet, current)
            stale = (
                candidate
                for version, candidate in there.items()
                if version in selection.served
                and (version in again_yet or _is_stale(known.get(version), candidate))
            )
            candidate = next(stale, None)
            if candidate is None:
                break
            again_yet.discard(candidate.version)
            before = known.get(candidate.version)
            self._announce(candidate, before)
            known[candidate.version] = _kept(before, await self._opener.open(candidate))
        # What was refused is remembered, and no longer what serves no more.
        self._entries = {v: e for v, e in known.items() if v in selection.served or not e.model}
        self._publish(offer(policy, selection, home, known))

    def _announce(self, candidate: Candidate, known: Entry | None) -> None:
        """Show a version as LOADING, unless it is one that serves while it is looked at again."""
        if known is not None and known.model is not None:
            return
        loading = Entry(candidate.name, candidate.version, State.LOADING, "it is being loaded")
        before = self._registry.offer(self._name)
        others = [entry for entry in before.entries if entry.version != candidate.version]
        entries = newest_first([loading, *others])
        self._registry.put(self._name, replace(before, entries=entries))
        self._tell()

    def _publish(self, offered: Offer) -> None:
        """Serve this from now on, and let go the models that are no longer in it."""
        before = self._registry.offer(self._name).entries
        self._registry.put(self._name, offered)
        staying = {entry.model for entry in offered.entries if entry.model}
        for entry in before:
            if entry.model is not None and entry.model not in staying:
                self._let_go(entry, entry.model, replaced=bool(staying))
        self._tell()

    def _let_go(self, entry: Entry, model: ServedModel, *, replaced: bool) -> None:
        """Let a model answer its last callers, and show it as UNLOADING meanwhile."""
        reason = "it answers its last callers"
        leaving = replace(entry, state=State.UNLOADING, reason=reason, model=None)
        facts = {"model": self._name, "version": entry.version, "replaced": replaced}
        if model.held:
            self._registry.leave(leaving)
            _log.info("model unloading", extra=facts)
        model.retire(partial(self._gone, leaving, facts))

    def _gone(self, leaving: Entry, facts: Mapping[str, object]) -> None:
        self._registry.left(leaving)
        _log.info("model let go", extra=facts)
        self._tell()

    def _tell(self) -> None:
        """Bring the gauges in line with the index; versions that were not opened have none."""
        states = {
            entry.version: entry.state
            for entry in self._registry.shown(self._name)
            if not entry.superseded and not entry.absent
        }
        device = self._registry.device.actual
        for version in self._told.keys() - states.keys():
            self._metrics.model_gone(self._name, version, device)
        for version, state in states.items():
            if self._told.get(version) != state:
                self._metrics.model_state(self._name, version, device, state)
        self._told = states


def _failed(known: Entry | None, candidate: Candidate) -> bool:
    """Whether a version was refused, and lies there as it did then."""
    return known is not None and known.model is None and not _is_stale(known, candidate)


def _is_stale(known: Entry | None, candidate: Candidate) -> bool:
    """Whether a version was never opened as it lies there now."""
    return known is None or known.fingerprint != candidate.fingerprint


def _kept(before: Entry | None, opened: Entry) -> Entry:
    """The new entry; where it was refused in place of a serving one, that one with the reason."""
    if before is None or before.model is None or opened.model is not None:
        return opened
    return replace(
        before,
        reason="its files have changed and are refused; what was loaded before serves: "
        + opened.reason,
        fingerprint=opened.fingerprint,
    )
