"""Version policies, ``models/<name>/policy.json``: which versions serve, aliases, traffic splits.

The file may also be written by hand. Without it, or without its ``versions``, the setting
``ONWARD_VERSION_POLICY`` applies.
"""

import math
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from service.bundle.errors import BundleError
from service.bundle.features import StrictModel
from service.bundle.store import read_document, replace_document
from service.spelling import describe_missing_alias

if sys.platform != "win32":
    import fcntl

POLICY = "policy.json"
STABLE = "stable"
"""The alias whose version serves requests that name no version."""

# The first letter distinguishes an alias from a version.
ALIAS_PATTERN = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$"
# Versions are 64-bit integers in the v1 protocol.
HIGHEST_VERSION = 2**63 - 1
_MAX_PREVIOUS = 20

VersionNumber = Annotated[int, Field(ge=1, le=HIGHEST_VERSION, strict=True)]


class Latest(StrictModel):
    """The newest versions that pass their self-test."""

    latest: Annotated[int, Field(ge=1, strict=True)] = 1


VersionChoice = Literal["latest", "all"] | Latest | tuple[VersionNumber, ...]


class Alias(StrictModel):
    """The version that an alias points to, and its previous versions, most recent first."""

    version: VersionNumber
    before: tuple[VersionNumber, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _accept_number(cls, given: object) -> object:
        return {"version": given} if isinstance(given, int) else given


Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
AliasName = Annotated[str, Field(pattern=ALIAS_PATTERN)]


class Shadow(StrictModel):
    """How the version of an alias is compared with the version that serves.

    ``share`` of the requests that name no version is copied to it. Its predictions agree if they
    differ by at most ``absolute + relative * |prediction of the serving version|``.
    """

    share: Share = 1.0
    absolute: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    relative: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01

    @model_validator(mode="before")
    @classmethod
    def _accept_share(cls, given: object) -> object:
        return {"share": given} if isinstance(given, int | float) else given


class Policy(StrictModel):
    """Which versions serve, the aliases, and their share of the traffic.

    ``split`` is the share, by alias, of the requests that name no version; ``shadow`` are the
    aliases whose versions get copies of requests.
    """

    versions: VersionChoice | None = None
    aliases: dict[AliasName, Alias] = Field(default_factory=dict)
    split: dict[AliasName, Share] = Field(default_factory=dict)
    shadow: dict[AliasName, Shadow] = Field(default_factory=dict)

    @field_validator("shadow")
    @classmethod
    def _check_shadow(cls, given: dict[str, Shadow]) -> dict[str, Shadow]:
        if STABLE in given:
            msg = f"{STABLE!r} serves; it cannot be a shadow of itself"
            raise ValueError(msg)
        return given

    @field_validator("split")
    @classmethod
    def _check_split(cls, given: dict[str, float]) -> dict[str, float]:
        if STABLE in given:
            msg = f"{STABLE!r} serves what the other aliases leave; give it no share"
            raise ValueError(msg)
        if math.fsum(given.values()) > 1:
            msg = f"the shares add up to {math.fsum(given.values()):g}, more than 1"
            raise ValueError(msg)
        return given

    @field_validator("versions", mode="before")
    @classmethod
    def _check_versions(cls, given: Any) -> Any:  # noqa: ANN401 - JSON is any of its types
        numbers = isinstance(given, list | tuple) and given
        is_latest = isinstance(given, Latest) or (
            isinstance(given, dict) and set(given) == {"latest"}
        )
        if given is None or given in ("latest", "all") or numbers or is_latest:
            return given
        msg = 'write "latest", "all", {"latest": 2}, or a list of numbers such as [1, 3]'
        raise ValueError(msg)

    def with_alias(self, alias: str, version: int) -> Self:
        """Return the policy with the alias at this version, recording its previous version."""
        current = self.aliases.get(alias, Alias(version=version))
        before = current.before
        if current.version != version:
            before = (current.version, *before)[:_MAX_PREVIOUS]
        return self._set(alias, Alias(version=version, before=before))

    def roll_back(self, alias: str, available: Collection[int]) -> Self:
        """Return the policy with the alias at its previous version that is ``available``.

        If ``stable`` has no previous version, it goes to the next lower version, as it does if its
        version cannot serve. Raise `BundleError` if there is no such alias, or no earlier version.
        """
        current = self._require_alias(alias)
        for position, version in enumerate(current.before):
            if version in available:
                before = current.before[position + 1 :]
                return self._set(alias, Alias(version=version, before=before))
        lower = [version for version in available if version < current.version]
        if alias == STABLE and lower:
            return self._set(alias, Alias(version=max(lower)))
        listed = ", ".join(map(str, current.before))
        removed = f" (removed since: {listed})" if current.before else ""
        raise BundleError(
            f"alias {alias!r} points to version {current.version}, and there is no earlier version "
            f"to return to{removed}"
        )

    def without_alias(self, alias: str) -> Self:
        """Return the policy without this alias; raise `BundleError` if there is none."""
        self._require_alias(alias)
        aliases = {name: state for name, state in self.aliases.items() if name != alias}
        return self.model_copy(update={"aliases": aliases})

    def _require_alias(self, alias: str) -> Alias:
        if alias not in self.aliases:
            raise BundleError(describe_missing_alias(alias, list(self.aliases)))
        return self.aliases[alias]

    def _set(self, alias: str, state: Alias) -> Self:
        aliases = dict(sorted({**self.aliases, alias: state}.items()))
        return self.model_copy(update={"aliases": aliases})


def read_policy(model_folder: Path) -> Policy:
    """Read the policy of ``models/<name>``, or return the default one if there is no file.

    Raise `BundleError` if it cannot be read or is not valid.
    """
    return read_document(Policy, model_folder / POLICY) or Policy()


def change_policy(model_folder: Path, change: Callable[[Policy], Policy]) -> tuple[Policy, Policy]:
    """Replace the policy with the result of ``change``, atomically for readers and writers.

    Returns:
        The policy before and after.

    Raises:
        BundleError: the existing file is not valid; also raised by ``change``.
        OSError: the file cannot be written.
    """
    with _lock(model_folder):
        before = read_policy(model_folder)
        after = change(before)
        if after != before:
            replace_document(model_folder / POLICY, after)
    return before, after


@contextmanager
def _lock(model_folder: Path) -> Iterator[None]:
    """Lock the folder against other writers; the system releases the lock of a killed process."""
    if sys.platform == "win32":
        yield  # a folder cannot be locked there
        return
    descriptor = os.open(model_folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


Routes = Mapping[str | None, str]
"""The serving version of each alias, and of None, the requests that name no version."""


@dataclass(frozen=True)
class Selection:
    """The versions of one model that serve."""

    examined: frozenset[str]
    """The versions that serve, and those that would serve if they had not failed."""
    chosen: Sequence[str]
    """The versions that serve by the policy's ``versions``, newest first."""
    served: frozenset[str]
    """The chosen versions and those of the aliases."""
    routes: Routes


def select(
    policy: Policy,
    default: str,
    available: Sequence[str],
    failed: Collection[str],
    current: Routes,
) -> Selection:
    """Select the versions that serve.

    An alias whose version is missing or failed stays at its current version or, if the process has
    just started, returns to its previous one. ``stable`` may also fall back to lower versions, but
    never to higher ones, which it may be intended to exclude.

    Args:
        policy: of the model.
        default: ``latest`` or ``all``, for a policy without ``versions``.
        available: the versions on disk, newest first.
        failed: those among them that were rejected.
        current: the routes until now.
    """
    examined, chosen = _choose(policy, default, available, failed)
    routes: dict[str | None, str] = {}
    for alias, state in policy.aliases.items():
        candidates = [str(state.version), current.get(alias, ""), *map(str, state.before)]
        if alias == STABLE:
            candidates += [lower for lower in available if int(lower) < state.version]
        for candidate in (candidate for candidate in candidates if candidate in available):
            examined.add(candidate)
            if candidate not in failed:
                routes[alias] = candidate
                break
    if STABLE not in policy.aliases and chosen:
        routes[None] = chosen[0]
    elif STABLE in routes:
        routes[None] = routes[STABLE]
    return Selection(frozenset(examined), chosen, frozenset(chosen).union(routes.values()), routes)


def _choose(
    policy: Policy, default: str, available: Sequence[str], failed: Collection[str]
) -> tuple[set[str], list[str]]:
    """Return the versions that are examined, and those of them that serve."""
    versions = policy.versions or default
    count = len(available)
    if versions == "latest":
        count = 1
    elif isinstance(versions, Latest):
        count = versions.latest
    elif isinstance(versions, tuple):
        listed = set(versions)
        available = [version for version in available if int(version) in listed]
    examined: set[str] = set()
    chosen: list[str] = []
    for version in available:
        if len(chosen) == count:
            break
        examined.add(version)
        if version not in failed:
            chosen.append(version)
    return examined, chosen
