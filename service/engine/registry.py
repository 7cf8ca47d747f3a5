"""Which models serve, which cannot and why: the one truth that every endpoint reads."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from service.bundle.policy import STABLE, Latest, Policy, Shadow
from service.engine.model import About, ServedModel
from service.engine.repository import Candidate, Fingerprint, Home
from service.engine.session import DeviceChoice
from service.errors import ModelNotFound, ModelNotReady, ModelUnservable, VersionNotFound

Routes = Mapping[str | None, str]
"""The version that answers to each label, and to None: to requests that name no version."""


class State(StrEnum):
    """A version's state, in the words of the Open Inference Protocol's index."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True)
class Selection:
    """The outcome for one model.

    ``examined`` are the versions whose state matters: those that serve, and those that would,
    had they not failed. ``chosen`` are those that serve by the policy, newest first; ``served``
    has the labels' versions besides.
    """

    examined: frozenset[str]
    chosen: Sequence[str]
    served: frozenset[str]
    routes: Routes


def select(
    policy: Policy,
    default: str,
    there: Sequence[str],
    failed: Collection[str],
    current: Routes,
) -> Selection:
    """Choose among the versions.

    A label whose version is not there or failed stays at the version that it has, and where the
    process has just started, goes back to the last one that it had before. Behind the stable one
    stand the versions below it; never one above, for a label may hold just that off.

    Args:
        policy: what the model says.
        default: ``latest`` or ``all``, for a model that does not say.
        there: the versions on disk, newest first.
        failed: those among them that were refused.
        current: what answers now.
    """
    examined, chosen = _by_policy(policy, default, there, failed)
    routes: dict[str | None, str] = {}
    for label, at in policy.labels.items():
        wanted = [str(at.version), current.get(label, ""), *map(str, at.before)]
        if label == STABLE:
            wanted += [version for version in there if int(version) < at.version]
        for version in (version for version in wanted if version in there):
            examined.add(version)
            if version not in failed:
                routes[label] = version
                break
    if STABLE not in policy.labels and chosen:
        routes[None] = chosen[0]
    elif STABLE in routes:
        routes[None] = routes[STABLE]
    return Selection(frozenset(examined), chosen, frozenset(chosen).union(routes.values()), routes)


def _by_policy(
    policy: Policy, default: str, there: Sequence[str], failed: Collection[str]
) -> tuple[set[str], list[str]]:
    """The versions that are looked at, and those of them that serve."""
    versions = policy.versions or default
    if versions == "latest":
        versions = Latest()
    if isinstance(versions, Latest):
        return _newest(versions.latest, there, failed)
    wanted: Iterable[str] = there
    if not isinstance(versions, str):
        listed = set(map(str, versions))
        wanted = [version for version in there if version in listed]
    return set(wanted), [version for version in wanted if version not in failed]


def _newest(
    count: int, there: Sequence[str], failed: Collection[str]
) -> tuple[set[str], list[str]]:
    examined: set[str] = set()
    chosen: list[str] = []
    for version in there:
        if len(chosen) == count:
            break
        examined.add(version)
        if version not in failed:
            chosen.append(version)
    return examined, chosen


@dataclass(frozen=True)
class Entry:
    """One version as the registry knows it; ``model`` is there when it serves from memory.

    One that is ``asleep`` serves too, once a request has loaded it. ``about`` is there for what
    serves, unless it is a bare model that was never loaded. A ready version in memory has a
    ``reason`` where its files have changed since, and were refused.
    Not ``servable`` is a bare model whose graph the runtime refuses, today as tomorrow.
    ``superseded`` is a version that was not opened, because another serves in its place.
    ``absent`` is one that a label or the policy names, without a folder.
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

    ``labels`` has the version that each label is set to, as the routes have the one that answers
    to it meanwhile. ``split`` has the share of the requests without a version that it answers,
    ``shadow`` how it is compared with what answers them.
    """

    entries: Sequence[Entry]
    routes: Routes = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
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
        candidates = [(self.find(name, label), how) for label, how in offer.shadow.items()]
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
        """The model that answers to a version, a label, or neither; None where `get` says why.

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
        """The share of a model's requests without a version that goes to each label's."""
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
        """The entry of a version or of a label's; without one, of what serves, else of the newest.

        Where nothing answers to a label, it is the entry of the version that it is set to.

        Raises:
            ModelNotFound: there is no such model.
            VersionNotFound: the model has no such version or label.
        """
        entries, offer = self.versions(name), self.offer(name)
        version = offer.routes.get(asked, asked)
        if version is None:
            version = offer.labels.get(STABLE, entries[0].version)
        elif version == asked:
            version = offer.labels.get(version, version)
        for entry in entries:
            if entry.version == version:
                return entry
        raise VersionNotFound(name, version, _there(entries), list(offer.labels))

    def get(self, name: str, asked: str | None = None) -> ServedModel:
        """The model that answers, from memory.

        Raises:
            NotFound: there is no such model, version or label.
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
            NotFound: there is no such model, version or label.
            ModelNotReady: there is, and it does not serve; says why.
            ModelUnservable: there is, and the runtime cannot serve it; says why.
        """
        entry = self.entry(name, asked)
        if entry.serves:
            return entry
        if entry.absent:
            entries, labels = self.versions(name), list(self.offer(name).labels)
            label = asked if asked in labels else None
            raise VersionNotFound(name, entry.version, _there(entries), labels, label)
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
    labels = {label: str(at.version) for label, at in policy.labels.items()}
    entries = [
        known[candidate.version]
        if candidate.version in selection.examined or candidate.refused
        else _superseded(candidate, policy, selection)
        for candidate in candidates
    ]
    there = {candidate.version for candidate in candidates}
    entries += _absent(home.name, policy, labels, there)
    entries = newest_first(_waiting(entry, labels, selection) for entry in entries)
    if home.problem:
        told = [entries[0].reason, home.problem, "what it said before holds"]
        entries[0] = replace(entries[0], reason="; ".join(filter(None, told)))
    split = dict(sorted(policy.split.items()))
    return Offer(entries, selection.routes, labels, split, policy.shadow)


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
    name: str, policy: Policy, labels: Mapping[str, str], there: set[str]
) -> Iterable[Entry]:
    """An entry for each version that a label or the policy names, and that has no folder."""
    named = {version: f"label {label!r} is set to it" for label, version in labels.items()}
    if isinstance(policy.versions, tuple):
        named |= {str(version): "its policy chooses it" for version in policy.versions}
    for version in named.keys() - there:
        reason = f"{named[version]}, and it has no folder"
        yield Entry(name, version, State.UNAVAILABLE, reason, absent=True)


def _waiting(entry: Entry, labels: Mapping[str, str], selection: Selection) -> Entry:
    """The entry, with what answers for the labels that wait for it."""
    instead = [
        f"version {selection.routes[label]} answers for label {label!r}"
        for label, version in labels.items()
        if version == entry.version and selection.routes.get(label, version) != version
    ]
    return replace(entry, reason="; ".join([entry.reason, *instead])) if instead else entry
