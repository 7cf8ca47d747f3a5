"""A set of names that several processes share, kept as empty files of a folder."""

from collections.abc import Iterable, Iterator, MutableSet
from pathlib import Path


class SharedNames(MutableSet[str]):
    """Every change is one step on disk, so no lock is needed and none can be left behind.

    Args:
        folder: holds a file for each name and nothing else; names must be fit for files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (self._folder / name).exists()

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in self._folder.iterdir())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def add(self, value: str) -> None:
        """Put a name in."""
        (self._folder / value).touch()

    def discard(self, value: str) -> None:
        """Take a name out, if it is in."""
        (self._folder / value).unlink(missing_ok=True)

    @classmethod
    def _from_iterable(cls, it: Iterable[str]) -> set[str]:  # type: ignore[override] # a result is shared with nobody
        return set(it)
