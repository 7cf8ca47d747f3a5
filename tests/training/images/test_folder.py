"""Folders of photographs."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from service.imaging.preprocess import read_image
from tests.images import encoded, image_input, photograph, turned
from training.errors import DataError
from training.images.folder import MIN_IMAGES, read_folder

_RULE = image_input(8, 8, fit="crop")


def _fill(home: Path, count: int = MIN_IMAGES, seed: int = 0) -> None:
    home.mkdir(parents=True)
    for k in range(count):
        (home / f"{k:02}.png").write_bytes(encoded(photograph(10, 14, seed + k)))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes of ten images each."""
    _fill(tmp_path / "pets" / "cat")
    _fill(tmp_path / "pets" / "dog", seed=100)
    return tmp_path / "pets"


def test_each_folder_is_a_class_and_each_file_an_image(pets: Path) -> None:
    """Pixels are those of the service, in the order of the names."""
    parts = read_folder(pets, [], _RULE)

    expected = [read_image(path.read_bytes(), _RULE) for path in sorted(pets.rglob("*.png"))]
    assert parts.training.labels == ["cat", "dog"]
    assert parts.training.target.tolist() == [0] * MIN_IMAGES + [1] * MIN_IMAGES
    assert np.array_equal(parts.training.pixels(slice(None)), np.stack(expected))
    assert parts.skipped == []


def test_files_that_are_not_images_are_skipped_with_a_reason(pets: Path) -> None:
    """A broken file, a text and a duplicate are listed; system files are ignored."""
    whole = encoded(photograph(60, 80), "JPEG")
    (pets / "cat" / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (pets / "dog" / "notes.txt").write_text("walk at five")
    shutil.copy(pets / "dog" / "00.png", pets / "dog" / "same.png")
    (pets / "readme.md").write_text("my pets")
    (pets / ".DS_Store").write_bytes(b"")
    (pets / "dog" / "Thumbs.db").write_bytes(b"")

    parts = read_folder(pets, [], _RULE)

    reasons = {one.file: one.reason for one in parts.skipped}
    assert set(reasons) == {"cat/broken.jpg", "dog/notes.txt", "dog/same.png", "readme.md"}
    assert reasons["dog/same.png"] == "the same file as dog/00.png"
    assert len(parts.training) == 2 * MIN_IMAGES


def test_a_rotated_photograph_is_turned_upright(pets: Path) -> None:
    """The EXIF orientation of a photograph is applied."""
    upright = photograph(10, 14, 5)
    lying = np.rot90(upright).copy()  # rotated to the left by 90 degrees
    (pets / "cat" / "held.png").write_bytes(encoded(lying, exif=turned(6)))

    parts = read_folder(pets, [], _RULE)

    row = list(parts.training.names).index("cat/held.png")
    seen = parts.training.pixels(np.array([row]))[0]
    assert np.array_equal(seen, read_image(encoded(upright), _RULE))


def test_a_folder_next_to_train_is_the_test_set(tmp_path: Path) -> None:
    """A single validation/ is the test set; with both, each has its own name."""
    for part, seed in (("train", 0), ("validation", 1000)):
        for k, label in enumerate(("cat", "dog")):
            _fill(tmp_path / part / label, seed=seed + 100 * k)

    parts = read_folder(tmp_path, [], _RULE)
    assert parts.validation is None
    assert parts.test is not None
    assert parts.test.names[0] == "validation/cat/00.png"

    for k, label in enumerate(("cat", "dog")):
        _fill(tmp_path / "test" / label, seed=2000 + 100 * k)
    parts = read_folder(tmp_path, [], _RULE)
    assert parts.validation is not None
    assert parts.test is not None
    assert parts.test.names[0] == "test/cat/00.png"


def test_an_image_of_the_test_set_is_not_trained_on(tmp_path: Path) -> None:
    """A file in both sets is only used in the test set."""
    for k, label in enumerate(("cat", "dog")):
        _fill(tmp_path / "train" / label, MIN_IMAGES + 1, seed=100 * k)
        _fill(tmp_path / "test" / label, seed=2000 + 100 * k)
    shutil.copy(tmp_path / "train" / "cat" / "03.png", tmp_path / "test" / "cat" / "leak.png")

    parts = read_folder(tmp_path, [], _RULE)

    assert "train/cat/03.png" not in parts.training.names
    assert parts.skipped[0].reason == "the same file as test/cat/leak.png"


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ({}, "has no class folders. Put the images of each class into a folder"),
        ({"cat": MIN_IMAGES}, "has only one class, 'cat'"),
        ({"cat": 2, "dog": 1}, "too few images to train on: cat has 2, dog has 1"),
        ({"cat": MIN_IMAGES, "dog": 0}, "too few images to train on: dog has 0"),
    ],
)
def test_a_folder_with_too_few_images_is_rejected(
    tmp_path: Path, classes: dict[str, int], sentence: str
) -> None:
    """The message states what is missing."""
    home = tmp_path / "images"
    home.mkdir()
    for k, (label, count) in enumerate(classes.items()):
        _fill(home / label, count, seed=100 * k)

    with pytest.raises(DataError, match=sentence):
        read_folder(home, [], _RULE)


def test_the_digest_depends_on_files_and_their_paths(pets: Path) -> None:
    """The same images have the same digest; a changed or moved image changes it."""
    first = read_folder(pets, [], _RULE).sha256
    again = read_folder(pets, [], _RULE).sha256

    (pets / "cat" / "00.png").rename(pets / "cat" / "moved.png")

    assert first == again
    assert read_folder(pets, [], _RULE).sha256 != first
