"""The models folder as it lies on disk: which versions there are, before any is opened."""

import os
from dataclasses import dataclass
from pathlib import Path

from service.bundle.files import versions_in
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


def scan(models: Path) -> dict[str, list[Candidate]]:
    """Every ``<name>/<version>`` below the folder, names sorted, newest version first.

    Hidden folders and plain files are left alone, and so is a folder without a numbered version.

    Raises:
        NoModels: there is no such folder.
    """
    if not models.is_dir():
        raise NoModels(models)
    found: dict[str, list[Candidate]] = {}
    for home in sorted(models.iterdir()):
        if home.name.startswith("."):
            continue
        versions = [str(version) for version in reversed(versions_in(home))]
        if versions:
            found[home.name] = [
                Candidate(home.name, version, home / version, _fingerprint(home / version))
                for version in versions
            ]
    return found


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
