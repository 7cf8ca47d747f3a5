"""The models folder on disk: the versions of each model, before any is opened."""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from service.bundle.errors import BundleError
from service.bundle.manifest import NAME_PATTERN
from service.bundle.policy import (
    HIGHEST_VERSION,
    POLICY,
    Policy,
    read_policy,
)
from service.bundle.store import (
    EXAMPLES,
    MANIFEST,
    MODEL,
    display_name,
    is_version,
)
from service.bundle.triton_config import CONFIG, read_triton_versions
from service.bundle.tuning import TUNING
from service.errors import CannotStart, NoModels

# Name, size, times of modification and of change in nanoseconds, inode and mode of a file.
# A copy may preserve the time of modification (cp -p, rsync -t), but not the time of change.
FileStatus = tuple[str, int, int, int, int, int]
# Only equal fingerprints mean unchanged files, so that setting the clock does not matter.
Fingerprint = tuple[FileStatus, ...]

# Limits of the scan of a version's folder, which may contain subfolders with weights.
_MAX_FILES = 10_000
_MAX_DEPTH = 8
# In the root of an ext4 file system.
_NOT_MODELS = {"lost+found"}

# Otherwise a bundle would be served as a bare model while its other files are still being copied.
_INCOMPLETE = f"{MANIFEST} is missing, and an earlier version has one"


@dataclass(frozen=True)
class Candidate:
    """A version on disk; ``rejected`` is the reason why it cannot be loaded, or empty."""

    name: str
    version: str
    folder: Path
    fingerprint: Fingerprint
    rejected: str = ""

    @property
    def is_bare(self) -> bool:
        """Whether it has a graph but no other file of a bundle, not even a broken link."""
        return not any(os.path.lexists(self.folder / name) for name in (MANIFEST, EXAMPLES))


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder.

    Attributes:
        name: of the model.
        candidates: its versions, newest first; None if the folder cannot be read.
        policy: None if it cannot be read.
        problem: why the policy or the folder cannot be read.
    """

    name: str
    candidates: tuple[Candidate, ...] | None
    policy: Policy | None
    problem: str = ""


@dataclass(frozen=True)
class Scan:
    """All model folders by name, sorted, and a message for each entry that cannot be used."""

    folders: Mapping[str, ModelFolder]
    problems: frozenset[str]


class Repository:
    """The models folder, scanned repeatedly."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._policies: dict[str, tuple[Fingerprint, Policy | None, str]] = {}

    def scan(self) -> Scan:
        """Return every ``<name>/<version>``.

        Hidden entries, other files, and folders without a numbered version are ignored; such a
        folder is one of the problems.

        Raises:
            NoModels: there is no such folder.
            CannotStart: it cannot be read.
        """
        folders: dict[str, ModelFolder] = {}
        problems: set[str] = set()
        for name in self._list_names():
            path = self._folder / name
            if _is_file(path):
                if path.suffix == ".onnx":
                    problems.add(
                        f"{display_name(name)} is a file; a model is a folder: put it at "
                        f"{display_name(path.stem)}/1/{MODEL}"
                    )
                continue
            if not re.fullmatch(NAME_PATTERN, name):
                problems.add(
                    f"{display_name(name)} is no name for a model: letters, digits, '_', '.', '-'"
                )
                continue
            folder = self._scan_model(path)
            if folder.problem:
                problems.add(f"{name}: {folder.problem}")
            if folder.candidates or folder.candidates is None:
                folders[name] = folder
            else:
                problems.add(_describe_without_version(path))
        problems.update(_find_similar_names(folders))
        self._policies = {name: self._policies[name] for name in folders if name in self._policies}
        return Scan(folders, frozenset(problems))

    def _list_names(self) -> Sequence[str]:
        """Return the entries of the folder, sorted, without hidden and system ones."""
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - only the names are needed
        except (FileNotFoundError, NotADirectoryError):
            raise NoModels(self._folder) from None
        except OSError as error:
            raise CannotStart(
                f"The models folder {str(self._folder)!r} cannot be read: {error.strerror}."
            ) from error
        return sorted(name for name in names if name[0] != "." and name not in _NOT_MODELS)

    def _scan_model(self, path: Path) -> ModelFolder:
        try:
            candidates = _find_candidates(path)
        except OSError as error:
            problem = f"the folder cannot be read: {error.strerror}"
            return ModelFolder(path.name, None, None, problem)
        # The policy is read again only if its files have changed.
        stats = tuple(_read_status(name, path / name) for name in (POLICY, CONFIG))
        cached = self._policies.get(path.name)
        if cached is None or cached[0] != stats:
            cached = self._policies[path.name] = (stats, *_read_policy(path))
        return ModelFolder(path.name, candidates, *cached[1:])


