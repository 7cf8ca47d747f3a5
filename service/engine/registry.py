"""Which models serve, which cannot and why: the one truth that every endpoint reads."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from service.bundle.policy import STABLE, Policy, Shadow
from service.bundle.version_policy import Routes, Selection
from service.engine.model import About, ServedModel
from service.engine.repository import Candidate, Fingerprint, Home
from service.engine.session import DeviceChoice
from service.errors import ModelNotFound, ModelNotReady, ModelUnservable, VersionNotFound


class State(StrEnum):
    """A version's state, in the words of the Open Inference Protocol's index."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True)
class Entry:
    """One version as the registry knows it; ``model`` is there when it serves from memory.

    One that is ``asleep`` serves too, once a request has loaded it. ``about`` is there for what
    serves, unless it is a bare model that was never loaded. A ready version in memory has a
    ``reason`` where its files have changed since, and were refused.
    Not ``servable`` is a bare model whose graph the runtime refuses, today as tomorrow.
    ``superseded`` is a version that was not opened, because another serves in its place.
    ``absent`` is one that an alias or the policy names, without a folder.
    """

    name: str
    version: str
    state: State
    reason: str = ""
    model: ServedModel | None = None
    asleep: bool = False
    about: About | None = None
    servable: bool = True
    superseded: bool = False
    absent: bool = False
    fingerprint: Fingerprint = ()

    @property
    def serves(self) -> bool:
        """Whether requests are answered, at once or after a load."""
        return self.model is not None or self.asleep


@dataclass(frozen=True)
class Offer:
    """What one model offers: its versions, newest first, and which of them answers to what.

    ``aliases`` has the version that each alias is set to, as the routes have the one that answers
    to it meanwhile. ``split`` has the share of the requests without a version that it answers,
    ``shadow`` how it is compared with what answers them.
    """

    entries: Sequence[Entry]
    routes: Routes = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    split: Mapping[str, float] = field(default_factory=dict)
    shadow: Mapping[str, Shadow] = field(default_factory=dict)


_NOTHING = Offer(())


