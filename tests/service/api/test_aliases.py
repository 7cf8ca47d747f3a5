"""Aliases and policies over HTTP: as versions in every protocol, and in the lists."""

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
from tests.service.api.test_invalid_requests import assert_contract

CONTROL = {"model_control": "explicit"}
ROW = {"inputs": [{"name": "features", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}
# Requests of each protocol: path, body, and the keys of the predicted number.
PROTOCOLS: list[tuple[str, Any, list[Any]]] = [
    ("/models/price/versions/{version}/predict", {"size": 1}, ["value"]),
    ("/v1/models/price/versions/{version}:predict", {"instances": [[1]]}, ["predictions", 0, 0]),
    ("/v2/models/price/versions/{version}/infer", ROW, ["outputs", 0, "data", 0]),
]


def set_aliases(models: Path, **aliases: int) -> None:
    """Set aliases as `onward publish` does."""
    for name, version in aliases.items():
        change_policy(models / "price", partial(_moved, name, version))


def _moved(name: str, version: int, policy: Policy) -> Policy:
    return policy.with_alias(name, version)


def predicted(client: httpx.Client, path: str, body: Any, keys: list[Any]) -> float:  # noqa: ANN401 - JSON
    found = client.post(path, json=body)
    assert found.status_code == 200, found.text
    value: Any = found.json()
    for key in keys:
        value = value[key]
    return float(value)


@pytest.mark.parametrize(("path", "body", "keys"), PROTOCOLS)
def test_an_alias_is_accepted_as_a_version(
    models: Path, start: StartApp, path: str, body: object, keys: list[object]
) -> None:
    """The slope of each version is its number, so a prediction identifies its version."""
    for slope in (1.0, 2.0, 3.0):
        publish_price(models, slope=slope)
    set_aliases(models, stable=1, canary=3)
    client = start()

    seen = {
        version: predicted(client, path.format(version=version), body, keys)
        for version in ("stable", "canary", "1", "3")
    }
    unnamed = predicted(client, path.replace("/versions/{version}", ""), body, keys)

    assert seen == {"stable": 1.0, "canary": 3.0, "1": 1.0, "3": 3.0}
    assert unnamed == 1.0
    rejected = client.post(path.format(version="2"), json=body)
    assert "version 3 serves instead" in assert_contract(rejected, 503)["error"]
    unknown = client.post(path.format(version="canry"), json=body)
    assert "did you mean the alias 'canary'?" in assert_contract(unknown, 404)["error"]


@pytest.mark.parametrize("verb", [":predict", ":classify", ":regress", "", "/metadata"])
def test_label_paths_of_version_1_accept_aliases(models: Path, start: StartApp, verb: str) -> None:
    """The path `/labels/canary` gets the response of `/versions/canary`."""
    publish_price(models, slope=1.0)
    publish_price(models, slope=2.0)
    set_aliases(models, canary=1)
    client = start()
    body = {"instances": [[1]], "examples": [{"size": 1}]}

    calls = [f"/v1/models/price/{kind}/canary{verb}" for kind in ("labels", "versions")]
    seen = [client.request("POST" if ":" in verb else "GET", call, json=body) for call in calls]

    assert seen[0].json() == seen[1].json()
    assert seen[0].status_code == (400 if verb == ":classify" else 200)


def test_responses_and_metrics_have_the_version_of_an_alias(models: Path, start: StartApp) -> None:
    """An alias occurs only in requests."""
    publish_price(models, slope=1.0)
    publish_price(models, slope=2.0)
    set_aliases(models, stable=1)
    client = start()

    plain = client.post("/models/price/versions/stable/predict", json={"size": 1}).json()
    protocol = client.post("/v2/models/price/versions/stable/infer", json=ROW).json()

    assert (plain["model_version"], protocol["model_version"]) == ("1", "1")
    metrics = client.get("/metrics").text
    assert 'model="price",outcome="ok",protocol="native",version="1"} 1.0' in metrics
    assert "stable" not in metrics


def test_lists_have_aliases_and_pending_versions(models: Path, start: StartApp) -> None:
    """They have the version that serves, the configured one, and why that does not serve."""
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
    removed = client.post("/models/price/versions/canary/predict", json={"size": 1})
    assert assert_contract(removed, 404)["error"] == (
        "Alias 'canary' of model 'price' points to version 7, which does not exist; "
        "available: 1, 2, 3."
    )


def test_an_alias_of_a_failed_version_reports_the_reason(models: Path, start: StartApp) -> None:
    """The 503 error has the version's reason if no earlier version serves."""
    publish_price(models, slope=1.0)
    (publish_price(models, slope=2.0) / MODEL).write_bytes(b"broken")
    set_aliases(models, canary=2)
    client = start()

    response = client.post("/models/price/versions/canary/predict", json={"size": 1})

    assert "version 2 is not ready: model.onnx has 6" in assert_contract(response, 503)["error"]
    assert (
        'outcome="model_not_ready",protocol="native",version="2"} 1.0'
        in client.get("/metrics").text
    )


@pytest.mark.parametrize(
    ("versions", "ready"),
    [
        ("latest", ["3"]),
        ("all", ["3", "2", "1"]),
        ({"latest": 2}, ["3", "2"]),
        ([1, 2], ["2", "1"]),
    ],
)
def test_a_models_policy_overrides_the_setting(
    models: Path, start: StartApp, versions: object, ready: list[str]
) -> None:
    """The policy file selects the versions to load."""
    for slope in (1.0, 2.0, 3.0):
        publish_price(models, slope=slope)
    (models / "price" / POLICY).write_text(json.dumps({"versions": versions}))
    other = "latest" if versions == "all" else "all"
    client = start(version_policy=other)

    index = client.post("/v2/repository/index", json={"ready": True}).json()

    assert [entry["version"] for entry in index] == ready
    assert client.get("/v2/models/price").json()["versions"] == sorted(ready)


def test_an_unreadable_policy_prevents_loading(models: Path, start: StartApp) -> None:
    """At startup no version is loaded; later the previous policy stays in effect."""
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
