"""Files in the format of MNIST."""

import gzip
import struct
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


def test_a_folder_of_idx_files_is_recognized_by_their_names(tmp_path: Path) -> None:
    """The training set is required, the test set is optional."""
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(_PIXELS)))
    assert idx_files(tmp_path) == {}

    (tmp_path / "train-labels-idx1-ubyte").write_bytes(_idx(np.array([0, 1], np.uint8)))

    assert list(idx_files(tmp_path)) == ["training"]
