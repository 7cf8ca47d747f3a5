"""The models folder on disk: which versions there are, before any is opened.

Triton's ``config.pbtxt`` is read too: class labels, the version policy and dynamic batching.
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
from service.bundle.policy import HIGHEST_VERSION, POLICY, Latest, Policy, VersionChoice
from service.bundle.store import (
    EXAMPLES,
    MANIFEST,
    MAX_SETTINGS_BYTES,
    MODEL,
    path_inside,
    read_document,
    read_file,
    read_optional,
    shown_name,
)
from service.bundle.tuning import TUNING
from service.errors import CannotStart, NoModels

# Name, size, times of modification and of change in nanoseconds, inode and mode of each file. They
# are compared for equality only: equal means unchanged, even if a clock was set in the meantime.
# A copy may keep the time of modification (cp -p, rsync -t), but not the time of change.
Fingerprint = tuple[tuple[str, int, int, int, int, int], ...]

# A version's folder holds some files, and weights perhaps in folders of it.
_MOST_FILES = 10_000
_MOST_LEVELS = 8
# In the root of an ext4 file system.
_NOT_MODELS = {"lost+found"}

# A bundle whose graph is copied first would otherwise be served as a bare model until the rest is.
_INCOMPLETE = f"{MANIFEST} is missing, and a version before it has one"

CONFIG = "config.pbtxt"
# The tokens of a text-format file; a comment is one too, and so is a string. A string without its
# closing quote ends with its line, so that every byte is scanned once.
_WORD = re.compile(r"""#[^\n]*+|"(?:\\.|[^"\\\n])*+"?|'(?:\\.|[^'\\\n])*+'?|[\w.+-]++|[][{}:,;]""")
# A plain file name: labels are read from the model's own folder only.
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_MAX_LABELS_BYTES = 10_000_000
_log = logging.getLogger(__name__)
Labels = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Candidate:
    """A version on disk; one that is ``rejected`` says why it cannot be loaded."""

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
    """A model's folder: its versions, newest first, and its policy.

    Without a ``policy`` the ``problem`` says why it cannot be read, and without ``candidates`` why
    the folder cannot.
    """

    name: str
    candidates: tuple[Candidate, ...] | None
    policy: Policy | None
    problem: str = ""


@dataclass(frozen=True)
class Scan:
    """All model folders by name, sorted, and a message for each entry that cannot be one."""

    folders: Mapping[str, ModelFolder]
    problems: frozenset[str]


class Repository:
    """The models folder, scanned repeatedly."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._policies: dict[str, tuple[Fingerprint, Policy | None, str]] = {}

    def scan(self) -> Scan:
        """List every ``<name>/<version>``.

        Hidden folders and files are ignored, and so is a folder without a numbered version.

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
                    f"{shown_name(name)} is a file; a model is a folder: put it at "
                    f"{shown_name(path.stem)}/1/{MODEL}"
                )
            if _is_file(path):
                continue
            if not re.fullmatch(NAME_PATTERN, name):
                problems.add(
                    f"{shown_name(name)} is no name for a model: letters, digits, '_', '.', '-'"
                )
                continue
            folder = self._model_folder(path)
            if folder.problem:
                problems.add(f"{name}: {folder.problem}")
            if folder.candidates or folder.candidates is None:
                folders[name] = folder
        problems.update(_similar(folders))
        self._policies = {name: self._policies[name] for name in folders if name in self._policies}
        return Scan(folders, frozenset(problems))

    def _names(self) -> Sequence[str]:
        """The entries of the folder, sorted, without hidden ones and the file system's own."""
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - names are all that is needed
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
        """The model's policy, read again only where its files have changed."""
        facts = _facts(POLICY, path / POLICY) + _facts(CONFIG, path / CONFIG)
        known = self._policies.get(path.name)
        if known is None or known[0] != facts:
            known = self._policies[path.name] = (facts, *_read_policy(path))
        return known[1:]