class Registry:
    """The models of one app. Only the reconciler's lifecycles change it, on the event loop."""

    def __init__(self, requested: str) -> None:
        self._offers: dict[str, Offer] = {}
        self._leaving: dict[tuple[str, str], Entry] = {}
        self._answering: dict[tuple[str, str | None], ServedModel] = {}
        # Models whose requests without a version are split, or copied.
        self._special: set[str] = set()
        self._shadowing: dict[str, Sequence[tuple[ServedModel, Shadow]]] = {}
        self.revision = 0
        """Increases with every change of what the models offer."""
        self.device = DeviceChoice(requested, "cpu", "not asked yet")

    def put(self, name: str, offer: Offer) -> None:
        """Replace what a model offers; one without versions is forgotten."""
        self.revision += 1
        for asked in _asked(self._offers.get(name, _NOTHING)):
            self._answering.pop((name, asked), None)
        self._shadowing.pop(name, None)
        self._special.discard(name)
        if offer.split or offer.shadow:
            self._special.add(name)
        if not offer.entries:
            self._offers.pop(name, None)
            return
        if name in self._offers:
            self._offers[name] = offer
        else:
            self._offers = dict(sorted({**self._offers, name: offer}.items()))
        models = {entry.version: entry.model for entry in offer.entries}
        for asked, version in _asked(offer).items():
            if model := models.get(version):
                self._answering[name, asked] = model
        serving = self.find(name, None)
        candidates = [(self.find(name, alias), how) for alias, how in offer.shadow.items()]
        beside = [(it, how) for it, how in candidates if it is not None and it is not serving]
        if serving is not None and beside:
            self._shadowing[name] = beside

    def leave(self, entry: Entry) -> None:
        """Tell of a version that answers its last callers."""
        self._leaving[entry.name, entry.version] = entry

    def left(self, entry: Entry) -> None:
        """Tell no more of it."""
        if self._leaving.get((entry.name, entry.version)) is entry:
            del self._leaving[entry.name, entry.version]

    def at_hand(self, name: str, asked: str | None) -> ServedModel | None:
        """The same where its requests are neither split nor copied; None where more is to do."""
        if asked is None and name in self._special:
            return None
        return self._answering.get((name, asked))

    def find(self, name: str, asked: str | None) -> ServedModel | None:
        """The model that answers to a version, an alias, or neither; None where `get` says why.

        This is the only place where a request meets a version.
        """
        return self._answering.get((name, asked))

    @property
    def ready(self) -> bool:
        """Whether at least one model serves."""
        return any(None in offer.routes for offer in self._offers.values())

    @property
    def names(self) -> list[str]:
        """Every model there is, ready or not, sorted."""
        leaving = {name for name, _ in self._leaving if name not in self._offers}
        return sorted({*self._offers, *leaving}) if leaving else list(self._offers)

    def split(self, name: str) -> Mapping[str, float]:
        """The share of a model's requests without a version that goes to each alias's."""
        return self._offers.get(name, _NOTHING).split

    def shadowing(self, name: str) -> Sequence[tuple[ServedModel, Shadow]]:
        """The versions that get copies of the requests that `serving` answers."""
        return self._shadowing.get(name, ())

    def offer(self, name: str) -> Offer:
        """What a model offers; nothing where there is no such model."""
        return self._offers.get(name, _NOTHING)

    def versions(self, name: str) -> Sequence[Entry]:
        """What is known of a model's versions, newest first.

        Raises:
            ModelNotFound: there is no such model.
        """
        entries = self.shown(name)
        if not entries:
            raise ModelNotFound(name, self.names)
        return entries

    def shown(self, name: str) -> Sequence[Entry]:
        """The same; nothing where there is no such model."""
        entries = self.offer(name).entries
        leaving = {version: e for (model, version), e in self._leaving.items() if model == name}
        if not leaving:
            return entries
        shown = [entry if entry.serves else leaving.pop(entry.version, entry) for entry in entries]
        known = {entry.version for entry in shown}
        return [*shown, *(entry for version, entry in leaving.items() if version not in known)]

    def serving(self, name: str) -> ServedModel | None:
        """The model that answers where no version is named, or None."""
        return self._answering.get((name, None))

    def entry(self, name: str, asked: str | None = None) -> Entry:
        """The entry of a version or of an alias's; without one, of what serves, else of the newest.

        Where nothing answers to an alias, it is the entry of the version that it is set to.

        Raises:
            ModelNotFound: there is no such model.
            VersionNotFound: the model has no such version or alias.
        """
        entries, offer = self.versions(name), self.offer(name)
        version = offer.routes.get(asked, asked)
        if version is None:
            version = offer.aliases.get(STABLE, entries[0].version)
        elif version == asked:
            version = offer.aliases.get(version, version)
        for entry in entries:
            if entry.version == version:
                return entry
        raise VersionNotFound(name, version, _there(entries), list(offer.aliases))

    def get(self, name: str, asked: str | None = None) -> ServedModel:
        """The model that answers, from memory.

        Raises:
            NotFound: there is no such model, version or alias.
            ModelNotReady: there is, and it does not serve, or not yet; says why.
            ModelUnservable: there is, and the runtime cannot serve it; says why.
        """
        model = self.find(name, asked)
        if model is None:
            entry = self.require(name, asked)
            raise ModelNotReady(name, entry.version, entry.reason)
        return model

    def require(self, name: str, asked: str | None = None) -> Entry:
        """The entry of what answers, in memory or asleep.

        Raises:
            NotFound: there is no such model, version or alias.
            ModelNotReady: there is, and it does not serve; says why.
            ModelUnservable: there is, and the runtime cannot serve it; says why.
        """
        entry = self.entry(name, asked)
        if entry.serves:
            return entry
        if entry.absent:
            entries, aliases = self.versions(name), list(self.offer(name).aliases)
            alias = asked if asked in aliases else None
            raise VersionNotFound(name, entry.version, _there(entries), aliases, alias)
        if not entry.servable:
            raise ModelUnservable(name, entry.version, entry.reason)
        raise ModelNotReady(name, entry.version, entry.reason)

    def abouts(self) -> Iterator[About]:
        """What is known of every version that serves."""
        for offer in self._offers.values():
            yield from (entry.about for entry in offer.entries if entry.serves and entry.about)


