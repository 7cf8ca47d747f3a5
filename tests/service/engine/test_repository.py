"""Each numbered entry on disk is a version, or is listed with the reason why not."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from service.bundle.policy import HIGHEST_VERSION, POLICY, Alias, Policy
from service.bundle.store import MODEL
from service.engine.repository import ModelFolder, Repository
from tests.models import publish_price


def scan(models: Path) -> ModelFolder:
    return Repository(models).scan().folders["price"]


@pytest.mark.parametrize("name", ["01", "0", "00", "٣", str(HIGHEST_VERSION + 1), "9" * 200])
def test_an_invalid_version_number_is_reported(models: Path, name: str) -> None:
    """Leading zeros, digits of other alphabets, and numbers above 64 bits."""
    publish_price(models)
    (models / "price" / name).mkdir()

    newest, other = scan(models).candidates or ()

    assert (newest.version, newest.rejected) == ("1", "")
    assert other.version == name
    assert "not a number as versions are written" in other.rejected or "64 bits" in other.rejected


def test_the_highest_number_is_a_version(models: Path) -> None:
    """It fits into a signed 64-bit integer."""
    folder = publish_price(models)
    folder.rename(folder.with_name(str(HIGHEST_VERSION)))

    (only,) = scan(models).candidates or ()

    assert (only.version, only.rejected) == (str(HIGHEST_VERSION), "")


def test_a_numbered_entry_that_is_not_a_folder_is_reported(models: Path) -> None:
    """A file, a pipe, a broken link, and a circular link."""
    model_folder = publish_price(models).parent
    (model_folder / "2").write_text("")
    os.mkfifo(model_folder / "3")
    (model_folder / "4").symlink_to(model_folder / "missing")
    (model_folder / "5").symlink_to(model_folder / "5")
    (model_folder / "6").symlink_to(model_folder / "1")

    reasons = {it.version: it.rejected for it in scan(models).candidates or ()}

    assert reasons == {
        "6": "",
        "1": "",
        "2": "it is a file, not a folder",
        "3": "it is not a folder",
        "4": "it is a broken symbolic link",
        "5": f"its folder cannot be read: {os.strerror(errno.ELOOP)}",
    }


def test_a_graph_without_a_manifest_above_a_bundle_is_incomplete(models: Path) -> None:
    """It is not a bare model; below a bundle it is one, which became a bundle later."""
    bundle = publish_price(models)
    bundle.rename(bundle.with_name("2"))
    for version in ("1", "3"):
        (bundle.parent / version).mkdir()
        shutil.copy(bundle.with_name("2") / MODEL, bundle.parent / version / MODEL)

    reasons = {it.version: it.rejected for it in scan(models).candidates or ()}

    assert reasons == {
        "3": "manifest.json is missing, and an earlier version has one",
        "2": "",
        "1": "",
    }


def test_links_to_a_parent_folder_are_followed_once(models: Path) -> None:
    """A model that contains itself, or all models, does not cause an endless scan."""
    model_folder = publish_price(models).parent
    (model_folder / "2").symlink_to(model_folder)
    (model_folder / "3").symlink_to(models)
    (models / "all").symlink_to(models)
    (models / "again").symlink_to(models / "again")

    scan = Repository(models).scan()

    assert scan.folders.keys() == {"again", "price"}
    assert scan.folders["again"].candidates is None
    assert [it.version for it in scan.folders["price"].candidates or ()] == ["3", "2", "1"]
    assert "again: the folder cannot be read" in "".join(scan.problems)


def test_folders_without_a_version_are_reported(models: Path) -> None:
    """The message says where the graph belongs; hidden and system folders are not reported."""
    publish_price(models)
    for name in ("empty", "noversion", ".hidden", "lost+found"):
        (models / name).mkdir()
    (models / "noversion" / MODEL).write_bytes(b"graph")

    scan = Repository(models).scan()

    assert set(scan.folders) == {"price"}
    assert scan.problems == {
        "empty: the folder has no version; put a model at empty/1/model.onnx",
        "noversion: move model.onnx to noversion/1/model.onnx",
    }


def test_names_that_differ_by_case_are_reported(models: Path) -> None:
    """Both are served, although clients may confuse them."""
    publish_price(models, "price")
    publish_price(models, "Price")

    scan = Repository(models).scan()

    assert set(scan.folders) == {"price", "Price"}
    assert any("Price and price differ only by case" in problem for problem in scan.problems)


def test_scans_of_unchanged_files_are_equal(models: Path) -> None:
    """Neither reading the files nor changing the clock matters."""
    folder = publish_price(models)
    (folder.parent / POLICY).write_text('{"aliases": {"stable": 1}}')
    repository = Repository(models)

    before = repository.scan()
    (folder / MODEL).read_bytes()

    assert repository.scan() == before


@pytest.mark.parametrize("clock", [0, 1, 2**33])
def test_a_change_is_detected_whatever_the_clock(models: Path, clock: int) -> None:
    """A file of the same size with a date in 1970 or in the next century is another file."""
    folder = publish_price(models)
    repository = Repository(models)
    before = repository.scan().folders["price"]

    (folder / MODEL).write_bytes(bytes((folder / MODEL).stat().st_size))
    os.utime(folder / MODEL, (clock, clock))

    assert repository.scan().folders["price"] != before


def test_a_file_that_becomes_readable_is_detected(models: Path) -> None:
    """Content and times are unchanged, but the mode is not."""
    folder = publish_price(models)
    (folder / MODEL).chmod(0)
    repository = Repository(models)
    before = repository.scan().folders["price"]

    (folder / MODEL).chmod(0o644)

    assert repository.scan().folders["price"] != before


def test_a_policy_is_read_again_when_it_changes(models: Path) -> None:
    """A scan notices a policy that is written, invalid, fixed or removed."""
    model_folder = publish_price(models).parent
    repository = Repository(models)
    seen = []
    for text in ('{"aliases": {"stable": 1}}', "{", '{"versions": "all"}'):
        (model_folder / POLICY).write_text(text)
        seen.append(repository.scan().folders["price"])
    (model_folder / POLICY).unlink()
    seen.append(repository.scan().folders["price"])

    assert [found.policy for found in seen] == [
        Policy(aliases={"stable": Alias(version=1)}),
        None,
        Policy(versions="all"),
        Policy(),
    ]
    assert seen[1].problem.startswith("policy.json is not valid")


def test_the_policy_of_triton_applies_if_there_is_no_other(models: Path) -> None:
    """A policy file with only aliases leaves the versions to config.pbtxt."""
    model_folder = publish_price(models).parent
    (model_folder / "config.pbtxt").write_text("version_policy: { all { } }")
    repository = Repository(models)
    seen = [repository.scan().folders["price"].policy]
    for text in ('{"aliases": {"stable": 1}}', '{"versions": "latest"}'):
        (model_folder / POLICY).write_text(text)
        seen.append(repository.scan().folders["price"].policy)

    assert [policy and policy.versions for policy in seen] == ["all", "all", "latest"]


def test_a_folder_may_be_removed_during_a_scan(models: Path) -> None:
    """The scan finds the other folders."""
    publish_price(models, "price")
    removed = publish_price(models, "gone").parent
    repository = Repository(models)
    repository.scan()
    shutil.rmtree(removed)

    assert list(repository.scan().folders) == ["price"]
