"""Tables against the service: limits of records, charsets and simultaneous clients."""

import gzip
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve, StartApp
from tests.models import publish_price
from tests.processes import until
from tests.service.api.tables.test_streams import (
    CSV,
    NDJSON,
    PATH,
    connected,
    long_table,
    outcomes,
    read_until,
    send,
    unnamed_files,
)


def rejected(client: httpx.Client, reason: str) -> int:
    """Return the number of requests that a limit has rejected."""
    text = client.get("/metrics").text
    found = re.findall(rf'onward_rejected_requests_total{{reason="{reason}"}} (\S+)', text)
    return int(sum(map(float, found)))


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of the models of this file."""
    return serve(publish_price)


@pytest.mark.parametrize(
    "line", [b'a","b\n', b'1,"2\n', b'"1,""2\n', b'"\n', b'1,"2"x"\n'], ids=repr
)
def test_each_line_with_a_broken_quote_has_its_error(client: httpx.Client, line: bytes) -> None:
    """Each of these rows has an error, and the rows after them are scored."""
    count = 120_000 // len(line)

    response = client.post(PATH, content=b"note,size\n" + line * count + b"x,5\n" * 3, headers=CSV)

    lines = response.text.splitlines()
    assert response.status_code == 200, response.text[:600]
    assert len(lines) > count
    assert lines[-1] == "x,5,10.0,euros,"


def test_a_record_above_the_limit_is_an_error_row(models: Path, start: StartApp) -> None:
    """A row with too many bytes or lines gets an error, and the next rows are scored."""
    publish_price(models)
    client = start(max_csv_record_bytes=2000)
    long = b'"' + b"text\n" * 500 + b'",1\nlast,2\n'

    bytes_of = client.post(PATH, content=b"note,size\n" + long, headers=CSV)
    lines_of = start().post(
        PATH, content=b'note,size\n"' + b"\n" * 1500 + b'",1\nlast,2\n', headers=CSV
    )

    assert "Line 2: a record is larger than the limit of 2,000 bytes" in bytes_of.text
    assert "Line 2: a record is larger than the limit of 1,000 lines" in lines_of.text
    for response in (bytes_of, lines_of):
        assert response.text.splitlines()[-1] == "last,2,4.0,euros,"


def test_a_first_line_above_the_limit_is_rejected(models: Path, start: StartApp) -> None:
    """413 before the response begins, of CSV and of JSON lines, and counted."""
    publish_price(models)
    client = start(max_csv_record_bytes=100_000)

    for content, headers in (
        (b"size," * 30_000 + b"\n1\n", CSV),
        (b"x" * 200_000, CSV),
        (b'{"size":' + b"1" * 200_000, NDJSON),
    ):
        response = client.post(PATH, content=content, headers=headers)
        assert response.status_code == 413
        assert response.json()["code"] == "record_too_large"

    assert rejected(client, "record_too_large") == 3


def test_a_later_line_above_the_limit_ends_the_table(models: Path, start: StartApp) -> None:
    """The rows before it are predicted, and the rejection is counted."""
    publish_price(models)
    client = start(max_csv_record_bytes=100_000)
    table = b'{"size":1}\n' * 5000 + b"x" * 200_000 + b"\n"

    response = client.post(PATH, content=table, headers=NDJSON)

    lines = response.text.splitlines()
    assert len(lines) == 5001
    assert "Line 5001: A record is larger" in lines[-1]
    assert rejected(client, "record_too_large") == 1


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (b"1" * 20_000 + b"x", "no column 'size'"),
        (b",".join(b"siz%d" % column for column in range(16_000)), "no column 'size'"),
        (b"size," * 16_000, "in columns 1, 2, 3"),
        (b"," * 500_000, "500,001 columns, and at most 16,384 are read"),
        (b"1," * 10_000, "holds values"),
    ],
)
def test_hostile_headers_get_a_short_message(
    client: httpx.Client, header: bytes, sentence: str
) -> None:
    """The message stays short for many names and for long names."""
    response = client.post(PATH, content=header + b"\n1\n", headers=CSV)

    assert response.status_code == 400
    assert sentence in response.json()["error"]
    assert len(response.content) < 5000


@pytest.mark.parametrize(
    ("encoding", "charset"),
    [
        ("utf-16-le", "utf-16"),
        ("utf-16-be", "utf-16"),
        ("utf-16-be", "UTF-16BE"),
        ("utf-16", "utf-8"),
        ("utf-32", "utf-16"),
        ("utf-32-le", "utf-32"),
        ("utf-32-be", "utf_32"),
        ("utf-8-sig", "latin-1"),
        ("cp1252", "Windows-1252"),
        ("mac-roman", "macintosh"),
        ("koi8-r", "koi8-r"),
        ("gb2312", "gb2312"),
        ("shift_jis", "shift_jis"),
        ("euc_kr", "euc-kr"),
        ("iso2022_jp", "iso-2022-jp"),
    ],
)
def test_known_charsets_are_read_with_and_without_a_mark(
    client: httpx.Client, encoding: str, charset: str
) -> None:
    """A byte-order mark decides; without one the charset, and the zeros of UTF-16 its order."""
    kind = {"content-type": f"text/csv; charset={charset}"}

    response = client.post(PATH, content="size,note\n3,x\n".encode(encoding), headers=kind)

    assert response.status_code == 200, response.text
    assert response.text.removeprefix("\ufeff") == "size,note,value,unit,error\n3,x,6.0,euros,\n"


# The outcome of each content in each of these charsets: the table is empty, its first line is text
# but has no column of the model, or a byte is outside the charset.
CHARSETS = ("utf-16", "utf-32", "utf-8", "shift_jis", "iso-2022-jp")
OUTCOMES: Mapping[bytes, str] = {
    b"\xff\xfe": "empty empty empty empty empty",
    b"\xff\xfe\0\0": "empty empty empty empty empty",
    b"\xff\xfes\0i": "column column column column column",
    b"s\0i\0z": "column byte byte column column",
    b"\xd8\0" * 20: "column byte byte column byte",
    b"\0" * 999: "column column byte column column",
    b"\x1b$B": "column empty column column empty",
    b"\xef\xbb\xbf": "empty empty empty empty empty",
}
ERRORS: Mapping[str, tuple[str, str]] = {
    "empty": ("invalid_request", "The table is empty"),
    "column": ("invalid_input", "Line 1 has no column 'size'"),
    "byte": ("invalid_request", "byte "),
}


@pytest.mark.parametrize("content", OUTCOMES, ids=repr)
@pytest.mark.parametrize("charset", CHARSETS)
def test_bytes_outside_the_charset_are_a_client_error(
    client: httpx.Client, content: bytes, charset: str
) -> None:
    """Marks without text, incomplete characters, zeros and lone surrogates."""
    kind = {"content-type": f"text/csv; charset={charset}"}

    response = client.post(PATH, content=content, headers=kind)

    code, sentence = ERRORS[OUTCOMES[content].split()[CHARSETS.index(charset)]]
    assert (response.status_code, response.json()["code"]) == (400, code)
    assert sentence in response.json()["error"]


def test_unknown_charsets_are_rejected_by_name(client: httpx.Client) -> None:
    """Unsupported charsets that Python knows and names of any length are rejected too."""
    for charset in ("utf-7", "idna", "hex", "zlib", "punycode", "os", "..", "x" * 30_000):
        kind = {"content-type": f"text/csv; charset={charset}"}
        response = client.post(PATH, content=b"size\n1\n", headers=kind)
        assert response.status_code == 400
        assert "which is not known here" in response.json()["error"]


def test_more_tables_than_allowed_are_rejected_at_once(models: Path, start: StartApp) -> None:
    """429 while one is being scored; the next one is scored after it."""
    publish_price(models)
    client = start(max_concurrent_tables=1)

    with connected(client, NDJSON) as connection:
        send(connection, b'{"size": 1}\n')
        read_until(connection, b"euros")
        response = client.post(PATH, content=b"size\n1\n", headers=CSV)
    assert response.status_code == 429
    assert response.json()["code"] == "too_many_tables"
    assert response.headers["retry-after"]
    assert rejected(client, "too_many_tables") == 1

    until(lambda: client.post(PATH, content=b"size\n1\n", headers=CSV).status_code == 200)


@pytest.mark.parametrize("content", [b"size\n" + b"1\n" * 50, b"price\n1\n"])
def test_as_many_clients_as_slots_are_never_rejected(
    models: Path, start: StartApp, content: bytes
) -> None:
    """A client that has its response can send the next table: its slot is free again."""
    publish_price(models)
    client = start(max_concurrent_tables=4, log_requests="none")

    def send_tables(_: int) -> set[int]:
        with httpx.Client(base_url=client.base_url, timeout=60) as other:
            return {other.post(PATH, content=content, headers=CSV).status_code for _ in range(60)}

    with ThreadPoolExecutor(4) as threads:
        statuses = set().union(*threads.map(send_tables, range(4)))

    assert statuses == {400 if b"price" in content else 200}
    assert rejected(client, "too_many_tables") == 0


def test_a_table_is_not_scored_to_its_end_after_a_disconnect(models: Path, start: StartApp) -> None:
    """The slot and the file are released even if the whole body has arrived."""
    publish_price(models)
    client = start(max_concurrent_tables=1)
    before = unnamed_files()
    # The numbers between repeated rows keep the ratio of compression below its limit.
    rows = b"".join(b"%d\n" % row + b"1234567890\n" * 15 for row in range(120_000))
    packed = gzip.compress(b"size\n" + rows)

    with connected(client, CSV | {"content-encoding": "gzip"}) as connection:
        send(connection, packed)
        connection.sendall(b"0\r\n\r\n")
        read_until(connection, b"euros")
    until(lambda: outcomes(client, "client_disconnected") == 1)

    assert client.post(PATH, content=b"size\n1\n", headers=CSV).status_code == 200
    assert outcomes(client, "ok") == 1
    assert unnamed_files() == before


def test_a_table_without_room_for_its_response_is_rejected(models: Path, start: StartApp) -> None:
    """507 if the folder does not exist; tables that need no file are scored."""
    publish_price(models)
    client = start(spool_folder=models / "missing")

    large = client.post(PATH, content=long_table(), headers=CSV)
    small = client.post(PATH, content=b"size\n1\n", headers=CSV)

    assert large.status_code == 507
    assert large.json()["code"] == "spool_full"
    assert rejected(client, "spool_full") == 1
    assert small.status_code == 200


def test_the_budget_of_unread_responses_is_shared(models: Path, start: StartApp) -> None:
    """A table that starts while others use all of it gets 507, until they have ended."""
    publish_price(models)
    client = start(max_spool_bytes=1000)

    with connected(client, NDJSON) as connection:
        send(connection, b'{"size": 1}\n')
        read_until(connection, b"euros")
        response = client.post(PATH, content=long_table(), headers=CSV)
    assert response.status_code == 507

    def scored() -> bool:
        with client.stream("POST", PATH, content=long_table()[:100_000], headers=CSV) as response:
            return response.status_code == 200

    until(scored)
