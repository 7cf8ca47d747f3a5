"""Loads and unloads reach every worker, including those that start later."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from service.bundle.store import MODEL
from service.engine.reconciler import Reconciler
from service.engine.registry import Registry
from service.errors import ModelUnservable, WorkerFailed
from service.observability.metrics import Metrics
from service.settings import Settings
from service.workers.coordination import ModelControl
from service.workers.ipc import Channel, SharedNameSet, claim_slot
from tests.models import in_memory, publish_price

Worker = tuple[ModelControl, Registry]
Join = Callable[[Path], Awaitable[Worker]]


@asynccontextmanager
async def team(tmp_path: Path) -> AsyncIterator[Join]:
    """Start workers of one service on one event loop; each may have its own folder."""
    shared = tmp_path / "shared"
    shared.mkdir()
    async with AsyncExitStack() as stack:

        async def join(models: Path) -> Worker:
            settings = Settings(models=models, device="cpu", model_control="explicit")
            registry = Registry("cpu")
            unloaded = SharedNameSet(shared / "unloaded")
            reconciler = Reconciler(settings, Metrics(), registry, unloaded)
            control = ModelControl(reconciler, Channel(claim_slot(shared)), settings.worker_seconds)
            await control.start()
            stack.push_async_callback(control.close)
            return control, registry

        yield join


def run_scenario(tmp_path: Path, scenario: Callable[[Join], Awaitable[None]]) -> None:
    async def run() -> None:
        async with team(tmp_path) as join:
            await scenario(join)

    asyncio.run(run())


def test_a_request_to_one_worker_reaches_all(models: Path, tmp_path: Path) -> None:
    """Unloaded by the first, loaded again in a newer version by the second."""
    publish_price(models)

    async def scenario(join: Join) -> None:
        workers = [await join(models) for _ in range(3)]
        (first, _), (second, _), _ = workers

        await first.unload_model("price")
        reasons = [registry.entry("price").reason for _, registry in workers]
        publish_price(models, slope=3.0)
        await second.load_model("price")

        assert reasons == ["it was unloaded on request"] * 3
        assert [in_memory(registry, "price").version for _, registry in workers] == ["2"] * 3

    run_scenario(tmp_path, scenario)


def test_a_worker_that_starts_later_follows_earlier_requests(models: Path, tmp_path: Path) -> None:
    """An unloaded model stays unloaded until any worker loads it again."""
    publish_price(models)
    publish_price(models, "other")

    async def scenario(join: Join) -> None:
        first, _ = await join(models)
        await first.unload_model("price")

        second, late = await join(models)
        before = [entry.model for entry in late.versions("price")]
        await second.load_model("price")
        _, latest = await join(models)

        assert before == [None]
        assert in_memory(late, "other").version == "1"
        assert in_memory(latest, "price").version == "1"

    run_scenario(tmp_path, scenario)


def test_a_new_worker_makes_the_others_scan(models: Path, tmp_path: Path) -> None:
    """Without polling, all serve the newest version at the start of the last worker."""
    publish_price(models)

    async def scenario(join: Join) -> None:
        _, before = await join(models)
        publish_price(models, slope=3.0)

        _, after = await join(models)

        assert [in_memory(registry, "price").version for registry in (before, after)] == ["2", "2"]

    run_scenario(tmp_path, scenario)


def test_a_worker_that_fails_is_reported(models: Path, tmp_path: Path) -> None:
    """The error has their number, the process and the reason; here its folder lacks the model."""
    publish_price(models)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    async def scenario(join: Join) -> None:
        first, registry = await join(models)
        await join(elsewhere)

        with pytest.raises(WorkerFailed, match=r"1 of 2 workers did not .*process \d+: .*'price'"):
            await first.load_model("price")
        assert in_memory(registry, "price").version == "1"

    run_scenario(tmp_path, scenario)


def test_a_load_that_every_worker_rejects_is_reported_once(models: Path, tmp_path: Path) -> None:
    """All list the rejected version, and serve the previous one."""
    publish_price(models)

    async def scenario(join: Join) -> None:
        workers = [await join(models) for _ in range(2)]
        (publish_price(models, slope=3.0) / MODEL).write_bytes(b"broken")

        with pytest.raises(ModelUnservable, match="6 bytes"):
            await workers[0][0].load_model("price")

        for _, registry in workers:
            assert in_memory(registry, "price").version == "1"
            assert "6 bytes" in registry.versions("price")[0].reason

    run_scenario(tmp_path, scenario)


def test_a_removed_model_is_no_longer_unloaded(models: Path, tmp_path: Path) -> None:
    """A model that is published again after its removal serves."""
    publish_price(models)

    async def scenario(join: Join) -> None:
        control, registry = await join(models)
        await control.unload_model("price")
        shutil.rmtree(models / "price")
        await control.rescan()
        publish_price(models)

        await control.rescan()

        assert in_memory(registry, "price").version == "1"

    run_scenario(tmp_path, scenario)


def test_concurrent_loads_and_unloads_have_the_same_result_in_all_workers(
    models: Path, tmp_path: Path
) -> None:
    """Whichever request wins, it wins everywhere."""
    publish_price(models)

    async def scenario(join: Join) -> None:
        workers = [await join(models) for _ in range(3)]
        for _ in range(10):
            calls = [
                workers[0][0].load_model("price"),
                workers[1][0].unload_model("price"),
                workers[2][0].load_model("price"),
            ]
            await asyncio.gather(*calls)
            serving = {registry.find("price") is not None for _, registry in workers}
            assert len(serving) == 1

    run_scenario(tmp_path, scenario)
