"""Where pictures come from: public data sets by name, idx files, or folders of photographs."""

import gzip
import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from service.bundle.manifest import ImageInput
from training.data.sources import Folders, Source, find
from training.data.split import set_aside
from training.errors import DataError, DataSetNotFound
from training.images.dataset import Bytes, PictureSet
from training.images.folder import LeftOut, read_folder
from training.recipe.image import ImageRecipe, Pictures

_GITHUB = "https://raw.githubusercontent.com"
_MNIST = f"{_GITHUB}/fgnt/mnist/HEAD"
_FASHION = f"{_GITHUB}/zalandoresearch/fashion-mnist/HEAD/data/fashion"

_DIGESTS = {
    "mnist": {
        "train-images-idx3": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    "fashion_mnist": {
        "train-images-idx3": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
}
_URLS = {"mnist": _MNIST, "fashion_mnist": _FASHION}
_FOLDERS = ("cats_and_dogs",)
"""Public data sets that are folders; no one file holds them."""
_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTES = 8
PARTS = {"training": "train", "test": "t10k"}
"""What MNIST calls them."""


@dataclass(frozen=True)
class Found:
    """The pictures of a recipe, in the parts that the data set itself makes."""

    name: str
    sha256: str
    training: PictureSet
    validation: PictureSet | None
    test: PictureSet | None
    left_out: list[LeftOut]

    @property
    def pictures(self) -> int:
        """How many there are in all parts."""
        parts = (self.training, self.validation, self.test)
        return sum(len(part) for part in parts if part is not None)


def load_pictures(data: Pictures, labels: list[str], image: ImageInput, folders: Folders) -> Found:
    """Read and decode all pictures as the service would.

    Args:
        data: where they come from.
        labels: what each class is called; none: as the folders.
        image: how a picture becomes pixels.
        folders: where public data sets may lie.

    Raises:
        DataError: they cannot be had, or are too few to learn from.
    """
    if data.folder is not None:
        folder = Path(data.folder)
        if files := idx_files(folder):
            return _of_files(folder.resolve().name, files, labels, image)
        return _of_folder(folder, labels, image, folder.resolve().name)
    name = data.source or ""
    if name in _DIGESTS:
        return _of_idx(name, labels, image, folders)
    if name in _FOLDERS:
        return _of_folder(_public_folder(name, folders), labels, image, name)
    known = ", ".join(sorted([*_DIGESTS, *_FOLDERS]))
    raise DataError(f"There is no public data set of pictures {name!r}; known: {known}.")


def split_images(found: Found, recipe: ImageRecipe) -> tuple[PictureSet, PictureSet, PictureSet]:
    """Training, validation and test part; those that the data set lacks are cut from training.

    Raises:
        DataError: there are too few pictures of a class.
    """
    training, validation, test = found.training, found.validation, found.test
    share = recipe.split.validation
    if test is None:
        training, test = _cut(training, recipe.split.test, recipe.seed)
        share /= 1 - recipe.split.test
    if validation is None:
        training, validation = _cut(training, share, recipe.seed)
    return training, validation, test


def _of_idx(name: str, labels: list[str], image: ImageInput, folders: Folders) -> Found:
    files = {}
    for part, prefix in PARTS.items():
        pair = []
        for kind in (f"{prefix}-images-idx3", f"{prefix}-labels-idx1"):
            path = f"{kind}-ubyte.gz"
            source = Source(f"{name}/{path}", _DIGESTS[name][kind], f"{_URLS[name]}/{path}")
            pair.append(find(name, source, folders))
        files[part] = (pair[0], pair[1])
    return _of_files(name, files, labels, image)


def _of_files(
    name: str, files: Mapping[str, tuple[Path, Path]], labels: list[str], image: ImageInput
) -> Found:
    digest = hashlib.sha256()
    parts = {}
    for part, pair in files.items():
        for path in pair:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        pixels, target = (read_idx(path) for path in pair)
        if len(pixels) != len(target):
            raise DataError(
                f"{pair[0]} has {len(pixels)} pictures, {pair[1]} {len(target)} labels."
            )
        parts[part] = _set_of(pixels, target, labels, image, PARTS[part])
    return Found(name, digest.hexdigest(), parts["training"], None, parts.get("test"), [])


def _set_of(
    pixels: Bytes,
    target: Bytes,
    labels: list[str],
    image: ImageInput,
    prefix: str,
) -> PictureSet:
    if pixels.shape[1:] != (image.height, image.width) or image.channels != 1:
        raise DataError(
            f"The data set's pictures are {pixels.shape[2]}x{pixels.shape[1]} and grey; set "
            f"image.width = {pixels.shape[2]}, image.height = {pixels.shape[1]} and "
            "image.channels = 1."
        )
    highest = int(target.max())
    names = labels or [str(k) for k in range(highest + 1)]
    if highest >= len(names):
        raise DataError(f"target.labels: the data set has a class {highest}; name {highest + 1}.")
    places = [f"{prefix} {k}" for k in range(len(target))]
    return PictureSet(pixels[..., np.newaxis], target.astype(np.int64), places, names)


def _of_folder(folder: Path, labels: list[str], image: ImageInput, name: str) -> Found:
    parts = read_folder(folder, labels, image)
    return Found(name, parts.sha256, parts.training, parts.validation, parts.test, parts.left_out)


def _public_folder(name: str, folders: Folders) -> Path:
    places = [place / name for place in (folders.data, folders.cache) if place is not None]
    for place in places:
        if (place / "train").is_dir():
            return place
    looked = " or ".join(map(str, places))
    raise DataSetNotFound(
        f"The data set {name!r} is not on this machine ({looked}). It is no single file to "
        "download: docs/training.md tells where its photographs come from. Put them there, in "
        "train/cats, train/dogs, validation/cats and validation/dogs, or train on any folder of "
        "photographs with data.folder."
    )


def read_idx(path: Path) -> Bytes:
    """The array of an idx file of bytes, plain or gzipped, in the shape that it states.

    Raises:
        DataError: it cannot be read, or is no such file.
    """
    try:
        content = path.read_bytes()
        if content[:2] == _GZIP:
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
    if len(content) < 4 or content[:2] != b"\0\0":  # noqa: PLR2004 - the magic number
        raise DataError(f"{path} is no idx file: it does not begin with two noughts.")
    kind, dimensions = content[2], content[3]
    if kind != _UNSIGNED_BYTES:
        raise DataError(f"{path} holds numbers of type {kind:#04x}; only bytes (0x08) are read.")
    header = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != prod(shape):
        raise DataError(
            f"{path} is incomplete: its header says {prod(shape):,} bytes, and "
            f"{len(content) - header:,} follow."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def idx_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The images and labels of each part that lies in a folder under MNIST's names; or nothing."""
    found = {}
    for part, prefix in PARTS.items():
        names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        pair = [path for name in names if (path := _either(folder, name)) is not None]
        if len(pair) == len(names):
            found[part] = (pair[0], pair[1])
    return found if "training" in found else {}


def _either(folder: Path, name: str) -> Path | None:
    places = (folder / name, folder / f"{name}.gz")
    return next((place for place in places if place.is_file()), None)


def _cut(pictures: PictureSet, share: float, seed: int) -> tuple[PictureSet, PictureSet]:
    rows = np.arange(len(pictures))
    kept, aside = set_aside(rows, pictures.target.astype(np.float64), share, seed, classes=True)
    return pictures.chosen(kept), pictures.chosen(aside)
