"""The models folder as it lies on disk: which versions there are, before any is opened."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from service.bundle.files import versions_in
from service.bundle.manifest import NAME_PATTERN
from service.errors import NoModels

# Name, size, time of change in nanoseconds and inode of each file: alike means untouched.
Fingerprint = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Candidate:
    """A version that may be served once it has proved itself."""

    name: str
    version: str
    folder: Path
    fingerprint: Fingerprint


def scan(models: Path) -> tuple[dict[str, list[Candidate]], frozenset[str]]:
    """Every ``<name>/<version>`` below the folder, names sorted, newest version first.

    Hidden folders and plain files are left alone, and so is a folder without a numbered version.

    Returns:
        The candidates by name, and a sentence for each folder that cannot be a model's.

    Raises:
        NoModels: there is no such folder.
    """
    if not models.is_dir():
        raise NoModels(models)
    found: dict[str, list[Candidate]] = {}
    problems: set[str] = set()
    for home in sorted(models.iterdir()):
        if home.name.startswith(".") or home.is_file():
            continue
        if not re.fullmatch(NAME_PATTERN, home.name):
            problems.add(f"{home.name!r} is no name for a model: letters, digits, '_', '.', '-'")
            continue
        try:
            candidates = _candidates(home)
        except OSError as error:
            problems.add(f"{home.name!r} cannot be read: {error.strerror}")
            continue
        if candidates:
            found[home.name] = candidates
    return found, frozenset(problems)


def _candidates(home: Path) -> list[Candidate]:
    versions = [str(version) for version in reversed(versions_in(home))]
    return [
        Candidate(home.name, version, home / version, _fingerprint(home / version))
        for version in versions
    ]


def _fingerprint(folder: Path) -> Fingerprint:
    """What changes when a file comes, goes or is written; unreadable files count as empty."""
    facts = []
    try:
        with os.scandir(folder) as files:
            for file in files:
                try:
                    stat = file.stat()
                except OSError:
                    facts.append((file.name, 0, 0, 0))
                else:
                    facts.append((file.name, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    except OSError:
        return ()
    return tuple(sorted(facts))
