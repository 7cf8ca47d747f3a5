"""Aliases and policies as callers meet them: in every dialect's version place, and in the lists."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.bundle.policy import POLICY, Policy, change_policy
from service.bundle.store import MODEL
from tests.conftest import StartApp
from tests.models import publish_price
from tests.service.api.test_nonsense import assert_contract

CONTROL = {"model_control": "explicit"}
ROW = {"inputs": [{"name": "features", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}
# How each dialect asks a version or an alias: path, body, and where the number stands.
DIALECTS: list[tuple[str, Any, list[Any]]] = [
    ("/models/price/versions/{asked}/predict", {"size": 1}, ["value"]),
    ("/v1/models/price/versions/{asked}:predict", {"instances": [[1]]}, ["predictions", 0, 0]),
    ("/v2/models/price/versions/{asked}/infer", ROW, ["outputs", 0, "data", 0]),
]


def set_aliases(models: Path, **aliases: int) -> None:
    """Set aliases as `onward publish` does."""
    for name, version in aliases.items():
        change_policy(models / "price", partial(_moved, name, version))


def _moved(name: str, version: int, policy: Policy) -> Policy:
    return policy.with_alias(name, version)


def answered(client: httpx.Client, path: str, body: Any, place: list[Any]) -> float:  # noqa: ANN401 - JSON
    found = client.post(path, json=body)
    assert found.status_code == 200, found.text
    value: Any = found.json()
    for key in place:
        value = value[key]
    return float(value)


@pytest.mark.parametrize(("path", "body", "place"), DIALECTS)
def test_an_alias_stands_where_a_version_may(
    models: Path, start: StartApp, path: str, body: object, place: list[object]
) -> None:
    """The slopes are the versions' numbers, so each answer tells which one computed it."""
    for slope in (1.0, 2.0, 3.0):
        publish_price(models, slope=slope)
    set_aliases(models, stable=1, canary=3)
    client = start()

    seen = {
        asked: answered(client, path.format(asked=asked), body, place)
        for asked in ("stable", "canary", "1", "3")
    }
    unnamed = answered(client, path.replace("/versions/{asked}", ""), body, place)

    assert seen == {"stable": 1.0, "canary": 3.0, "1": 1.0, "3": 3.0}
    assert unnamed == 1.0
    refused = client.post(path.format(asked="2"), json=body)
    assert "version 3 serves instead" in assert_contract(refused, 503)["error"]
    unknown = client.post(path.format(asked="canry"), json=body)
    assert "did you mean the alias 'canary'?" in assert_contract(unknown, 404)["error"]


@pytest.mark.parametrize("verb", [":predict", ":classify", ":regress", "", "/metadata"])
def test_tensorflow_servings_own_paths_take_aliases(
    models: Path, start: StartApp, verb: str
) -> None:
    """`/labels/canary` is what `/versions/canary` is."""
    publish_price(models, slope=1.0)
    publish_price(models, slope=2.0)
    set_aliases(models, canary=1)
    client = start()
    body = {"instances": [[1]], "examples": [{"size": 1}]}

    calls = [f"/v1/models/price/{place}/canary{verb}" for place in ("labels", "versions")]
    seen = [client.request("POST" if ":" in verb else "GET", call, json=body) for call in calls]

    assert seen[0].json() == seen[1].json()
    assert seen[0].status_code == (400 if verb == ":classify" else 200)


def test_the_answer_and_the_counts_carry_the_real_version(models: Path, start: StartApp) -> None:
    """An alias is a way to ask; nothing is ever called by it afterwards."""
    publish_price(models, slope=1.0)
    publish_price(models, slope=2.0)
    set_aliases(models, stable=1)
    client = start()

    plain = client.post("/models/price/versions/stable/predict", json={"size": 1}).json()
    protocol = client.post("/v2/models/price/versions/stable/infer", json=ROW).json()

    assert (plain["model_version"], protocol["model_version"]) == ("1", "1")
    metrics = client.get("/metrics").text
    assert 'dialect="plain",model="price",outcome="ok",version="1"} 1.0' in metrics
    assert "stable" not in metrics


