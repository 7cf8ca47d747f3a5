"""Aliases of published models, and which of their versions serve: `policy.json` is written here."""

import re
from collections.abc import Callable
from pathlib import Path

from service.bundle.errors import BundleError
from service.bundle.policy import ALIAS_PATTERN, HIGHEST_VERSION, STABLE, Choice, Latest, Policy
from service.bundle.policy_file import change_policy
from service.bundle.store import EXAMPLES, MANIFEST, MODEL, read_bundle
from training.errors import DataError, PublishError
from training.export.published import versions_of


def set_alias(models: Path, name: str, version: str, alias: str) -> str:
    """Let an alias name this version from now on; says what has changed.

    Raises:
        DataError: there is no such model or version, or no alias can be called so.
        BundleError: the version breaks the contract, or the policy that is there does.
        PublishError: the policy cannot be written.
    """
    if not re.fullmatch(ALIAS_PATTERN, alias):
        raise DataError(
            f"{alias!r} can be no alias; it begins with a letter, and letters, digits, '_', '.' "
            "and '-' may follow."
        )
    number = _number(models, name, version)
    _require_whole(models / name / version)
    before, after = _changed(models, name, lambda policy: policy.moved(alias, number))
    was = before.aliases.get(alias)
    if was is not None and was.version == number:
        return f"{name}: alias {alias} is version {number} already."
    added = f"; it was version {was.version}" if was is not None else ""
    return f"{name}: alias {alias} is version {number} now{added}.{_advice(after)}"


def roll_back(models: Path, name: str, alias: str) -> str:
    """Let an alias name the version that it named before; says what has changed.

    Raises:
        DataError: there is no such model.
        BundleError: there is no such alias, or nothing to go back to.
        PublishError: the policy cannot be written.
    """
    there = versions_of(models, name)
    before, after = _changed(models, name, lambda policy: policy.rolled_back(alias, there))
    was, now = before.aliases[alias].version, after.aliases[alias].version
    return f"{name}: alias {alias} is version {now} again; it was version {was}."


def remove_alias(models: Path, name: str, alias: str) -> str:
    """Take an alias away; says what has changed.

    Raises:
        DataError: there is no such model or alias.
        BundleError: the policy that is there is not valid.
        PublishError: the policy cannot be written.
    """
    versions_of(models, name)
    before, after = _changed(models, name, lambda policy: policy.without(alias))
    was = before.aliases.get(alias)
    if was is None:
        named = ", ".join(before.aliases) or "none"
        raise DataError(f"Model {name!r} has no alias {alias!r}; there: {named}.")
    return f"{name}: alias {alias} is gone; it was version {was.version}.{_advice(after)}"


def choose_versions(models: Path, name: str, choice: str) -> str:
    """Say which versions of a model serve: ``latest``, ``latest:2``, ``all``, or ``1,3``.

    Raises:
        DataError: there is no such model or version, or the choice is not one of these.
        BundleError: the policy that is there is not valid.
        PublishError: the policy cannot be written.
    """
    there = versions_of(models, name)
    chosen = _choice(choice)
    if isinstance(chosen, tuple):
        for number in chosen:
            _number(models, name, str(number))
    _changed(models, name, lambda policy: policy.model_copy(update={"versions": chosen}))
    told = choice if isinstance(chosen, tuple) else f"{choice} of {', '.join(map(str, there))}"
    return f"{name}: versions that serve: {told}."


def _choice(text: str) -> Choice:
    if text == "latest":
        return "latest"
    if text == "all":
        return "all"
    if found := re.fullmatch(r"latest:([1-9][0-9]{0,8})", text):
        return Latest(latest=int(found[1]))
    if re.fullmatch(r"[1-9][0-9]*(,[1-9][0-9]*)*", text):
        return tuple(dict.fromkeys(map(int, text.split(","))))
    raise DataError(f"{text!r} chooses no versions; write latest, latest:2, all, or numbers: 1,3.")


def _number(models: Path, name: str, version: str) -> int:
    there = versions_of(models, name)
    if not re.fullmatch(r"[1-9][0-9]{0,18}", version) or int(version) not in there:
        known = ", ".join(map(str, there))
        raise DataError(f"Model {name!r} has no version {version!r}; available: {known}.")
    if int(version) > HIGHEST_VERSION:
        raise DataError(f"Version {version} is above {HIGHEST_VERSION}, and is not served.")
    return int(version)


def _require_whole(folder: Path) -> None:
    """See that a version could serve as far as its files tell; a bare one has only its graph."""
    if any((folder / name).exists() for name in (MANIFEST, EXAMPLES)):
        try:
            read_bundle(folder)
        except BundleError as error:
            raise BundleError(f"{folder} cannot serve: {error}") from None
    elif not (folder / MODEL).is_file():
        raise DataError(f"{folder} holds no {MODEL}, so no alias can name it.")


def _changed(models: Path, name: str, change: Callable[[Policy], Policy]) -> tuple[Policy, Policy]:
    home = models / name
    try:
        return change_policy(home, change)
    except BundleError as error:
        raise BundleError(f"{name}: {error}") from None
    except OSError as error:
        raise PublishError(f"{home} cannot be written to: {error.strerror}.") from None


def _advice(policy: Policy) -> str:
    if STABLE in policy.aliases:
        return ""
    return (
        " Requests that name no version get the newest that serves; give one the alias "
        f"{STABLE} to keep them on it."
    )
