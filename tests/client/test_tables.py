"""Tables of any length: from file to file, from iterables, and in every format."""

import csv
import gzip
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import orjson
import pytest

from service.client import (
    InvalidData,
    InvalidRequest,
    ModelNotFound,
    ServiceError,
    ServiceUnreachable,
)
from tests.client.conftest import AnyClient, BlockingClient, Connect
from tests.client.scripted import Prepared, scripted
from tests.conftest import ShippedClient

TABLE = b"name,exam_1,exam_2\nAda,45,85\nBob,sixty,60\nEve,60,60\n"
ROWS = [{"exam_1": 45, "exam_2": 85}, {"exam_1": float("nan"), "exam_2": 60}, [60, 60]]


def plain(
    client: ShippedClient, table: bytes = TABLE, kind: str = "text/csv", **query: str
) -> bytes:
    """The response of plain HTTP to a table."""
    return client.post(
        "/models/admission/predict", content=table, headers={"content-type": kind}, params=query
    ).content


def test_a_file_is_scored_into_a_file(
    onward: AnyClient, shipped_client: ShippedClient, tmp_path: Path
) -> None:
    """The new file is the response of plain HTTP, also if it replaces the table."""
    path = tmp_path / "table.csv"
    path.write_bytes(TABLE)
    expected = plain(shipped_client)

    scored = onward.score("admission", path, str(tmp_path / "scored.csv"))
    onward.score("admission", str(path), path)

    assert (tmp_path / "scored.csv").read_bytes() == path.read_bytes() == expected
    assert (scored.bytes, scored.model_version) == (len(expected), "1")
    assert len([*tmp_path.iterdir()]) == 2


def test_every_source_gives_the_same_response(
    onward: AnyClient, shipped_client: ShippedClient, tmp_path: Path
) -> None:
    """Bytes, an open file, pieces, lines of text, and a file that is compressed."""
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(TABLE))
    lines = TABLE.decode().splitlines(keepends=True)

    for source in (TABLE, io.BytesIO(TABLE), [TABLE[:20], TABLE[20:]], lines, iter(lines), path):
        options = {"format": "csv"} if isinstance(source, io.BytesIO) else {}
        target = io.BytesIO()
        onward.score("admission", source, target, **options)
        assert target.getvalue() == plain(shipped_client)


def test_rows_are_sent_as_lines_of_json(onward: AnyClient, shipped_client: ShippedClient) -> None:
    """Objects or arrays; a missing value is null, and its row gets an error."""
    lines = b'{"exam_1":45,"exam_2":85}\n{"exam_1":null,"exam_2":60}\n[60,60]\n'

    response = b"".join(onward.stream("admission", (row for row in ROWS)))

    assert response == plain(shipped_client, lines, "application/x-ndjson")
    first, second, third = map(orjson.loads, response.splitlines())
    assert (first["label"], third["label"]) == ("admitted", "not admitted")
    assert "feature 'exam_1'" in second["error"]


def test_the_end_of_the_target_selects_its_format(onward: AnyClient, tmp_path: Path) -> None:
    """CSV as lines of JSON, as one document, and the reverse."""
    for name in ("scored.ndjson", "scored.json"):
        onward.score("admission", TABLE, tmp_path / name)
    lines = (tmp_path / "scored.ndjson").read_bytes()
    onward.score("admission", ROWS[::2], tmp_path / "scored.csv")

    predictions = orjson.loads((tmp_path / "scored.json").read_bytes())["predictions"]
    assert predictions == [orjson.loads(line) for line in lines.splitlines()]
    table = csv.DictReader(io.StringIO((tmp_path / "scored.csv").read_text()))
    assert [row["label"] for row in table] == ["admitted", "not admitted"]


