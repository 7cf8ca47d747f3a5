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
from service.imaging.preprocess import InvalidImage, read_image
from training.errors import DataError
from training.images.dataset import Bytes, ImageSet

LEAST = 10
"""The minimum number of images per class; fewer cannot be split."""
_TRAINING = ("train", "training")
_VALIDATION = ("validation", "valid", "val")
_TEST = ("test", "testing")
_LITTER = ("thumbs.db", "desktop.ini", "__macosx")
_MAX_IN_MEMORY = 1 << 30
_AHEAD = 64
_SHOWN = 5


@dataclass(frozen=True)
class LeftOut:
    """A skipped file, with the reason."""

    file: str
    reason: str


@dataclass(frozen=True)
class FolderParts:
    """The images of a folder. A single subset besides train/ is the test set."""

    training: ImageSet
    validation: ImageSet | None
    test: ImageSet | None
    left_out: list[LeftOut]
    sha256: str
    """Of all used files, with their paths below the folder."""


@dataclass(frozen=True)
class _Photo:
    position: str
    """The path below the folder."""
    label: int
    digest: str
    pixels: Bytes | None = None
    reason: str = ""
    """The reason why there are no pixels."""


def read_folder(folder: Path, labels: Sequence[str], image: ImageInput) -> FolderParts:
    """Decode every image below the folder.

    Args:
        folder: with class folders, or with train/ and validation/ or test/ that have class folders.
        labels: names of the classes, in the order of their folders; if empty, the folder names.
        image: how images are preprocessed.

    Raises:
        DataError: fewer than two class folders, or too few images in one.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; give one that contains a folder for each class."
        )
    homes = _homes(folder)
    classes = _classes(homes["training"])
    if labels and len(labels) != len(classes):
        raise DataError(
            f"target.labels names {len(labels)} classes, and {homes['training']} has "
            f"{len(classes)} folders: {', '.join(classes)}."
        )
    wanted = labels or classes
    seen: dict[str, str] = {}
    left_out = [_stray(file, folder) for file in _strays(folder, homes, classes)]
    digest = hashlib.sha256()
    parts = {}
    # The test set first: an image that is in two sets must not be trained on.
    for part in ("test", "validation", "training"):
        if part in homes:
            files = _files(homes[part], classes)
            retained = _retained(_decoded(files, folder, image), seen, left_out, digest)
            parts[part] = _set_of(retained, len(files), wanted, image)
    _require_enough(parts["training"], homes["training"], left_out)
    validation = parts.get("validation")
    return FolderParts(
        parts["training"], validation, parts.get("test"), left_out, digest.hexdigest()
    )


def _homes(folder: Path) -> dict[str, Path]:
    """The folder of each set; a single one besides train/ is the test set."""
    below = {path.name.lower(): path for path in _folders(folder)}
    training = next((below[name] for name in _TRAINING if name in below), None)
    if training is None:
        return {"training": folder}
    validation = next((below[name] for name in _VALIDATION if name in below), None)
    test = next((below[name] for name in _TEST if name in below), None)
    if test is None:
        validation, test = None, validation
    found = {"training": training, "validation": validation, "test": test}
    return {part: home for part, home in found.items() if home is not None}


def _classes(home: Path) -> list[str]:
    """The names of the class folders.

    Raises:
        DataError: there are fewer than two.
    """
    classes = [path.name for path in _folders(home)]
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


def _folders(home: Path) -> list[Path]:
    visible = (path for path in home.iterdir() if path.is_dir() and not _is_litter(path))
    return sorted(visible, key=lambda path: path.name)


def _is_litter(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _LITTER


def _strays(folder: Path, homes: dict[str, Path], classes: list[str]) -> Iterator[Path]:
    """Files outside the class folders, and class folders that the training set lacks."""
    for home in {folder, *homes.values()}:
        yield from sorted(p for p in home.iterdir() if p.is_file() and not _is_litter(p))
    for home in homes.values():
        yield from (path for path in _folders(home) if path.name not in classes)


def _stray(path: Path, folder: Path) -> LeftOut:
    position = path.relative_to(folder).as_posix()
    if path.is_dir():
        return LeftOut(position, "a class without training images")
    return LeftOut(position, "not in a class folder")


def _files(home: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Every file of a set with its class, sorted by name."""
    return [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((home / name).rglob("*"))
        if path.is_file() and not _is_litter(path)
    ]


def _decoded(files: list[tuple[Path, int]], folder: Path, image: ImageInput) -> Iterator[_Photo]:
    read = partial(_read, folder=folder, image=image)
    with ThreadPoolExecutor() as pool:
        # In slices, so that decoded images do not pile up in memory.
        for start in range(0, len(files), _AHEAD):
            yield from pool.map(read, files[start : start + _AHEAD])


def _read(found: tuple[Path, int], folder: Path, image: ImageInput) -> _Photo:
    path, label = found
    position = path.relative_to(folder).as_posix()
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        return _Photo(position, label, digest, read_image(content, image))
    except OSError as error:
        return _Photo(position, label, "", reason=f"cannot be read: {error.strerror}")
    except InvalidImage as error:
        return _Photo(position, label, "", reason=str(error))


def _retained(
    images: Iterator[_Photo],
    seen: dict[str, str],
    left_out: list[LeftOut],
    digest: "hashlib._Hash",
) -> Iterator[_Photo]:
    """The usable images, without duplicate files."""
    for photo in images:
        if photo.pixels is None:
            left_out.append(LeftOut(photo.position, photo.reason))
        elif photo.digest in seen:
            left_out.append(LeftOut(photo.position, f"the same file as {seen[photo.digest]}"))
        else:
            seen[photo.digest] = photo.position
            digest.update(f"{photo.position} {photo.digest}\n".encode("utf-8", "surrogateescape"))
            yield photo


def _set_of(
    images: Iterator[_Photo], most: int, labels: Sequence[str], image: ImageInput
) -> ImageSet:
    """The images in one array, memory-mapped if it is large."""
    shape = (most, image.height, image.width, image.channels)
    if math.prod(shape) > _MAX_IN_MEMORY:
        with TemporaryFile() as file:  # unnamed; the mapping keeps it open
            store: Bytes = np.memmap(file, np.uint8, shape=shape)
    else:
        store = np.empty(shape, np.uint8)
    names: list[str] = []
    target: list[int] = []
    for photo in images:
        if photo.pixels is not None:
            store[len(names)] = photo.pixels
            names.append(photo.position)
            target.append(photo.label)
    return ImageSet(store[: len(target)], np.array(target, np.int64), names, list(labels))


def _require_enough(training: ImageSet, home: Path, left_out: Sequence[LeftOut]) -> None:
    counts = np.bincount(training.target, minlength=training.classes)
    few = [
        f"{label} has {count}"
        for label, count in zip(training.labels, counts, strict=True)
        if count < LEAST
    ]
    if few:
        reasons = [f"{one.file}: {one.reason}" for one in left_out[:_SHOWN]]
        also = f" Skipped: {'; '.join(reasons)}." if reasons else ""
        raise DataError(
            f"{home} has too few images to train on: {', '.join(few)}. Each class needs at "
            f"least {LEAST}, and some hundreds for a useful model.{also}"
        )
