"""Public data sets: from a folder, from their publisher, checked to the bit, or explained."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from training.data.sources import SOURCES, Folders, Source, find, load, public_data
from training.errors import DataError
from training.recipe.table import Data

_CONTENT = b"1,2\n3,4\n"


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def _publisher(folder: Path) -> Iterator[str]:
    def handler(*arguments: object) -> _Silent:
        return _Silent(*arguments, directory=str(folder))  # type: ignore[arg-type]

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _source(url: str, header: bytes | None = None) -> Source:
    digest = hashlib.sha256(_CONTENT).hexdigest()
    return Source("sets/tiny.csv", digest, f"{url}/published.csv", header)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_data_folder_holds_each_set_to_the_bit(name: str, folders: Folders) -> None:
    """A file with the recorded digest is read where it lies."""
    table = load(Data(source=name), folders)

    assert table.frame.height > 0
    assert load(Data.model_validate(public_data(table)), folders).frame.equals(table.frame)


def test_a_missing_set_is_downloaded_once(tmp_path: Path) -> None:
    """The second time it comes from the cache."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "published.csv").write_bytes(_CONTENT)
    folders = Folders(None, tmp_path / "cache")

    with _publisher(tmp_path / "site") as url:
        first = find("tiny", _source(url), folders)
    second = find("tiny", _source(url), folders)

    assert first == second
    assert second.read_bytes() == _CONTENT


def test_a_file_that_the_user_gives_is_read_where_it_lies(tmp_path: Path) -> None:
    """No publisher is asked; the next run finds a copy in the cache."""
    given = tmp_path / "mine.csv"
    given.write_bytes(_CONTENT)
    source, cache = _source("http://127.0.0.1:1"), tmp_path / "cache"

    assert find("tiny", source, Folders(None, cache, given)) == given
    assert find("tiny", source, Folders(None, cache)).read_bytes() == _CONTENT


def test_a_given_file_of_other_content_is_not_the_set(tmp_path: Path) -> None:
    """What is not the set to the bit is passed by."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "published.csv").write_bytes(_CONTENT)
    given = tmp_path / "other.csv"
    given.write_bytes(b"1,2\n3,5\n")

    with _publisher(tmp_path / "site") as url:
        path = find("tiny", _source(url), Folders(None, tmp_path / "cache", given))

    assert path.read_bytes() == _CONTENT


def test_a_publishers_other_header_is_set_right(tmp_path: Path) -> None:
    """A first line that the publisher added is left out before the digest is taken."""
    (tmp_path / "published.csv").write_bytes(b"a,b\n" + _CONTENT)

    with _publisher(tmp_path) as url:
        path = find("tiny", _source(url, header=b""), Folders(None, tmp_path / "cache"))

    assert path.read_bytes() == _CONTENT


def test_a_download_that_differs_is_rejected(tmp_path: Path) -> None:
    """Nothing with another digest is trained on or kept."""
    (tmp_path / "published.csv").write_bytes(b"1,2\n3,5\n")

    with _publisher(tmp_path) as url, pytest.raises(DataError, match="its sha256 is"):
        find("tiny", _source(url), Folders(None, tmp_path / "cache"))

    assert not (tmp_path / "cache").exists()


def test_a_set_that_cannot_be_had_says_how_to_get_it(tmp_path: Path) -> None:
    """The sentence names the address, the place to put a copy, and the setting."""
    source = _source("http://127.0.0.1:1")

    with pytest.raises(DataError, match=r"sets/tiny\.csv.*ONWARD_DATA"):
        find("tiny", source, Folders(tmp_path, tmp_path / "cache"))


def test_an_unknown_set_names_the_known(tmp_path: Path) -> None:
    """A misspelt source is rejected with the list."""
    with pytest.raises(DataError, match=r"'admision'; known: admissions, "):
        load(Data(source="admision"), Folders(None, tmp_path))


def test_iris_is_scikit_learns(tmp_path: Path) -> None:
    """It needs no file and has its species by name."""
    table = load(Data(source="iris"), Folders(None, tmp_path))

    assert table.frame.height == 150
    assert sorted(table.frame["species"].unique()) == ["setosa", "versicolor", "virginica"]
