"""Limits, errors, repeated requests and addresses."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from onnx import TensorProto, helper

import service.client as errors
from service.client import Client, OnwardClientError
from tests.client.conftest import AnyClient, Connect
from tests.client.scripted import Prepared, scripted
from tests.conftest import Serve
from tests.images import encoded, photograph
from tests.models import assembled, publish_admission, publish_bare, publish_mixed

BUSY = Prepared(503, {"error": "Busy.", "code": "draining"}, {"retry-after": "0"})
DONE = Prepared(200, {"value": 2.5, "model_version": "1"})


def sum_of_columns() -> bytes:
    """A graph with two named inputs ``[N, 1]`` and their sum."""
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 1]) for n in ("a", "b")]
    outputs = [helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N", 1])]
    return assembled([helper.make_node("Add", ["a", "b"], ["sum"])], inputs, outputs, [])


@pytest.fixture(scope="module")
def small(serve: Serve) -> httpx.Client:
    """A service that accepts few rows at a time."""

    def publish(models: Path) -> None:
        publish_admission(models)
        publish_mixed(models)
        publish_bare(models, "columns", sum_of_columns())

    return serve(publish, max_request_rows=7, max_explained_rows=100)


def exams(rows: int) -> pd.DataFrame:
    numbers = np.arange(rows)
    return pd.DataFrame({"exam_1": numbers % 101, "exam_2": (numbers * 7) % 101})


def test_many_rows_are_sent_in_several_requests(
    onward: AnyClient, shipped_client: httpx.Client
) -> None:
    """The predictions are those of one request, in order, and an error has the row's number."""
    frame = exams(12_000)
    response = shipped_client.post(
        "/models/admission/predict", json=frame.to_dict("records")
    ).json()["predictions"]

    predicted = onward.predict("admission", frame)

    assert predicted["probability"].tolist() == [one["probability"] for one in response]
    frame.loc[11_321, "exam_1"] = 1000
    for data in (frame, frame.to_dict("records")):
        with pytest.raises(errors.InvalidRequest, match=r"^Row 11321: feature 'exam_1'") as raised:
            onward.predict("admission", data)
        (problem,) = raised.value.problems
        assert (problem.row, problem.feature, problem.got) == (11_321, "exam_1", "1000")
        assert problem.sentence.startswith("Row 11321: ")


def test_requests_that_are_too_large_are_divided(connect: Connect, small: httpx.Client) -> None:
    """The rows are those of the data, also in errors, whatever the limits of the service."""
    client, frame = connect(small.base_url), exams(40)

    predicted = client.predict("admission", frame)

    alone = [client.predict("admission", row).probability for row in frame.to_dict("records")]
    assert predicted["probability"].tolist() == pytest.approx(alone)
    for row in (0, 13, 39):
        invalid = frame.copy()
        invalid.loc[row, "exam_2"] = -1
        with pytest.raises(errors.InvalidRequest) as raised:
            client.predict("admission", invalid)
        assert raised.value.message.startswith(f"Row {row}: feature 'exam_2'")
        assert raised.value.problems[0].row == row


def test_images_have_their_number_in_errors(onward: AnyClient) -> None:
    """Also if they are sent in several requests."""
    images = [encoded(photograph(8, 8))] * 130 + [b"no image"]

    with pytest.raises(errors.InvalidRequest, match=r"^Image 130: ") as raised:
        onward.predict("cats_dogs", images)

    assert raised.value.problems[0].row == 130


def test_an_optional_feature_without_a_column_is_missing(
    connect: Connect, small: httpx.Client
) -> None:
    """In every row, as in one."""
    client = connect(small.base_url)
    row = client.model("mixed").example
    optional = {key: cell for key, cell in row.items() if key != "size"}

    predicted = client.predict("mixed", pd.DataFrame([optional] * 2))

    assert predicted["value"].tolist() == [client.predict("mixed", optional).value] * 2


