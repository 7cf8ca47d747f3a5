"""Every invalid request of v1 gets an error in the common format."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from tests.conftest import Serve
from tests.foreign import optional_second_input
from tests.models import publish_admission, publish_bare, publish_mixed, sum_and_difference
from tests.service.api.v1.graphs import FLOAT, STRING, publish_identity

ROW = {"exam_1": 45, "exam_2": 85}


def assert_contract(response: httpx.Response, status: int) -> str:
    """Check the status and the form of an error, and return its sentence."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert set(body) <= {"error", "code", "details"}
    assert body["code"]
    return str(body["error"])


PUBLISHERS: Mapping[str, Callable[[Path, str], object]] = {
    "admission": publish_admission,
    "mixed": publish_mixed,
    "floats": lambda models, name: publish_identity(models, name, {"x": (FLOAT, ["n", 2])}),
    "bytes": lambda models, name: publish_identity(models, name, {"x": (TensorProto.UINT8, ["n"])}),
    "texts": lambda models, name: publish_identity(models, name, {"x": (STRING, ["n"])}),
    "simple": lambda models, name: publish_bare(models, name, sum_and_difference()),
    "optional": lambda models, name: publish_bare(models, name, optional_second_input()),
}


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of a model of every kind."""

    def publish(models: Path) -> None:
        for name, publish_one in PUBLISHERS.items():
            publish_one(models, name)

    return serve(publish)


PREDICT: list[tuple[str, object, str]] = [
    ("admission", [], "Expected an object, got []. Send {"),
    ("admission", {}, "neither 'instances', for rows, nor 'inputs', for columns"),
    ("admission", {"instance": [ROW]}, "Did you mean 'instances' instead of \"instance\"?"),
    ("admission", {"instances": [ROW], "inputs": [ROW]}, "both 'instances' and 'inputs'"),
    ("admission", {"instances": ROW}, "'instances' must be a list with one item per row, got {"),
    ("admission", {"instances": None}, "got null"),
    ("admission", {"instances": []}, "'instances' holds no row"),
    ("admission", {"instances": [ROW], "signature_name": 5}, "'signature_name' must be a string"),
    ("admission", {"instances": [{"exam1": 45, "exam_2": 85}]}, "did you mean 'exam_1'?"),
    ("admission", {"instances": [{"features": [45]}]}, "array of shape [1, 1]"),
    ("admission", {"instances": [{"features": "ab"}]}, "not all FP32 values"),
    ("admission", {"instances": [{"features": [45, 85]}, [45, 85]]}, "Row 0: unknown feature"),
    ("admission", {"instances": [45, 85]}, "expected an object"),
    ("admission", {"inputs": []}, "array of shape [0]"),
    ("admission", {"inputs": [[]]}, "array of shape [1, 0]"),
    ("admission", {"inputs": {}}, "'inputs' by feature needs a list of values for each"),
    ("admission", {"inputs": ROW}, "'inputs' by feature needs a list of values for each"),
    ("admission", {"inputs": {"exam_1": [45], "exam_2": []}}, "all of the same length"),
    ("admission", {"inputs": {"exam_1": [45], "exam2": [85]}}, "did you mean 'exam_2'?"),
    ("admission", {"inputs": [[45, True]]}, "not all FP32 values"),
    ("admission", {"inputs": [[45, None]]}, "got null. It is required."),
    ("admission", {"inputs": [[45, 1e300]]}, "does not fit FP32"),
    ("mixed", {"inputs": [[1, 1, 1, 7, 0]]}, "'quarter' must be a position from 0 to 1"),
    ("floats", {"instances": [[1, 2], [3]]}, "ragged"),
    ("floats", {"instances": [[1, 2], 3]}, "ragged"),
    ("floats", {"instances": [[1, 2, 3]]}, "shape [1, 3]; the model expects [-1, 2]"),
    ("floats", {"instances": [1, 2]}, "shape [2]; the model expects [-1, 2]"),
    ("floats", {"instances": [["a", "b"]]}, "not all FP32 values"),
    ("floats", {"instances": [[1, "b"]]}, "not all FP32 values"),
    ("floats", {"instances": [[1, None]]}, "For NaN and infinity"),
    ("floats", {"instances": [[1, {"b64": "AA=="}]]}, "not all FP32 values"),
    ("floats", {"instances": [{"y": [1, 2]}]}, 'Instance 0 has an unknown input "y"'),
    (
        "floats",
        {"instances": [{"x": [1, 2]}, [3, 4]]},
        "Instance 1 must be an object like those before it, got [3,4]",
    ),
    ("floats", {"inputs": 7}, "shape []"),
    ("floats", {"inputs": "seven"}, "not all FP32 values"),
    ("floats", {"inputs": None}, "not all FP32 values"),
    ("floats", {"inputs": {"x": [[1, 2]], "y": 1}}, 'unknown input "y"'),
    ("floats", {"inputs": {}}, "is missing the input 'x'"),
    ("bytes", {"instances": [256]}, "does not fit UINT8"),
    ("bytes", {"instances": [-1]}, "does not fit UINT8"),
    ("bytes", {"instances": [1.5]}, "not all UINT8 values"),
    ("bytes", {"instances": [10**30]}, "not all UINT8 values"),
    ("texts", {"instances": ["a", 1]}, "not all strings"),
    ("texts", {"instances": [{"b64": "?"}]}, "'b64' holds a UTF-8 string in base64"),
    ("texts", {"instances": [{"b64": "/w=="}]}, "its bytes are not UTF-8"),
    ("texts", {"instances": [{"b64": 7}]}, "it is not; got 7"),
    ("texts", {"instances": [{"b64": "YQ==", "more": 1}]}, "unknown input"),
    ("simple", {"instances": [[1] * 16]}, "The model has 2 inputs, and an instance is a bare"),
    ("simple", {"instances": [{"INPUT0": [1] * 16}]}, "Instance 0 is missing the input 'INPUT1'"),
    ("simple", {"instances": [{"INPUT0": [1] * 16, "INPUT1": [1] * 16}] * 2}, "expects [1, 16]"),
    ("simple", {"inputs": [[1] * 16]}, "The model has 2 inputs, and 'inputs' is an array"),
    ("bytes", {"instances": [[1, 2], [3, 4]]}, "shape [2, 2]; the model expects [-1]"),
    ("optional", {"instances": [{"x": 1, "y": 2}, {"x": 3}]}, "Instance 1 has other inputs than"),
]


@pytest.mark.parametrize(("model", "body", "sentence"), PREDICT)
def test_an_invalid_prediction_request_is_explained(
    client: httpx.Client, model: str, body: object, sentence: str
) -> None:
    """The 400 error has the row or the input, the received and the expected value.

    A body of another length, which may be decoded in another way, gets the same error.
    """
    short = json.dumps(body)

    for content in (short, short.ljust(300)):
        response = client.post(f"/v1/models/{model}:predict", content=content)
        assert sentence in assert_contract(response, 400)


EXAMPLES: list[tuple[object, str]] = [
    ({"instances": [ROW]}, "'examples' must be a list with one item per row, got null"),
    ({"examples": []}, "'examples' holds no row"),
    ({"examples": [[45, 85]]}, "Example 0 must be an object, got [45,85]"),
    ({"examples": [ROW], "context": []}, "'context' must be an object by name, got []"),
    ({"examples": [ROW], "context": {"exam_1": 4}}, 'and the context both have "exam_1"'),
    ({"examples": [{"exam_1": [45, 46], "exam_2": 1}]}, "must be a number (points)"),
    ({"examples": [{"exam_1": 45}]}, "Feature 'exam_2' is missing"),
]


@pytest.mark.parametrize(("body", "sentence"), EXAMPLES)
def test_an_invalid_example_is_explained(client: httpx.Client, body: object, sentence: str) -> None:
    """The 400 error has the position of the example."""
    response = client.post("/v1/models/admission:classify", content=json.dumps(body))

    assert sentence in assert_contract(response, 400)


TEXTS: list[tuple[bytes, str]] = [
    (b"", "The body is empty"),
    (b"{", "The body is not JSON"),
    (b'{"instances": [[NaN, 1]]}', "JSON has no NaN or Infinity"),
    (b'{"instances": [[1e400, 1]]}', "The body is not JSON"),
    (b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}", "100 levels deep"),
    (b'{"instances": ' + b"[" * 40 + b"1" + b"]" * 40 + b"}", "the model expects [-1, 2]"),
    (b'{"instances": ' + b"[" * 100_000, "The body is not JSON"),
    (b'{"instances": [["' + b"x" * 1_000_000 + b'"' + b",1" * 5000 + b"]]}", "not all FP32"),
    (b"\xff\xfe", "The body is not JSON"),
]


@pytest.mark.parametrize(("body", "sentence"), TEXTS)
def test_an_unreadable_body_is_rejected(client: httpx.Client, body: bytes, sentence: str) -> None:
    """It is empty, truncated, deeply nested, or has huge numbers or strings."""
    response = client.post("/v1/models/floats:predict", content=body)

    assert sentence in assert_contract(response, 400)


@pytest.mark.parametrize(
    ("call", "status", "sentence"),
    [
        ("POST /v1/models/admision:predict", 404, "did you mean 'admission'?"),
        ("POST /v1/models/admission/versions/9:predict", 404, "no version '9'; available: 1."),
        ("GET /v1/models/admission/versions/9", 404, "no version '9'"),
        ("GET /v1/models/zebra/metadata", 404, "'zebra' is not found"),
        ("POST /v1/models/admission:explain", 404, 'cannot "explain"; use :predict, :classify or'),
        (
            "POST /v1/models/admission:" + "x" * 8000,
            404,
            "x…; use :predict, :classify or :regress.",
        ),
        ("POST /v1/models/zebra:explain", 404, "'zebra' is not found"),
        ("POST /v1/models/admission/labels/stable:predict", 404, "no version 'stable'"),
        ("GET /v1/models/admission/labels/stable", 404, "'stable'; available: 1; aliases: none."),
        ("GET /v1/models/admission/labels/stable/metadata", 404, "aliases: none."),
        ("POST /v1/models/admission/labels/1:predict", 404, "no version 'labels/1'"),
        ("POST /v1/models/admission/labels/stable:explain", 404, 'cannot "explain"'),
        ("GET /v1/models/admission:predict", 405, "use POST."),
        ("POST /v1/models/admission", 405, "use GET or HEAD."),
        ("POST /v1/models", 405, "use GET or HEAD."),
        ("GET /v1", 404, "There is nothing at /v1"),
    ],
)
def test_wrong_paths_and_verbs_have_helpful_errors(
    client: httpx.Client, call: str, status: int, sentence: str
) -> None:
    """404 and 405 suggest the nearest valid name."""
    response = client.request(*call.split(), json={"instances": [ROW]})

    assert sentence in assert_contract(response, status)


def test_an_unsupported_media_type_is_rejected(client: httpx.Client) -> None:
    """The 415 error has the supported type, which is JSON."""
    response = client.post(
        "/v1/models/admission:predict", content=b"{}", headers={"content-type": "image/png"}
    )

    assert "'image/png' is not supported; send application/json" in assert_contract(response, 415)


KEYS = "instances inputs examples context signature_name b64 features"
NAMES = st.sampled_from([*KEYS.split(), "x", "exam_1", "exam_2", "INPUT0", "INPUT1", "rooms"])
VALUE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    VALUE,
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(NAMES | st.text(), children, max_size=4)
    ),
    max_leaves=16,
)
BODY = st.one_of(
    JSON,
    st.fixed_dictionaries({"instances": st.lists(JSON, max_size=3)}),
    st.fixed_dictionaries({"inputs": JSON}),
    st.fixed_dictionaries({"examples": st.lists(st.dictionaries(NAMES, JSON), max_size=3)}),
)


@settings(max_examples=200, deadline=None)
@given(
    body=BODY,
    call=st.tuples(
        st.sampled_from(sorted(PUBLISHERS)), st.sampled_from(["predict", "classify", "regress"])
    ).map(":".join),
)
def test_no_json_causes_a_500(client: httpx.Client, body: object, call: str) -> None:
    """Generated bodies get a prediction or a client error, for any model."""
    response = client.post(f"/v1/models/{call}", content=json.dumps(body))

    if response.status_code != 200:
        assert_contract(response, 400)
