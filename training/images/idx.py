"""Files in the format of MNIST: a header that says type and shape, then the bytes."""

import gzip
import struct
from math import prod
from pathlib import Path

import numpy as np

from training.errors import DataError
from training.images.dataset import Bytes

_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTES = 8
PARTS = {"training": "train", "test": "t10k"}
"""What MNIST calls them."""


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
