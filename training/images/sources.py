"""Image sources: public data sets by name, idx files, or image folders."""

import gzip
import hashlib
import struct
import zlib
from collections.abc import Mapping
from io import BufferedIOBase
from math import prod
from pathlib import Path

import numpy as np

from service.bundle.manifest import ImageInput
from service.filetypes import GZIP_SIGNATURE
from training.data.sources import GITHUB, Folders, Source, find
from training.data.split import Splitter
from training.errors import DataError, DataSetNotFound
from training.images.dataset import Bytes, ImageSet
from training.images.folder import MAX_IN_MEMORY, LoadedImages, read_folder
from training.recipe.image import ImageData, ImageRecipe

# The mirror that torchvision uses; it has no commits, so only the sha256 pins the files.
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
# The publisher's own repository.
_FASHION = (
    f"{GITHUB}/zalandoresearch/fashion-mnist/949006594cc2f804a93b9155849734564c3545ec/data/fashion"
)

DIGESTS = {
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
# Public data sets that are folders, not single files.
_FOLDERS = ("cats_and_dogs",)
_UNSIGNED_BYTES = 8
IMAGES_AXES = 3
"""The axes of an array of images: images, height and width."""
PARTS = {"training": "train", "test": "t10k"}
"""The prefixes of MNIST file names."""


def load_images(
    data: ImageData, labels: list[str], image: ImageInput, folders: Folders
) -> LoadedImages:
    """Read and decode all images as the service does.

    Without ``labels``, the names of the folders are the names of the classes. Raise `DataError` if
    the images cannot be found, or are too few.
    """
    if data.folder is not None:
        folder = Path(data.folder)
        if files := find_idx_files(folder):
            return _read_idx_sets(folder.resolve().name, files, labels, image)
        return read_folder(folder, labels, image)
    name = data.source or ""
    if name in DIGESTS:
        files = {part: _find_pair(name, prefix, folders) for part, prefix in PARTS.items()}
        return _read_idx_sets(name, files, labels, image)
    if name in _FOLDERS:
        return read_folder(_find_public_folder(name, folders), labels, image, name)
    known = ", ".join(sorted([*DIGESTS, *_FOLDERS]))
    raise DataError(f"There is no public data set of images {name!r}; known: {known}.")


def split_images(found: LoadedImages, recipe: ImageRecipe) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Split images into training, validation and test set, unless the data set defines them.

    Raise `DataError` if a class has too few images.
    """
    training, validation, test = found.training, found.validation, found.test
    share = recipe.split.validation
    if test is None:
        training, test = _hold_out(training, recipe.split.test, recipe.seed)
        share /= 1 - recipe.split.test
    if validation is None:
        training, validation = _hold_out(training, share, recipe.seed)
    return training, validation, test


def _find_pair(name: str, prefix: str, folders: Folders) -> tuple[Path, Path]:
    images, target = (
        find(name, create_idx_source(name, kind), folders)
        for kind in (f"{prefix}-images-idx3", f"{prefix}-labels-idx1")
    )
    return images, target


def create_idx_source(name: str, kind: str) -> Source:
    """Return the source of one file of a public data set; ``kind`` is its name without suffix."""
    path = f"{kind}-ubyte.gz"
    return Source(f"{name}/{path}", DIGESTS[name][kind], f"{_URLS[name]}/{path}")


def _read_idx_sets(
    name: str, files: Mapping[str, tuple[Path, Path]], labels: list[str], image: ImageInput
) -> LoadedImages:
    digest = hashlib.sha256()
    parts = {}
    for part, pair in files.items():
        for path in pair:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        pixels = read_idx(pair[0], IMAGES_AXES)
        target = read_idx(pair[1], axes=1)
        if len(pixels) != len(target):
            raise DataError(f"{pair[0]} has {len(pixels)} images, {pair[1]} {len(target)} labels.")
        parts[part] = _build_set(pixels, target, labels, image, PARTS[part])
    return LoadedImages(name, digest.hexdigest(), parts["training"], None, parts.get("test"), [])


def _build_set(
    pixels: Bytes, target: Bytes, labels: list[str], image: ImageInput, prefix: str
) -> ImageSet:
    if pixels.shape[1:] != (image.height, image.width) or image.channels != 1:
        raise DataError(
            f"The data set's images are {pixels.shape[2]}x{pixels.shape[1]} and grayscale; set "
            f"image.width = {pixels.shape[2]}, image.height = {pixels.shape[1]} and "
            "image.channels = 1."
        )
    highest = int(target.max())
    names = labels or [str(k) for k in range(highest + 1)]
    if highest >= len(names):
        raise DataError(
            f"target.labels: the data set has a class {highest}; give {highest + 1} labels."
        )
    positions = [f"{prefix} {k}" for k in range(len(target))]
    return ImageSet(pixels[..., np.newaxis], target.astype(np.int64), positions, names)


def _find_public_folder(name: str, folders: Folders) -> Path:
    homes = [home / name for home in (folders.data, folders.cache) if home is not None]
    for home in homes:
        if (home / "train").is_dir():
            return home
    searched = " or ".join(map(str, homes))
    raise DataSetNotFound(
        f"The data set {name!r} is not on this machine ({searched}). It is not a single file "
        "to download: training/recipes/cats_dogs.toml has its origin. Put the images there, in "
        "train/cats, train/dogs, validation/cats and validation/dogs, or train on any image "
        "folder with data.folder."
    )


def read_idx(path: Path, axes: int) -> Bytes:
    """Read the array of an idx file of bytes, plain or gzipped, with this number of axes.

    No more is read than the header declares, since a small gzipped file can expand to terabytes.
    Raise `DataError` if it cannot be read, is not such a file, is empty or is too large.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(len(GZIP_SIGNATURE)) == GZIP_SIGNATURE
        with gzip.open(path) if compressed else path.open("rb") as file:
            shape = _read_header(path, file, axes)
            declared = prod(shape)
            content = file.read(declared + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
    if len(content) > declared:
        raise DataError(f"{path} contains more than the {declared:,} bytes its header declares.")
    if len(content) < declared:
        raise DataError(
            f"{path} is incomplete: its header declares {declared:,} bytes, but the file "
            f"contains {len(content):,}."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_header(path: Path, file: BufferedIOBase, axes: int) -> tuple[int, ...]:
    """Return the shape of the array."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0":  # noqa: PLR2004 - the magic number
        raise DataError(f"{path} is not an idx file: it does not start with two zero bytes.")
    kind, found = start[2:]
    if kind != _UNSIGNED_BYTES:
        raise DataError(
            f"{path} has data of type {kind:#04x}; only unsigned bytes (0x08) are supported."
        )
    if found != axes:
        raise DataError(f"{path} has an array of {found} axes instead of {axes}.")
    sizes = file.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise DataError(f"{path} is incomplete: it ends within its header.")
    shape = struct.unpack(f">{axes}I", sizes)
    if not prod(shape):
        raise DataError(f"{path} is empty: its array has the shape {list(shape)}.")
    if prod(shape) > MAX_IN_MEMORY:
        raise DataError(
            f"{path} is too large: its header declares {prod(shape):,} bytes, and the maximum is "
            f"{MAX_IN_MEMORY:,}. Train on a folder with a folder of images for each class."
        )
    return shape


def find_idx_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Find image and label files with MNIST's names in a folder, by set; empty without them."""
    found = {}
    for part, prefix in PARTS.items():
        names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        pair = [path for name in names if (path := _find_either(folder, name)) is not None]
        if len(pair) == len(names):
            found[part] = (pair[0], pair[1])
    return found if "training" in found else {}


def _find_either(folder: Path, name: str) -> Path | None:
    positions = (folder / name, folder / f"{name}.gz")
    return next((position for position in positions if position.is_file()), None)


def _hold_out(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    splitter = Splitter(images.target.astype(np.float64), seed, classes=True)
    retained, held_out = splitter.hold_out(np.arange(len(images)), share)
    return images.subset(retained), images.subset(held_out)
