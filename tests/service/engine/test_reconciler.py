"""The reconciler changes models while the service runs, without failed requests."""

import asyncio
import gc
import os
import re
import shutil
import threading
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.bundle.store import EXAMPLES, MANIFEST, MODEL
from service.engine.reconciler import Reconciler
from service.engine.registry import Registry, State
from service.errors import ModelNotReady
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.conftest import StartApp
from tests.models import (
    in_memory,
    publish_admission,
    publish_bare,
    publish_price,
    sum_and_difference,
)
from tests.scraped import scraped

Scenario = Callable[[Reconciler, Registry], Coroutine[Any, Any, None]]


def run_scenario(models: Path, scenario: Scenario) -> None:
    """Start with the folder, and run the scenario on one event loop."""

    async def run() -> None:
        registry = Registry("cpu")
        reconciler = Reconciler(Settings(models=models, device="cpu"), Metrics(), registry)
        await reconciler.start()
        await scenario(reconciler, registry)
        await reconciler.close()

    asyncio.run(run())


def test_a_new_version_replaces_the_old_one(models: Path) -> None:
    """After a scan the newest version serves, and the previous one is closed."""
    publish_price(models, slope=2.0)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        publish_price(models, slope=3.0)
        await reconciler.refresh()

        assert in_memory(registry, "price").version == "2"
        with pytest.raises(
            ModelNotReady,
            match="version 2 serves instead; to serve this one: onward publish price 1",
        ):
            in_memory(registry, "price", "1")

    run_scenario(models, scenario)


def test_a_broken_version_is_reported_while_the_old_one_serves(models: Path) -> None:
    """The reason of the new version is listed."""
    publish_price(models, slope=2.0)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        before = in_memory(registry, "price")
        (publish_price(models, slope=3.0) / MODEL).write_bytes(b"broken")
        await reconciler.refresh()

        assert in_memory(registry, "price") is before
        newest = registry.versions("price")[0]
        assert (newest.version, newest.state) == ("2", State.UNAVAILABLE)
        assert "model.onnx has 6 bytes" in newest.reason

    run_scenario(models, scenario)


def test_a_failed_version_is_tried_again_only_when_its_files_change(models: Path) -> None:
    """A second scan does not change the entry; the version serves after its file is fixed."""
    folder = publish_price(models)
    whole = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(whole[:-1])

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        failed = registry.entry("price")
        await reconciler.refresh()
        assert registry.entry("price") is failed

        (folder / MODEL).write_bytes(whole)
        await reconciler.refresh()
        assert in_memory(registry, "price").version == "1"

    run_scenario(models, scenario)


def test_a_bundle_serves_when_its_last_file_is_copied(models: Path) -> None:
    """The bundle is rejected until its manifest, the last file, is complete."""
    source = publish_price(models)
    elsewhere = models.parent / "elsewhere"
    shutil.move(source, elsewhere)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        source.mkdir()
        for name in ("examples.json", "model.onnx", "manifest.json"):
            await reconciler.refresh()
            with pytest.raises(ModelNotReady):
                in_memory(registry, "price")
            shutil.copy(elsewhere / name, source / name)
        await reconciler.refresh()

        assert in_memory(registry, "price").version == "1"

    run_scenario(models, scenario)


def test_a_loaded_version_keeps_serving_if_its_files_are_damaged(models: Path) -> None:
    """The entry has the reason why its files are rejected."""
    folder = publish_price(models)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        before = in_memory(registry, "price")
        (folder / MODEL).write_bytes(b"damaged")
        await reconciler.refresh()

        assert in_memory(registry, "price") is before
        assert "its files have changed and are rejected" in registry.entry("price").reason

    run_scenario(models, scenario)


@pytest.mark.parametrize("files", [[MANIFEST], [MANIFEST, EXAMPLES]])
def test_a_loaded_version_keeps_serving_without_its_manifest(
    models: Path, files: list[str]
) -> None:
    """The version serves although its folder now looks incomplete or like a bare model."""
    publish_price(models, slope=2.0)
    folder = publish_price(models, slope=3.0)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        before = in_memory(registry, "price")
        for name in files:
            (folder / name).unlink()
        await reconciler.refresh()

        assert in_memory(registry, "price") is before
        assert "manifest.json is missing" in registry.entry("price").reason

    run_scenario(models, scenario)


