"""Memory within a budget: models come with their first request and leave for others."""

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
from tests.models import in_memory, place_bare, publish_price, sum_and_difference
from tests.service.api.test_invalid_requests import assert_contract

Scenario = Callable[[Reconciler, Registry], Coroutine[Any, Any, None]]
ONE = (np.ones((1, 1), np.float32),)


def play(models: Path, scenario: Scenario, **settings: object) -> None:
    """Start on the folder with these settings and run the scenario on one event loop."""

    async def run() -> None:
        registry = Registry("cpu")
        given = Settings.model_validate({"models": models, "device": "cpu"} | settings)
        reconciler = Reconciler(given, Metrics(), registry)
        await reconciler.start()
        await scenario(reconciler, registry)
        await reconciler.close()

    asyncio.run(run())


async def answer(reconciler: Reconciler, name: str, asked: str | None = None) -> float:
    """What a request for one unit gets, however long its model takes to come."""
    with await reconciler.ensure_loaded(name, asked) as model:
        prediction = await model.predict(ONE)
    return float(prediction.outputs[0][0, 0])


def loaded_versions(registry: Registry) -> list[str]:
    """The models that answer without a load."""
    return [name for name in registry.names if registry.find(name, None) is not None]


def figure(client: httpx.Client, metric: str) -> float:
    """A metric's value; 0 where it has none yet."""
    found = re.search(rf"^{re.escape(metric)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def loads(client: httpx.Client) -> float:
    return figure(client, 'onward_load_seconds_count{outcome="ready"}')


def many(models: Path, count: int) -> list[str]:
    """Publish models whose slopes are their places."""
    names = [f"m{place}" for place in range(count)]
    for place, name in enumerate(names):
        publish_price(models, name, slope=float(place))
    return names


def test_lists_and_descriptions_load_nothing(models: Path, start: StartApp) -> None:
    """Everything that a manifest says is told while the model is still on disk."""
    publish_price(models)
    client = start(max_loaded_models=2)
    paths = ["/models", "/models/price", "/v1/models/price", "/v1/models/price/metadata"]
    paths += ["/v2/models/price", "/v2/models/price/config", "/v2/models/price/stats"]
    paths += ["/health/ready", "/v2/models/price/ready", "/openapi.json"]

    asleep = [client.get(path) for path in paths]
    index = client.post("/v2/repository/index").json()
    loaded_before = loads(client)
    client.post("/models/price/predict", json={"size": 1})
    awake = [client.get(path) for path in paths]

    assert loaded_before == 0
    assert [found.status_code for found in asleep] == [200] * len(paths)
    assert (index[0]["state"], index[0]["reason"]) == ("READY", "its first request loads it")
    assert asleep[0].json()["models"][0].pop("in_memory") is False
    for path, before, after in zip(paths, asleep, awake, strict=True):
        if path not in {"/models", "/models/price", "/v1/models/price", "/v2/models/price/stats"}:
            assert before.json() == after.json(), path


def test_every_model_of_a_large_folder_answers(models: Path, start: StartApp) -> None:
    """Room for three of twelve: the least recently used leave, and all statistics stay."""
    names = many(models, 12)
    client = start(max_loaded_models=3)

    for _ in range(2):
        for place, name in enumerate(names):
            found = client.post(f"/models/{name}/predict", json={"size": 2})
            assert found.json()["value"] == 2.0 * place

    assert loads(client) == 24
    assert figure(client, "onward_evictions_total") == 21
    counted = client.get("/v2/models/stats").json()["model_stats"]
    assert [model["inference_count"] for model in counted] == [2] * 12
    listed = client.get("/models").json()["models"]
    assert [model["name"] for model in listed if model.get("in_memory", True)] == [
        "m10",
        "m11",
        "m9",
    ]


def test_the_least_recently_used_leaves(models: Path) -> None:
    """Use counts, not the order in which they came."""
    many(models, 3)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        for name in ("m0", "m1", "m0", "m2"):
            await answer(reconciler, name)

        assert loaded_versions(registry) == ["m0", "m2"]

    play(models, scenario, max_loaded_models=2)


def test_first_uses_at_once_load_once(models: Path, start: StartApp) -> None:
    """Whoever comes meanwhile waits for the same load, and nobody is refused."""
    publish_price(models)
    client = start(max_loaded_models=2)

    def call(_: int) -> httpx.Response:
        return httpx.post(f"{client.base_url}/models/price/predict", json={"size": 1})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(call, range(64)))

    assert {(found.status_code, found.json().get("value")) for found in answers} == {(200, 2.0)}
    assert loads(client) == 1


