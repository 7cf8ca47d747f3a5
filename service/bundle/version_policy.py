"""Which versions of a model are to be open, and which of them answers to what."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.bundle.policy import STABLE, Latest, Policy

Routes = Mapping[str | None, str]
"""The version that answers to each alias, and to None: to requests that name no version."""


@dataclass(frozen=True)
class Selection:
    """The outcome for one model.

    ``examined`` are the versions whose state matters: those that serve, and those that would,
    had they not failed. ``chosen`` are those that serve by the policy, newest first; ``served``
    has the aliases' versions besides.
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

    An alias whose version is not there or failed stays at the version that it has, and where the
    process has just started, goes back to the last one that it had before. Behind the stable one
    stand the versions below it; never one above, for an alias may hold just that off.

    Args:
        policy: what the model says.
        default: ``latest`` or ``all``, for a model that does not say.
        there: the versions on disk, newest first.
        failed: those among them that were refused.
        current: what answers now.
    """
    examined, chosen = _by_policy(policy, default, there, failed)
    routes: dict[str | None, str] = {}
    for alias, at in policy.aliases.items():
        wanted = [str(at.version), current.get(alias, ""), *map(str, at.before)]
        if alias == STABLE:
            wanted += [version for version in there if int(version) < at.version]
        for version in (version for version in wanted if version in there):
            examined.add(version)
            if version not in failed:
                routes[alias] = version
                break
    if STABLE not in policy.aliases and chosen:
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