@pytest.mark.parametrize(
    ("name", "data", "options", "error", "code"),
    [
        ("admision", {}, {}, errors.ModelNotFound, "model_not_found"),
        ("admission", {}, {"version": 9}, errors.ModelNotFound, "version_not_found"),
        ("admission", {"exam_1": 1}, {}, errors.InvalidRequest, "invalid_input"),
        ("admission", {"exam_1": 1, "exam_2": 2}, {"top": 0}, errors.InvalidRequest, None),
        ("admission", [], {}, errors.InvalidRequest, "invalid_request"),
        ("admission", b"no row", {}, errors.InvalidRequest, "invalid_input"),
        ("a/b?c", {}, {}, errors.OnwardClientError, None),
    ],
)
def test_errors_have_the_sentence_of_the_service(  # noqa: PLR0913, PLR0917 - one request
    onward: AnyClient,
    name: str,
    data: object,
    options: dict[str, Any],
    error: type[OnwardClientError],
    code: str | None,
) -> None:
    """The code, the status and the ID of the request are those of the response."""
    with pytest.raises(error) as raised:
        onward.predict(name, data, **options)

    assert raised.value.code == (code or raised.value.code)
    assert raised.value.status in (400, 404, 415)
    assert len(raised.value.request_id or "") == 32
    assert raised.value.message[-1] in ".?]}"


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "a_new_code", errors.InvalidRequest),
        (401, "no_key", errors.NotAllowed),
        (403, "not_allowed", errors.NotAllowed),
        (408, "body_stalled", errors.RequestTimeout),
        (409, "model_unservable", errors.ModelNotReady),
        (413, "body_too_large", errors.RequestTooLarge),
        (429, "overloaded", errors.Overloaded),
        (500, "internal_error", errors.ServiceError),
        (503, "model_not_ready", errors.ModelNotReady),
        (503, "a_new_code", errors.Overloaded),
        (504, "deadline_exceeded", errors.RequestTimeout),
        (507, "spool_full", errors.Overloaded),
        (599, None, errors.ServiceError),
    ],
)
def test_every_status_has_an_error(
    connect: Connect, status: int, code: str | None, error: type[OnwardClientError]
) -> None:
    """A code that the client does not know is an error of its status."""
    document = {"error": "A sentence.", "code": code, "details": [{"sentence": "No.", "new": 1}, 5]}
    with (
        scripted([Prepared(status, document, {"x-request-id": "7"})]) as server,
        pytest.raises(OnwardClientError) as raised,
    ):
        connect(server.url, retries=0).models()

    assert type(raised.value) is error
    assert (raised.value.message, raised.value.status) == ("A sentence.", status)
    assert (raised.value.code, raised.value.request_id) == (code, "7")
    assert [problem.sentence for problem in raised.value.problems] == ["No."]


@pytest.mark.parametrize(
    ("status", "body", "excerpt"),
    [
        (502, b"<html><head><title>Bad Gateway</title></head><h1>nginx</h1></html>", "Bad Gateway"),
        (502, b"", "502 Bad Gateway"),
        (200, b"<html><body>Please <b>log in</b></body></html>", "Please log in"),
        (200, b"[1]", "[1]"),
        (302, b"", "302 Found"),
        (404, b"\xff\x00 no page", "404 Not Found"),
    ],
)
def test_the_page_of_a_proxy_is_described(
    connect: Connect, status: int, body: bytes, excerpt: str
) -> None:
    """The message names the address, the status and what the page says."""
    headers = {"content-type": "text/html; charset=utf-8"}
    with (
        scripted([Prepared(status, body, headers)]) as server,
        pytest.raises(errors.ServiceError) as raised,
    ):
        connect(server.url).models()

    assert excerpt in raised.value.message
    assert f"{server.url}/models responded with {status}" in raised.value.message
    assert "text/html instead of the service's JSON" in raised.value.message
    assert raised.value.status == status


def test_a_busy_service_gets_the_request_again(connect: Connect) -> None:
    """After 503 and 429, with the same body, on the same address."""
    crowded = Prepared(429, {"error": "Too many.", "code": "too_many_requests"})
    with scripted([BUSY, crowded, DONE]) as server:
        predicted = connect(server.url).predict("line", {"x": 1})

    assert predicted.value == 2.5
    assert len(server.received) == 3
    assert {request.body for request in server.received} == {b'{"x":1}'}
    assert {request.path for request in server.received} == {"/models/line/predict"}