def test_the_lists_tell_aliases_and_what_they_wait_for(models: Path, start: StartApp) -> None:
    """The version that answers, the one that is meant, and why that does not serve."""
    publish_price(models, slope=1.0)
    publish_price(models, slope=2.0)
    set_aliases(models, stable=1)
    client = start(**CONTROL)
    (publish_price(models, slope=3.0) / MODEL).write_bytes(b"broken")
    set_aliases(models, stable=3, canary=7)

    load = client.post("/v2/repository/models/price/load")
    page = client.get("/models/price").json()
    index = {entry["version"]: entry for entry in client.post("/v2/repository/index").json()}

    assert "version 3 cannot be served: model.onnx has 6" in assert_contract(load, 409)["error"]
    assert page["aliases"] == {
        "canary": {"version": None, "waits_for": "7"},
        "stable": {"version": "1", "waits_for": "3"},
    }
    assert (page["version"], page["ready"]) == ("1", True)
    assert index["1"]["aliases"] == ["stable"]
    assert index["7"]["reason"] == "alias 'canary' is set to it, and it has no folder"
    assert index["3"]["reason"].endswith("; version 1 serves alias 'stable'")
    assert index["2"]["state"] == "READY"
    assert client.post("/models/price/predict", json={"size": 1}).json()["value"] == 1.0
    gone = client.post("/models/price/versions/canary/predict", json={"size": 1})
    assert assert_contract(gone, 404)["error"] == (
        "Alias 'canary' of model 'price' points to version 7, which does not exist; "
        "available: 1, 2, 3."
    )


def test_an_alias_whose_version_failed_from_the_start_says_why(
    models: Path, start: StartApp
) -> None:
    """503 with the version's reason, for there is nothing that the alias had before."""
    publish_price(models, slope=1.0)
    (publish_price(models, slope=2.0) / MODEL).write_bytes(b"broken")
    set_aliases(models, canary=2)
    client = start()

    answer = client.post("/models/price/versions/canary/predict", json={"size": 1})

    assert "version 2 is not ready: model.onnx has 6" in assert_contract(answer, 503)["error"]
    assert 'outcome="model_not_ready",version="2"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("versions", "ready"),
    [
        ("latest", ["3"]),
        ("all", ["3", "2", "1"]),
        ({"latest": 2}, ["3", "2"]),
        ([1, 2], ["2", "1"]),
    ],
)
def test_a_models_own_policy_chooses_what_serves(
    models: Path, start: StartApp, versions: object, ready: list[str]
) -> None:
    """Whatever the service's own setting says."""
    for slope in (1.0, 2.0, 3.0):
        publish_price(models, slope=slope)
    (models / "price" / POLICY).write_text(json.dumps({"versions": versions}))
    other = "latest" if versions == "all" else "all"
    client = start(version_policy=other)

    index = client.post("/v2/repository/index", json={"ready": True}).json()

    assert [entry["version"] for entry in index] == ready
    assert client.get("/v2/models/price").json()["versions"] == sorted(ready)


def test_a_policy_that_cannot_be_read_stops_a_model_rather_than_serve_the_wrong_one(
    models: Path, start: StartApp
) -> None:
    """At the start it might have held a version off; later the previous policy stays in effect."""
    publish_price(models, slope=1.0)
    publish_price(models, slope=2.0)
    set_aliases(models, stable=1)
    running = start(**CONTROL)
    (models / "price" / POLICY).write_text('{"aliases": ')

    assert (
        "policy.json is not valid"
        in assert_contract(running.post("/v2/repository/models/price/load"), 409)["error"]
    )
    assert running.post("/models/price/predict", json={"size": 1}).json()["value"] == 1.0
    newest, _ = running.get("/models/price").json()["versions"]
    assert newest["state"] == "READY"
    assert newest["reason"].endswith("; the previous policy stays in effect")
    fresh = start().post("/models/price/predict", json={"size": 1})
    assert "policy.json is not valid" in assert_contract(fresh, 503)["error"]
