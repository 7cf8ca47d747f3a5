"""What serves of a model, and what its aliases mean: ``models/<name>/policy.json``.

The file stands beside the versions, is written by one rename, and may be written by hand.
Without it, or without its ``versions``, the service's own setting decides.
"""

import math
from collections.abc import Collection
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
