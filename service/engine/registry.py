"""Which models serve, which cannot and why: the one truth that every endpoint reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from service.engine.model import ServedModel
from service.engine.repository import Fingerprint
from service.engine.session import DeviceChoice
from service.errors import ModelNotFound, ModelNotReady, ModelUnservable, VersionNotFound
from service.settings import Device


class State(StrEnum):
    """A version's state, in the words of the Open Inference Protocol's index."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True)
class Entry:
    """One version as the registry knows it; ``model`` is there exactly when it is ready.

    A ready version has a ``reason`` where its files have changed since, and were refused.
    Not ``servable`` is a bare model whose graph the runtime refuses, today as tomorrow.
    ``superseded`` is a version that was not opened, because a newer one serves.
    """

    name: str
    version: str
    state: State
    reason: str = ""
    model: ServedModel | None = None
    servable: bool = True
    superseded: bool = False
    fingerprint: Fingerprint = ()


class Registry:
    """The models of one app, each with its versions, newest first.

    Of each model the newest version that has proved itself serves; newer ones that failed are
    kept with their reason. Only `service.engine.reconciler` changes it, on the event loop.
    """

    def __init__(self, requested: Device) -> None:
        self._entries: dict[str, Sequence[Entry]] = {}
        self.device = DeviceChoice(requested, "cpu", "not asked yet")

    def put(self, name: str, entries: Sequence[Entry]) -> None:
        """Replace what is known of a model; no versions forget it."""
        if entries:
            self._entries = dict(sorted({**self._entries, name: entries}.items()))
        else:
            self._entries = {known: e for known, e in self._entries.items() if known != name}

    @property
    def ready(self) -> bool:
        """Whether at least one model serves."""
        return any(self.serving(name) for name in self._entries)

    @property
    def names(self) -> list[str]:
        """Every model there is, ready or not, sorted."""
        return list(self._entries)

    def known(self, name: str) -> Sequence[Entry]:
        """What is known of a model's versions, newest first; nothing of an unknown one."""
        return self._entries.get(name, ())

    def versions(self, name: str) -> Sequence[Entry]:
        """What is known of a model's versions, newest first.

        Raises:
            ModelNotFound: there is no such model.
        """
        if name not in self._entries:
            raise ModelNotFound(name, self.names)
        return self._entries[name]

    def serving(self, name: str) -> ServedModel | None:
        """The version that answers where none is named, or None."""
        return next((entry.model for entry in self.versions(name) if entry.model), None)

    def entry(self, name: str, version: str | None = None) -> Entry:
        """The entry of a version; without one, of the version that serves, else of the newest.

        Raises:
            ModelNotFound: there is no such model.
            VersionNotFound: the model has no such version.
        """
        entries = self.versions(name)
        if version is None:
            return next((entry for entry in entries if entry.model), entries[0])
        for entry in entries:
            if entry.version == version:
                return entry
        raise VersionNotFound(name, version, [entry.version for entry in reversed(entries)])

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """The model that answers.

        Raises:
            NotFound: there is no such model or version.
            ModelNotReady: there is, and it does not serve; says why.
            ModelUnservable: there is, and the runtime cannot serve it; says why.
        """
        entry = self.entry(name, version)
        if entry.model is not None:
            return entry.model
        if not entry.servable:
            raise ModelUnservable(name, entry.version, entry.reason)
        raise ModelNotReady(name, entry.version, entry.reason)

    def models(self) -> Iterator[ServedModel]:
        """Every model that serves."""
        for entries in self._entries.values():
            yield from (entry.model for entry in entries if entry.model is not None)
