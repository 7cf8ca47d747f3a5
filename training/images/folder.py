"""Image folders: one folder per class, optionally below train/, validation/ and test/."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from service.bundle.manifest import ImageInput
from service.imaging.limits import InvalidImage
from service.imaging.preprocess import read_image
from service.spelling import format_count, join_names
from training.errors import DataError
from training.images.dataset import Bytes, ImageSet

MIN_IMAGES = 10
"""The minimum number of images per class; fewer cannot be split."""
MAX_IN_MEMORY = 1 << 30
"""The maximum size in bytes of a set of images in memory; larger ones are memory-mapped."""
_TRAINING = ("train", "training")
_VALIDATION = ("validation", "valid", "val")
_TEST = ("test", "testing")
_SYSTEM_FILES = ("thumbs.db", "desktop.ini", "__macosx")
_CHUNK = 64
_SHOWN = 5


@dataclass(frozen=True)
class SkippedFile:
    """A skipped file, with the reason."""

    file: str
    reason: str


@dataclass(frozen=True)
class LoadedImages:
    """The images of a data set, in its own subsets."""

    name: str
    sha256: str
    """Of all used files."""
    training: ImageSet
    validation: ImageSet | None
    test: ImageSet | None
    skipped: list[SkippedFile]

    @property
    def images(self) -> int:
        """The number of images in all sets."""
        parts = (self.training, self.validation, self.test)
        return sum(len(part) for part in parts if part is not None)


@dataclass(frozen=True)
class _DecodedFile:
    path: str
    """The path below the folder."""
    label: int
    digest: str
    pixels: Bytes | None = None
    reason: str = ""
    """The reason why there are no pixels."""


def read_folder(
    folder: Path, labels: Sequence[str], image: ImageInput, name: str | None = None
) -> LoadedImages:
    """Decode every image below the folder.

    A single subset apart from train/ is the test set. The digest depends on the files and their
    paths below the folder.

    Args:
        folder: with class folders, or with train/ and validation/ or test/ that have class folders.
        labels: names of the classes, in the order of their folders; if empty, the folder names.
        image: how images are preprocessed.
        name: of the data set; by default that of the folder.

    Raises:
        DataError: fewer than two class folders, or too few images in one.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; give one that contains a folder for each class."
        )
    set_folders = _find_set_folders(folder)
    classes = _list_classes(set_folders["training"])
    if labels and len(labels) != len(classes):
        raise DataError(
            f"target.labels names {len(labels):,}, and {set_folders['training']} has "
            f"{format_count(len(classes), 'folder')}: {', '.join(classes)}."
        )
    class_labels = labels or classes
    paths_by_digest: dict[str, str] = {}
    skipped = [
        _describe_unused(file, folder) for file in _find_unused_paths(folder, set_folders, classes)
    ]
    digest = hashlib.sha256()
    parts = {}
    # The test set first: an image that is in two sets must not be trained on.
    for part in ("test", "validation", "training"):
        if part in set_folders:
            files = _list_files(set_folders[part], classes)
            retained = _drop_duplicates(
                _decode_files(files, folder, image), paths_by_digest, skipped, digest
            )
            parts[part] = _store_images(retained, len(files), class_labels, image)
    _require_enough(parts["training"], set_folders["training"], skipped)
    return LoadedImages(
        name or folder.resolve().name,
        digest.hexdigest(),
        parts["training"],
        parts.get("validation"),
        parts.get("test"),
        skipped,
    )


def _find_set_folders(folder: Path) -> dict[str, Path]:
    """Return the folder of each set; a single one apart from train/ is the test set."""
    below = {path.name.lower(): path for path in _list_folders(folder)}
    training = next((below[name] for name in _TRAINING if name in below), None)
    if training is None:
        return {"training": folder}
    validation = next((below[name] for name in _VALIDATION if name in below), None)
    test = next((below[name] for name in _TEST if name in below), None)
    if test is None:
        validation, test = None, validation
    found = {"training": training, "validation": validation, "test": test}
    return {part: home for part, home in found.items() if home is not None}


def _list_classes(home: Path) -> list[str]:
    """Return the names of the class folders.

    Raise `DataError` if there are fewer than two.
    """
    classes = [path.name for path in _list_folders(home)]
    if not classes:
        raise DataError(
            f"{home} has no class folders. Put the images of each class into a folder of "
            f"its own, such as {home / 'cat'} and {home / 'dog'}: the folder name is the label."
        )
    if len(classes) == 1:
        raise DataError(
            f"{home} has only one class, {classes[0]!r}; a classifier needs "
            "images of at least two, each in its own folder."
        )
    return classes