def test_requests_are_repeated_only_so_often(connect: Connect) -> None:
    """The last error is raised."""
    with scripted([BUSY]) as server, pytest.raises(errors.Overloaded, match="Busy"):
        connect(server.url, retries=2).predict("line", {"x": 1})

    assert len(server.received) == 3


def test_a_model_that_does_not_serve_is_reported_at_once(connect: Connect) -> None:
    """Its reason is more useful than a wait."""
    document = {"error": "Its file is damaged.", "code": "model_not_ready"}
    failed = Prepared(503, document, {"retry-after": "0"})
    with scripted([failed]) as server, pytest.raises(errors.ModelNotReady, match="damaged"):
        connect(server.url).predict("line", {"x": 1})

    assert len(server.received) == 1


def test_a_graph_without_a_manifest_returns_its_outputs(
    connect: Connect, small: httpx.Client
) -> None:
    """They are the columns of the result."""
    client, rows = connect(small.base_url), [{"a": 1.5, "b": 2}, {"a": 3, "b": -1}]

    assert client.model("columns").features[0].name == "a"
    assert [one.outputs for one in client.predict("columns", rows)] == [{"sum": 3.5}, {"sum": 2.0}]
    assert client.predict("columns", rows[0]).result is None
    frame = client.predict("columns", pd.DataFrame(rows).assign(c="x"))
    assert frame.to_dict("list") == {"sum": [3.5, 2.0], "warnings": [None, None]}


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_no_pause_is_longer_than_the_timeout(connect: Connect, form: str) -> None:
    """A service that wants a later request is reported at once."""
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1))
    headers = {"retry-after": "3600" if form == "seconds" else later}
    with (
        scripted([Prepared(503, {"error": "Later.", "code": "draining"}, headers)]) as server,
        pytest.raises(errors.Overloaded, match=r"Later\."),
    ):
        connect(server.url, timeout=30).models()

    assert len(server.received) == 1


def test_a_body_that_cannot_be_repeated_is_sent_once(connect: Connect, tmp_path: Path) -> None:
    """A file is read again; a generator and an open file are not."""
    path = tmp_path / "table.csv"
    path.write_bytes(b"x\n1\n")
    scored = Prepared(200, b"x,value\n1,2\n", {"content-type": "text/csv"})
    with scripted([BUSY, scored, BUSY]) as server:
        client = connect(server.url)
        assert b"".join(client.stream("line", path)) == b"x,value\n1,2\n"
        for source in (iter([b"x\n", b"1\n"]), path.open("rb")):
            with pytest.raises(errors.Overloaded, match="Busy"), _closed(source):
                list(client.stream("line", source))

    assert len(server.received) == 4
    assert {request.body for request in server.received} == {b"x\n1\n"}


class _closed:  # noqa: N801 - a context manager as those of contextlib
    """Closes a file at the end; other sources have nothing to close."""

    def __init__(self, source: Any) -> None:  # noqa: ANN401 - a file or an iterator
        self._source = source

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        if hasattr(self._source, "close"):
            self._source.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def test_a_service_that_is_not_there_is_reported(connect: Connect) -> None:
    """The message names the address and the reason."""
    url = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(errors.ServiceUnreachable) as raised:
        connect(url, retries=1).models()

    assert raised.value.message.startswith(f"No connection to {url}/models: ")
    assert raised.value.status is None


def test_a_connection_is_tried_again() -> None:
    """A service that starts in the meantime gets the request."""
    port, failures = free_port(), []

    class Starting(httpx.HTTPTransport):
        """Starts the service after the first failure."""

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            try:
                return super().handle_request(request)
            except httpx.ConnectError as error:
                failures.append(error)
                server = scripted([DONE], port)
                servers.append((server, server.__enter__()))
                raise

    servers: list[Any] = []
    with Client(f"http://127.0.0.1:{port}", transport=Starting()) as client:
        predicted = client.predict("line", {"x": 1})
    servers[0][0].__exit__(None, None, None)

    assert predicted.value == 2.5
    assert len(failures) == 1
    assert len(servers[0][1].received) == 1


