"""Files of a models folder must be regular, small enough, and inside their folder."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from service.bundle.errors import BundleError
from service.bundle.store import path_inside, read_file, read_optional


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def circular(path: Path) -> None:
    path.symlink_to(path.name)


def long_target(path: Path) -> None:
    path.symlink_to("x" * 300)


def through_a_file(path: Path) -> None:
    path.with_name("file").write_text("")
    path.symlink_to("file/content")


def sparse(path: Path) -> None:
    path.write_bytes(b"{}")
    os.truncate(path, 100 * 10**9)


IRREGULAR: list[tuple[Callable[[Path], None], str]] = [
    (fifo, "is not a regular file"),
    (unix_socket, "is not a regular file"),
    (zeros, "is not a regular file"),
    (folder, "is not a regular file"),
    (dangling, "is a broken symbolic link"),
    (circular, "cannot be read: Too many levels of symbolic links"),
    (long_target, "cannot be read: File name too long"),
    (through_a_file, "cannot be read: Not a directory"),
    (sparse, "has 100,000,000,000 bytes, and at most"),
]


@pytest.mark.parametrize(
    ("make", "reason"), IRREGULAR, ids=lambda part: getattr(part, "__name__", "")
)
def test_anything_but_a_readable_regular_file_is_an_error(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    """Pipes, devices and large files are rejected before they are read."""
    path = tmp_path / "policy.json"
    make(path)

    for read in (read_file, read_optional):
        with pytest.raises(BundleError, match=rf"policy\.json {reason}"):
            read(path)


def test_a_link_to_a_regular_file_is_read(tmp_path: Path) -> None:
    """A mounted ConfigMap consists of such links."""
    (tmp_path / "data").write_bytes(b"{}")
    (tmp_path / "policy.json").symlink_to(tmp_path / "data")

    assert read_file(tmp_path / "policy.json") == b"{}"


def test_a_missing_file_is_none_if_it_is_optional(tmp_path: Path) -> None:
    """Otherwise a missing file is an error."""
    assert read_optional(tmp_path / "policy.json") is None
    with pytest.raises(BundleError, match=r"policy\.json is missing"):
        read_file(tmp_path / "policy.json")


@pytest.mark.parametrize("name", ["weights.bin", "parts/weights.bin", "parts/../weights.bin", "in"])
def test_a_name_inside_the_folder_is_accepted(tmp_path: Path, name: str) -> None:
    """Links inside the folder are accepted too."""
    folder = tmp_path / "1"
    (folder / "parts").mkdir(parents=True)
    (folder / "in").symlink_to("parts/weights.bin")

    (folder / "parts" / "weights.bin").write_bytes(b"1")
    (folder / "weights.bin").write_bytes(b"1")

    assert read_file(path_inside(folder, name)) == b"1"


@pytest.mark.parametrize(
    "name",
    [
        "../weights.bin",
        "parts/../../weights.bin",
        "../1/weights.bin",
        "/etc/hosts",
        "out",
        "through/weights.bin",
        "chain",
        "nul\0byte",
    ],
)
def test_a_name_that_leads_out_of_the_folder_is_an_error(tmp_path: Path, name: str) -> None:
    """It may lead out by `..`, an absolute path, or a link, and even return to the folder."""
    folder = tmp_path / "1"
    folder.mkdir()
    (folder / "out").symlink_to("/etc/hosts")
    (folder / "through").symlink_to(tmp_path)
    (folder / "chain").symlink_to("out")

    with pytest.raises(BundleError, match=r"is outside|cannot be read"):
        path_inside(folder, name)
