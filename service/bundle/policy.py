"""What serves of a model, and what its aliases mean: ``models/<name>/policy.json``.

The file stands beside the versions, is written by one rename, and may be written by hand.
Without it, or without its ``versions``, the service's own setting decides.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from service.bundle.errors import BundleError
from service.bundle.features import Part

POLICY = "policy.json"
STABLE = "stable"
"""The alias whose version answers where none is named."""

# An alias is told from a version by its first letter.
ALIAS_PATTERN = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$"
# The protocol of version 1 counts versions in 64 bits.
HIGHEST_VERSION = 2**63 - 1
_REMEMBERED = 20

Number = Annotated[int, Field(ge=1, le=HIGHEST_VERSION, strict=True)]


class Latest(Part):
    """The newest versions that prove themselves."""

    latest: Annotated[int, Field(ge=1, strict=True)] = 1


Choice = Literal["latest", "all"] | Latest | tuple[Number, ...]


class Alias(Part):
    """The version that an alias names, and those that it named before, the last one first."""

    version: Number
    before: tuple[Number, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, given: object) -> object:
        return {"version": given} if isinstance(given, int) else given


Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
AliasName = Annotated[str, Field(pattern=ALIAS_PATTERN)]


class Shadow(Part):
    """How an alias's version is compared with the one that answers.

    ``share`` of the requests without a version is copied to it. A number that it answers is the
    same where it lies within ``absolute + relative * |number of the serving version|``.
    """

    share: Share = 1.0
    absolute: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    relative: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01

    @model_validator(mode="before")
    @classmethod
    def _from_share(cls, given: object) -> object:
        return {"share": given} if isinstance(given, int | float) else given


class Policy(Part):
    """Which versions serve, the aliases, and their share of the traffic.

    ``split`` has, by alias, the share of the requests without a version that it answers, and
    ``shadow`` what it gets copies of.
    """

    versions: Choice | None = None
    aliases: dict[AliasName, Alias] = Field(default_factory=dict)
    split: dict[AliasName, Share] = Field(default_factory=dict)
    shadow: dict[AliasName, Shadow] = Field(default_factory=dict)

    @field_validator("shadow")
    @classmethod
    def _is_another(cls, given: dict[str, Shadow]) -> dict[str, Shadow]:
        if STABLE in given:
            msg = f"{STABLE!r} answers; it is no shadow of itself"
            raise ValueError(msg)
        return given

    @field_validator("split")
    @classmethod
    def _leaves_the_rest(cls, given: dict[str, float]) -> dict[str, float]:
        if STABLE in given:
            msg = f"{STABLE!r} answers what the other aliases leave; give it no share"
            raise ValueError(msg)
        if math.fsum(given.values()) > 1:
            msg = f"the shares add up to {math.fsum(given.values()):g}, more than 1"
            raise ValueError(msg)
        return given

    @field_validator("versions", mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:  # noqa: ANN401 - JSON is any of its types
        numbers = isinstance(given, list | tuple) and given
        if given is None or given in ("latest", "all") or numbers or _is_latest(given):
            return given
        msg = 'write "latest", "all", {"latest": 2}, or a list of numbers such as [1, 3]'
        raise ValueError(msg)

    def moved(self, alias: str, version: int) -> Self:
        """The policy with the alias at this version; where it was is remembered."""
        known = self.aliases.get(alias)
        before: tuple[int, ...] = ()
        if known is not None:
            before = known.before
            if known.version != version:
                before = (known.version, *before)[:_REMEMBERED]
        return self._with(alias, Alias(version=version, before=before))

    def rolled_back(self, alias: str, available: Collection[int]) -> Self:
        """The policy with the alias at its previous version, skipping those not ``available``.

        Once ``stable`` has been at no other, it goes to the next lower version, as it does where
        its version cannot serve.

        Raises:
            BundleError: there is no such alias, or no earlier version.
        """
        known = self.aliases.get(alias)
        if known is None:
            existing = ", ".join(self.aliases) or "none"
            raise BundleError(f"there is no alias {alias!r}; existing: {existing}")
        for position, version in enumerate(known.before):
            if version in available:
                before = known.before[position + 1 :]
                return self._with(alias, Alias(version=version, before=before))
        lower = [version for version in available if version < known.version]
        if alias == STABLE and lower:
            return self._with(alias, Alias(version=max(lower)))
        listed = ", ".join(map(str, known.before))
        removed = f" (removed since: {listed})" if known.before else ""
        raise BundleError(
            f"alias {alias!r} points to version {known.version}, and there is no earlier version "
            f"to return to{removed}"
        )

    def without(self, alias: str) -> Self:
        """The policy without this alias."""
        return self.model_copy(
            update={"aliases": {name: at for name, at in self.aliases.items() if name != alias}}
        )

    def _with(self, alias: str, at: Alias) -> Self:
        return self.model_copy(
            update={"aliases": dict(sorted({**self.aliases, alias: at}.items()))}
        )


def _is_latest(given: object) -> bool:
    return isinstance(given, Latest) or (isinstance(given, dict) and set(given) == {"latest"})


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