def test_the_options_of_tables_are_sent(onward: AnyClient, shipped_client: ShippedClient) -> None:
    """Those of predictions, and the decimal mark."""
    table = b"exam_1;exam_2\n45,5;85\n"

    response = b"".join(onward.stream("admission", table, decimal="comma", probabilities=False))

    assert response == plain(shipped_client, table, decimal="comma", probabilities="none")


class CountedPiece(bytes):
    """A piece of a table that counts how many pieces exist at the same time."""

    alive = most = 0

    def __new__(cls, content: bytes) -> Self:
        cls.alive += 1
        cls.most = max(cls.most, cls.alive)
        return super().__new__(cls, content)

    def __del__(self) -> None:
        CountedPiece.alive -= 1


def test_a_large_table_takes_little_memory(onward: AnyClient) -> None:
    """Few pieces of it exist at the same time, and the response arrives in many."""
    rows, pieces = 200, 400
    CountedPiece.alive = CountedPiece.most = 0

    def table() -> Iterator[bytes]:
        yield CountedPiece(b"temperature\n")
        for _ in range(pieces):
            yield CountedPiece(b"12.5\n" * rows)

    received = lines = largest = 0
    for piece in onward.stream("ice_cream", table()):
        received += 1
        lines += piece.count(b"\n")
        largest = max(largest, len(piece))

    assert lines == rows * pieces + 1
    assert CountedPiece.most <= 8
    assert received > 10
    assert largest <= 1 << 20


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("table.csv", "text/csv"),
        ("TABLE.TSV", "text/csv"),
        ("table.ndjson", "application/x-ndjson"),
        ("table.jsonl", "application/x-ndjson"),
        ("table.parquet", "application/vnd.apache.parquet"),
        ("table.arrow", "application/vnd.apache.arrow.file"),
        ("table.feather", "application/vnd.apache.arrow.file"),
        ("table.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("table.xls", "application/vnd.ms-excel"),
        ("table.ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ],
)
def test_a_file_is_sent_as_it_is_with_its_type(
    connect: Connect, tmp_path: Path, name: str, content_type: str
) -> None:
    """By its path or opened; the response has the type of the target."""
    path = tmp_path / name
    path.write_bytes(b"PAR1" * 100_000)
    with scripted([Prepared(200, b"scored", {"x-model-version": "3"})]) as server:
        client = connect(server.url)
        scored = client.score("line", path, tmp_path / "scored.ndjson")
        with path.open("rb") as opened:
            b"".join(client.stream("line", opened))

    first, second = server.received
    assert first.body == second.body == path.read_bytes()
    assert first.headers["content-type"] == second.headers["content-type"] == content_type
    assert first.headers["accept"] == "application/x-ndjson"
    is_lines = content_type == "application/x-ndjson"
    assert second.headers["accept"] == ("application/x-ndjson" if is_lines else "text/csv")
    assert scored.model_version == "3"


def test_an_error_leaves_the_target_as_it_was(onward: AnyClient, tmp_path: Path) -> None:
    """The table is rejected as a whole, or there is no such model."""
    target = tmp_path / "scored.csv"
    target.write_bytes(b"before")

    with pytest.raises(InvalidRequest, match="Line 1 has no column 'exam_1'"):
        onward.score("admission", b"exam_2\n1\n", target)
    with pytest.raises(ModelNotFound):
        list(onward.stream("admision", TABLE))

    assert target.read_bytes() == b"before"
    assert [*tmp_path.iterdir()] == [target]


def test_the_page_of_a_proxy_is_no_table(connect: Connect, tmp_path: Path) -> None:
    """It is not written, although its status is a success."""
    page = Prepared(200, b"<title>Log in</title>", {"content-type": "text/html"})
    with scripted([page]) as server, pytest.raises(ServiceError, match='"Log in"'):
        connect(server.url).score("line", b"x\n1\n", tmp_path / "scored.csv")

    assert [*tmp_path.iterdir()] == []


def test_a_target_is_an_ordinary_new_file(onward: AnyClient, tmp_path: Path) -> None:
    """It has the usual permissions; a link leads to it, and a device is not replaced."""
    usual, target = tmp_path / "usual", tmp_path / "scored.csv"
    usual.touch()
    (tmp_path / "link.csv").symlink_to(target)

    onward.score("admission", TABLE, tmp_path / "link.csv")
    onward.score("admission", TABLE, "/dev/null")

    assert target.stat().st_mode == usual.stat().st_mode
    assert (tmp_path / "link.csv").is_symlink()
    assert Path("/dev/null").is_char_device()


def test_a_connection_that_breaks_is_reported(connect: Connect, tmp_path: Path) -> None:
    """A response without its end is no scored table."""
    with (
        scripted(
            [Prepared(200, b"half", {"content-length": "100", "connection": "close"})]
        ) as server,
        pytest.raises(ServiceUnreachable, match=r"The connection to .* broke"),
    ):
        connect(server.url).score("line", b"x\n1\n", tmp_path / "scored.csv")

    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        (
            "table.pdf",
            {},
            "The format of the table 'table.pdf' is unknown; pass format=, one of csv",
        ),
        (b"x\n1\n", {"format": "xl"}, "The format 'xl' is unknown; use one of csv, ndjson"),
        ({"x": 1}, {}, "A value of type dict is not a table that can be streamed"),
        (3, {}, "A value of type int is not a table that can be streamed"),
    ],
)
def test_what_is_no_table_is_explained(
    onward: AnyClient, source: object, options: dict[str, Any], sentence: str
) -> None:
    """Nothing is sent."""
    with pytest.raises(InvalidData, match=sentence):
        list(onward.stream("admission", source, **options))


