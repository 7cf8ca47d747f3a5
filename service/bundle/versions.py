"""Commands on published versions: list, publish, roll back, choose. They need only the files."""

import re
from collections.abc import Callable
from pathlib import Path

from service.bundle.errors import BundleError
from service.bundle.policy import (
    ALIAS_PATTERN,
    HIGHEST_VERSION,
    STABLE,
    Latest,
    Policy,
    VersionChoice,
    change_policy,
    read_policy,
    select,
)
from service.bundle.store import EXAMPLES, MANIFEST, MODEL, list_versions, read_bundle
from service.spelling import describe_missing_version, suggest_model


def list_model_names(models: Path) -> list[str]:
    """Return the names of the models that have a version, sorted."""
    if not models.is_dir():
        return []
    return sorted(folder.name for folder in models.iterdir() if list_versions(folder))


def require_versions(models: Path, name: str) -> list[int]:
    """Return the versions of a model, ascending.

    Raise `BundleError` if there is no such model; the message suggests the nearest name.
    """
    versions = list_versions(models / name)
    if not versions:
        names = list_model_names(models)
        raise BundleError(f"There is no model {name!r} in {models}; {suggest_model(name, names)}")
    return versions


def parse_version(models: Path, name: str, version: str) -> int:
    """Return a version as a number; raise `BundleError` if there is no such model or version."""
    available = [str(number) for number in require_versions(models, name)]
    if version not in available:
        raise BundleError(describe_missing_version(name, version, available))
    if int(version) > HIGHEST_VERSION:
        raise BundleError(
            f"Version {version} is above {HIGHEST_VERSION}, the highest that is served; rename its "
            "folder to a lower number."
        )
    return int(version)


def find_serving_version(models: Path, name: str) -> int | None:
    """Return the version that serves requests that name no version, judging by the files.

    An incomplete version is skipped, as the service does. Raise `BundleError` if the policy is not
    valid.
    """
    available = [str(version) for version in reversed(list_versions(models / name))]
    if not available:
        return None
    policy = _read_policy(models, name)
    failed: set[str] = set()
    while found := select(policy, "latest", available, failed, {}).routes.get(None):
        try:
            _require_complete(models / name / found)
        except BundleError:
            failed.add(found)
        else:
            return int(found)
    return None


def set_alias(models: Path, name: str, version: str, alias: str) -> str:
    """Point an alias to this version, and report what has changed.

    Raise `BundleError` if there is no such model or version, the name is not a valid alias, the
    version is incomplete, or the policy is not valid or cannot be written.
    """
    if not re.fullmatch(ALIAS_PATTERN, alias):
        raise BundleError(
            f"{alias!r} cannot be an alias; it must begin with a letter, and letters, digits, "
            "'_', '.' and '-' may follow."
        )
    number = parse_version(models, name, version)
    _require_complete(models / name / version)
    before, after = _change_policy(models, name, lambda policy: policy.with_alias(alias, number))
    previous = before.aliases.get(alias)
    if previous is not None and previous.version == number:
        return f"{name}: alias {alias} already points to version {number}."
    earlier = f" (before: version {previous.version})" if previous is not None else ""
    return f"{name}: alias {alias} now points to version {number}{earlier}.{_format_advice(after)}"


def roll_back(models: Path, name: str, alias: str) -> str:
    """Point an alias to its previous version, and report what has changed.

    If ``stable`` was never set, so that the newest version serves, it is set to the version before
    that one. Raise `BundleError` if there is no such model or alias, there is no earlier version,
    or the policy is not valid or cannot be written.
    """
    available = require_versions(models, name)
    serving = find_serving_version(models, name)

    def change(policy: Policy) -> Policy:
        if alias == STABLE and STABLE not in policy.aliases and serving is not None:
            if serving == min(available):
                raise BundleError(
                    f"version {serving} serves, and there is no earlier version to return to"
                )
            policy = policy.with_alias(STABLE, serving)
        return policy.roll_back(alias, available)

    before, after = _change_policy(models, name, change)
    now = after.aliases[alias].version
    if alias not in before.aliases:
        return (
            f"{name}: version {now} serves again instead of version {serving}; "
            f"alias {alias} points to it."
        )
    previous = before.aliases[alias].version
    return f"{name}: alias {alias} points to version {now} again (before: version {previous})."


