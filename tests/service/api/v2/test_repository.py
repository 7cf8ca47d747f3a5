"""The repository extension: the index, and models loaded and unloaded by calls."""

from pathlib import Path

import httpx
import pytest
import tritonclient.http as triton

from service.bundle.store import MODEL
from tests.conftest import StartApp
from tests.foreign import unknown_operator
from tests.models import place_bare, publish_price, sum_and_difference
from tests.service.api.test_nonsense import assert_contract

INDEX = "/v2/repository/index"
CONTROL = {"model_control": "explicit"}


def states(client: httpx.Client, body: bytes = b"") -> dict[str, str]:
    """The state of each model in the index."""
    return {entry["name"]: entry["state"] for entry in client.post(INDEX, content=body).json()}


def test_the_index_lists_every_version_and_why_it_does_not_serve(
    models: Path, start: StartApp
) -> None:
    """An empty body, as Triton's client posts it, lists all; ``ready`` leaves out the others."""
    publish_price(models)
    place_bare(models, "odd", unknown_operator())
    client = start()

    odd, price = client.post(INDEX).json()

    assert price == {"name": "price", "version": "1", "state": "READY", "reason": ""}
    assert (odd["name"], odd["state"]) == ("odd", "UNAVAILABLE")
    assert "Conjure" in odd["reason"]
    assert states(client, b"{}") == {"odd": "UNAVAILABLE", "price": "READY"}
    assert states(client, b'{"ready": false}') == {"odd": "UNAVAILABLE", "price": "READY"}
    assert states(client, b'{"ready": true}') == {"price": "READY"}


@pytest.mark.parametrize("body", [b"[]", b'{"ready": "yes"}', b"7", b'{"ready": null}'])
def test_a_wrong_filter_is_told(models: Path, start: StartApp, body: bytes) -> None:
    """The sentence shows what may be sent."""
    publish_price(models)

    answer = start().post(INDEX, content=body)

    assert "'ready', true or false" in assert_contract(answer, 400)["error"]


@pytest.mark.parametrize("call", ["load", "unload"])
def test_calls_do_not_change_what_serves_unless_the_operator_allows_it(
    models: Path, start: StartApp, call: str
) -> None:
    """403 names the setting, and the model serves on."""
    publish_price(models)
    client = start()

    answer = client.post(f"/v2/repository/models/price/{call}")

    body = assert_contract(answer, 403)
    assert body["code"] == "not_allowed"
    assert "ONWARD_MODEL_CONTROL=explicit" in body["error"]
    assert client.get("/v2/models/price/ready").json() == {"name": "price", "ready": True}


def test_a_model_goes_and_comes_back_by_tritons_client(models: Path, start: StartApp) -> None:
    """Unloaded it says why it does not answer; loaded again it does."""
    publish_price(models)
    publish_price(models, "other")
    http = start(**CONTROL)
    client = triton.InferenceServerClient(str(http.base_url).removeprefix("http://").rstrip("/"))

    client.unload_model("price")
    gone = http.post("/models/price/predict", json={"size": 2})
    was_ready = client.is_model_ready("price")
    index = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    client.load_model("price")

    assert "unloaded on request" in assert_contract(gone, 503)["error"]
    assert not was_ready
    assert index == {"other": "READY", "price": "UNAVAILABLE"}
    assert client.is_model_ready("price")
    assert http.post("/models/price/predict", json={"size": 2}).json()["value"] == 4
    client.close()


def test_a_model_copied_in_since_the_start_is_loaded(models: Path, start: StartApp) -> None:
    """The folder is looked at anew; a new version of a known model takes over as well."""
    publish_price(models)
    client = start(**CONTROL)
    place_bare(models, "simple", sum_and_difference())
    publish_price(models, slope=3.0)

    unknown = client.get("/v2/models/simple")
    loaded = [client.post(f"/v2/repository/models/{name}/load") for name in ("simple", "price")]

    assert_contract(unknown, 404)
    assert [(answer.status_code, answer.json()) for answer in loaded] == [(200, {})] * 2
    assert client.get("/v2/models/simple/ready").status_code == 200
    assert client.get("/v2/models/price").json()["versions"] == ["2"]


def test_a_load_that_fails_leaves_the_old_version_serving(models: Path, start: StartApp) -> None:
    """409 tells the reason, and so does the index; predictions never stop."""
    publish_price(models)
    client = start(**CONTROL)
    broken = publish_price(models, slope=3.0)
    (broken / MODEL).write_bytes(b"not a model")

    answer = client.post("/v2/repository/models/price/load")

    assert assert_contract(answer, 409)["code"] == "model_unservable"
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
def test_a_model_that_is_not_there_is_told(models: Path, start: StartApp, call: str) -> None:
    """404 suggests the nearest name."""
    publish_price(models)

    answer = start(**CONTROL).post(f"/v2/repository/models/prise/{call}")

    assert "did you mean 'price'?" in assert_contract(answer, 404)["error"]
