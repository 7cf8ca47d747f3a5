"""Every invalid request gets an error that states the field, the value and a remedy."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Serve, StartApp
from tests.models import publish_admission, publish_mixed, publish_price

GOOD = {"exam_1": 45, "exam_2": 85}
URL = "/models/admission/predict"


def assert_contract(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check the status and the form of an error, and return its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert set(body) <= {"error", "code", "details"}
    assert not body["error"][0].islower()
    assert body["code"]
    return body


VALUES: list[tuple[object, str]] = [
    ({"exam_1": "+5", "exam_2": 85}, "Send a JSON number, without quotes or unit."),
    ({}, "Feature 'exam_1' is missing. Add \"exam_1\": 61"),
    ({"exam_1": 45}, "Feature 'exam_2' is missing. Add \"exam_2\": 74"),
    (GOOD | {"age": 3}, 'Unknown feature "age"; known names: "exam_1", "exam_2"'),
    ({"exam1": 45, "exam_2": 85}, "Unknown feature \"exam1\"; did you mean 'exam_1'?"),
    (GOOD | {"exam_1": "45"}, 'from 0 to 100, got "45". Send 45 without the quotes.'),
    (GOOD | {"exam_1": "45,5"}, "Send 45.5: a point marks the decimals"),
    (GOOD | {"exam_1": "45 %"}, "Send 45 without the percent sign"),
    (GOOD | {"exam_1": "good"}, 'got "good". Send a JSON number'),
    (GOOD | {"exam_1": "NaN"}, "NaN and infinity are not accepted"),
    (GOOD | {"exam_1": ""}, 'got "". Send a JSON number'),
    (GOOD | {"exam_1": True}, "got true. Send a number, not true or false."),
    (GOOD | {"exam_1": None}, "got null. It is required."),
    (GOOD | {"exam_1": [45]}, "must be a number (points) from 0 to 100, got [45]"),
    (GOOD | {"exam_1": {"value": 45}}, 'got {"value":45}'),
    (GOOD | {"exam_1": 101}, "from 0 to 100, got 101. Check the unit: it is points."),
    (GOOD | {"exam_1": -0.001}, "got -0.001"),
    (GOOD | {"exam_1": 1e300}, "It does not fit a 32-bit number."),
    (GOOD | {"exam_1": "x" * 10_000}, "xxx…"),
    ([], "There is no row to predict"),
    ({"instances": []}, "There is no row to predict"),
    ({"instances": GOOD}, "'instances' must be an array of rows: ["),
    ("exam_1", "Expected an object, an array of objects, or instances"),
    ({"instances": [GOOD], "more": 1}, '"more" is not known next to'),
    ([1, 2], "2 problems. The first: Row 0: expected an object with"),
    ([[1, 2, 3]], "got 3 values. Send for example"),
    ([GOOD, {}], "Row 1: feature 'exam_1' is missing"),
    (7, "Expected an object"),
    (None, "Expected an object"),
    ("45", "Expected an object"),
]


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of the models of this file."""

    def publish(models: Path) -> None:
        publish_admission(models)
        publish_mixed(models)
        publish_price(models)

    return serve(publish)


@pytest.mark.parametrize(("body", "sentence"), VALUES)
def test_an_invalid_value_is_reported_with_a_remedy(
    client: httpx.Client, body: object, sentence: str
) -> None:
    """The error has the row, the feature, the expected and the received value, and a remedy."""
    response = client.post(URL, content=json.dumps(body))

    assert sentence in assert_contract(response, 400)["error"]


TEXTS: list[tuple[bytes, str]] = [
    (b"", "The body is empty. Send for example"),
    (b"  \n", "The body is empty"),
    (b"{", "The body is not JSON"),
    (b'{"exam_1": NaN, "exam_2": 1}', "JSON has no NaN or Infinity"),
    (b'{"exam_1": -Infinity, "exam_2": 1}', "JSON has no NaN or Infinity"),
    (b'{"exam_1": 4,5, "exam_2": 1}', "The body is not JSON"),
    (b"exam_1=45&exam_2=85", "The body is not JSON"),
    (b"\xff\xfe\x00", "The body is not JSON"),
    (b"[" * 100_000, "The body is not JSON"),
    (b'{"exam_1":' * 5000 + b"1" + b"}" * 5000, "The body is not JSON"),
    (b'{"exam_1": 1' + b"0" * 5000 + b', "exam_2": 1}', "exam_1"),
]


@pytest.mark.parametrize(("body", "sentence"), TEXTS)
def test_a_body_that_is_not_json_is_rejected(
    client: httpx.Client, body: bytes, sentence: str
) -> None:
    """Empty, truncated, foreign and deeply nested bodies are rejected with a remedy."""
    response = client.post(URL, content=body, headers={"content-type": "application/json"})

    assert sentence in assert_contract(response, 400)["error"]


def test_all_problems_of_all_rows_are_reported_together(client: httpx.Client) -> None:
    """The details have row, feature, expectation, value and hint of each."""
    rows = [
        {"rooms": 2.5, "garden": "yes", "quarter": "norht"},
        {"rooms": 0, "garden": False, "quarter": "south"},
        {"garden": 2, "quarter": 7, "color": 7},
    ]

    body = assert_contract(client.post("/models/mixed/predict", json=rows), 400)

    positions = [(detail["row"], detail["feature"]) for detail in body["details"]]
    assert positions == [
        *((0, "garden"), (0, "quarter"), (0, "rooms")),
        (1, "rooms"),
        *((2, "rooms"), (2, "garden"), (2, "quarter")),
    ]
    assert body["details"][1]["hint"] == 'Did you mean "north"?'
    assert body["details"][1]["expected"] == 'one of "north", "south"'
    assert body["error"].startswith("7 problems. The first: Row 0: feature 'garden'")