def _describe_without_version(model_folder: Path) -> str:
    """Return what to do about a model's folder that has no numbered folder."""
    name = model_folder.name
    if os.path.lexists(model_folder / MODEL):
        return f"{name}: move {MODEL} to {name}/1/{MODEL}"
    return f"{name}: the folder has no version; put a model at {name}/1/{MODEL}"


def _read_policy(model_folder: Path) -> tuple[Policy | None, str]:
    """Return the policy, or why it cannot be read; ``config.pbtxt`` gives its default versions."""
    try:
        policy = read_policy(model_folder)
    except BundleError as error:
        return None, str(error)
    if policy.versions is None and os.path.lexists(model_folder / CONFIG):
        policy = policy.model_copy(update={"versions": read_triton_versions(model_folder)})
    return policy, ""


def _find_candidates(model_folder: Path) -> tuple[Candidate, ...]:
    """Return the versions, newest first, followed by numbered entries that cannot be versions."""
    found: list[Candidate] = []
    with os.scandir(model_folder) as children:
        for child in children:
            if child.name.isdecimal():
                path = model_folder / child.name
                reason = _find_problem(child)
                stats = () if reason else compute_fingerprint(path)
                found.append(Candidate(model_folder.name, child.name, path, stats, reason))
    found.sort(key=lambda one: (bool(one.rejected), -int(one.version), one.version))
    valid = [candidate for candidate in found if not candidate.rejected]
    bundles = {one.version for one in valid if os.path.lexists(one.folder / MANIFEST)}
    first = min(map(int, bundles), default=HIGHEST_VERSION)
    incomplete = {one.version for one in valid if int(one.version) > first} - bundles
    return tuple(
        replace(one, rejected=_INCOMPLETE) if one.version in incomplete else one for one in found
    )


def _find_problem(child: "os.DirEntry[str]") -> str:
    """Return why a numbered entry of a model's folder cannot be a version; empty if it can."""
    if not is_version(child.name):
        return "its folder's name is not a number as versions are written: 1, 2, 3"
    if int(child.name) > HIGHEST_VERSION:
        return f"its number is above {HIGHEST_VERSION}, and clients count versions in 64 bits"
    try:
        mode = Path(child.path).stat().st_mode
    except FileNotFoundError:
        return "it is a broken symbolic link"
    except OSError as error:
        return f"its folder cannot be read: {error.strerror}"
    if stat.S_ISDIR(mode):
        return ""
    return "it is a file, not a folder" if stat.S_ISREG(mode) else "it is not a folder"


def compute_fingerprint(folder: Path) -> Fingerprint:
    """Return the fingerprint of a version; it changes with any file that affects the model.

    It includes the model's ``tuning.json`` and ``config.pbtxt``. Unreadable files count as empty.
    """
    siblings = [(f"../{name}", folder.parent / name) for name in (TUNING, CONFIG)]
    stats = [_read_status(name, path) for name, path in siblings if os.path.lexists(path)]
    files = islice(_walk(folder, "", _MAX_DEPTH), _MAX_FILES)
    return tuple(sorted([*stats, *(_read_status(name, file) for name, file in files)]))


def _walk(folder: str | Path, prefix: str, depth: int) -> "Iterator[tuple[str, os.DirEntry[str]]]":
    """Yield the entries of a folder and of its subfolders; links to folders are not followed."""
    try:
        with os.scandir(folder) as files:
            for file in files:
                name = prefix + file.name
                yield name, file
                if depth and file.is_dir(follow_symlinks=False):
                    yield from _walk(file.path, f"{name}/", depth - 1)
    except OSError:
        return  # opening the version reports why


def _read_status(name: str, file: "Path | os.DirEntry[str]") -> FileStatus:
    try:
        status = file.stat()
    except OSError:
        return (name, 0, 0, 0, 0, 0)
    times = status.st_mtime_ns, status.st_ctime_ns
    return (name, status.st_size, *times, status.st_ino, status.st_mode)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _find_similar_names(folders: Mapping[str, ModelFolder]) -> set[str]:
    """Return a message for names that differ only by case, which clients may confuse."""
    by_folded: dict[str, list[str]] = {}
    for name in folders:
        by_folded.setdefault(name.casefold(), []).append(name)
    return {
        f"{' and '.join(similar)} differ only by case, and case-insensitive systems treat them "
        "as equal; both serve, and one of them should get another name"
        for similar in by_folded.values()
        if len(similar) > 1
    }