def test_clients_of_more_models_than_there_is_room_for_all_get_answers(
    models: Path, start: StartApp
) -> None:
    """Sixteen callers of six models with room for one: slow, and right."""
    many(models, 6)
    client = start(max_loaded_models=1)

    def call(turn: int) -> bool:
        place = turn % 6
        found = httpx.post(
            f"{client.base_url}/models/m{place}/predict", json={"size": 1}, timeout=30
        )
        return bool(found.json().get("value") == float(place))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(call, range(96)))


def test_the_budget_counts_bytes(models: Path, start: StartApp) -> None:
    """Each of these small ones takes a mebibyte and a little, so two mebibytes hold one."""
    names = many(models, 4)
    client = start(memory_budget_mib=2)

    for name in names:
        client.post(f"/models/{name}/predict", json={"size": 1}).raise_for_status()
        assert 0 < figure(client, "onward_memory_bytes") <= 2 * 1024 * 1024
    assert figure(client, "onward_evictions_total") == 3


def test_a_model_beyond_the_budget_is_reported(models: Path, start: StartApp) -> None:
    """It could never be loaded, and the sentence names both sizes and the setting."""
    folder = place_bare(models, "large", sum_and_difference())
    (folder / "weights.bin").write_bytes(bytes(1024 * 1024))
    publish_price(models)
    client = start(memory_budget_mib=2)

    refused = client.post("/v2/models/large/infer", json={"inputs": []})

    assert (
        "takes about 5 MiB to load, and ONWARD_MEMORY_BUDGET_MIB is 2"
        in assert_contract(refused, 503)["error"]
    )
    assert client.post("/models/price/predict", json={"size": 1}).is_success


def test_a_bare_model_is_opened_to_describe_itself(models: Path, start: StartApp) -> None:
    """Only its graph knows its tensors; once told they are known for good."""
    place_bare(models, "simple", sum_and_difference())
    publish_price(models)
    client = start(max_loaded_models=1)

    before = client.get("/models/simple").json()
    described = client.get("/v2/models/simple").json()
    client.post("/models/price/predict", json={"size": 1})
    loaded = loads(client)

    assert (before["ready"], before["in_memory"]) == (True, False)
    assert [spec["name"] for spec in described["inputs"]] == ["INPUT0", "INPUT1"]
    assert client.get("/v2/models/simple").json() == described
    assert loads(client) == loaded == 2


def test_a_version_that_fails_at_its_first_use_gives_way(models: Path, start: StartApp) -> None:
    """The caller who finds out gets the answer of the version before it, and the index the why."""
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


def test_a_truncated_version_is_rejected_before_anybody_asks(models: Path, start: StartApp) -> None:
    """Sizes are looked at without reading, so half a copy is known for one."""
    publish_price(models, slope=2.0)
    (publish_price(models, slope=3.0) / MODEL).write_bytes(b"half")
    client = start(max_loaded_models=2)

    newest, _ = client.post("/v2/repository/index").json()

    assert newest["reason"].startswith("model.onnx has 4 bytes")


