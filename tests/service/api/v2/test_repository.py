"""The repository extension: the index, and loading and unloading of models."""

from pathlib import Path

import httpx
import pytest
import tritonclient.http as triton

from service.bundle.store import MODEL
from tests.conftest import StartApp
from tests.foreign import unknown_operator
from tests.models import publish_bare, publish_price, sum_and_difference
from tests.service.api.test_invalid_requests import assert_contract

INDEX = "/v2/repository/index"
CONTROL = {"model_control": "explicit"}


def states(client: httpx.Client, body: bytes = b"") -> dict[str, str]:
    """Return the state of each model in the index."""
    return {entry["name"]: entry["state"] for entry in client.post(INDEX, content=body).json()}


def test_the_index_has_every_version_with_its_state_and_reason(
    models: Path, start: StartApp
) -> None:
    """Triton's client posts an empty body for all; ``ready`` excludes the others."""
    publish_price(models)
    publish_bare(models, "odd", unknown_operator())
    client = start()

    odd, price = client.post(INDEX).json()

    assert price == {"name": "price", "version": "1", "state": "READY", "reason": ""}
    assert (odd["name"], odd["state"]) == ("odd", "UNAVAILABLE")
    assert "Nonexistent" in odd["reason"]
    assert states(client, b"{}") == {"odd": "UNAVAILABLE", "price": "READY"}
    assert states(client, b'{"ready": false}') == {"odd": "UNAVAILABLE", "price": "READY"}
    assert states(client, b'{"ready": true}') == {"price": "READY"}


@pytest.mark.parametrize("body", [b"[]", b'{"ready": "yes"}', b"7", b'{"ready": null}'])
def test_an_invalid_filter_is_rejected(models: Path, start: StartApp, body: bytes) -> None:
    """The error message states the valid filter."""
    publish_price(models)

    response = start().post(INDEX, content=body)

    assert "'ready', true or false" in assert_contract(response, 400)["error"]


@pytest.mark.parametrize("call", ["load", "unload"])
def test_models_are_loaded_and_unloaded_only_if_enabled(
    models: Path, start: StartApp, call: str
) -> None:
    """The 403 error names the setting, and the model serves on."""
    publish_price(models)
    client = start()

    response = client.post(f"/v2/repository/models/price/{call}")

    body = assert_contract(response, 403)
    assert body["code"] == "not_allowed"
    assert "ONWARD_MODEL_CONTROL=explicit" in body["error"]
    assert client.get("/v2/models/price/ready").json() == {"name": "price", "ready": True}


def test_tritons_client_unloads_and_loads_a_model(models: Path, start: StartApp) -> None:
    """Requests to the unloaded model get the reason."""
    publish_price(models)
    publish_price(models, "other")
    http = start(**CONTROL)
    client = triton.InferenceServerClient(str(http.base_url).removeprefix("http://").rstrip("/"))

    client.unload_model("price")
    unloaded = http.post("/models/price/predict", json={"size": 2})
    was_ready = client.is_model_ready("price")
    index = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    client.load_model("price")

    assert "unloaded on request" in assert_contract(unloaded, 503)["error"]
    assert not was_ready
    assert index == {"other": "READY", "price": "UNAVAILABLE"}
    assert client.is_model_ready("price")
    assert http.post("/models/price/predict", json={"size": 2}).json()["value"] == 4
    client.close()


def test_a_load_finds_models_added_since_the_start(models: Path, start: StartApp) -> None:
    """The folder is scanned again; a new version of a known model is loaded as well."""
    publish_price(models)
    client = start(**CONTROL)
    publish_bare(models, "simple", sum_and_difference())
    publish_price(models, slope=3.0)

    unknown = client.get("/v2/models/simple")
    loaded = [client.post(f"/v2/repository/models/{name}/load") for name in ("simple", "price")]

    assert_contract(unknown, 404)
    assert [(response.status_code, response.json()) for response in loaded] == [(200, {})] * 2
    assert client.get("/v2/models/simple/ready").status_code == 200
    assert client.get("/v2/models/price").json()["versions"] == ["2"]


def test_after_a_failed_load_the_old_version_serves(models: Path, start: StartApp) -> None:
    """The 409 error and the index have the reason."""
    publish_price(models)
    client = start(**CONTROL)
    broken = publish_price(models, slope=3.0)
    (broken / MODEL).write_bytes(b"not a model")

    response = client.post("/v2/repository/models/price/load")

    assert assert_contract(response, 409)["code"] == "model_unservable"
    index = client.post(INDEX).json()
    assert [(entry["version"], entry["state"]) for entry in index] == [
        ("2", "UNAVAILABLE"),
        ("1", "READY"),
    ]
    assert index[0]["reason"]
    assert client.post("/models/price/predict", json={"size": 2}).json() == {
        "value": 4.0,
        "unit": "euros",
        "model_version": "1",
    }


@pytest.mark.parametrize("call", ["load", "unload"])
def test_an_unknown_model_is_reported(models: Path, start: StartApp, call: str) -> None:
    """The 404 error suggests the nearest name."""
    publish_price(models)

    response = start(**CONTROL).post(f"/v2/repository/models/prise/{call}")

    assert "did you mean 'price'?" in assert_contract(response, 404)["error"]
