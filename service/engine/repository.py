"""The models folder as it lies on disk: which versions there are, before any is opened."""

from dataclasses import dataclass
from pathlib import Path

from service.bundle.files import versions_in
from service.errors import NoModels


@dataclass(frozen=True)
class Candidate:
    """A version that may be served once it has proved itself."""

    name: str
    version: int
    folder: Path


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
        versions = versions_in(home)
        if versions:
            found[home.name] = [
                Candidate(home.name, version, home / str(version)) for version in reversed(versions)
            ]
    return found
