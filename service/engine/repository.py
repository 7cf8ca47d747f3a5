"""The models folder as it lies on disk: which versions there are, before any is opened."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from service.bundle.errors import BundleError
from service.bundle.files import MANIFEST
from service.bundle.manifest import NAME_PATTERN
from service.bundle.policy import HIGHEST_VERSION, POLICY, Policy
from service.bundle.policy_file import read_policy
from service.bundle.tuning import TUNING
from service.engine.foreign import CONFIG, versions_beside
from service.errors import NoModels

# Name, size, time of change in nanoseconds, inode and mode of each file. They are compared for
# equality only: alike means untouched, whichever way a clock was moved meanwhile.
Fingerprint = tuple[tuple[str, int, int, int, int], ...]


# A bundle whose graph is copied first would otherwise be served as a bare model for a moment.
_NOT_WHOLE = f"{MANIFEST} is missing, and a version before it has one"


@dataclass(frozen=True)
class Candidate:
    """A version that may be served once it has proved itself; one that is ``refused`` says why."""

    name: str
    version: str
    folder: Path
    fingerprint: Fingerprint
    refused: str = ""


@dataclass(frozen=True)
class Home:
    """A model's folder: its versions, newest first, and what it says about serving them.

    Without a ``policy`` the ``problem`` tells why it is unknown, and without ``candidates`` why
    the folder itself is.
    """

    name: str
    candidates: tuple[Candidate, ...] | None
    policy: Policy | None
    problem: str = ""


@dataclass(frozen=True)
class Scan:
    """Every model's folder by name, sorted, and a sentence for each that cannot be one."""

    homes: Mapping[str, Home]
    problems: frozenset[str]


class Repository:
    """The models folder, looked at over and over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._policies: dict[str, tuple[Fingerprint, Policy | None, str]] = {}

    def scan(self) -> Scan:
        """Look at every ``<name>/<version>``.

        Hidden folders and plain files are left alone, and so is a folder without a numbered
        version.

        Raises:
            NoModels: there is no such folder.
        """
        if not self._folder.is_dir():
            raise NoModels(self._folder)
        homes: dict[str, Home] = {}
        problems: set[str] = set()
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith(".") or path.is_file():
                continue
            if not re.fullmatch(NAME_PATTERN, path.name):
                problems.add(
                    f"{path.name!r} is no name for a model: letters, digits, '_', '.', '-'"
                )
                continue
            home = self._home(path)
            if home.problem:
                problems.add(f"{path.name}: {home.problem}")
            if home.candidates or home.candidates is None:
                homes[path.name] = home
        problems.update(_alike(homes))
        self._policies = {name: self._policies[name] for name in homes if name in self._policies}
        return Scan(homes, frozenset(problems))

    def _home(self, path: Path) -> Home:
        try:
            candidates = _candidates(path)
        except OSError as error:
            return Home(path.name, None, None, f"the folder cannot be read: {error.strerror}")
        policy, problem = self._policy(path)
        return Home(path.name, candidates, policy, problem)

    def _policy(self, path: Path) -> tuple[Policy | None, str]:
        """The model's policy, read again only where its files have changed."""
        facts = _facts(POLICY, path / POLICY) + _facts(CONFIG, path / CONFIG)
        known = self._policies.get(path.name)
        if known is None or known[0] != facts:
            known = self._policies[path.name] = (facts, *_read_policy(path))
        return known[1:]


def _read_policy(home: Path) -> tuple[Policy | None, str]:
    """The policy, or why it is unknown; versions that it does not choose another server's may."""
    try:
        policy = read_policy(home) or Policy()
    except BundleError as error:
        return None, str(error)
    if policy.versions is None:
        policy = policy.model_copy(update={"versions": versions_beside(home)})
    return policy, ""


def _candidates(home: Path) -> tuple[Candidate, ...]:
    """The versions, newest first, and behind them what is numbered and can be none."""
    found: list[tuple[int, Candidate]] = []
    with os.scandir(home) as children:
        for child in children:
            if child.name.isdecimal():
                refused = _refusal(child)
                facts = () if refused else fingerprint(child.path)
                rank = -1 if refused else int(child.name)
                version = Candidate(home.name, child.name, home / child.name, facts, refused)
                found.append((rank, version))
    found.sort(key=lambda ranked: (-ranked[0], ranked[1].version))
    bundles = [number for number, candidate in found if _has_manifest(candidate)]
    first = min(bundles, default=HIGHEST_VERSION)
    return tuple(
        replace(candidate, refused=_NOT_WHOLE)
        if number > first and not _has_manifest(candidate)
        else candidate
        for number, candidate in found
    )


def _has_manifest(candidate: Candidate) -> bool:
    return any(name == MANIFEST for name, *_ in candidate.fingerprint)


def _refusal(child: "os.DirEntry[str]") -> str:
    """Why a numbered entry of a model's folder cannot be a version; empty where it can."""
    number = int(child.name)
    if str(number) != child.name or number == 0:
        return "its folder's name is not a number as versions are written: 1, 2, 3"
    if number > HIGHEST_VERSION:
        return f"its number is above {HIGHEST_VERSION}, and clients count versions in 64 bits"
    try:
        if child.is_dir():
            return ""
        return "it is a file, not a folder" if child.is_file() else "it is a link to nowhere"
    except OSError as error:
        return f"its folder cannot be read: {error.strerror}"


def fingerprint(folder: str | Path) -> Fingerprint:
    """What changes when a file comes, goes or is written; unreadable files count as empty.

    How the model is run is told beside its versions, and each is opened by it.
    """
    tuning = Path(folder).parent / TUNING
    facts = [*_facts(f"../{TUNING}", tuning)] if tuning.exists() else []
    try:
        with os.scandir(folder) as files:
            for file in files:
                facts += _facts(file.name, file)
    except OSError:
        return ()
    return tuple(sorted(facts))


def _facts(name: str, file: "Path | os.DirEntry[str]") -> Fingerprint:
    try:
        stat = file.stat()
    except OSError:
        return ((name, 0, 0, 0, 0),)
    return ((name, stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_mode),)


def _alike(names: Mapping[str, Home]) -> set[str]:
    """A sentence for names that differ only by case: both serve, and a caller may mix them up."""
    by_folded: dict[str, list[str]] = {}
    for name in names:
        by_folded.setdefault(name.casefold(), []).append(name)
    return {
        f"{' and '.join(alike)} differ only by case, which other machines cannot tell apart; "
        "both serve, and one of them should get another name"
        for alike in by_folded.values()
        if len(alike) > 1
    }
