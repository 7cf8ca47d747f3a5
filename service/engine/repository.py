"""The models folder on disk: the versions of each model, before any is opened.

Triton's ``config.pbtxt`` is read, too: class labels, the version policy and dynamic batching.
"""

import logging
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
    Latest,
    Policy,
    VersionChoice,
    read_policy,
)
from service.bundle.store import (
    EXAMPLES,
    MANIFEST,
    MAX_SETTINGS_BYTES,
    MODEL,
    display_name,
    is_version,
    path_inside,
    read_file,
    read_optional,
)
from service.bundle.tuning import TUNING
from service.errors import CannotStart, NoModels

# Name, size, times of modification and of change in nanoseconds, inode and mode of each file. Only
# equal fingerprints mean unchanged files, so that setting the clock does not matter.
# A copy may preserve the time of modification (cp -p, rsync -t), but not the time of change.
Fingerprint = tuple[tuple[str, int, int, int, int, int], ...]

# Limits of the scan of a version's folder, which may contain subfolders with weights.
_MAX_FILES = 10_000
_MAX_DEPTH = 8
# In the root of an ext4 file system.
_NOT_MODELS = {"lost+found"}

# Otherwise a bundle would be served as a bare model while its other files are still being copied.
_INCOMPLETE = f"{MANIFEST} is missing, and an earlier version has one"

CONFIG = "config.pbtxt"
# The tokens of a text-format file, including comments and strings. A string without a closing quote
# ends with its line, so that every byte is scanned once.
_TOKEN = re.compile(r"""#[^\n]*+|"(?:\\.|[^"\\\n])*+"?|'(?:\\.|[^'\\\n])*+'?|[\w.+-]++|[][{}:,;]""")
# Labels are only read from the model's own folder.
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_MAX_LABELS_BYTES = 10_000_000
_log = logging.getLogger(__name__)
Labels = Mapping[str, Sequence[str]]
# The fields of a text-format message: names, and tokens or nested messages. The elements of a list
# are fields of the same name.
Fields = list[tuple[str, "str | Fields"]]


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

        Hidden entries, other files, and folders without a numbered version are ignored.

        Raises:
            NoModels: there is no such folder.
            CannotStart: it cannot be read.
        """
        folders: dict[str, ModelFolder] = {}
        problems: set[str] = set()
        for name in self._names():
            path = self._folder / name
            if path.suffix == ".onnx" and _is_file(path):
                problems.add(
                    f"{display_name(name)} is a file; a model is a folder: put it at "
                    f"{display_name(path.stem)}/1/{MODEL}"
                )
            if _is_file(path):
                continue
            if not re.fullmatch(NAME_PATTERN, name):
                problems.add(
                    f"{display_name(name)} is no name for a model: letters, digits, '_', '.', '-'"
                )
                continue
            folder = self._model_folder(path)
            if folder.problem:
                problems.add(f"{name}: {folder.problem}")
            if folder.candidates or folder.candidates is None:
                folders[name] = folder
        problems.update(_similar_names(folders))
        self._policies = {name: self._policies[name] for name in folders if name in self._policies}
        return Scan(folders, frozenset(problems))

    def _names(self) -> Sequence[str]:
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

    def _model_folder(self, path: Path) -> ModelFolder:
        try:
            candidates = _candidates(path)
        except OSError as error:
            return ModelFolder(
                path.name, None, None, f"the folder cannot be read: {error.strerror}"
            )
        policy, problem = self._policy(path)
        return ModelFolder(path.name, candidates, policy, problem)

    def _policy(self, path: Path) -> tuple[Policy | None, str]:
        """Return the model's policy, or its problem; read again only if its files have changed."""
        stats = _file_stats(POLICY, path / POLICY) + _file_stats(CONFIG, path / CONFIG)
        cached = self._policies.get(path.name)
        if cached is None or cached[0] != stats:
            cached = self._policies[path.name] = (stats, *_read_policy(path))
        return cached[1:]


def _read_policy(model_folder: Path) -> tuple[Policy | None, str]:
    """Return the policy, or why it cannot be read; ``config.pbtxt`` gives its default versions."""
    try:
        policy = read_policy(model_folder)
    except BundleError as error:
        return None, str(error)
    if policy.versions is None:
        policy = policy.model_copy(update={"versions": read_triton_versions(model_folder)})
    return policy, ""


def _candidates(model_folder: Path) -> tuple[Candidate, ...]:
    """Return the versions, newest first, followed by numbered entries that cannot be versions."""
    found: list[tuple[int, Candidate]] = []
    with os.scandir(model_folder) as children:
        for child in children:
            if child.name.isdecimal():
                reason = _rejection(child)
                stats = () if reason else compute_fingerprint(child.path)
                rank = -1 if reason else int(child.name)
                version = Candidate(
                    model_folder.name, child.name, model_folder / child.name, stats, reason
                )
                found.append((rank, version))
    found.sort(key=lambda ranked: (-ranked[0], ranked[1].version))
    bundles = [number for number, candidate in found if _has_manifest(candidate)]
    first = min(bundles, default=HIGHEST_VERSION)
    return tuple(
        replace(candidate, rejected=_INCOMPLETE)
        if number > first and not _has_manifest(candidate)
        else candidate
        for number, candidate in found
    )


def _has_manifest(candidate: Candidate) -> bool:
    return not candidate.rejected and os.path.lexists(candidate.folder / MANIFEST)


