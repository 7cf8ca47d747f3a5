"""Problems of a table are reported before any row is scored, with a position and a hint."""

import gzip
from pathlib import Path

import httpx
import pytest

from service.bundle.features import FeaturesInput
from service.codecs.csv_header import open_csv
from service.codecs.features import FeatureCodec
from service.errors import InvalidRequest
from tests.conftest import Serve
from tests.models import (
    number,
    publish_admission,
    publish_bare,
    publish_mixed,
    sum_and_difference,
)


def error_of(response: httpx.Response, status: int = 400) -> str:
    """Check the common parts of an error response, and return its message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json()["code"]
    message: str = response.json()["error"]
    return message


def post(
    client: httpx.Client, content: bytes, model: str = "admission", kind: str = "text/csv"
) -> httpx.Response:
    headers = {"content-type": kind}
    return client.post(f"/models/{model}/predict", content=content, headers=headers)


TABLES: list[tuple[bytes, str]] = [
    (b"", "The table is empty; send a first line with the columns' names"),
    (b" \r\n\r\n", "The table is empty"),
    (b"exam_1,exam_2\n", "Line 1 names the columns, and no row follows"),
    (b"\n\nexam_1,exam_2\n\n", "Line 3 names the columns, and no row follows"),
    (b"45,85\n30,40\n", 'Line 1 holds values ("45", "85") where the columns must be named. Put'),
    (b"45,85\n30,40\n", "such as exam_1,exam_2"),
    (
        b"exam1,exam_2\n45,85\n",
        "Line 1 has no column 'exam_1'; is column \"exam1\" a misspelling of it?",
    ),
    (b"exam1,exam_2\n45,85\n", "Rename that column to exam_1."),
    (b"Exam_1;Exam_2\n45;85\n", "2 problems. The first: Line 1 has no column 'exam_1'"),
    (b"exam_1,age\n45,8\n", 'no column \'exam_2\'; its columns are "exam_1", "age". Add'),
    (b"exam_1,exam_2,exam_1\n4,5,6\n", "Line 1 names 'exam_1' in columns 1, 3. Rename"),
    (b"exam_1:exam_2\n45:85\n", 'Line 1 is a single cell, "exam_1:exam_2". Cells are'),
    (b'"exam_1,exam_2\n45,85\n', "Line 1 opens a quote and never closes it"),
    (b'{"exam_1": 45, "exam_2": 85}', "The body is JSON and its Content-Type says text/csv"),
    (b"%PDF-1.7\n...", "The body is a PDF document, not a table of text. Save the table as CSV"),
    (b"PK\x03\x04....", "a zip archive or a spreadsheet (.xlsx, .ods)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel spreadsheet (.xls)"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"<!DOCTYPE html><html>", "a web page"),
    (gzip.compress(b"exam_1,exam_2\n45,85\n"), "send the header Content-Encoding: gzip"),
    (b"exam_1,exam_2\n45,\x0085\n", "The body is not text: byte 17 is 0x00"),
    (b"exam_1,exam_2\n45,85\ncaf\xe9,1\n", "Line 3 holds the byte 0xE9, which is not utf-8."),
    (b"exam_1,exam_2\n45,85\ncaf\xe9,1\n", "charset=windows-1252"),
    (b"exam_1;exam_2\n4,5;85\n4.5;85\n", 'by a comma and by a point: "4,5" in line 2 and "4.5"'),
    (b"exam_1\texam_2\n1,234\t85\n", "may be 1.234 or 1234. Say which mark"),
]


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of the models of this file."""

    def publish(models: Path) -> None:
        publish_admission(models)
        publish_mixed(models)
        publish_bare(models, "simple", sum_and_difference())

    return serve(publish)


@pytest.mark.parametrize(("content", "message"), TABLES)
def test_a_table_that_cannot_be_read_is_rejected_with_the_reason(
    client: httpx.Client, content: bytes, message: str
) -> None:
    """Empty, without a header, misspelled, or in another format, separator or encoding."""
    assert message in error_of(post(client, content))