def test_a_slow_service_is_reported(connect: Connect) -> None:
    """A server that accepts and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(errors.RequestTimeout, match=r"sent no response within 0\.05 seconds"):
            connect(url, timeout=0.05).models()


def test_the_prefix_of_a_proxy_and_the_headers_are_sent(connect: Connect) -> None:
    """With or without a slash at the end of the address."""
    with scripted([Prepared(), DONE]) as server:
        connect(f"{server.url}/onward/", headers={"authorization": "Bearer key"}).models()
        connect(f"{server.url}/onward").predict("a b/c", {"x": 1}, version="canary", top=2)

    first, second = server.received
    assert (first.method, first.path) == ("GET", "/onward/models")
    assert first.headers["authorization"] == "Bearer key"
    assert second.path == "/onward/models/a%20b%2Fc/versions/canary/predict?top=2"
    assert second.headers["content-type"] == "application/json"


@pytest.mark.parametrize("kind", [Client, errors.AsyncClient])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"url": "localhost:8000"}, "must begin with http:// or https://, got 'localhost:8000'."),
        ({"url": None}, "must begin with http:// or https://, got None."),
        ({"url": 8211}, "must begin with http:// or https://, got 8211."),
        ({"timeout": 0}, "timeout is a number of seconds above 0, or None for no limit, got 0."),
        ({"timeout": "60"}, "got '60'."),
        ({"timeout": float("nan")}, "got nan."),
        ({"retries": -1}, "retries is a whole number from 0, got -1."),
        ({"retries": 1.5}, "retries is a whole number from 0, got 1.5."),
        ({"retries": None}, "retries is a whole number from 0, got None."),
    ],
)
def test_an_argument_that_cannot_be_used_is_an_error_at_once(
    kind: type[Client], arguments: dict[str, Any], sentence: str
) -> None:
    """Before any request."""
    with pytest.raises(errors.InvalidData) as raised:
        kind(**arguments)

    assert str(raised.value).endswith(sentence)


def test_a_client_shows_its_address() -> None:
    """Also one that was passed as an object of httpx."""
    assert repr(Client("http://localhost:8000/")) == "Client('http://localhost:8000')"
    with Client(httpx.URL("https://example.org/models")) as client:
        assert repr(client) == "Client('https://example.org/models')"
    assert repr(errors.AsyncClient()) == "AsyncClient('http://localhost:8000')"


def test_a_request_may_have_no_limit_of_time(connect: Connect) -> None:
    """Its repetitions have their usual pauses."""
    with scripted([BUSY, DONE]) as server:
        assert connect(server.url, timeout=None).predict("line", {"x": 1}).value == 2.5

    assert len(server.received) == 2


def test_a_misspelled_option_is_an_error(onward: AnyClient) -> None:
    """It would have no effect otherwise."""
    with pytest.raises(TypeError, match="'topp' is not an option; the options are interval"):
        onward.predict("admission", {}, topp=1)


def test_the_client_closes_what_it_opened(shipped_client: httpx.Client) -> None:
    """A client of httpx that was passed stays open."""
    with httpx.Client(verify=False) as http:  # noqa: S501 - plain HTTP
        with Client(str(shipped_client.base_url), http_client=http) as client:
            client.models()
        assert not http.is_closed
        with Client(str(shipped_client.base_url)) as client:
            client.models()
        with pytest.raises(errors.InvalidData, match=r"^This client is closed"):
            client.models()


def test_a_closed_asynchronous_client_says_so(shipped_client: httpx.Client) -> None:
    """As the other one."""

    async def use_after_close() -> None:
        async with errors.AsyncClient(str(shipped_client.base_url)) as client:
            pass
        await client.models()

    with pytest.raises(errors.InvalidData, match=r"^This client is closed"):
        asyncio.run(use_after_close())
