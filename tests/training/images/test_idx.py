"""Files in the format of MNIST."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from training.errors import DataError
from training.images.sources import idx_files, read_idx

_PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def _idx(array: np.typing.NDArray[np.uint8]) -> bytes:
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_file_is_read(tmp_path: Path, *, packed: bool) -> None:
    """The shape and bytes of a file are read, gzipped or not."""
    path = tmp_path / "some-images"
    path.write_bytes(gzip.compress(_idx(_PIXELS)) if packed else _idx(_PIXELS))

    assert np.array_equal(read_idx(path), _PIXELS)


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
        read_idx(path)

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
    header = bytes([0, 0, 8, 1]) + struct.pack(">I", declared)
    path.write_bytes(gzip.compress(header + bytes(64_000_000), compresslevel=1))

    tracemalloc.start()
    with pytest.raises(DataError, match=sentence):
        read_idx(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1_000_000


def test_a_folder_of_idx_files_is_recognized_by_their_names(tmp_path: Path) -> None:
    """The training set is required, the test set is optional."""
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(_PIXELS)))
    assert idx_files(tmp_path) == {}

    (tmp_path / "train-labels-idx1-ubyte").write_bytes(_idx(np.array([0, 1], np.uint8)))

    assert list(idx_files(tmp_path)) == ["training"]
