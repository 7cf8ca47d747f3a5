"""Parquet, Arrow and Excel files, and tables in forms, against the service."""

import csv
import datetime as dt
import io
import random
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import httpx
import polars as pl
import pytest

from service.bundle.features import FeaturesInput
from service.codecs.csv_header import open_csv
from service.codecs.features import FeatureCodec
from tests.conftest import Serve, ShippedClient, StartApp
from tests.models import number, publish_mixed, publish_price
from tests.processes import ROOT
from tests.table_files import ARROW_STREAM, BINARY, FILES, PARQUET, XLSX, parquet, workbook

MIXED = "/models/mixed/predict"
PRICE = "/models/price/predict"
ROWS = pl.DataFrame(
    {
        "id": [2**60 + 1, 2**60 + 2, 2**60 + 3],
        "color": ["red", None, "blue"],
        "rooms": [2, 3, 1],
        "garden": [True, False, True],
        "quarter": ["north", "south", "west"],
        "text": ['a, "b"', " c ", "d\ne"],
        "day": [dt.date(2024, 5, 1), None, dt.date(2024, 5, 2)],
        "seen": [dt.datetime(2024, 5, 1, 7, 30), dt.datetime(2024, 5, 2), None],  # noqa: DTZ001 - no offset
        "share": [0.1, 0.3, 1e-7],
    }
)
"""Rows of the model `mixed`, the last of which has an unknown quarter, with other columns."""


def post(client: httpx.Client, content: bytes, kind: str, path: str = MIXED) -> httpx.Response:
    return client.post(path, content=content, headers={"content-type": kind})


