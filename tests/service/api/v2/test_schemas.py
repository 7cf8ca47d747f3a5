"""Real answers have the form that the protocol publishes."""

from collections.abc import Mapping
from pathlib import Path

import httpx
import jsonschema
import numpy as np
import orjson
import pytest
from onnx import TensorProto

from tests.conftest import StartApp
from tests.foreign import one_node, optional_both_ways, unknown_operator
from tests.models import place_bare, publish_admission, publish_iris, publish_price
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


@pytest.fixture
def client(models: Path, start: StartApp) -> httpx.Client:
    """A service of several models, one of which cannot be served."""
    publish_admission(models)
    publish_price(models)
    publish_iris(models)
    place_bare(models, "simple", sum_and_difference())
    place_bare(models, "text", identity(TensorProto.STRING, ["rows", "columns"]))
    place_bare(models, "any_rank", one_node("Log"))
    place_bare(models, "perhaps", optional_both_ways())
    place_bare(models, "broken", unknown_operator())
    return start()


def require(document: object, schema: schemas.Schema) -> None:
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)


def test_server_and_health_have_their_form(client: httpx.Client) -> None:
    """What the server tells of itself."""
    require(client.get("/v2").json(), schemas.METADATA_SERVER)
    require(client.get("/v2/").json(), schemas.METADATA_SERVER)
    require(client.get("/v2/health/live").json(), schemas.LIVE)
    require(client.get("/v2/health/ready").json(), schemas.READY)


@pytest.mark.parametrize("name", INPUTS)
def test_metadata_and_readiness_have_their_form(client: httpx.Client, name: str) -> None:
    """Of a model, and of one version of it."""
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/1"):
        require(client.get(path).json(), schemas.METADATA_MODEL)
        require(client.get(f"{path}/ready").json(), schemas.MODEL_READY)


@pytest.mark.parametrize("name", INPUTS)
def test_an_inference_in_json_has_its_form(client: httpx.Client, name: str) -> None:
    """Name, datatype, shape and flat data; null where a number is not finite."""
    answer = infer_in_json(client, name, INPUTS[name])

    assert answer.status_code == 200
    require(answer.json(), schemas.INFERENCE)
    assert all("data" in output for output in answer.json()["outputs"])


@pytest.mark.parametrize("name", INPUTS)
def test_an_inference_in_binary_has_its_form(client: httpx.Client, name: str) -> None:
    """The JSON part is the same object with sizes for data, and they add up to the rest."""
    answer = infer_in_binary(client, name, INPUTS[name])

    length = int(answer.headers[LENGTH])
    document = orjson.loads(answer.content[:length])
    require(document, schemas.INFERENCE)
    sizes = [output["parameters"]["binary_data_size"] for output in document["outputs"]]
    assert sum(sizes) == len(answer.content) - length
    assert answer.headers["content-type"] == "application/octet-stream"


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
def test_an_error_has_its_form(
    client: httpx.Client, verb: str, path: str, body: bytes | None
) -> None:
    """An object with a sentence, whatever went wrong."""
    answer = client.request(verb, path, content=body)

    assert 400 <= answer.status_code < 500
    require(answer.json(), schemas.ERROR)