def test_removed_models_and_versions_are_closed(models: Path) -> None:
    """If a version is removed, the previous one serves again."""
    publish_admission(models)
    publish_price(models, slope=2.0)
    second = publish_price(models, slope=3.0)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        shutil.rmtree(models / "admission")
        shutil.rmtree(second)
        await reconciler.refresh()

        assert registry.names == ["price"]
        assert in_memory(registry, "price").version == "1"

    run_scenario(models, scenario)


def test_models_keep_serving_if_the_folder_is_missing(models: Path, start: StartApp) -> None:
    """Scans continue when the folder is back."""
    publish_price(models, slope=2.0)
    client = start(poll_seconds=0.02)
    away = models.parent / "away"

    models.rename(away)
    until(lambda: value(client) == 20.0)
    publish_price(away, slope=3.0)
    away.rename(models)

    until(lambda: value(client) == 30.0)


def test_a_directory_loop_is_ignored(models: Path) -> None:
    """A version that is a link to itself is not listed."""
    publish_price(models)
    (models / "loop").symlink_to(models)
    (models / "price" / "2").symlink_to(models / "price" / "2")

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        await reconciler.refresh()
        assert in_memory(registry, "price").version == "1"

    run_scenario(models, scenario)


def test_a_replaced_model_releases_its_memory_and_thread(models: Path) -> None:
    """Both are released after the last request, without the garbage collector."""
    publish_price(models, slope=1.0)
    rows = (np.ones((100, 1), np.float32),)

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        gc.disable()
        with in_memory(registry, "price") as held:
            await held.predict(rows)
            publish_price(models, slope=2.0)
            await reconciler.refresh()
            response = await held.predict(rows)
        assert response.outputs[0][0, 0] == 1.0
        seen = weakref.ref(held)
        threads = [t for t in threading.enumerate() if t.name.startswith("batcher")]
        del held
        for thread in threads:
            await asyncio.to_thread(thread.join, 10)
        assert seen() is None
        assert not any(thread.is_alive() for thread in threads)
        gc.enable()

    run_scenario(models, scenario)


# A request of each protocol with 80 rows, more than run inline, so that they are batched, and how
# to read the version and the predictions of its response, which are equal here.
_ROWS = 80
CALLS: list[tuple[str, dict[str, Any], Callable[[Any], set[float]]]] = [
    (
        "/models/price/predict",
        {"instances": [{"size": 1}] * _ROWS},
        lambda body: {float(body["model_version"]), *(row["value"] for row in body["predictions"])},
    ),
    (
        "/v1/models/price:predict",
        {"instances": [[1]] * _ROWS},
        lambda body: {row[0] for row in body["predictions"]},
    ),
    (
        "/v2/models/price/infer",
        {
            "inputs": [
                {"name": "features", "shape": [_ROWS, 1], "datatype": "FP32", "data": [1] * _ROWS}
            ]
        },
        lambda body: {float(body["model_version"]), *body["outputs"][0]["data"]},
    ),
]


def remove_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def damage_the_graph(folder: Path) -> None:
    content = bytearray((folder / MODEL).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / MODEL).write_bytes(content)


def make_it_a_loop(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder)


BREAKINGS: list[Callable[[Path], None]] = [remove_the_manifest, damage_the_graph, make_it_a_loop]