def _read_policy(home: Path) -> tuple[Policy | None, str]:
    """The policy, or why it cannot be read; its default versions are those of ``config.pbtxt``."""
    try:
        policy = read_document(Policy, home / POLICY) or Policy()
    except BundleError as error:
        return None, str(error)
    if policy.versions is None:
        policy = policy.model_copy(update={"versions": configured_versions(home)})
    return policy, ""


def _candidates(home: Path) -> tuple[Candidate, ...]:
    """The versions, newest first, followed by numbered entries that cannot be versions."""
    found: list[tuple[int, Candidate]] = []
    with os.scandir(home) as children:
        for child in children:
            if child.name.isdecimal():
                reason = _rejection(child)
                facts = () if reason else fingerprint(child.path)
                rank = -1 if reason else int(child.name)
                version = Candidate(home.name, child.name, home / child.name, facts, reason)
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
    """Why a numbered entry of a model's folder cannot be a version; empty if it can."""
    number = int(child.name)
    if str(number) != child.name or number == 0:
        return "its folder's name is not a number as versions are written: 1, 2, 3"
    if number > HIGHEST_VERSION:
        return f"its number is above {HIGHEST_VERSION}, and clients count versions in 64 bits"
    try:
        mode = Path(child.path).stat().st_mode
    except FileNotFoundError:
        return "it is a link to nowhere"
    except OSError as error:
        return f"its folder cannot be read: {error.strerror}"
    if stat.S_ISDIR(mode):
        return ""
    return "it is a file, not a folder" if stat.S_ISREG(mode) else "it is not a folder"


def fingerprint(folder: str | Path) -> Fingerprint:
    """Changes when a file is added, removed or written; unreadable files count as empty.

    It includes the files beside the versions that say how they run.
    """
    home = Path(folder).parent
    siblings = [(f"../{name}", home / name) for name in (TUNING, CONFIG)]
    facts = [
        fact for name, path in siblings if os.path.lexists(path) for fact in _facts(name, path)
    ]
    files = islice(_files(folder, "", _MOST_LEVELS), _MOST_FILES)
    facts += [fact for name, file in files for fact in _facts(name, file)]
    return tuple(sorted(facts))


def _files(
    folder: str | Path, prefix: str, levels: int
) -> "Iterator[tuple[str, os.DirEntry[str]]]":
    """The entries of a folder and of its subfolders; links to folders are not followed."""
    try:
        with os.scandir(folder) as files:
            for file in files:
                name = prefix + file.name
                yield name, file
                if levels and file.is_dir(follow_symlinks=False):
                    yield from _files(file.path, f"{name}/", levels - 1)
    except OSError:
        return  # opening the version says why


def _facts(name: str, file: "Path | os.DirEntry[str]") -> Fingerprint:
    try:
        status = file.stat()
    except OSError:
        return ((name, 0, 0, 0, 0, 0),)
    times = status.st_mtime_ns, status.st_ctime_ns
    return ((name, status.st_size, *times, status.st_ino, status.st_mode),)


