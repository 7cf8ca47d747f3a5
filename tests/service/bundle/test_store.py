"""Bundles on disk: atomic writing, verification, and version numbers."""

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.bundle.errors import BundleError
from service.bundle.store import (
    MANIFEST,
    MODEL,
    list_versions,
    open_replacement,
    read_bundle,
    write_bundle,
)
from tests.models import publish_admission, publish_price


def test_a_bundle_is_read_as_it_was_written(models: Path) -> None:
    """Manifest, examples and the model's bytes are the same."""
    folder = publish_admission(models)

    bundle = read_bundle(folder)

    assert bundle.manifest.name == "admission"
    assert bundle.examples.input.shape == [3, 2]
    assert bundle.model == (folder / MODEL).read_bytes()


def test_digests_are_sha256(models: Path) -> None:
    """A bundle can be verified with sha256sum."""
    folder = publish_price(models)

    files = read_bundle(folder).manifest.files

    for name, digest in files.items():
        assert digest.sha256 == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_each_publication_gets_the_next_number(models: Path) -> None:
    """Version 10 follows version 9: versions are sorted as numbers."""
    for _ in range(11):
        publish_price(models)

    assert list_versions(models / "price") == list(range(1, 12))


def test_numbers_of_entries_that_are_not_folders_are_skipped(models: Path) -> None:
    """A file and a circular link are left as they are."""
    model_folder = publish_price(models).parent
    (model_folder / "2").write_text("")
    (model_folder / "7").symlink_to(model_folder / "7")

    assert publish_price(models).name == "8"


def test_concurrent_publications_get_different_numbers(models: Path) -> None:
    """No version is lost or mixed with another."""
    slopes = [float(slope) for slope in range(1, 21)]

    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda slope: publish_price(models, slope=slope), slopes))

    assert sorted(int(folder.name) for folder in folders) == list(range(1, 21))
    for slope, folder in zip(slopes, folders, strict=True):
        assert read_bundle(folder).examples.output.data[0] == slope


def test_a_killed_publisher_leaves_only_complete_bundles(models: Path) -> None:
    """After kill -9 every version passes verification."""
    program = (
        "import sys; from pathlib import Path; from tests.models import publish_price\n"
        "print('go', flush=True)\n"
        "while True: publish_price(Path(sys.argv[1]))\n"
    )
    for delay in (0.0, 0.003, 0.01, 0.02):
        root = Path(__file__).parents[3]
        publisher = subprocess.Popen(
            [sys.executable, "-c", program, str(models)], cwd=root, stdout=subprocess.PIPE
        )
        assert publisher.stdout is not None
        publisher.stdout.readline()
        time.sleep(delay)
        publisher.kill()
        publisher.wait()
        publisher.stdout.close()

    for version in list_versions(models / "price"):
        assert read_bundle(models / "price" / str(version)).manifest.name == "price"
    assert read_bundle(publish_price(models)).manifest.name == "price"


def test_folders_of_a_killed_publisher_are_removed_after_a_day(models: Path) -> None:
    """A recent one remains, since its publisher may be running."""
    model_folder = publish_price(models).parent
    old, new = model_folder / ".unfinished-old", model_folder / ".unfinished-new"
    for folder in (old, new):
        folder.mkdir()
    yesterday = time.time() - 90_000
    os.utime(old, (yesterday, yesterday))

    publish_price(models)

    assert not old.exists()
    assert new.exists()


def test_a_bundle_under_another_models_name_is_rejected(models: Path) -> None:
    """The name in the manifest must be that of the folder."""
    folder = publish_price(models)
    folder.parent.rename(models / "cost")

    with pytest.raises(BundleError, match=r"is of model 'price', but its folder is 'cost'"):
        read_bundle(models / "cost" / "1")


def test_a_manifest_cannot_name_files_outside_its_folder(models: Path) -> None:
    """The path is rejected before the file is read."""
    folder = publish_price(models)
    manifest = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(manifest.replace('"model.onnx"', '"../../model.onnx"'))

    with pytest.raises(BundleError):
        read_bundle(folder)


def test_a_published_folder_can_be_read_by_another_user(models: Path) -> None:
    """In the container, the service runs as another user."""
    folder = publish_price(models)

    assert folder.stat().st_mode & 0o055 == 0o055


def test_a_failed_publication_leaves_nothing(models: Path) -> None:
    """The incomplete folder of a failed publication is removed."""
    manifest = read_bundle(publish_price(models)).manifest

    with pytest.raises(OSError, match="File name too long"):
        write_bundle(models, manifest, {"x" * 300: b""})

    assert sorted(path.name for path in (models / "price").iterdir()) == ["1"]


def test_a_replacement_is_complete_or_absent(tmp_path: Path) -> None:
    """After an error the old file is unchanged, and no other file is left."""
    target = tmp_path / "document.json"
    with open_replacement(target) as file:
        file.write(b"old")

    with pytest.raises(FileNotFoundError), open_replacement(target) as file:
        file.write((tmp_path / "missing").read_bytes())

    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