def test_an_asynchronous_iterable_is_read_by_the_asynchronous_client(
    onward: AnyClient, shipped_client: ShippedClient
) -> None:
    """The other one has no event loop and says so."""

    async def table() -> AsyncIterator[bytes]:
        for start in range(0, len(TABLE), 10):
            yield TABLE[start : start + 10]

    if isinstance(onward, BlockingClient):
        assert b"".join(onward.stream("admission", table())) == plain(shipped_client)
    else:
        with pytest.raises(InvalidData, match="Only AsyncClient"):
            list(onward.stream("admission", table()))


@pytest.mark.parametrize("name", ["scored.parquet", "scored.xlsx", "scored.csv.gz"])
def test_a_target_of_another_format_is_explained(
    onward: AnyClient, tmp_path: Path, name: str
) -> None:
    """The service would write CSV into it."""
    with pytest.raises(InvalidData, match=r"writes no \..* files, got 'scored\."):
        onward.score("admission", TABLE, tmp_path / name)

    assert [*tmp_path.iterdir()] == []


def test_files_in_text_mode_are_explained(onward: AnyClient, tmp_path: Path) -> None:
    """A target, a table that is no text of its encoding, and an image; a table of text is read."""
    path = tmp_path / "table.csv"
    path.write_bytes(b"exam_1,exam_2\n45,85\n")
    (tmp_path / "table.parquet").write_bytes(b"PAR1\xff\xfe" * 9)

    with path.open(encoding="utf-8") as text:
        assert b"admitted" in b"".join(onward.stream("admission", text))
    with (
        (tmp_path / "table.parquet").open(encoding="utf-8") as text,
        pytest.raises(InvalidData, match=r"^Open the table in binary mode, open\(path, 'rb'\)"),
    ):
        list(onward.stream("admission", text))
    with (
        (tmp_path / "scored.csv").open("w", encoding="utf-8") as text,
        pytest.raises(InvalidData, match=r"^Open the target in binary mode: open\(path, 'wb'\)"),
    ):
        onward.score("admission", path, text)
    with (
        (tmp_path / "table.parquet").open(encoding="utf-8") as text,
        pytest.raises(InvalidData, match="Open the file of an image in binary mode"),
    ):
        onward.predict("cats_dogs", text)