def error_of(response: httpx.Response, status: int = 400) -> str:
    """The message of a response with this status."""
    assert response.status_code == status, response.text
    message: str = response.json()["error"]
    return message


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of the models of this file, whose files may take little memory."""

    def publish(models: Path) -> None:
        publish_mixed(models)
        publish_price(models)

    return serve(publish, max_table_file_memory_mib=256)


@pytest.fixture(scope="module")
def expected(client: httpx.Client) -> str:
    """The response to the rows as CSV."""
    seen = pl.when(pl.col("seen").dt.hour() == 0).then(pl.col("seen").dt.strftime("%Y-%m-%d"))
    written = ROWS.with_columns(seen.otherwise(pl.col("seen").dt.strftime("%Y-%m-%dT%H:%M:%S")))
    return post(client, written.write_csv().encode(), "text/csv").text


@pytest.mark.parametrize("name", FILES)
def test_a_table_file_has_the_response_of_csv(
    client: httpx.Client, expected: str, name: str
) -> None:
    """Also if the media type does not say what it is; every cell is copied."""
    kind, write = FILES[name]
    # A workbook has 15 digits of a number.
    rows = ROWS.with_columns(pl.col("id").cast(pl.String)) if name == "Excel" else ROWS

    for media_type in (kind, BINARY):
        response = post(client, write(rows), media_type)
        assert response.status_code == 200, response.text
        assert read(response.text) == read(expected)
        assert response.headers["content-type"].startswith("text/csv")
    assert expected.count("Line ") == 1


def read(table: str) -> list[list[str]]:
    """The cells of a table."""
    return list(csv.reader(io.StringIO(table)))


def test_one_file_of_a_form_is_the_table(client: httpx.Client, expected: str) -> None:
    """The field may have any name, and the file any format; JSON lines have their usual names."""
    content = ROWS.write_csv().encode()
    line = b'{"rooms": 2, "garden": true, "quarter": "north"}\n'

    for field, name, file in (
        ("file", "t.csv", content),
        ("anything", "t.bin", parquet(ROWS)),
        ("table", "", content),
    ):
        response = client.post(MIXED, files={field: (name, file)})
        assert response.status_code == 200, response.text
        assert len(read(response.text)) == len(read(expected))
    lines = client.post(MIXED, files={"file": ("t.jsonl", line)})
    assert lines.json()["value"] == 1012.0


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [("file", ("a.csv", b"size\n1\n")), ("file", ("b.csv", b""))],
            'holds 2 files, "a.csv" and',
        ),
        ([("note", (None, b"hello"))], 'Field "note" of the form is no file; send a file, as'),
        ([("file", ("a.png", b"\x89PNG\r\n\x1a\n"))], "is a PNG image, not a table of text"),
    ],
)
def test_a_form_without_one_table_is_rejected(
    client: httpx.Client, files: list[tuple[str, tuple[str | None, bytes]]], message: str
) -> None:
    """Several files, a text field, and a file of another type."""
    assert message in error_of(client.post(PRICE, files=files))


def test_only_models_of_tables_take_table_files(shipped_client: ShippedClient) -> None:
    """A model of images says what it takes, and other paths where table files are taken."""
    content = parquet(ROWS)

    digits = post(shipped_client, content, PARQUET, "/models/digits_small/predict")
    explained = post(shipped_client, content, XLSX, "/models/admission/explain")

    assert "takes images, not a table's rows" in error_of(digits)
    assert "A spreadsheet goes to POST /models/NAME/predict." in error_of(explained, 415)


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1.234", "2.5", "0.75"], [1.234, 2.5, 0.75]),
        (["1.234,5", "2,25", "7"], [1234.5, 2.25, 7.0]),
    ],
)
def test_only_texts_are_read_with_the_marks_of_the_training_table(
    cells: list[str], numbers: list[float]
) -> None:
    """A typed 1.234 is never a thousand, whatever marks the training table has."""
    feature = number("size", decimal=",", thousands=".")
    codec = FeatureCodec(FeaturesInput(kind="features", features=[feature]))
    lines = ["size", *(f'"{cell}"' for cell in cells)]
    is_typed = "," not in cells[0]

    reader, _ = open_csv(
        "\n".join(lines).encode(), codec, whole=True, longest=1000, typed={0} if is_typed else ()
    )
    batch = reader.take(10)

    assert batch is not None
    assert batch.matrix[:, 0].tolist() == pytest.approx(numbers)


def test_a_file_that_takes_too_much_memory_is_rejected(client: httpx.Client) -> None:
    """A Parquet file of a few kilobytes with 20 million numbers; the next file is read."""
    bomb = parquet(pl.select(size=pl.repeat(1, 20_000_000, dtype=pl.Int64)), rows=20_000_000)

    response = post(client, bomb, PARQUET, PRICE)
    following = post(client, parquet(pl.DataFrame({"size": [2]})), PARQUET, PRICE)

    assert len(bomb) < 20_000
    assert "cannot be read within 256 MiB of memory" in error_of(response)
    assert following.text == "size,value,unit,error\n2,4.0,euros,\n"


def test_rows_that_compress_well_are_all_scored(client: httpx.Client) -> None:
    """Their text has more than a hundred times the size of the file, and takes no memory."""
    note = "n" * 200
    content = parquet(pl.select(size=pl.repeat(1.5, 10_000), note=pl.lit(note)), rows=5000)

    response = post(client, content, PARQUET, PRICE)

    assert 10_000 * len(note) > 100 * len(content)
    assert response.text.count(f"\n1.5,{note},3.0,euros,") == 10_000


def test_a_workbook_that_expands_too_much_is_rejected(client: httpx.Client) -> None:
    """The directory of its parts is read before anything is unpacked."""
    content = io.BytesIO(workbook(pl.DataFrame({"size": [1.0]})))
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/zeros.bin", bytes(30 << 20))

    response = post(client, content.getvalue(), XLSX, PRICE)

    assert "expands to more than 100 times" in error_of(response, 413)


def test_clients_that_disconnect_leave_room_for_others(client: httpx.Client) -> None:
    """More of them than files are read at the same time; each process ends with its client."""
    chance = random.Random(1)  # noqa: S311 - numbers, no secret
    # More text than the pipes hold, so that the process has not finished when its client leaves.
    noise = pl.DataFrame({"size": [chance.random() for _ in range(15_000)], "note": "n" * 100})
    content, headers = parquet(noise), {"content-type": PARQUET}

    for _ in range(5):
        with httpx.Client(base_url=client.base_url) as leaving:
            request = leaving.build_request("POST", PRICE, content=content, headers=headers)
            response = leaving.send(request, stream=True)
            assert response.status_code == 200
            response.close()
    complete = post(client, content, PARQUET, PRICE)

    assert complete.text.count("\n") == 15_001


def test_wide_tables_are_read(client: httpx.Client) -> None:
    """In batches of few rows; and CSV may have the media type that browsers on Windows send."""
    wide = pl.DataFrame({"size": [1.0, 2.0]} | {f"c{k}": [k, k] for k in range(1000)})
    csv_of = wide.select("size").write_csv().encode()

    response = post(client, parquet(wide), PARQUET, PRICE)
    text = post(client, csv_of, "application/vnd.ms-excel", PRICE)

    assert [row[-3] for row in read(response.text)[1:]] == ["2.0", "4.0"]
    assert text.text == "size,value,unit,error\n1.0,2.0,euros,\n2.0,4.0,euros,\n"


def test_a_table_file_has_the_limit_of_a_body(models: Path, start: StartApp) -> None:
    """Only tables of text are streamed."""
    publish_price(models)
    client = start(max_body_bytes=1000)
    content = parquet(pl.DataFrame({"size": range(1000)}))

    assert "limit of 1,000 bytes" in error_of(post(client, content, PARQUET, PRICE), 413)


BROKEN: Mapping[str, tuple[bytes, str, str]] = {
    "no file at all": (b"", PARQUET, "no Parquet, Arrow or Excel file by its first bytes"),
    "CSV": (b"size\n1\n", XLSX, "no Parquet, Arrow or Excel file by its first bytes"),
    "a zip archive": (b"PK\x03\x04 and more", XLSX, "has no directory of its parts"),
    "an Arrow stream": (b"\xff\xff\xff\xff\x78\0\0\0\x10\0\0\0", ARROW_STREAM, "cannot be read"),
    "lists": (parquet(pl.DataFrame({"size": [[1]]})), PARQUET, "Column 'size' has values of"),
    "no rows": (parquet(pl.DataFrame({"size": [1]}).clear()), PARQUET, "no row follows"),
    "another column": (
        parquet(pl.DataFrame({"sizes": [1]})),
        PARQUET,
        "Rename that column to size",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_table_file_that_is_no_table_is_rejected(client: httpx.Client, name: str) -> None:
    """The message says what it is."""
    content, kind, message = BROKEN[name]

    assert message in error_of(post(client, content, kind, PRICE))


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_affect_no_one_else(client: httpx.Client, name: str) -> None:
    """A file with a part cut or changed is rejected, or its rows are scored."""
    kind, write = FILES[name]
    intact = write(pl.DataFrame({"size": [1.5, 2.0], "note": ["a", "b"]}))
    chance = random.Random(name)  # noqa: S311 - damage, not a secret

    for _ in range(25):
        content = bytearray(intact)
        if chance.random() < 0.3:
            del content[chance.randrange(12, len(content)) :]
        for _ in range(chance.randrange(1, 12)):
            content[chance.randrange(8, len(content))] = chance.randrange(256)
        response = post(client, bytes(content), kind, PRICE)
        assert response.status_code in {200, 400, 413}, response.text
        assert response.text.strip()
    assert post(client, intact, kind, PRICE).text.endswith("2,b,4.0,euros,\n")


def test_a_service_without_the_libraries_says_what_to_install(models: Path) -> None:
    """415 over HTTP, and a sentence of the command."""
    publish_price(models)
    path = models / "table.parquet"
    path.write_bytes(parquet(pl.DataFrame({"size": [1]})))
    program = (
        "import asyncio, sys\n"
        "sys.modules['polars'] = None\n"
        "from service.__main__ import onward\n"
        f"sys.argv = ['onward', 'score', 'price', {str(path)!r}, '--models', {str(models)!r}]\n"
        "status = onward()\n"
        "from httpx import ASGITransport, AsyncClient\n"
        "from service.app import create_app\n"
        "from service.settings import Settings\n"
        "async def post():\n"
        f"    app = create_app(Settings(models={str(models)!r}, device='cpu'))\n"
        "    async with app.router.lifespan_context(app):\n"
        "        transport = ASGITransport(app)\n"
        "        async with AsyncClient(transport=transport, base_url='http://x') as client:\n"
        f"            content = open({str(path)!r}, 'rb').read()\n"
        f"            headers = {{'content-type': {PARQUET!r}}}\n"
        f"            return await client.post({PRICE!r}, content=content, headers=headers)\n"
        "response = asyncio.run(post())\n"
        "print(status, response.status_code, response.text)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert 'pip install -c constraints.txt --editable ".[tables]".' in done.stderr
    assert done.stdout.startswith("2 415"), done.stdout + done.stderr
    assert "The body 'a Parquet file' is not supported; send text/csv." in done.stdout