def test_an_unknown_charset_is_reported(client: httpx.Client) -> None:
    """Unknown names and Python's codecs that are no encodings are rejected; ASCII is UTF-8."""
    table = b"exam_1,exam_2\n45,85\n"

    for charset in ("utf-9", "base64", "rot13", "unicode_escape", "a b"):
        kind = f"text/csv; charset={charset}"
        assert "is not known here" in error_of(post(client, table, kind=kind))
    response = post(client, table + b"\xc3", kind="text/csv; charset=us-ascii")
    assert response.status_code == 200


def test_a_misspelled_optional_column_is_reported(client: httpx.Client) -> None:
    """A name very similar to a feature is an error; any other column is returned unchanged."""
    rest = b",rooms,garden,quarter\nred,2,true,north\n"

    near = post(client, b"Color" + rest, "mixed")
    other = post(client, b"column" + rest, "mixed")

    assert "no column 'color'; is column \"Color\" a misspelling of it?" in error_of(near)
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("model", "status", "message"),
    [
        ("admision", 404, "did you mean 'admission'?"),
        ("simple", 400, "use POST /v2/models/simple/infer"),
    ],
)
def test_a_model_that_takes_no_table_is_reported(
    client: httpx.Client, model: str, status: int, message: str
) -> None:
    """An unknown model, and one whose features have no names."""
    response = post(client, b"exam_1,exam_2\n45,85\n", model)

    assert message in error_of(response, status)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("top=0", "Parameter 'top' must be a whole number from 1"),
        ("warning=true", "did you mean 'warnings'?"),
        ("decimal=.", "must be 'point' or 'comma'"),
    ],
)
def test_a_wrong_parameter_is_reported_before_anything_is_scored(
    client: httpx.Client, query: str, message: str
) -> None:
    """The rules are those for rows in JSON."""
    url, headers = f"/models/admission/predict?{query}", {"content-type": "text/csv"}

    response = client.post(url, content=b"exam_1,exam_2\n45,85\n", headers=headers)

    assert message in error_of(response)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_is_not_compressed_as_declared_is_rejected(
    client: httpx.Client, encoding: str
) -> None:
    """The error is found at the beginning, before anything is scored."""
    headers = {"content-type": "text/csv", "content-encoding": encoding}

    response = client.post("/models/admission/predict", content=b"exam_1,exam_2", headers=headers)

    assert f"The body is not {encoding} to its end" in error_of(response)


def test_an_unknown_compression_is_rejected_by_name(client: httpx.Client) -> None:
    """The status is 415, as for every body."""
    headers = {"content-type": "text/csv", "content-encoding": "br"}

    response = client.post("/models/admission/predict", content=b"exam_1", headers=headers)

    assert "'br'" in error_of(response, 415)


def test_a_table_with_an_endless_first_line_is_rejected(client: httpx.Client) -> None:
    """A first line that never ends is not stored without limit."""
    assert "the limit of 1,048,576 bytes" in error_of(post(client, b"x" * 3_000_000), 413)


NDJSON: list[tuple[bytes, str]] = [
    (b"", 'The body is empty. Send one object per line, for example {"exam_1":'),
    (b"\n \n", "The body is empty"),
    (b"%PDF-1.7\n", "The body is a PDF document. Send one object per line"),
]


@pytest.mark.parametrize(("content", "message"), NDJSON)
def test_json_lines_that_cannot_be_read_are_rejected_with_the_reason(
    client: httpx.Client, content: bytes, message: str
) -> None:
    """An empty body, and a file of another type."""
    assert message in error_of(post(client, content, kind="application/x-ndjson"))


def test_a_file_is_no_table_for_a_model_without_required_features() -> None:
    """Without a column of a feature, the signature of the file decides."""
    features = [number("size", optional=True)]
    codec = FeatureCodec(FeaturesInput(kind="features", features=features))

    with pytest.raises(InvalidRequest, match="The body is a PDF document"):
        open_csv(b"%PDF-1.7\n...\n", codec, whole=True, longest=1000)


def test_a_column_may_have_the_name_of_a_file_signature() -> None:
    """A table with the columns of the model is read, although bzip2 files begin with BZh."""
    codec = FeatureCodec(FeaturesInput(kind="features", features=[number("BZh")]))

    reader, _ = open_csv(b"BZh\n1\n", codec, whole=True, longest=1000)

    batch = reader.take(10)
    assert batch is not None
    assert batch.matrix.tolist() == [[1.0]]
