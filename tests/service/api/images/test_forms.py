"""Multipart forms with files, valid and hostile."""

from time import process_time

import httpx
import pytest

from service.api.native.forms import read_files
from service.errors import InvalidRequest
from tests.conftest import Serve
from tests.image_models import publish_mirror
from tests.images import encoded, image_input, photograph

PATH = "/models/mirror/predict"
TYPE = "multipart/form-data; boundary=x"
PNG = encoded(photograph(4, 5))
HEAD = b'content-disposition: form-data; name="image"; filename="a.png"\r\n'


def part(content: bytes, head: bytes = HEAD) -> bytes:
    """Return a part with the boundary before it."""
    return b"--x\r\n" + head + b"\r\n" + content + b"\r\n"


def any_number(_: int) -> None:
    """Accept any number of parts."""


def outcome(body: bytes, content_type: str = TYPE) -> str | list[tuple[str, bytes]]:
    """Return the files of a form, or the error."""
    try:
        return read_files(body, content_type, any_number)
    except InvalidRequest as error:
        return str(error)


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """Start a service with a model that returns its input image."""
    return serve(lambda models: publish_mirror(models, image_input(4, 5)), max_form_parts=3)


def test_too_many_parts_are_rejected_and_counted(client: httpx.Client) -> None:
    """A form above the limit gets 413, one at the limit a prediction."""
    three, four = (
        client.post(PATH, content=part(PNG) * count + b"--x--", headers={"content-type": TYPE})
        for count in (3, 4)
    )

    assert len(three.json()["predictions"]) == 3
    assert (four.status_code, four.json()["code"]) == (413, "too_many_form_parts")
    assert "more than 3 parts" in four.json()["error"]
    metrics = client.get("/metrics").text
    assert 'onward_rejected_requests_total{reason="too_many_form_parts"} 1.0' in metrics


@pytest.mark.parametrize(
    ("body", "files"),
    [
        (part(PNG) + b"--x--", [("a.png", PNG)]),
        (part(PNG) + b"--x--\r\n", [("a.png", PNG)]),
        (part(PNG) + b"--x--\r\nan epilogue", [("a.png", PNG)]),
        (part(b"") + b"--x--", [("a.png", b"")]),
        (part(b"\r\n--y\r\n--") + b"--x--", [("a.png", b"\r\n--y\r\n--")]),
        (
            part(b"aGk=", HEAD + b"content-transfer-encoding: base64\r\n") + b"--x--",
            [("a.png", b"hi")],
        ),
        (
            part(b"1", b"content-disposition: form-data; name=image; filename*=UTF-8''b.png\r\n")
            + b"--x--",
            [("image", b"1")],
        ),
    ],
)
def test_forms_of_common_clients_are_read(body: bytes, files: list[tuple[str, bytes]]) -> None:
    """Line ends, empty files, encodings and names of every kind are accepted."""
    assert outcome(body) == files


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"--x--",
        b"--x--x--x",
        part(PNG),
        part(PNG) + b"--x",
        part(PNG) + b"--x-",
        part(PNG).replace(b"\r\n", b"\n") + b"--x--",
        b"a preamble\r\n" + part(PNG) + b"--x--",
        part(PNG, b"") + b"--x--",
        part(PNG, b"no colon\r\n") + b"--x--",
        part(PNG, b": no name\r\n") + b"--x--",
        part(PNG, HEAD * 20) + b"--x--",
        part(PNG, HEAD[:-2] + b"; a=" + b"b" * 10_000 + b"\r\n") + b"--x--",
        part(PNG, b"content-disposition: form-data; filename=" + b"n" * 5_000 + b"\r\n") + b"--x--",
        part(b"!", HEAD + b"content-transfer-encoding: base64\r\n") + b"--x--",
        b"--x\r\ncontent-type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\n--y--\r\n--x--",
    ],
)
def test_an_invalid_form_is_rejected_with_an_error(body: bytes) -> None:
    """Missing ends, names and blank lines, and long heads, are client errors."""
    found = outcome(body)

    assert isinstance(found, str)
    assert found.endswith(("does.", "boundary is missing."))


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=" + "b" * 10_000,
        'multipart/form-data; boundary="' + ";" * 50_000,
        "multipart/form-data; " + 'a="b";' * 10_000,
    ],
)
def test_a_content_type_without_a_valid_boundary_is_rejected(content_type: str) -> None:
    """The boundary is missing, empty, or ten kilobytes long."""
    assert isinstance(outcome(part(PNG) + b"--x--", content_type), str)


@pytest.mark.parametrize(
    "piece",
    [
        b"\r\n--boundary-that-is-lon",
        b"\r\n--boundary-that-is-long" + b"y",
        b"\r\n--boundary-that-is-long \t",
        b"\r",
        b"\r\n-",
        b"-",
        b"\0",
    ],
)
def test_boundaries_that_almost_match_take_linear_time(piece: bytes) -> None:
    """A file of near boundaries that is ten times as long takes about ten times as long."""
    boundary = "boundary-that-is-long"

    def seconds(size: int) -> float:
        body = part(piece * (size // len(piece))).replace(b"--x", b"--" + boundary.encode())
        started = process_time()
        outcome(body + f"--{boundary}--".encode(), TYPE.replace("=x", f"={boundary}"))
        return process_time() - started

    short, long = (min(seconds(size) for _ in range(3)) for size in (100_000, 1_000_000))

    assert long < 50 * max(short, 0.002)


def test_the_parser_logs_nothing_about_an_invalid_form(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The warnings of the form parser are suppressed."""
    response = client.post(PATH, content=b"--x\rbroken", headers={"content-type": TYPE})

    assert response.status_code == 400
    assert [record for record in caplog.records if "multipart" in record.name] == []