def test_swaps_under_load_fail_no_request(models: Path, start: StartApp) -> None:
    """In every protocol the version matches the prediction; only the index shows failures."""
    publish_price(models, slope=1.0)
    client = start(poll_seconds=0.01)
    stop = threading.Event()
    faults: list[str] = []
    seen: set[str] = set()

    def call(path: str, body: dict[str, Any], read: Callable[[Any], set[float]]) -> None:
        with httpx.Client(base_url=client.base_url) as own:
            while not stop.is_set():
                response = own.post(path, json=body)
                versions = read(response.json()) if response.status_code == 200 else set()
                if len(versions) != 1:
                    faults.append(response.text[:200])
                seen.update(str(int(version)) for version in versions)

    threads = [threading.Thread(target=call, args=how) for how in CALLS]
    for thread in threads:
        thread.start()
    for slope in range(2, 22):
        folder = publish_price(models, slope=float(slope))
        if slope % 3 == 0:
            BREAKINGS[slope // 3 % len(BREAKINGS)](folder)
        else:
            until(partial(seen.__contains__, folder.name))
    stop.set()
    for thread in threads:
        thread.join()

    assert faults == []
    assert {str(slope) for slope in range(2, 22) if slope % 3} <= seen


def test_the_ready_gauge_follows_every_change(models: Path) -> None:
    """Reloaded, damaged, superseded, removed: the gauge has exactly the versions that serve."""
    metrics = Metrics()
    registry = Registry("cpu")
    reconciler = Reconciler(Settings(models=models, device="cpu"), metrics, registry)

    def gauges() -> dict[str, str]:
        text = scraped(metrics).decode()
        found = re.findall(r'^onward_model_ready\{.*version="(\d+)"\} (\S+)', text, re.MULTILINE)
        return dict(found)

    async def scenario() -> list[dict[str, str]]:
        seen = []
        first = publish_price(models)
        await reconciler.start()
        (first / "report.html").touch()
        await reconciler.refresh()
        seen.append(gauges())
        second = publish_price(models)
        (second / MODEL).write_bytes(b"broken")
        await reconciler.refresh()
        seen.append(gauges())
        shutil.rmtree(second)
        (first / MODEL).write_bytes(b"damaged")
        await reconciler.refresh()
        seen.append(gauges())
        publish_price(models)
        await reconciler.refresh()
        seen.append(gauges())
        shutil.rmtree(models / "price")
        await reconciler.refresh()
        return [*seen, gauges()]

    assert asyncio.run(scenario()) == [
        {"1": "1.0"},
        {"1": "1.0", "2": "0.0"},
        {"1": "1.0"},
        {"2": "1.0"},
        {},
    ]


def test_a_folder_that_cannot_be_a_model_affects_no_other(models: Path, start: StartApp) -> None:
    """An invalid name, a pipe instead of a file, an unreadable folder."""
    publish_price(models)
    (models / os.fsdecode(b"caf\xe9") / "1").mkdir(parents=True)
    pipe = models / "pipe" / "1"
    pipe.mkdir(parents=True)
    os.mkfifo(pipe / MODEL)
    client = start()

    listed = {model["name"]: model for model in client.get("/models").json()["models"]}

    assert set(listed) == {"pipe", "price"}
    assert "not a regular file" in listed["pipe"]["reason"]
    assert listed["price"]["ready"]
    assert client.get("/metrics").status_code == 200


def test_an_app_can_be_restarted(models: Path) -> None:
    """Everything that was closed is opened again, and as many requests can wait."""
    for name in ("price", *"abcde"):
        publish_price(models, name)
    registry = Registry("cpu")
    reconciler = Reconciler(Settings(models=models, device="cpu"), Metrics(), registry)
    rows = (np.ones((100, 1), np.float32),)

    async def live() -> tuple[float, int]:
        await reconciler.start()
        response = await in_memory(registry, "price").predict(rows)
        serving = [name for name in registry.names if registry.find(name, None)]
        await reconciler.close()
        return float(response.outputs[0][0, 0]), len(serving)

    assert [asyncio.run(live()), asyncio.run(live())] == [(2.0, 6), (2.0, 6)]


def test_closing_before_a_change_starts_leaves_nothing_unawaited(models: Path) -> None:
    """A service may stop in the turn of the event loop in which a scan found a new model."""

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        publish_price(models)
        refreshing = asyncio.create_task(reconciler.refresh())
        await asyncio.sleep(0)
        before = len(asyncio.all_tasks())
        while len(asyncio.all_tasks()) == before:  # noqa: ASYNC110 - every turn must be seen
            await asyncio.sleep(0)
        # The change of `price` has been scheduled and has not run yet.
        await reconciler.close()
        with pytest.raises(asyncio.CancelledError):
            await refreshing
        assert registry.names == []

    run_scenario(models, scenario)


def test_a_bare_model_is_closed_like_a_bundle(models: Path) -> None:
    """It is loaded and removed with its folder."""
    folder = publish_bare(models, "simple", sum_and_difference())

    async def scenario(reconciler: Reconciler, registry: Registry) -> None:
        shutil.rmtree(folder.parent)
        await reconciler.refresh()
        assert registry.names == []
        assert not registry.is_ready

    run_scenario(models, scenario)


def value(client: httpx.Client) -> float:
    prediction: float = client.post("/models/price/predict", json={"size": 10}).json()["value"]
    return prediction


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition; fail if it does not become true."""
    for _ in range(1000):
        if holds():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came")