def _is_file(path: Path) -> bool:
    """Whether this is a regular file that can be read."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _similar(names: Mapping[str, ModelFolder]) -> set[str]:
    """A message for names that differ only by case: both serve, and a client may mix them up."""
    by_folded: dict[str, list[str]] = {}
    for name in names:
        by_folded.setdefault(name.casefold(), []).append(name)
    return {
        f"{' and '.join(similar)} differ only by case, which other machines cannot tell apart; "
        "both serve, and one of them should get another name"
        for similar in by_folded.values()
        if len(similar) > 1
    }


def configured_labels(home: Path) -> Labels:
    """The class labels of each output for which ``config.pbtxt`` names a file with one a line.

    The names and shapes in that file are not needed, since the graph has them.
    """
    labels = {}
    try:
        for output, file in _label_files(_config(home)):
            content = read_file(path_inside(home, file), _MAX_LABELS_BYTES)
            labels[output] = tuple(content.decode().splitlines())
    except (BundleError, UnicodeDecodeError) as error:
        _warn("labels cannot be read", home, error)
    return labels


def configured_versions(home: Path) -> VersionChoice | None:
    """Which versions serve by ``config.pbtxt``, or None if it does not say.

    It was written for another server, so an error in it is no reason to reject a model.
    """
    try:
        words = _block(_config(home), "version_policy")
        if "specific" in words:
            return tuple(int(word) for word in words if word.isdecimal()) or None
        if "latest" in words:
            counts = [int(word) for word in words if word.isdecimal()]
            return Latest(latest=counts[0] if counts else 1)
    except (BundleError, ValueError) as error:  # of which the decoder's and pydantic's are two
        _warn("versions cannot be read", home, error)
        return None
    return "all" if "all" in words else None


def configured_batching(home: Path) -> int | None:
    """How many rows of several requests may share a run by ``config.pbtxt``.

    Returns:
        Its ``max_batch_size`` if that is above 1; 0, which leaves the number to the service, if it
        has only ``dynamic_batching``; None if it has neither.
    """
    try:
        fields = list(_top_level(_config(home)))
        sizes = [value for name, value in fields if name == "max_batch_size"]
        if sizes and sizes[-1].isdecimal() and int(sizes[-1]) > 1:
            return int(sizes[-1])
    except (BundleError, ValueError) as error:
        _warn("batching cannot be read", home, error)
        return None
    return 0 if any(name == "dynamic_batching" for name, _ in fields) else None


def _config(home: Path) -> str:
    """The text of ``config.pbtxt``; empty if there is none."""
    content = read_optional(home / CONFIG, MAX_SETTINGS_BYTES)
    return "" if content is None else content.decode()


def _warn(what: str, home: Path, error: Exception) -> None:
    _log.warning(what, extra={"model": home.name, "reason": str(error)})


def _words(config: str) -> Iterator[str]:
    return (word for word in _WORD.findall(config) if not word.startswith("#"))


def _top_level(config: str) -> Iterator[tuple[str, str]]:
    """Each field outside of braces: its name, and the first word of its value."""
    depth = 0
    name = ""
    for word in _words(config):
        if word in "{[":
            if not depth and name:
                yield name, word
            depth, name = depth + 1, ""
        elif word in "}]":
            depth -= 1
        elif not depth and word not in ":,;":
            if name:
                yield name, word
            name = "" if name else word


def _block(config: str, name: str) -> Sequence[str]:
    """The words within the braces of a field; none if it is absent."""
    words = list(_words(config))
    if name not in words:
        return ()
    depth = 0
    within = []
    for word in words[words.index(name) + 1 :]:
        depth += (word == "{") - (word == "}")
        if depth == 0 and word == "}":
            break
        within.append(word)
    return within


def _label_files(config: str) -> Iterator[tuple[str, str]]:
    """The name of each output that has class labels, and that of their file."""
    for output in _outputs(config):
        name, file = output.get("name", ""), output.get("label_filename", "")
        if name and _PLAIN.fullmatch(file):
            yield name, file


def _outputs(config: str) -> Iterator[Mapping[str, str]]:
    """The strings of each ``output { … }``, also in a list of them."""
    within: list[str] = []  # the names of the braces and brackets that are open
    others = 0  # how many of them are not "output"
    strings: dict[str, str] = {}
    key = ""
    for word in _WORD.findall(config):
        of_output = bool(within) and not others
        if word in "{[":
            within.append(key or (within[-1] if within else ""))
            others += within[-1] != "output"
        elif word in "}]":
            if word == "}" and of_output:
                yield strings
                strings = {}
            others -= bool(within) and within[-1] != "output"
            del within[-1:]
        elif word[0] in "\"'" and key and of_output:
            strings[key] = word[1:-1]
        key = word if word[0].isalpha() else key * (word == ":")
