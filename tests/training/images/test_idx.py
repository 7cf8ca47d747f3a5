"""Files in the format of MNIST."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from service.bundle.manifest import ImageInput
from service.imaging.preprocess import DECODER
from training.data.sources import Folders
from training.errors import DataError
from training.images.sources import find_idx_files, load_images, read_idx
from training.recipe.image import ImageData

_PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def _idx(array: np.typing.NDArray[np.uint8]) -> bytes:
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_file_is_read(tmp_path: Path, *, packed: bool) -> None:
    """The shape and bytes of a file are read, gzipped or not."""
    path = tmp_path / "some-images"
    path.write_bytes(gzip.compress(_idx(_PIXELS)) if packed else _idx(_PIXELS))

    assert np.array_equal(read_idx(path, axes=3), _PIXELS)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not an idx file"),
        (b"\x89PNG", "not an idx file"),
        (_idx(_PIXELS)[:-1], "header declares 24 bytes, but the file contains 23"),
        (_idx(_PIXELS) + b"\0", "more than the 24 bytes its header declares"),
        (b"\0\0\x0d\x01" + struct.pack(">I", 1) + b"\0" * 4, "type 0x0d"),
        (_idx(_PIXELS)[:7], "ends within its header"),
        (gzip.compress(_idx(_PIXELS))[:20], "cannot be read"),
        (gzip.compress(_idx(_PIXELS))[:10] + b"\xff" * 20, "cannot be read"),
    ],
)
def test_an_invalid_idx_file_is_rejected(tmp_path: Path, content: bytes, sentence: str) -> None:
    """The message has the file and the reason."""
    path = tmp_path / "broken-images"
    path.write_bytes(content)

    with pytest.raises(DataError, match=sentence) as rejection:
        read_idx(path, axes=3)

    assert "broken-images" in str(rejection.value)


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        (16, "contains more than the 16 bytes its header declares"),
        (4_000_000_000, "too large: its header declares 4,000,000,000 bytes"),
    ],
)
def test_a_decompression_bomb_is_rejected(tmp_path: Path, declared: int, sentence: str) -> None:
    """A small file that expands to 64 MB is not decompressed beyond what its header declares."""
    path = tmp_path / "bomb.gz"
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", declared, 1, 1)
    path.write_bytes(gzip.compress(header + bytes(64_000_000), compresslevel=1))

    tracemalloc.start()
    with pytest.raises(DataError, match=sentence):
        read_idx(path, axes=3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1_000_000


def test_a_folder_of_idx_files_is_recognized_by_their_names(tmp_path: Path) -> None:
    """The training set is required, the test set is optional."""
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(_PIXELS)))
    assert find_idx_files(tmp_path) == {}

    (tmp_path / "train-labels-idx1-ubyte").write_bytes(_idx(np.array([0, 1], np.uint8)))

    assert list(find_idx_files(tmp_path)) == ["training"]


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (_PIXELS[0], [0, 1], "train-images-idx3-ubyte has an array of 2 axes instead of 3"),
        (_PIXELS[:0], [], r"train-images-idx3-ubyte is empty: .* \[0, 3, 4\]"),
        (_PIXELS, [[0, 1]], "train-labels-idx1-ubyte has an array of 2 axes instead of 1"),
        (_PIXELS, [0], "has 2 images, .* 1 labels"),
    ],
)
def test_images_without_a_label_each_are_rejected(
    tmp_path: Path, images: np.typing.NDArray[np.uint8], labels: list[object], sentence: str
) -> None:
    """The message has the file and what is wrong with its array."""
    (tmp_path / "train-images-idx3-ubyte").write_bytes(_idx(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(_idx(np.array(labels, np.uint8)))
    image = ImageInput(kind="image", height=3, width=4, channels=1, fit="crop", decoder=DECODER)

    with pytest.raises(DataError, match=sentence):
        load_images(ImageData(folder=str(tmp_path)), [], image, Folders(None, tmp_path))
