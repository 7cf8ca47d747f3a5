"""The core of the Open Inference Protocol in JSON."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Serve, StartApp
from tests.models import (
    admission_probability,
    publish_admission,
    publish_bare,
    publish_price,
    sum_and_difference,
)

ROW = {"name": "features", "shape": [1, 2], "datatype": "FP32", "data": [45, 85]}


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of the models of this file."""

    def publish(models: Path) -> None:
        publish_admission(models)
        publish_bare(models, "simple", sum_and_difference())
        publish_price(models)

    return serve(publish)


def test_server_metadata_is_served_with_and_without_a_slash(start: StartApp) -> None:
    """GET /v2 and /v2/ have equal responses, without a redirect."""
    client = start(server_name="mine")

    responses = [client.get(path, follow_redirects=False) for path in ("/v2", "/v2/")]

    assert [response.status_code for response in responses] == [200, 200]
    assert responses[0].json() == responses[1].json()
    assert responses[0].json()["name"] == "mine"


def test_metadata_has_the_tensors(client: httpx.Client) -> None:
    """Names, datatypes and shapes are those of the graph; -1 is any number of rows."""
    metadata = client.get("/v2/models/admission").json()

    assert metadata == {
        "name": "admission",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "probability", "datatype": "FP32", "shape": [-1, 1]}],
    }


def test_a_response_has_every_output_as_flat_data(client: httpx.Client) -> None:
    """It repeats the id, and has name, datatype, shape and row-major data."""
    response = client.post("/v2/models/admission/infer", json={"id": "42", "inputs": [ROW]})

    assert response.json() == {
        "model_name": "admission",
        "model_version": "1",
        "id": "42",
        "outputs": [
            {
                "name": "probability",
                "datatype": "FP32",
                "shape": [1, 1],
                "data": [pytest.approx(admission_probability(45, 85), abs=1e-6)],
            }
        ],
    }


def test_data_may_be_flat_or_nested(client: httpx.Client) -> None:
    """Both forms of a tensor get the same response."""
    flat = ROW | {"shape": [2, 2], "data": [45, 85, 30, 40]}
    nested = ROW | {"shape": [2, 2], "data": [[45, 85], [30, 40]]}

    responses = [
        client.post("/v2/models/admission/infer", json={"inputs": [tensor]}).json()
        for tensor in (flat, nested)
    ]

    assert responses[0] == responses[1]
    assert responses[0]["outputs"][0]["shape"] == [2, 1]


def test_a_bare_model_of_several_tensors_is_served(client: httpx.Client) -> None:
    """The response has all outputs, or the requested ones in their order."""
    tensor = {"shape": [1, 16], "datatype": "INT32"}
    inputs = [
        tensor | {"name": "INPUT1", "data": [1] * 16},
        tensor | {"name": "INPUT0", "data": list(range(16))},
    ]

    everything = client.post("/v2/models/simple/infer", json={"inputs": inputs}).json()
    chosen = client.post(
        "/v2/models/simple/infer", json={"inputs": inputs, "outputs": [{"name": "OUTPUT1"}]}
    ).json()

    assert [output["name"] for output in everything["outputs"]] == ["OUTPUT0", "OUTPUT1"]
    assert everything["outputs"][0]["data"] == [value + 1 for value in range(16)]
    assert chosen["outputs"] == everything["outputs"][1:]


def test_health_has_the_form_of_the_protocol(client: httpx.Client) -> None:
    """Liveness and readiness are JSON; the readiness of a model has its own path."""
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/price/ready").json() == {"name": "price", "ready": True}


WRONG: list[tuple[Any, str]] = [
    ([], "must be a JSON object with 'inputs', got []"),
    ({}, "'inputs' must be a list of the tensors 'features', got null"),
    ({"inputs": []}, "'inputs' must be a list"),
    ({"inputs": [7]}, "must be an object with a 'name', a string, got 7"),
    ({"inputs": [{"name": ["features"]}]}, "a 'name', a string, got [\"features\"]"),
    ({"inputs": [ROW | {"name": "feature"}]}, "did you mean 'features'"),
    ({"inputs": [ROW, ROW]}, "given twice; send it once"),
    ({"inputs": [ROW | {"datatype": "FP64"}]}, '"FP64"; the model expects FP32'),
    ({"inputs": [ROW | {"datatype": None}]}, "expects FP32"),
    ({"inputs": [ROW | {"shape": [1, 3]}]}, "expects [-1, 2]"),
    ({"inputs": [ROW | {"shape": [2]}]}, "expects [-1, 2]"),
    ({"inputs": [ROW | {"shape": [-1, 2]}]}, "whole numbers"),
    ({"inputs": [ROW | {"shape": "1,2"}]}, "whole numbers"),
    ({"inputs": [ROW | {"shape": [True, 2]}]}, "whole numbers"),
    ({"inputs": [ROW | {"shape": [0, 2], "data": []}]}, "no rows"),
    ({"inputs": [ROW | {"shape": [10**30, 2]}]}, "whole numbers"),
    ({"inputs": [ROW | {"shape": [2**62, 2]}]}, "longer than any memory"),
    ({"inputs": [ROW | {"shape": [100_000, 2]}]}, "data has 2 values"),
    (
        {"inputs": [{k: ROW[k] for k in ("name", "shape", "datatype")}]},
        "has no data; send a list 'data'",
    ),
    ({"inputs": [ROW | {"data": [1, 2, 3]}]}, "3 values"),
    ({"inputs": [ROW | {"data": [[1], [2]]}]}, "nested as [2, 1]"),
    ({"inputs": [ROW | {"data": [[1, 2], [3]]}]}, "ragged"),
    ({"inputs": [ROW | {"data": ["1", "2"]}]}, 'not all FP32 values, got "1"; send numbers.'),
    ({"inputs": [ROW | {"data": [True, False]}]}, "not all FP32 values, got true"),
    ({"inputs": [ROW | {"data": [1, None]}]}, "got null"),
    (
        {"inputs": [ROW | {"data": [1, 1e300]}]},
        "1e+300 does not fit FP32; send numbers from -3.4028235e+38 to 3.4028235e+38.",
    ),
    ({"inputs": [ROW | {"data": {"a": 1}}]}, "must be a list"),
    ({"inputs": [ROW | {"data": [1, 101]}]}, "'exam_2' must be a number (points) from 0 to 100"),
    ({"inputs": [ROW], "outputs": [{"name": "label"}]}, 'Unknown output "label"'),
    ({"inputs": [ROW], "outputs": {}}, "'outputs' must be a list"),
    ({"inputs": [ROW], "id": 7}, "'id' must be a string"),
    ({"inputs": [ROW], "input": []}, '"input" is not part of'),
]


@pytest.mark.parametrize(("body", "sentence"), WRONG)
def test_an_invalid_inference_request_is_explained(
    client: httpx.Client, body: object, sentence: str
) -> None:
    """Each 400 error has the tensor and the expectation."""
    response = client.post("/v2/models/admission/infer", json=body)

    assert response.status_code == 400
    assert sentence in response.json()["error"]
