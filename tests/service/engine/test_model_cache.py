"""A memory budget: models are loaded by their first request, and evicted for others."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from service.bundle.store import MODEL
from service.engine.reconciler import Reconciler
from service.engine.registry import Registry, State
from service.errors import ModelNotReady
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.conftest import StartApp
from tests.models import in_memory, publish_bare, publish_price, sum_and_difference
from tests.service.api.test_invalid_requests import assert_contract

Scenario = Callable[[Reconciler, Registry], Coroutine[Any, Any, None]]
ONE = (np.ones((1, 1), np.float32),)


def run_scenario(models: Path, scenario: Scenario, **settings: object) -> None:
    """Start with the folder and these settings, and run the scenario on one event loop."""

    async def run() -> None:
        registry = Registry("cpu")
        given = Settings.model_validate({"models": models, "device": "cpu"} | settings)
        reconciler = Reconciler(given, Metrics(), registry)
        await reconciler.start()
        await scenario(reconciler, registry)
        await reconciler.close()

    asyncio.run(run())


async def predict_one(reconciler: Reconciler, name: str, version: str | None = None) -> float:
    """Return the prediction for one unit, loading the model if necessary."""
    with await reconciler.ensure_loaded(name, version) as model:
        prediction = await model.predict(ONE)
    return float(prediction.outputs[0][0, 0])


def loaded_versions(registry: Registry) -> list[str]:
    """Return the models in memory."""
    return [name for name in registry.names if registry.find(name, None) is not None]


def metric_value(client: httpx.Client, metric: str) -> float:
    """Return the value of a metric; 0 if it has none yet."""
    found = re.search(rf"^{re.escape(metric)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def loads(client: httpx.Client) -> float:
    return metric_value(client, 'onward_load_seconds_count{outcome="ready"}')


def publish_many(models: Path, count: int) -> list[str]:
    """Publish models whose slopes are their numbers."""
    names = [f"m{number}" for number in range(count)]
    for number, name in enumerate(names):
        publish_price(models, name, slope=float(number))
    return names


def test_lists_and_descriptions_load_nothing(models: Path, start: StartApp) -> None:
    """The contents of a manifest are available while the model is still on disk."""
    publish_price(models)
    client = start(max_loaded_models=2)
    paths = ["/models", "/models/price", "/v1/models/price", "/v1/models/price/metadata"]
    paths += ["/v2/models/price", "/v2/models/price/config", "/v2/models/price/stats"]
    paths += ["/health/ready", "/v2/models/price/ready", "/openapi.json"]

    before_load = [client.get(path) for path in paths]
    index = client.post("/v2/repository/index").json()
    loaded_before = loads(client)
    client.post("/models/price/predict", json={"size": 1})
    after_load = [client.get(path) for path in paths]

    assert loaded_before == 0
    assert [found.status_code for found in before_load] == [200] * len(paths)
    assert (index[0]["state"], index[0]["reason"]) == ("READY", "its first request loads it")
    assert before_load[0].json()["models"][0].pop("in_memory") is False
    for path, before, after in zip(paths, before_load, after_load, strict=True):
        if path not in {"/models", "/models/price", "/v1/models/price", "/v2/models/price/stats"}:
            assert before.json() == after.json(), path


@pytest.mark.parametrize("path", ["predict", "explain"])
def test_the_media_type_is_checked_after_a_load(models: Path, start: StartApp, path: str) -> None:
    """Only then are the media types of the model known."""
    publish_price(models)
    client = start(max_loaded_models=2)

    response = client.post(
        f"/models/price/{path}", content=b"1", headers={"content-type": "application/pdf"}
    )

    assert "'application/pdf'" in assert_contract(response, 415)["error"]
    assert loads(client) == 1


def test_every_model_of_a_large_folder_serves(models: Path, start: StartApp) -> None:
    """With memory for three of twelve, the least recently used are evicted; statistics stay."""
    names = publish_many(models, 12)
    client = start(max_loaded_models=3)

    for _ in range(2):
        for number, name in enumerate(names):
            found = client.post(f"/models/{name}/predict", json={"size": 2})
            assert found.json()["value"] == 2.0 * number

    assert loads(client) == 24
    assert metric_value(client, "onward_evictions_total") == 21
    counted = client.get("/v2/models/stats").json()["model_stats"]
    assert [model["inference_count"] for model in counted] == [2] * 12
    listed = client.get("/models").json()["models"]
    assert [model["name"] for model in listed if model.get("in_memory", True)] == [
        "m10",
        "m11",
        "m9",
    ]


def test_the_least_recently_used_model_is_evicted(models: Path) -> None:
    """The order of the loads does not matter."""
    publish_many(models, 3)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        for name in ("m0", "m1", "m0", "m2"):
            await predict_one(reconciler, name)

        assert loaded_versions(registry) == ["m0", "m2"]

    run_scenario(models, scenario, max_loaded_models=2)


def test_concurrent_first_requests_load_a_model_once(models: Path, start: StartApp) -> None:
    """All of them wait for the same load, and none is rejected."""
    publish_price(models)
    client = start(max_loaded_models=2)

    def call(_: int) -> httpx.Response:
        return httpx.post(f"{client.base_url}/models/price/predict", json={"size": 1})

    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(call, range(64)))

    assert {(found.status_code, found.json().get("value")) for found in responses} == {(200, 2.0)}
    assert loads(client) == 1


def test_requests_for_more_models_than_fit_into_memory_all_succeed(
    models: Path, start: StartApp
) -> None:
    """Sixteen clients of six models, with memory for one: slow but correct."""
    publish_many(models, 6)
    client = start(max_loaded_models=1)

    def call(turn: int) -> bool:
        number = turn % 6
        found = httpx.post(
            f"{client.base_url}/models/m{number}/predict", json={"size": 1}, timeout=30
        )
        return bool(found.json().get("value") == float(number))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(call, range(96)))


def test_the_budget_counts_bytes(models: Path, start: StartApp) -> None:
    """Each of these small models takes slightly more than a mebibyte, so two mebibytes hold one."""
    names = publish_many(models, 4)
    client = start(memory_budget_mib=2)

    for name in names:
        client.post(f"/models/{name}/predict", json={"size": 1}).raise_for_status()
        assert 0 < metric_value(client, "onward_memory_bytes") <= 2 * 1024 * 1024
    assert metric_value(client, "onward_evictions_total") == 3


def test_a_model_that_exceeds_the_budget_is_rejected(models: Path, start: StartApp) -> None:
    """The reason contains both sizes and the setting."""
    folder = publish_bare(models, "large", sum_and_difference())
    (folder / "weights.bin").write_bytes(bytes(1024 * 1024))
    publish_price(models)
    client = start(memory_budget_mib=2)

    rejected = client.post("/v2/models/large/infer", json={"inputs": []})

    assert (
        "takes about 5 MiB to load, and ONWARD_MEMORY_BUDGET_MIB is 2"
        in assert_contract(rejected, 503)["error"]
    )
    assert client.post("/models/price/predict", json={"size": 1}).is_success


def test_a_bare_model_is_loaded_for_its_metadata(models: Path, start: StartApp) -> None:
    """Only its graph knows its tensors; they are known from then on."""
    publish_bare(models, "simple", sum_and_difference())
    publish_price(models)
    client = start(max_loaded_models=1)

    before = {model["name"]: model for model in client.get("/models").json()["models"]}["simple"]
    described = client.get("/v2/models/simple").json()
    client.post("/models/price/predict", json={"size": 1})
    loaded = loads(client)

    assert (before["ready"], before["in_memory"]) == (True, False)
    assert [spec["name"] for spec in described["inputs"]] == ["INPUT0", "INPUT1"]
    assert client.get("/v2/models/simple").json() == described
    assert loads(client) == loaded == 2


def test_a_lazy_version_that_fails_to_load_is_replaced_by_the_previous_one(
    models: Path, start: StartApp
) -> None:
    """The request gets the prediction of the previous version, and the index gives the reason."""
    publish_price(models, slope=2.0)
    folder = publish_price(models, slope=3.0)
    content = bytearray((folder / MODEL).read_bytes())
    content[40] ^= 1
    (folder / MODEL).write_bytes(content)
    client = start(max_loaded_models=2)

    found = client.post("/models/price/predict", json={"size": 1}).json()
    newest, older = client.post("/v2/repository/index").json()

    assert (found["value"], found["model_version"]) == (2.0, "1")
    assert newest["state"] == "UNAVAILABLE"
    assert "model.onnx has changed" in newest["reason"]
    assert older["state"] == "READY"


def test_a_truncated_lazy_version_is_rejected_before_its_first_request(
    models: Path, start: StartApp
) -> None:
    """Sizes are compared without reading the files."""
    publish_price(models, slope=2.0)
    (publish_price(models, slope=3.0) / MODEL).write_bytes(b"half")
    client = start(max_loaded_models=2)

    newest, _ = client.post("/v2/repository/index").json()

    assert newest["reason"].startswith("model.onnx has 4 bytes")


def test_a_loaded_version_is_replaced_without_a_gap(models: Path) -> None:
    """The new version is tested while the old one serves; an unused one stays lazy."""
    publish_price(models, "used", slope=1.0)
    publish_price(models, "unused", slope=1.0)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        await predict_one(reconciler, "used")
        for name in ("used", "unused"):
            publish_price(models, name, slope=2.0)
        await reconciler.refresh()

        assert loaded_versions(registry) == ["used"]
        assert in_memory(registry, "used").version == "2"
        assert await predict_one(reconciler, "unused") == 2.0

        (publish_price(models, "used", slope=3.0) / MODEL).write_bytes(b"broken")
        await reconciler.refresh()
        assert in_memory(registry, "used").version == "2"

    run_scenario(models, scenario, max_loaded_models=3)


def test_the_old_version_is_evicted_first_if_both_do_not_fit(models: Path) -> None:
    """Requests wait for the new version; if it fails, for the old one again."""
    publish_price(models, slope=1.0)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        await predict_one(reconciler, "price")
        folder = publish_price(models, slope=2.0)
        await reconciler.refresh()
        assert loaded_versions(registry) == []
        assert await predict_one(reconciler, "price") == 2.0

        folder = publish_price(models, slope=3.0)
        content = bytearray((folder / MODEL).read_bytes())
        content[40] ^= 1
        (folder / MODEL).write_bytes(content)
        await reconciler.refresh()
        assert await predict_one(reconciler, "price") == 2.0

    run_scenario(models, scenario, max_loaded_models=1)


def test_a_load_waits_until_the_requests_of_another_model_have_ended(models: Path) -> None:
    """A model in use is not interrupted, and clients may disconnect while they wait."""
    publish_many(models, 2)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        with await reconciler.ensure_loaded("m0", None) as held:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(predict_one(reconciler, "m1"), 0.05)
            waiting = asyncio.create_task(predict_one(reconciler, "m1"))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            assert registry.entry("m0").state is State.READY
            assert float((await held.predict(ONE)).outputs[0][0, 0]) == 0.0
        assert await waiting == 1.0
        assert loaded_versions(registry) == ["m1"]

    run_scenario(models, scenario, max_loaded_models=1)


def test_aliases_and_versions_are_loaded_separately(models: Path) -> None:
    """If all versions are selected, each is a model of its own in the cache."""
    for slope in (1.0, 2.0, 3.0):
        publish_price(models, slope=slope)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        seen = [
            await predict_one(reconciler, "price", version) for version in ("1", "2", None, "1")
        ]

        assert seen == [1.0, 2.0, 3.0, 1.0]
        states = {entry.version: entry.is_lazy for entry in registry.versions("price")}
        assert states == {"3": False, "2": True, "1": False}

    run_scenario(models, scenario, max_loaded_models=2, version_policy="all")


def test_a_load_request_loads_a_lazy_model(models: Path, start: StartApp) -> None:
    """With Triton's client; a version that fails is reported, although the previous one serves."""
    publish_price(models)
    client = start(max_loaded_models=1, model_control="explicit")
    protocol = triton.InferenceServerClient(str(client.base_url).removeprefix("http://"))

    protocol.load_model("price")
    after_load = loads(client)
    (publish_price(models, slope=3.0) / MODEL).write_bytes(b"broken")
    rejected = client.post("/v2/repository/models/price/load")
    protocol.unload_model("price")

    assert after_load == 1
    assert_contract(rejected, 409)
    unloaded = client.post("/models/price/predict", json={"size": 1})
    assert "unloaded on request" in assert_contract(unloaded, 503)["error"]


def test_a_model_that_is_removed_during_its_load_is_reported(models: Path) -> None:
    """Its request fails with the reason; nothing hangs."""
    publish_many(models, 2)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        with await reconciler.ensure_loaded("m0", None):
            waiting = asyncio.create_task(predict_one(reconciler, "m1"))
            await asyncio.sleep(0.02)
            for path in (models / "m1" / "1").iterdir():
                path.unlink()
        with pytest.raises(ModelNotReady, match="is missing"):
            await waiting
        assert registry.names == ["m0", "m1"]

    run_scenario(models, scenario, max_loaded_models=1)
