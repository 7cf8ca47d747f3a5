"""The folder as it lies on disk: each thing there is a version, or has a reason not to be."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from service.bundle.policy import HIGHEST_VERSION, POLICY, Alias, Policy
from service.bundle.store import MODEL
from service.engine.repository import ModelFolder, Repository
from tests.models import publish_price


def scanned(models: Path) -> ModelFolder:
    return Repository(models).scan().folders["price"]


@pytest.mark.parametrize("name", ["01", "0", "00", "٣", str(HIGHEST_VERSION + 1), "9" * 200])
def test_a_number_that_no_version_can_have_is_reported(models: Path, name: str) -> None:
    """Leading noughts, other alphabets' digits, and what does not fit into 64 bits."""
    publish_price(models)
    (models / "price" / name).mkdir()

    newest, other = scanned(models).candidates or ()

    assert (newest.version, newest.rejected) == ("1", "")
    assert other.version == name
    assert "not a number as versions are written" in other.rejected or "64 bits" in other.rejected


def test_the_highest_number_is_a_version(models: Path) -> None:
    """It fits into 64 bits with its sign, as clients count."""
    folder = publish_price(models)
    folder.rename(folder.with_name(str(HIGHEST_VERSION)))

    (only,) = scanned(models).candidates or ()

    assert (only.version, only.rejected) == (str(HIGHEST_VERSION), "")


def test_what_is_numbered_and_no_folder_is_reported(models: Path) -> None:
    """A file, a pipe, a link to nowhere, and one that leads in a circle."""
    home = publish_price(models).parent
    (home / "2").write_text("")
    os.mkfifo(home / "3")
    (home / "4").symlink_to(home / "missing")
    (home / "5").symlink_to(home / "5")
    (home / "6").symlink_to(home / "1")

    reasons = {it.version: it.rejected for it in scanned(models).candidates or ()}

    assert reasons == {
        "6": "",
        "1": "",
        "2": "it is a file, not a folder",
        "3": "it is not a folder",
        "4": "it is a link to nowhere",
        "5": f"its folder cannot be read: {os.strerror(errno.ELOOP)}",
    }


def test_a_graph_without_a_manifest_above_a_bundle_is_half_a_bundle(models: Path) -> None:
    """It is not taken for a bare model; below a bundle it is one, which somebody wrapped since."""
    bundle = publish_price(models)
    bundle.rename(bundle.with_name("2"))
    for version in ("1", "3"):
        (bundle.parent / version).mkdir()
        shutil.copy(bundle.with_name("2") / MODEL, bundle.parent / version / MODEL)

    reasons = {it.version: it.rejected for it in scanned(models).candidates or ()}

    assert reasons == {
        "3": "manifest.json is missing, and an earlier version has one",
        "2": "",
        "1": "",
    }


def test_links_that_lead_up_are_followed_once(models: Path) -> None:
    """A model that holds its own folder, and one that holds all of them, end nowhere."""
    home = publish_price(models).parent
    (home / "2").symlink_to(home)
    (home / "3").symlink_to(models)
    (models / "all").symlink_to(models)
    (models / "again").symlink_to(models / "again")

    scan = Repository(models).scan()

    assert scan.folders.keys() == {"again", "price"}
    assert scan.folders["again"].candidates is None
    assert [it.version for it in scan.folders["price"].candidates or ()] == ["3", "2", "1"]
    assert "again: the folder cannot be read" in "".join(scan.problems)


def test_names_that_differ_by_case_are_reported(models: Path) -> None:
    """Both are models; somebody will take one for the other."""
    publish_price(models, "price")
    publish_price(models, "Price")

    scan = Repository(models).scan()

    assert set(scan.folders) == {"price", "Price"}
    assert any("Price and price differ only by case" in problem for problem in scan.problems)


def test_looking_again_finds_the_same(models: Path) -> None:
    """Nothing that was read, or that the clock did, makes a folder look changed."""
    folder = publish_price(models)
    (folder.parent / POLICY).write_text('{"aliases": {"stable": 1}}')
    repository = Repository(models)

    before = repository.scan()
    (folder / MODEL).read_bytes()

    assert repository.scan() == before


@pytest.mark.parametrize("clock", [0, 1, 2**33])
def test_a_change_is_seen_whichever_way_the_clock_was_moved(models: Path, clock: int) -> None:
    """A file of the same size, dated to 1970 or to the next century, is another file."""
    folder = publish_price(models)
    repository = Repository(models)
    before = repository.scan().folders["price"]

    (folder / MODEL).write_bytes(bytes((folder / MODEL).stat().st_size))
    os.utime(folder / MODEL, (clock, clock))

    assert repository.scan().folders["price"] != before


def test_a_file_that_was_made_readable_is_seen(models: Path) -> None:
    """Its content and times are as they were; its mode is not."""
    folder = publish_price(models)
    (folder / MODEL).chmod(0)
    repository = Repository(models)
    before = repository.scan().folders["price"]

    (folder / MODEL).chmod(0o644)

    assert repository.scan().folders["price"] != before


def test_a_policy_is_read_again_when_it_changes_and_forgotten_when_it_goes(models: Path) -> None:
    """Written, wrong, mended, removed."""
    home = publish_price(models).parent
    repository = Repository(models)
    seen = []
    for text in ('{"aliases": {"stable": 1}}', "{", '{"versions": "all"}'):
        (home / POLICY).write_text(text)
        seen.append(repository.scan().folders["price"])
    (home / POLICY).unlink()
    seen.append(repository.scan().folders["price"])

    assert [found.policy for found in seen] == [
        Policy(aliases={"stable": Alias(version=1)}),
        None,
        Policy(versions="all"),
        Policy(),
    ]
    assert seen[1].problem.startswith("policy.json is not valid")


def test_tritons_policy_holds_where_there_is_no_other(models: Path) -> None:
    """Aliases are ours alone, so a file with only them leaves the versions to Triton's."""
    home = publish_price(models).parent
    (home / "config.pbtxt").write_text("version_policy: { all { } }")
    repository = Repository(models)
    seen = [repository.scan().folders["price"].policy]
    for text in ('{"aliases": {"stable": 1}}', '{"versions": "latest"}'):
        (home / POLICY).write_text(text)
        seen.append(repository.scan().folders["price"].policy)

    assert [policy and policy.versions for policy in seen] == ["all", "all", "latest"]


def test_a_folder_that_vanishes_between_two_steps_is_no_end(models: Path) -> None:
    """What was there a moment ago is not there, and the others are."""
    publish_price(models, "price")
    gone = publish_price(models, "gone").parent
    repository = Repository(models)
    repository.scan()
    shutil.rmtree(gone)

    assert list(repository.scan().folders) == ["price"]
