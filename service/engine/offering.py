"""What a selection amounts to for callers: every version with its state and its reason."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from service.bundle.policy import Policy
from service.engine.registry import Entry, Offer, State
from service.engine.repository import Candidate, Home
from service.engine.version_policy import Selection


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