def _list_folders(home: Path) -> list[Path]:
    visible = (path for path in home.iterdir() if path.is_dir() and not _is_system_file(path))
    return sorted(visible, key=lambda path: path.name)


def _is_system_file(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _SYSTEM_FILES


def _find_unused_paths(
    folder: Path, set_folders: dict[str, Path], classes: list[str]
) -> Iterator[Path]:
    """Yield files outside class folders, and class folders that the training set lacks."""
    for home in {folder, *set_folders.values()}:
        yield from sorted(p for p in home.iterdir() if p.is_file() and not _is_system_file(p))
    for home in set_folders.values():
        yield from (path for path in _list_folders(home) if path.name not in classes)


def _describe_unused(path: Path, folder: Path) -> SkippedFile:
    relative = path.relative_to(folder).as_posix()
    if path.is_dir():
        return SkippedFile(relative, "a class without training images")
    return SkippedFile(relative, "not in a class folder")


def _list_files(home: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """List every file of a set with its class, sorted by name."""
    return [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((home / name).rglob("*"))
        if path.is_file() and not _is_system_file(path)
    ]


def _decode_files(
    files: list[tuple[Path, int]], folder: Path, image: ImageInput
) -> Iterator[_DecodedFile]:
    read = partial(_read, folder=folder, image=image)
    with ThreadPoolExecutor() as pool:
        # In slices, so that decoded images do not pile up in memory.
        for start in range(0, len(files), _CHUNK):
            yield from pool.map(read, files[start : start + _CHUNK])


def _read(found: tuple[Path, int], folder: Path, image: ImageInput) -> _DecodedFile:
    path, label = found
    relative = path.relative_to(folder).as_posix()
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        return _DecodedFile(relative, label, digest, read_image(content, image))
    except OSError as error:
        return _DecodedFile(relative, label, "", reason=f"cannot be read: {error.strerror}")
    except InvalidImage as error:
        return _DecodedFile(relative, label, "", reason=str(error))


def _drop_duplicates(
    images: Iterator[_DecodedFile],
    paths_by_digest: dict[str, str],
    skipped: list[SkippedFile],
    digest: "hashlib._Hash",
) -> Iterator[_DecodedFile]:
    for decoded in images:
        if decoded.pixels is None:
            skipped.append(SkippedFile(decoded.path, decoded.reason))
        elif decoded.digest in paths_by_digest:
            skipped.append(
                SkippedFile(decoded.path, f"the same file as {paths_by_digest[decoded.digest]}")
            )
        else:
            paths_by_digest[decoded.digest] = decoded.path
            digest.update(f"{decoded.path} {decoded.digest}\n".encode("utf-8", "surrogateescape"))
            yield decoded


def _store_images(
    images: Iterator[_DecodedFile], most: int, labels: Sequence[str], image: ImageInput
) -> ImageSet:
    """Store the images in one array, which is memory-mapped if it is large."""
    shape = (most, image.height, image.width, image.channels)
    if math.prod(shape) > MAX_IN_MEMORY:
        with TemporaryFile() as file:  # unnamed; the mapping keeps it open
            store: Bytes = np.memmap(file, np.uint8, shape=shape)
    else:
        store = np.empty(shape, np.uint8)
    names: list[str] = []
    target: list[int] = []
    for decoded in images:
        if decoded.pixels is not None:
            store[len(names)] = decoded.pixels
            names.append(decoded.path)
            target.append(decoded.label)
    return ImageSet(store[: len(target)], np.array(target, np.int64), names, list(labels))


def _require_enough(training: ImageSet, home: Path, skipped: Sequence[SkippedFile]) -> None:
    counts = np.bincount(training.target, minlength=training.classes)
    too_few = [
        f"{label} has {count}"
        for label, count in zip(training.labels, counts, strict=True)
        if count < MIN_IMAGES
    ]
    if too_few:
        reasons = [f"{one.file} ({one.reason})" for one in skipped]
        also = f" Skipped: {join_names(reasons, _SHOWN)}." if reasons else ""
        raise DataError(
            f"{home} has too few images to train on: {', '.join(too_few)}. Each class needs at "
            f"least {MIN_IMAGES}, and some hundreds for a useful model.{also}"
        )
