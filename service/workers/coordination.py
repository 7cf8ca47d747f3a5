"""Loads, unloads and looks at the models folder that every worker of a service follows."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter

from service.engine.reconciler import Reconciler
from service.engine.registry import Entry, Registry, State, newest_first
from service.errors import ModelUnservable, WorkerFailed
from service.workers.ipc import Channel

_LOAD = "load"
LOOK = "look"

_QUESTION = "index"
# Of workers that differ, the first of these that one of them sees is told.
_ORDER = (State.READY, State.LOADING, State.UNLOADING, State.UNAVAILABLE)
_UNSEEN = (State.UNAVAILABLE, "it has not seen it yet")
# A version's state and its reason, and those of every version by its model's name and its number.
Seen = tuple[State, str]
View = Mapping[tuple[str, str], Seen]

_log = logging.getLogger(__name__)


class Control:
    """One worker's reconciler, and through the channel those of all the others.

    What is unloaded is kept where every worker finds it, so that one which starts later follows.

    Args:
        seconds: how long a call waits for each of the other workers.
    """

    def __init__(self, reconciler: Reconciler, channel: Channel, seconds: float) -> None:
        self._reconciler = reconciler
        self._channel = channel
        self._seconds = seconds
        channel.on(_LOAD, reconciler.reload_model)
        channel.on(LOOK, self._look)

    async def start(self) -> None:
        """Load the models, join the other workers, and see that all look at the same folder.

        Raises:
            CannotStart: the machine does not allow what the settings ask.
        """
        await self._reconciler.start()
        await self._channel.open()
        # A call may have come between the first look and the socket. And what this worker has
        # found, the others must not go without, though they may look rarely, or never.
        await self._reconciler.refresh()
        await self._channel.ask(LOOK)

    async def close(self) -> None:
        """Leave the other workers, and let every model finish what waits."""
        await self._channel.close()
        await self._reconciler.close()

    async def rescan(self) -> None:
        """Have every worker look at the folder; one that cannot says so in the log."""
        with contextlib.suppress(Exception):
            await self._look(None)
        await self._channel.ask(LOOK)
        _log.info("models folder looked at")

    async def load_model(self, name: str) -> None:
        """Load a model on every worker, or load it again.

        Raises:
            NotAllowed: the operator has not switched this on.
            ModelNotFound: the folder has no such model.
            ModelUnservable: its newest version does not prove itself; what served before serves.
            WorkerFailed: this worker serves it, and another does not.
        """
        try:
            await self._reconciler.load_model(name)
        except ModelUnservable:
            await self._channel.ask(_LOAD, name, seconds=self._seconds)
            raise
        await self._require_all(name, _LOAD, name)

    async def unload_model(self, name: str) -> None:
        """Take a model out of service on every worker until it is loaded again.

        Raises:
            NotAllowed: the operator has not switched this on.
            ModelNotFound: there is no such model.
            WorkerFailed: this worker has let it go, and another has not.
        """
        await self._reconciler.unload_model(name)
        await self._require_all(name, LOOK)

    async def _require_all(self, name: str, question: str, argument: str | None = None) -> None:
        answers = await self._channel.ask(question, argument, seconds=self._seconds)
        failed = {answer.worker: answer.error for answer in answers if answer.error is not None}
        if failed:
            raise WorkerFailed(name, failed, len(answers) + 1)

    async def _look(self, _: object) -> None:
        try:
            await self._reconciler.refresh()
        except Exception as error:
            # Whoever asked may not wait for the answer; what serves serves on.
            _log.error("models folder cannot be read", extra={"reason": str(error)})
            raise


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