def _asked(offer: Offer) -> Mapping[str | None, str]:
    """The version that answers to each thing that can be asked for."""
    return {entry.version: entry.version for entry in offer.entries} | dict(offer.routes)


def _there(entries: Sequence[Entry]) -> list[str]:
    return [entry.version for entry in reversed(entries) if not entry.absent]


def offer(
    policy: Policy,
    selection: Selection,
    home: Home,
    known: Mapping[str, Entry],
) -> Offer:
    """What the model offers once all is open that is to serve.

    Args:
        policy: what holds, which is not what the folder says where that has a problem.
        selection: what became of it.
        home: the model's folder.
        known: the versions that were opened, or refused.
    """
    candidates = home.candidates or ()
    aliases = {alias: str(at.version) for alias, at in policy.aliases.items()}
    entries = [
        known[candidate.version]
        if candidate.version in selection.examined or candidate.refused
        else _superseded(candidate, policy, selection)
        for candidate in candidates
    ]
    there = {candidate.version for candidate in candidates}
    entries += _absent(home.name, policy, aliases, there)
    entries = newest_first(_waiting(entry, aliases, selection) for entry in entries)
    if home.problem:
        told = [entries[0].reason, home.problem, "what it said before holds"]
        entries[0] = replace(entries[0], reason="; ".join(filter(None, told)))
    split = dict(sorted(policy.split.items()))
    return Offer(entries, selection.routes, aliases, split, policy.shadow)


def refused(candidate: Candidate, reason: str, *, servable: bool = True) -> Entry:
    """The entry of a version that cannot serve as it lies on disk."""
    return Entry(
        candidate.name,
        candidate.version,
        State.UNAVAILABLE,
        reason,
        servable=servable,
        fingerprint=candidate.fingerprint,
    )


def newest_first(entries: Iterable[Entry]) -> list[Entry]:
    """By version, the highest first; folders that only look like versions come last."""
    return sorted(entries, key=lambda entry: (-_rank(entry.version), entry.version))


def _rank(version: str) -> int:
    return int(version) if str(int(version)) == version else -1


def _superseded(candidate: Candidate, policy: Policy, selection: Selection) -> Entry:
    if isinstance(policy.versions, tuple):
        listed = ", ".join(map(str, policy.versions))
        reason = f"its policy chooses {listed}"
    else:
        reason = f"version {selection.chosen[0]} serves in its place"
    return Entry(candidate.name, candidate.version, State.UNAVAILABLE, reason, superseded=True)


def _absent(
    name: str, policy: Policy, aliases: Mapping[str, str], there: set[str]
) -> Iterable[Entry]:
    """An entry for each version that an alias or the policy names, and that has no folder."""
    named = {version: f"alias {alias!r} is set to it" for alias, version in aliases.items()}
    if isinstance(policy.versions, tuple):
        named |= {str(version): "its policy chooses it" for version in policy.versions}
    for version in named.keys() - there:
        reason = f"{named[version]}, and it has no folder"
        yield Entry(name, version, State.UNAVAILABLE, reason, absent=True)


def _waiting(entry: Entry, aliases: Mapping[str, str], selection: Selection) -> Entry:
    """The entry, with what answers for the aliases that wait for it."""
    instead = [
        f"version {selection.routes[alias]} answers for alias {alias!r}"
        for alias, version in aliases.items()
        if version == entry.version and selection.routes.get(alias, version) != version
    ]
    return replace(entry, reason="; ".join([entry.reason, *instead])) if instead else entry
