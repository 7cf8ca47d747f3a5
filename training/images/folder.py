"""Folders of photographs: one of each class, divided into parts by the folders above, or not."""

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
from training.images.dataset import Bytes, PictureSet

LEAST = 10
"""Pictures of each class: fewer cannot be divided into parts that mean anything."""
_TRAINING = ("train", "training")
_VALIDATION = ("validation", "valid", "val")
_TEST = ("test", "testing")
_LITTER = ("thumbs.db", "desktop.ini", "__macosx")
_MOST_IN_MEMORY = 1 << 30
_AHEAD = 64
_SHOWN = 5


@dataclass(frozen=True)
class LeftOut:
    """A file that is no picture to learn from, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class FolderParts:
    """What a folder holds. Where it has one part besides train/, that is the test part."""

    training: PictureSet
    validation: PictureSet | None
    test: PictureSet | None
    left_out: list[LeftOut]
    sha256: str
    """Of all files used, with their places below the folder."""


@dataclass(frozen=True)
class _Picture:
    place: str
    """Below the whole folder."""
    label: int
    digest: str
    pixels: Bytes | None = None
    reason: str = ""
    """Why there are no pixels."""


def read_folder(folder: Path, labels: Sequence[str], image: ImageInput) -> FolderParts:
    """Decode every picture below the folder.

    Args:
        folder: of class folders, or of train/ and validation/ or test/ with class folders each.
        labels: what the classes are called, in the order of their folders' names; or none.
        image: how a picture becomes pixels.

    Raises:
        DataError: there are no class folders, only one, or too few pictures in one.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give one that holds a folder for each class.")
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
    # The test part first: a picture that is in two parts must not be learned from.
    for part in ("test", "validation", "training"):
        if part in homes:
            files = _files(homes[part], classes)
            kept = _kept(_decoded(files, folder, image), seen, left_out, digest)
            parts[part] = _set_of(kept, len(files), wanted, image)
    _require_enough(parts["training"], homes["training"], left_out)
    validation = parts.get("validation")
    return FolderParts(
        parts["training"], validation, parts.get("test"), left_out, digest.hexdigest()
    )


def _homes(folder: Path) -> dict[str, Path]:
    """Where each part's class folders lie; what stands beside train/ alone is the test part."""
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
            f"{home} holds no folders of classes. Put the pictures of each class into a folder of "
            f"its own, such as {home / 'cat'} and {home / 'dog'}: the folder's name is the label."
        )
    if len(classes) == 1:
        raise DataError(
            f"{home} holds one class, {classes[0]!r}; a model that tells classes apart needs "
            "pictures of at least two, each in a folder of its own."
        )
    return classes


def _folders(home: Path) -> list[Path]:
    visible = (path for path in home.iterdir() if path.is_dir() and not _is_litter(path))
    return sorted(visible, key=lambda path: path.name)


def _is_litter(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _LITTER


def _strays(folder: Path, homes: dict[str, Path], classes: list[str]) -> Iterator[Path]:
    """Files beside the class folders, and class folders that only another part has."""
    for home in {folder, *homes.values()}:
        yield from sorted(p for p in home.iterdir() if p.is_file() and not _is_litter(p))
    for home in homes.values():
        yield from (path for path in _folders(home) if path.name not in classes)


def _stray(path: Path, folder: Path) -> LeftOut:
    place = path.relative_to(folder).as_posix()
    if path.is_dir():
        return LeftOut(place, "a class of which there is nothing to learn from")
    return LeftOut(place, "lies in no class's folder")


def _files(home: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Every file of a part's class folders with its class, in the order of their names."""
    return [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((home / name).rglob("*"))
        if path.is_file() and not _is_litter(path)
    ]


def _decoded(files: list[tuple[Path, int]], folder: Path, image: ImageInput) -> Iterator[_Picture]:
    read = partial(_read, folder=folder, image=image)
    with ThreadPoolExecutor() as pool:
        # In slices, so that no more pictures wait in memory than are being decoded.
        for start in range(0, len(files), _AHEAD):
            yield from pool.map(read, files[start : start + _AHEAD])


def _read(found: tuple[Path, int], folder: Path, image: ImageInput) -> _Picture:
    path, label = found
    place = path.relative_to(folder).as_posix()
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        return _Picture(place, label, digest, read_image(content, image))
    except OSError as error:
        return _Picture(place, label, "", reason=f"cannot be read: {error.strerror}")
    except InvalidImage as error:
        return _Picture(place, label, "", reason=str(error))


def _kept(
    pictures: Iterator[_Picture],
    seen: dict[str, str],
    left_out: list[LeftOut],
    digest: "hashlib._Hash",
) -> Iterator[_Picture]:
    """Those that can be learned from; each file once, also where it has two names."""
    for picture in pictures:
        if picture.pixels is None:
            left_out.append(LeftOut(picture.place, picture.reason))
        elif picture.digest in seen:
            left_out.append(LeftOut(picture.place, f"the same file as {seen[picture.digest]}"))
        else:
            seen[picture.digest] = picture.place
            digest.update(f"{picture.place} {picture.digest}\n".encode("utf-8", "surrogateescape"))
            yield picture


def _set_of(
    pictures: Iterator[_Picture], most: int, labels: Sequence[str], image: ImageInput
) -> PictureSet:
    """The pictures in one array; on the disk where memory would not hold it."""
    shape = (most, image.height, image.width, image.channels)
    if math.prod(shape) > _MOST_IN_MEMORY:
        with TemporaryFile() as file:  # the map keeps it; nobody else ever sees it
            store: Bytes = np.memmap(file, np.uint8, shape=shape)
    else:
        store = np.empty(shape, np.uint8)
    names: list[str] = []
    target: list[int] = []
    for picture in pictures:
        if picture.pixels is not None:
            store[len(names)] = picture.pixels
            names.append(picture.place)
            target.append(picture.label)
    return PictureSet(store[: len(target)], np.array(target, np.int64), names, list(labels))


def _require_enough(training: PictureSet, home: Path, left_out: Sequence[LeftOut]) -> None:
    counts = np.bincount(training.target, minlength=training.classes)
    few = [
        f"{label} has {count}"
        for label, count in zip(training.labels, counts, strict=True)
        if count < LEAST
    ]
    if few:
        reasons = [f"{one.file}: {one.reason}" for one in left_out[:_SHOWN]]
        also = f" Left out were {'; '.join(reasons)}." if reasons else ""
        raise DataError(
            f"{home} has too few pictures to learn from: {', '.join(few)}. Each class needs at "
            f"least {LEAST}, and some hundreds for a useful model.{also}"
        )
