"""Compression of bodies, and the formats that clients accept."""

import gzip
import zlib
from pathlib import Path

import pytest

from service.api.body import JSON, compress, parse_parameter, preferred_type, response_form
from service.api.explain.attributions import PNG
from tests.conftest import StartApp
from tests.models import publish_price
from tests.service.api.test_invalid_requests import assert_contract

ROW = b'{"size": 3}'
CONTENT = bytes(range(256)) * 8


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(ROW)),
        ("x-gzip", gzip.compress(ROW)),
        ("GZIP", gzip.compress(ROW[:4]) + gzip.compress(b"") + gzip.compress(ROW[4:])),
        ("gzip", b"".join(gzip.compress(ROW[i : i + 1]) for i in range(len(ROW)))),
        ("gzip", gzip.compress(b" " * 5000, 0) * 9 + gzip.compress(ROW)),
        ("gzip", gzip.compress(b" " * 200_000) * 2 + gzip.compress(ROW)),
        ("deflate", zlib.compress(ROW)),
        ("identity", ROW),
        ("", ROW),
    ],
)
def test_a_body_is_decompressed(models: Path, start: StartApp, encoding: str, body: bytes) -> None:
    """All members of a gzip file are read, and an empty header means no encoding."""
    publish_price(models)

    response = start().post(
        "/models/price/predict", content=body, headers={"content-encoding": encoding}
    )

    assert response.json()["value"] == pytest.approx(6)


def test_a_body_of_many_pieces_is_read_in_order(models: Path, start: StartApp) -> None:
    """A megabyte of different rows keeps its order."""
    publish_price(models)
    sizes = list(range(100_000))
    pieces = (f'{"," if size else "["}{{"size": {size}}}'.encode() for size in sizes)
    body = b"".join(pieces) + b"]"

    response = start().post(
        "/models/price/predict", content=body, headers={"content-type": "application/json"}
    )

    assert len(body) > 1_500_000
    assert [one["value"] for one in response.json()["predictions"]] == pytest.approx(
        [2.0 * size for size in sizes]
    )


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("br, GZIP ; q = 0.001", "gzip"),
        ("deflate;q=1.000", "deflate"),
        ("gzip;q=0", None),
        ("gzip;q=0.0", None),
        ("gzip;q=0.000", None),
        ("gzip;q=0.0, deflate", "deflate"),
        ("gzip;q=high", None),
        ("gzip;q=", None),
        ("gzip;q=1.5", None),
        ("gzip;q=-1", None),
        ("gzip;level=9", "gzip"),
        ("gzip;x=1;q=1", "gzip"),
        ("gzip;x=1;q=0", None),
        ("br", None),
        ("", None),
    ],
)
def test_a_response_is_compressed_if_the_client_accepts_it(
    accepted: str, encoding: str | None
) -> None:
    """A weight of zero, and an invalid one, exclude an encoding."""
    content, headers = compress(CONTENT, accepted)

    assert headers.get("content-encoding") == encoding
    unpacked = {"gzip": zlib.decompressobj(31), "deflate": zlib.decompressobj()}
    assert (unpacked[encoding].decompress(content) if encoding else content) == CONTENT


def test_a_large_body_of_a_repository_call_is_rejected(start: StartApp) -> None:
    """The error describes that call rather than the limit of predictions."""
    response = start().post("/v2/repository/index", content=b" " * 70_000)

    sentence = assert_contract(response, 413)["error"]
    assert "65,536 bytes" in sentence
    assert "takes no rows" in sentence
    assert "ONWARD_MAX_BODY_BYTES" not in sentence


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("image/png", True),
        ("text/html, image/png, */*;q=0.8", True),
        ("image/png;q=0.9, application/json;q=0.1", True),
        ("image/png;q=0", False),
        ("image/png;q=0.1, application/json", False),
        ("application/json, image/png", False),
        ("*/*", False),
        ("", False),
        ("text/html," * 40 + "image/png", False),
    ],
)
def test_an_overlay_is_sent_to_clients_that_prefer_an_image(accept: str, *, expected: bool) -> None:
    """Weights decide, of equal ones the first, and the end of an overlong list is ignored."""
    assert (preferred_type(accept, (PNG, JSON)) == PNG) is expected


def test_the_end_of_an_overlong_accept_header_is_ignored() -> None:
    """Every header that is a list has the same limit."""
    assert response_form("text/html," * 40 + "application/json", "csv") == "csv"
    assert response_form("text/html," * 9 + "application/json", "csv") == "json"


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/csv; charset=utf-16", "utf-16"),
        ('text/csv;CHARSET = "latin-1" ; header=present', "latin-1"),
        ('text/csv; note="a; charset=b"; charset=c', "c"),
        ("text/csv; charset=", None),
        ("text/csv; charset", None),
        ("text/csv", None),
        ("text/csv" + ";" * 60_000 + "charset=c", None),
        ("", None),
    ],
)
def test_a_parameter_of_the_media_type_is_read(content_type: str, expected: str | None) -> None:
    """Names in any case and quoted values count; the end of an overlong header does not."""
    assert parse_parameter(content_type, "charset") == expected