def test_a_version_in_use_is_replaced_like_everywhere(models: Path) -> None:
    """The new one is proved beside the old one; one that nobody uses stays asleep."""
    publish_price(models, "used", slope=1.0)
    publish_price(models, "unused", slope=1.0)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        await answer(reconciler, "used")
        for name in ("used", "unused"):
            publish_price(models, name, slope=2.0)
        await reconciler.refresh()

        assert loaded_versions(registry) == ["used"]
        assert in_memory(registry, "used").version == "2"
        assert await answer(reconciler, "unused") == 2.0

        (publish_price(models, "used", slope=3.0) / MODEL).write_bytes(b"broken")
        await reconciler.refresh()
        assert in_memory(registry, "used").version == "2"

    play(models, scenario, max_loaded_models=3)


def test_without_room_for_both_the_old_one_leaves_first(models: Path) -> None:
    """Then its callers wait for the new one; and where that fails, for the old one again."""
    publish_price(models, slope=1.0)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        await answer(reconciler, "price")
        folder = publish_price(models, slope=2.0)
        await reconciler.refresh()
        assert loaded_versions(registry) == []
        assert await answer(reconciler, "price") == 2.0

        folder = publish_price(models, slope=3.0)
        content = bytearray((folder / MODEL).read_bytes())
        content[40] ^= 1
        (folder / MODEL).write_bytes(content)
        await reconciler.refresh()
        assert await answer(reconciler, "price") == 2.0

    play(models, scenario, max_loaded_models=1)


def test_what_waits_for_room_gets_it_when_the_last_client_has_left(models: Path) -> None:
    """A model that answers is not cut short; whoever gives up meanwhile harms nobody."""
    many(models, 2)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        with await reconciler.ensure_loaded("m0", None) as held:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(answer(reconciler, "m1"), 0.05)
            waiting = asyncio.create_task(answer(reconciler, "m1"))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            assert registry.entry("m0").state is State.READY
            assert float((await held.predict(ONE)).outputs[0][0, 0]) == 0.0
        assert await waiting == 1.0
        assert loaded_versions(registry) == ["m1"]

    play(models, scenario, max_loaded_models=1)


def test_labels_and_versions_are_loaded_one_by_one(models: Path) -> None:
    """With every version chosen each is a model of its own to memory."""
    for slope in (1.0, 2.0, 3.0):
        publish_price(models, slope=slope)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        seen = [await answer(reconciler, "price", asked) for asked in ("1", "2", None, "1")]

        assert seen == [1.0, 2.0, 3.0, 1.0]
        states = {entry.version: entry.lazy for entry in registry.versions("price")}
        assert states == {"3": False, "2": True, "1": False}

    play(models, scenario, max_loaded_models=2, version_policy="all")


def test_a_load_call_loads_and_gives(models: Path, start: StartApp) -> None:
    """By Triton's client; a version that fails is told, though the one before it serves."""
    publish_price(models)
    client = start(max_loaded_models=1, model_control="explicit")
    protocol = triton.InferenceServerClient(str(client.base_url).removeprefix("http://"))

    protocol.load_model("price")
    after_load = loads(client)
    (publish_price(models, slope=3.0) / MODEL).write_bytes(b"broken")
    refused = client.post("/v2/repository/models/price/load")
    protocol.unload_model("price")

    assert after_load == 1
    assert_contract(refused, 409)
    gone = client.post("/models/price/predict", json={"size": 1})
    assert "unloaded on request" in assert_contract(gone, 503)["error"]


def test_a_model_that_leaves_the_folder_while_it_is_awaited_is_reported(models: Path) -> None:
    """Its caller hears that it is gone, or why it could not be loaded; nothing hangs."""
    many(models, 2)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        with await reconciler.ensure_loaded("m0", None):
            waiting = asyncio.create_task(answer(reconciler, "m1"))
            await asyncio.sleep(0.02)
            for path in (models / "m1" / "1").iterdir():
                path.unlink()
        with pytest.raises(ModelNotReady, match="is missing"):
            await waiting
        assert registry.names == ["m0", "m1"]

    play(models, scenario, max_loaded_models=1)
