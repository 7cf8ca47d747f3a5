"""Public data sets: found in a folder or downloaded, and compared with their sha256."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from training.data.sources import GITHUB, SOURCES, Folders, Source, find, load, public_data
from training.errors import DataError
from training.images.sources import DIGESTS, create_idx_source
from training.recipe.table import Data

_CONTENT = b"1,2\n3,4\n"


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Suppress the output."""


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
def test_the_data_folder_has_an_exact_copy_of_each_data_set(name: str, folders: Folders) -> None:
    """A file with the recorded digest is read in its folder."""
    table = load(Data(source=name), folders)

    assert table.frame.height > 0
    assert load(Data.model_validate(public_data(table)), folders).frame.equals(table.frame)


def test_every_download_is_pinned() -> None:
    """GitHub files by a commit, which cannot change, and all files by their sha256."""
    files = [create_idx_source(name, kind) for name, kinds in DIGESTS.items() for kind in kinds]

    for source in [*SOURCES.values(), *files]:
        assert re.fullmatch(r"[0-9a-f]{64}", source.sha256), source
        assert source.url.startswith("https://"), source
        if source.url.startswith(GITHUB):
            commit = source.url.removeprefix(GITHUB).split("/")[3]
            assert re.fullmatch(r"[0-9a-f]{40}", commit), source


def test_a_missing_set_is_downloaded_once(tmp_path: Path) -> None:
    """The second time it is read from the cache."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "published.csv").write_bytes(_CONTENT)
    folders = Folders(None, tmp_path / "cache")

    with _publisher(tmp_path / "site") as url:
        first = find("tiny", _source(url), folders)
    second = find("tiny", _source(url), folders)

    assert first == second
    assert second.read_bytes() == _CONTENT


def test_the_users_own_copy_is_read_in_its_folder(tmp_path: Path) -> None:
    """Nothing is downloaded, and the next run finds a copy in the cache."""
    given = tmp_path / "mine.csv"
    given.write_bytes(_CONTENT)
    source, cache = _source("http://127.0.0.1:1"), tmp_path / "cache"

    assert find("tiny", source, Folders(None, cache, given)) == given
    assert find("tiny", source, Folders(None, cache)).read_bytes() == _CONTENT


def test_a_users_file_with_other_content_is_not_the_data_set(tmp_path: Path) -> None:
    """A file with another digest is ignored, and the data set is downloaded."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "published.csv").write_bytes(_CONTENT)
    given = tmp_path / "other.csv"
    given.write_bytes(b"1,2\n3,5\n")

    with _publisher(tmp_path / "site") as url:
        path = find("tiny", _source(url), Folders(None, tmp_path / "cache", given))

    assert path.read_bytes() == _CONTENT


def test_an_added_header_is_removed(tmp_path: Path) -> None:
    """A first line that the mirror added is removed before the digest is computed."""
    (tmp_path / "published.csv").write_bytes(b"a,b\n" + _CONTENT)

    with _publisher(tmp_path) as url:
        path = find("tiny", _source(url, header=b""), Folders(None, tmp_path / "cache"))

    assert path.read_bytes() == _CONTENT


def test_a_download_that_differs_is_rejected(tmp_path: Path) -> None:
    """A file with another digest is neither returned nor cached."""
    (tmp_path / "published.csv").write_bytes(b"1,2\n3,5\n")

    with _publisher(tmp_path) as url, pytest.raises(DataError, match="its sha256 is"):
        find("tiny", _source(url), Folders(None, tmp_path / "cache"))

    assert not (tmp_path / "cache").exists()


def test_the_error_for_an_unavailable_data_set_says_how_to_get_it(tmp_path: Path) -> None:
    """The message has the URL, the path for a copy, and the setting."""
    source = _source("http://127.0.0.1:1")

    with pytest.raises(DataError, match=r"sets/tiny\.csv.*ONWARD_DATA"):
        find("tiny", source, Folders(tmp_path, tmp_path / "cache"))


def test_the_error_for_an_unknown_data_set_lists_the_known_ones(tmp_path: Path) -> None:
    """A misspelled name of a data set is rejected with all known names."""
    with pytest.raises(DataError, match=r"'admision'; known: admissions, "):
        load(Data(source="admision"), Folders(None, tmp_path))


def test_iris_is_the_copy_of_scikit_learn(tmp_path: Path) -> None:
    """It needs no file, and its target has the names of the species."""
    table = load(Data(source="iris"), Folders(None, tmp_path))

    assert table.frame.height == 150
    assert sorted(table.frame["species"].unique()) == ["setosa", "versicolor", "virginica"]
