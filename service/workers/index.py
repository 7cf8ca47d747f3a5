"""Every version and its state as all workers see it, so that each of them tells the same."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter

from service.engine.registry import Entry, Registry, State, newest_first
from service.workers.ipc import Channel

_QUESTION = "index"
# Of workers that differ, the first of these that one of them sees is told.
_ORDER = (State.READY, State.LOADING, State.UNLOADING, State.UNAVAILABLE)
_UNSEEN = (State.UNAVAILABLE, "it has not seen it yet")

# A version's state and its reason, and those of every version by its model's name and its number.
Seen = tuple[State, str]
View = Mapping[tuple[str, str], Seen]


class Index:
    """The registries of all workers as one.

    A version is READY while any worker serves it, because requests are then answered by it; who
    does not, and why, is its reason.
    """

    def __init__(self, registry: Registry, channel: Channel) -> None:
        self._registry = registry
        self._channel = channel
        channel.on(_QUESTION, self._seen)

    async def entries(self, name: str | None = None) -> Sequence[Entry]:
        """By model, the newest version first.

        Args:
            name: one model; without, all.

        Raises:
            ModelNotFound: there is no such model.
        """
        own = list(self._own(name))
        answers = await self._channel.ask(_QUESTION, name)
        others = [(it.worker, _read(it.content)) for it in answers if it.error is None]
        if not others:
            return own
        return _together(own, sorted([(str(os.getpid()), _view(own)), *others], key=itemgetter(0)))

    def _own(self, name: str | None) -> Iterator[Entry]:
        for known in self._registry.names if name is None else [name]:
            yield from self._registry.versions(known)

    async def _seen(self, name: str | None) -> list[tuple[str, str, str, str]]:
        if name is not None and name not in self._registry.names:
            return []
        own = self._own(name)
        return [(entry.name, entry.version, entry.state, entry.reason) for entry in own]


def _view(entries: Sequence[Entry]) -> View:
    return {(entry.name, entry.version): (entry.state, entry.reason) for entry in entries}


def _read(content: Sequence[tuple[str, str, str, str]]) -> View:
    return {(name, version): (State(state), reason) for name, version, state, reason in content}


def _together(own: Sequence[Entry], views: Sequence[tuple[str, View]]) -> list[Entry]:
    known = {(entry.name, entry.version): entry for entry in own}
    by_model: dict[str, list[Entry]] = {}
    for key in sorted({key for _, view in views for key in view}):
        seen = [(worker, view.get(key, _UNSEEN)) for worker, view in views]
        state, reason = _agreed(seen)
        entry = known.get(key) or Entry(*key, state)
        by_model.setdefault(key[0], []).append(replace(entry, state=state, reason=reason))
    return [entry for entries in by_model.values() for entry in newest_first(entries)]


def _agreed(seen: Sequence[tuple[str, Seen]]) -> Seen:
    """One state for all, and why it is not every worker's."""
    states = {state for _, (state, _) in seen}
    state = next(state for state in _ORDER if state in states)
    if len(states) == 1:
        return state, next((reason for _, (_, reason) in seen if reason), "")
    differing = (
        f"process {worker}: {reason or other}"
        for worker, (other, reason) in seen
        if other is not state
    )
    return state, "; ".join(differing)