def test_values_out_of_range_are_reported_like_wrong_types(client: httpx.Client) -> None:
    """Fractional and too few rooms are reported with row and expectation."""
    rows = [{"rooms": rooms, "garden": True, "quarter": "north"} for rooms in (1, 2.5, 0)]

    body = assert_contract(client.post("/models/mixed/predict", json=rows), 400)

    assert [detail["sentence"] for detail in body["details"]] == [
        "Row 1: feature 'rooms' must be a whole number from 1, got 2.5.",
        "Row 2: feature 'rooms' must be a whole number from 1, got 0.",
    ]


def test_a_thousand_wrong_rows_get_a_hundred_details(client: httpx.Client) -> None:
    """The response stays small, and the count stays exact."""
    body = assert_contract(client.post("/models/price/predict", json=[{}] * 1000), 400)

    assert len(body["details"]) == 100
    assert body["error"].startswith("1000 problems.")


@pytest.mark.parametrize("content_type", ["text/plain", "image/png", "nonsense"])
def test_an_unsupported_media_type_is_rejected(client: httpx.Client, content_type: str) -> None:
    """The 415 error has the received and the supported types."""
    response = client.post(URL, content=b"{}", headers={"content-type": content_type})

    sentence = assert_contract(response, 415)["error"]
    assert repr(content_type) in sentence
    assert "application/json" in sentence


def test_json_with_a_charset_or_without_a_type_is_read(client: httpx.Client) -> None:
    """JSON is accepted with a charset parameter and without a header."""
    body = b'{"exam_1": 45, "exam_2": 85}'

    for headers in ({"content-type": "Application/JSON; charset=utf-8"}, {}):
        assert client.post(URL, content=body, headers=headers).status_code == 200


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_json_that_curl_declares_a_form_is_read(client: httpx.Client, verb: str) -> None:
    """`curl -d` sends a content type of its own unless it gets another."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    path = f"/models/admission/{verb}"

    response = client.post(path, content=b'{"exam_1": 45, "exam_2": 85}', headers=form)
    fields = client.post(path, content=b"exam_1=45&exam_2=85", headers=form)

    assert response.status_code == 200, response.text
    sentence = assert_contract(fields, 400)["error"]
    assert 'Send for example {"exam_1":' in sentence


def test_an_unsupported_encoding_is_rejected(client: httpx.Client) -> None:
    """The 415 error names the encoding."""
    response = client.post(URL, json=GOOD, headers={"content-encoding": "br"})

    assert "'br'" in assert_contract(response, 415)["error"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_rejected(models: Path, start: StartApp, chunked: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The 413 error is sent for a declared length and for a length that is found while reading."""
    publish_admission(models)
    body = b" " * 2000
    content = iter([body[:1000], body[1000:]]) if chunked else body

    response = start(max_body_bytes=1000).post(URL, content=content)

    assert "limit of 1,000 bytes" in assert_contract(response, 413)["error"]


@pytest.mark.parametrize(
    ("call", "status", "sentence"),
    [
        ("POST /models/admision/predict", 404, "did you mean 'admission'?"),
        ("GET /models/zebra", 404, "available: admission, mixed, price."),
        ("POST /models/admission/versions/9/predict", 404, "has no version '9'; available: 1."),
        ("POST /models/admission/versions/one/predict", 404, "has no version 'one'"),
        ("POST /v2/models/zebra/infer", 404, "Request for unknown model: 'zebra' is not found"),
        ("GET /v2/models/zebra/ready", 404, "is not found"),
        ("GET /nowhere", 404, "There is nothing at /nowhere; GET /models lists"),
        ("POST /models/%00/predict", 404, "is not found"),
        ("POST /models/..%2F..%2Fetc/predict", 404, "/models"),
        ("GET /models/admission/predict", 405, "use POST, such as: curl http"),
        ("PUT /v1/models/admission:predict", 405, "use POST."),
        ("DELETE /models", 405, "DELETE is not allowed for /models; use GET or HEAD."),
        ("POST /metrics", 405, "use GET or HEAD."),
    ],
)
def test_wrong_paths_and_methods_have_helpful_errors(
    client: httpx.Client, call: str, status: int, sentence: str
) -> None:
    """404 and 405 have the form of every error."""
    response = client.request(*call.split(), json=GOOD)

    assert sentence in assert_contract(response, status)["error"]


def test_an_exceeded_deadline_is_reported(models: Path, start: StartApp) -> None:
    """The 504 error has the seconds; many rows go through the queue, where the deadline applies."""
    publish_price(models)
    rows = [{"size": 1}] * 2000

    response = start(deadline_seconds=1e-9).post("/models/price/predict", json=rows)

    assert "No response within 1e-09 s" in assert_contract(response, 504)["error"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.sampled_from(["exam_1", "exam_2", "instances", "inputs", "name", "data"])
            | st.text(),
            children,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(body=st.data())
def test_no_body_causes_a_500(client: httpx.Client, body: st.DataObject) -> None:
    """Generated bodies get a prediction or a client error in both protocols."""
    path = body.draw(st.sampled_from([URL, "/v2/models/admission/infer"]))
    content = body.draw(JSON.map(json.dumps).map(str.encode) | st.binary(max_size=200))

    response = client.post(path, content=content)

    if response.status_code != 200:
        assert_contract(response, 400)
