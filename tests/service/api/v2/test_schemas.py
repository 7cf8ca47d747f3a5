"""Responses fit the schemas of the protocol's specification."""

from collections.abc import Mapping
from pathlib import Path

import httpx
import jsonschema
import numpy as np
import orjson
import pytest
from onnx import TensorProto

from tests.conftest import Serve
from tests.foreign import one_node, optional_both_ways, unknown_operator
from tests.models import publish_admission, publish_bare, publish_iris, publish_price
from tests.service.api.v2 import schemas
from tests.tensors import LENGTH, Array, infer_in_binary, infer_in_json
from tests.triton_models import identity, sum_and_difference

SIXTEEN = np.arange(16, dtype=np.int32).reshape(1, 16)
INPUTS: Mapping[str, Mapping[str, Array]] = {
    "admission": {"features": np.array([[45, 85]], np.float32)},
    "price": {"features": np.array([[2]], np.float32)},
    "iris": {"features": np.array([[1, 2, 3]], np.float32)},
    "simple": {"INPUT0": SIXTEEN, "INPUT1": SIXTEEN},
    "text": {"INPUT0": np.array([["a", "ü"]], object)},
    "any_rank": {"x": np.array([[np.float32(-1)]])},
    "perhaps": {"x": np.array([1, 2], np.float32)},
}


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """Start a service with several models, one of which fails to load."""

    def publish(models: Path) -> None:
        publish_admission(models)
        publish_price(models)
        publish_iris(models)
        publish_bare(models, "simple", sum_and_difference())
        publish_bare(models, "text", identity(TensorProto.STRING, ["rows", "columns"]))
        publish_bare(models, "any_rank", one_node("Log"))
        publish_bare(models, "perhaps", optional_both_ways())
        publish_bare(models, "broken", unknown_operator())

    return serve(publish)


def require(document: object, schema: schemas.Schema) -> None:
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)


def test_server_metadata_and_health_fit_their_schemas(client: httpx.Client) -> None:
    """The responses conform to the schemas with and without a slash at the end of the path."""
    require(client.get("/v2").json(), schemas.METADATA_SERVER)
    require(client.get("/v2/").json(), schemas.METADATA_SERVER)
    require(client.get("/v2/health/live").json(), schemas.LIVE)
    require(client.get("/v2/health/ready").json(), schemas.READY)


@pytest.mark.parametrize("name", INPUTS)
def test_model_metadata_and_readiness_fit_their_schemas(client: httpx.Client, name: str) -> None:
    """That holds for a model, and for one version of it."""
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/1"):
        require(client.get(path).json(), schemas.METADATA_MODEL)
        require(client.get(f"{path}/ready").json(), schemas.MODEL_READY)


@pytest.mark.parametrize("name", INPUTS)
def test_a_response_in_json_fits_its_schema(client: httpx.Client, name: str) -> None:
    """Data is flat, with null for numbers that are not finite."""
    response = infer_in_json(client, name, INPUTS[name])

    assert response.status_code == 200
    require(response.json(), schemas.INFERENCE)
    assert all("data" in output for output in response.json()["outputs"])


@pytest.mark.parametrize("name", INPUTS)
def test_a_response_in_binary_fits_its_schema(client: httpx.Client, name: str) -> None:
    """The JSON has sizes instead of data, which add up to the remaining bytes."""
    response = infer_in_binary(client, name, INPUTS[name])

    length = int(response.headers[LENGTH])
    document = orjson.loads(response.content[:length])
    require(document, schemas.INFERENCE)
    sizes = [output["parameters"]["binary_data_size"] for output in document["outputs"]]
    assert sum(sizes) == len(response.content) - length
    assert response.headers["content-type"] == "application/octet-stream"


ERRORS = [
    ("GET", "/v2/models/zebra", None),
    ("GET", "/v2/models/price/versions/9", None),
    ("GET", "/v2/models/broken", None),
    ("GET", "/v2/models/broken/config", None),
    ("POST", "/v2/models/zebra/infer", b"{}"),
    ("POST", "/v2/models/price/infer", b""),
    ("POST", "/v2/models/price/infer", b"{}"),
    ("POST", "/v2/models/broken/infer", b"{}"),
    ("POST", "/v2/repository/index", b"["),
    ("POST", "/v2/repository/models/price/load", b""),
    ("DELETE", "/v2/models/price", None),
    ("GET", "/v2/nothing", None),
]


@pytest.mark.parametrize(("verb", "path", "body"), ERRORS)
def test_an_error_fits_its_schema(
    client: httpx.Client, verb: str, path: str, body: bytes | None
) -> None:
    """An error is an object whose value is a message."""
    response = client.request(verb, path, content=body)

    assert 400 <= response.status_code < 500
    require(response.json(), schemas.ERROR)