def _rejection(child: "os.DirEntry[str]") -> str:
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


def compute_fingerprint(folder: str | Path) -> Fingerprint:
    """Return the fingerprint of a version; it changes with any file that affects the model.

    It includes the model's ``tuning.json`` and ``config.pbtxt``. Unreadable files count as empty.
    """
    model_folder = Path(folder).parent
    siblings = [(f"../{name}", model_folder / name) for name in (TUNING, CONFIG)]
    stats = [
        one for name, path in siblings if os.path.lexists(path) for one in _file_stats(name, path)
    ]
    files = islice(_files(folder, "", _MAX_DEPTH), _MAX_FILES)
    stats += [one for name, file in files for one in _file_stats(name, file)]
    return tuple(sorted(stats))


def _files(folder: str | Path, prefix: str, depth: int) -> "Iterator[tuple[str, os.DirEntry[str]]]":
    """Yield the entries of a folder and of its subfolders; links to folders are not followed."""
    try:
        with os.scandir(folder) as files:
            for file in files:
                name = prefix + file.name
                yield name, file
                if depth and file.is_dir(follow_symlinks=False):
                    yield from _files(file.path, f"{name}/", depth - 1)
    except OSError:
        return  # opening the version reports why


def _file_stats(name: str, file: "Path | os.DirEntry[str]") -> Fingerprint:
    try:
        status = file.stat()
    except OSError:
        return ((name, 0, 0, 0, 0, 0),)
    times = status.st_mtime_ns, status.st_ctime_ns
    return ((name, status.st_size, *times, status.st_ino, status.st_mode),)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _similar_names(folders: Mapping[str, ModelFolder]) -> set[str]:
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


def read_triton_labels(model_folder: Path) -> Labels:
    """Return the class labels by output name, from the label files that ``config.pbtxt`` names.

    A label file has one class label per line. Names and shapes of tensors come from the graph.
    """
    labels = {}
    try:
        for output in _blocks(_config(model_folder), "output"):
            texts = {
                key: word[1:-1]
                for key, word in output
                if isinstance(word, str) and word[0] in "\"'"
            }
            name, file = texts.get("name"), texts.get("label_filename", "")
            if name and _FILE_NAME.fullmatch(file):
                content = read_file(path_inside(model_folder, file), _MAX_LABELS_BYTES)
                labels[name] = tuple(content.decode().splitlines())
    except (BundleError, UnicodeDecodeError) as error:
        _warn("labels cannot be read", model_folder, error)
    return labels


def read_triton_versions(model_folder: Path) -> VersionChoice | None:
    """Return the version policy of ``config.pbtxt``, or None if it has none.

    The file was written for another server, so a model with an invalid one is still served.
    """
    try:
        for policy in _blocks(_config(model_folder), "version_policy"):
            for specific in _blocks(policy, "specific"):
                return tuple(_numbers(specific, "versions")) or None
            for latest in _blocks(policy, "latest"):
                return Latest(latest=next(iter(_numbers(latest, "num_versions")), 1))
            if _blocks(policy, "all"):
                return "all"
    except (BundleError, ValueError) as error:  # includes UnicodeDecodeError and ValidationError
        _warn("versions cannot be read", model_folder, error)
    return None


def read_triton_batching(model_folder: Path) -> int | None:
    """Return how many rows of several requests may share a run according to ``config.pbtxt``.

    Returns:
        ``max_batch_size`` if it is above 1; 0, for the service's default, if there is only
        ``dynamic_batching``; None if there is neither.
    """
    try:
        fields = _config(model_folder)
        sizes = _numbers(fields, "max_batch_size")
    except (BundleError, ValueError) as error:
        _warn("batching cannot be read", model_folder, error)
        return None
    if sizes and sizes[-1] > 1:
        return sizes[-1]
    return 0 if any(name == "dynamic_batching" for name, _ in fields) else None


def _warn(message: str, model_folder: Path, error: Exception) -> None:
    _log.warning(message, extra={"model": model_folder.name, "reason": str(error)})


def _config(model_folder: Path) -> Fields:
    """Parse ``config.pbtxt``; a missing file has no fields, and mistakes in it are ignored."""
    content = read_optional(model_folder / CONFIG, MAX_SETTINGS_BYTES) or b""
    open_blocks: list[tuple[Fields, str]] = [([], "")]  # with the name of the elements of a list
    name = ""
    for word in _TOKEN.findall(content.decode()):
        fields, element_name = open_blocks[-1]
        if word[0] in "#:,;":
            continue
        if word in "}]":
            if len(open_blocks) > 1:
                open_blocks.pop()
        elif word == "[":
            open_blocks.append((fields, name))
        elif word == "{":
            block: Fields = []
            fields.append((name or element_name, block))
            open_blocks.append((block, ""))
        elif name or element_name:
            fields.append((name or element_name, word))
        else:
            name = word
            continue
        name = ""
    return open_blocks[0][0]


def _blocks(fields: Fields, name: str) -> list[Fields]:
    """Return the values in braces of all fields of this name."""
    return [value for key, value in fields if key == name and isinstance(value, list)]


def _numbers(fields: Fields, name: str) -> list[int]:
    """Return the whole numbers of all fields of this name."""
    words = [value for key, value in fields if key == name and isinstance(value, str)]
    return [int(word) for word in words if word.isdecimal()]