def remove_alias(models: Path, name: str, alias: str) -> str:
    """Remove an alias, and report what has changed.

    Raise `BundleError` if there is no such model or alias, or the policy is not valid or cannot be
    written.
    """
    require_versions(models, name)
    before, after = _change_policy(models, name, lambda policy: policy.without_alias(alias))
    return (
        f"{name}: alias {alias} is removed; it pointed to version {before.aliases[alias].version}."
        f"{_format_advice(after)}"
    )


def choose_versions(models: Path, name: str, choice: str) -> str:
    """Choose which versions of a model serve: ``latest``, ``latest:2``, ``all``, or ``1,3``.

    Raise `BundleError` if there is no such model or version, the choice has none of these forms, or
    the policy is not valid or cannot be written.
    """
    available = require_versions(models, name)
    chosen = _parse_choice(choice)
    if isinstance(chosen, tuple):
        for number in chosen:
            parse_version(models, name, str(number))
    _change_policy(models, name, lambda policy: policy.model_copy(update={"versions": chosen}))
    listed = ", ".join(map(str, available))
    shown = choice if isinstance(chosen, tuple) else f"{choice} of {listed}"
    return f"{name}: versions that serve: {shown}."


def format_versions(models: Path, name: str) -> str:
    """Format a model's versions as a table, newest first, with aliases and which one serves.

    Raise `BundleError` if there is no such model, or its policy is not valid.
    """
    available = require_versions(models, name)
    policy = _read_policy(models, name)
    serving = find_serving_version(models, name)
    lines = [f"{'VERSION':<9}ALIASES"]
    for version in reversed(available):
        aliases = [alias for alias, state in policy.aliases.items() if state.version == version]
        note = "  (serves requests that name no version)" if version == serving else ""
        lines.append(f"{version:<9}{', '.join(aliases) or '-'}{note}")
    return "\n".join(lines)


def pin_serving(models: Path, name: str, version: int) -> None:
    """Set ``stable`` to a version, so that it continues to serve after the next publication.

    Raise `BundleError` if the policy is not valid or cannot be written.
    """
    _change_policy(models, name, lambda policy: policy.with_alias(STABLE, version))


def has_stable(models: Path, name: str) -> bool:
    """Return whether there is an alias ``stable``; raise `BundleError` for an invalid policy."""
    return STABLE in _read_policy(models, name).aliases


def _require_complete(folder: Path) -> None:
    """Raise `BundleError` if the files of a bundle or of a bare model are not complete."""
    if any((folder / name).exists() for name in (MANIFEST, EXAMPLES)):
        try:
            read_bundle(folder)
        except BundleError as error:
            raise BundleError(f"{folder} cannot serve: {error}") from None
    elif not (folder / MODEL).is_file():
        raise BundleError(f"{folder} cannot serve: it holds no {MODEL}.")


def _read_policy(models: Path, name: str) -> Policy:
    try:
        return read_policy(models / name)
    except BundleError as error:
        raise BundleError(f"{name}: {error}") from None


def _parse_choice(text: str) -> VersionChoice:
    if text == "latest":
        return "latest"
    if text == "all":
        return "all"
    if found := re.fullmatch(r"latest:([1-9][0-9]{0,8})", text):
        return Latest(latest=int(found[1]))
    if re.fullmatch(r"[1-9][0-9]*(,[1-9][0-9]*)*", text):
        return tuple(dict.fromkeys(map(int, text.split(","))))
    raise BundleError(
        f"{text!r} chooses no versions; write latest, latest:2, all, or numbers: 1,3."
    )


def _change_policy(
    models: Path, name: str, change: Callable[[Policy], Policy]
) -> tuple[Policy, Policy]:
    model_folder = models / name
    try:
        return change_policy(model_folder, change)
    except BundleError as error:
        raise BundleError(f"{name}: {error}") from None
    except OSError as error:
        raise BundleError(f"{model_folder} cannot be written to: {error.strerror}.") from None


def _format_advice(policy: Policy) -> str:
    if STABLE in policy.aliases:
        return ""
    return (
        " Requests that name no version go to the newest version that loads; set the alias "
        f"{STABLE} to keep them on one version."
    )
