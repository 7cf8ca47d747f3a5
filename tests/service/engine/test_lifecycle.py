"""The states of versions during changes, in the index and in the metrics."""

import asyncio
import re
import shutil
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.policy import Policy, change_policy
from service.bundle.store import MODEL
from service.engine.reconciler import Reconciler
from service.engine.registry import Registry
from service.errors import ModelNotFound, ModelNotReady, VersionNotFound
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.models import in_memory, publish_price
from tests.scraped import scraped

ONE = (np.ones((1, 1), np.float32),)


class Service:
    """The engine of a service, with its index and metrics."""

    def __init__(self, models: Path, **settings: object) -> None:
        given = {"models": models, "device": "cpu", "model_control": "explicit"} | settings
        self.metrics = Metrics(expiry_seconds=0)
        self.registry = Registry("cpu")
        self.reconciler = Reconciler(Settings.model_validate(given), self.metrics, self.registry)

    @property
    def index(self) -> dict[str, str]:
        """The state of each version of the only model."""
        entries = self.registry.versions("price") if "price" in self.registry.names else ()
        return {entry.version: str(entry.state) for entry in entries}

    @property
    def gauge(self) -> dict[str, str]:
        """The state of each version in the metrics, which omit versions that were never opened."""
        text = scraped(self.metrics).decode()
        found = re.findall(
            r'^onward_model_state\{.*state="(\w+)",version="(\d+)"\} 1\.0$', text, re.MULTILINE
        )
        return {version: state for state, version in found}

    async def indexes_during(self, change: Coroutine[Any, Any, object]) -> list[dict[str, str]]:
        """Return each index that clients could read during a change, and the final one."""
        changing = asyncio.ensure_future(change)
        seen: list[dict[str, str]] = []
        while not changing.done():
            await asyncio.sleep(0)
            if self.index not in seen[-1:]:
                seen.append(self.index)
        await changing
        return seen


def run_scenario(
    models: Path, scenario: Callable[[Service], Coroutine[Any, Any, None]], **settings: object
) -> None:
    async def run() -> None:
        service = Service(models, **settings)
        await service.reconciler.start()
        await scenario(service)
        await service.reconciler.close()

    asyncio.run(run())


def set_alias(models: Path, name: str, version: int) -> None:
    def moved(policy: Policy) -> Policy:
        return policy.with_alias(name, version)

    change_policy(models / "price", moved)


def test_a_new_version_is_loading_and_then_ready(models: Path) -> None:
    """Index and metric agree in the end."""

    async def scenario(service: Service) -> None:
        publish_price(models)
        seen = await service.indexes_during(service.reconciler.refresh())

        assert seen == [{}, {"1": "LOADING"}, {"1": "READY"}]
        assert service.gauge == {"1": "READY"}

    run_scenario(models, scenario)


def test_the_old_version_is_ready_until_the_new_one_is(models: Path) -> None:
    """There is always a ready version; the old one is superseded afterwards."""
    publish_price(models)

    async def scenario(service: Service) -> None:
        publish_price(models)
        seen = await service.indexes_during(service.reconciler.refresh())

        assert seen == [
            {"1": "READY"},
            {"2": "LOADING", "1": "READY"},
            {"2": "READY", "1": "UNAVAILABLE"},
        ]
        assert service.gauge == {"2": "READY"}

    run_scenario(models, scenario)


def test_a_rejected_version_is_unavailable_while_the_old_one_serves(models: Path) -> None:
    """It is loaded again when its files are fixed."""
    publish_price(models)

    async def scenario(service: Service) -> None:
        folder = publish_price(models)
        whole = (folder / MODEL).read_bytes()
        (folder / MODEL).write_bytes(b"broken")
        await service.reconciler.refresh()
        assert service.gauge == {"2": "UNAVAILABLE", "1": "READY"}

        (folder / MODEL).write_bytes(whole)
        seen = await service.indexes_during(service.reconciler.refresh())
        assert seen[1:] == [{"2": "LOADING", "1": "READY"}, {"2": "READY", "1": "UNAVAILABLE"}]

    run_scenario(models, scenario)


@pytest.mark.parametrize(
    ("change", "index", "afterwards"),
    [
        (publish_price, {"2": "READY", "1": "UNLOADING"}, {"2": "READY", "1": "UNAVAILABLE"}),
        (lambda models: shutil.rmtree(models / "price"), {"1": "UNLOADING"}, {}),
    ],
    ids=["replaced", "removed"],
)
def test_a_version_with_requests_is_unloading_until_they_end(
    models: Path,
    change: Callable[[Path], object],
    index: dict[str, str],
    afterwards: dict[str, str],
) -> None:
    """It serves its current requests, and no new ones."""
    publish_price(models, slope=5.0)

    async def scenario(service: Service) -> None:
        with in_memory(service.registry, "price") as held:
            change(models)
            await service.reconciler.refresh()
            assert service.index == service.gauge == index
            with pytest.raises(ModelNotReady, match="it finishes its last requests"):
                in_memory(service.registry, "price", "1")
            assert float((await held.predict(ONE)).outputs[0][0, 0]) == 5.0
        assert service.index == afterwards

    run_scenario(models, scenario)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda models: shutil.rmtree(models / "price"), "its folder was removed"),
        (lambda models: shutil.rmtree(models / "price" / "2"), "its folder was removed"),
        (publish_price, "replaced"),
        (None, "not chosen"),
    ],
    ids=["model removed", "version removed", "replaced", "unloaded"],
)
def test_the_log_has_the_cause_of_an_unload(
    models: Path,
    change: Callable[[Path], object] | None,
    cause: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A removed folder, a newer version, or a call."""
    publish_price(models)
    publish_price(models)
    caplog.set_level("INFO")

    async def scenario(service: Service) -> None:
        if change is None:
            await service.reconciler.unload_model("price")
        else:
            change(models)
            await service.reconciler.refresh()
        unloaded = [record for record in caplog.records if record.message == "model unloaded"]
        assert [(vars(line)["version"], vars(line)["cause"]) for line in unloaded] == [("2", cause)]

    run_scenario(models, scenario)


def test_an_unloaded_model_is_unavailable_until_it_is_loaded(models: Path) -> None:
    """While requests still use it, it is UNLOADING."""
    publish_price(models)

    async def scenario(service: Service) -> None:
        with in_memory(service.registry, "price"):
            await service.reconciler.unload_model("price")
            assert service.index == {"1": "UNLOADING"}
        assert service.gauge == {"1": "UNAVAILABLE"}
        await service.reconciler.refresh()
        assert service.index == {"1": "UNAVAILABLE"}

        seen = await service.indexes_during(service.reconciler.load_model("price"))
        assert seen == [{"1": "UNAVAILABLE"}, {"1": "LOADING"}, {"1": "READY"}]

    run_scenario(models, scenario)


def test_a_lazy_version_is_ready_before_and_after_its_load(models: Path) -> None:
    """In between it is LOADING, while requests wait and the registry stays ready."""
    publish_price(models)

    async def scenario(service: Service) -> None:
        assert service.gauge == {"1": "READY"}
        waiting = service.reconciler.ensure_loaded("price", None)
        ready = service.registry.is_ready
        seen = await service.indexes_during(waiting)

        assert (ready, seen) == (True, [{"1": "READY"}, {"1": "LOADING"}, {"1": "READY"}])

    run_scenario(models, scenario, max_loaded_models=1)


def test_an_alias_moves_when_its_new_version_has_passed_its_self_test(models: Path) -> None:
    """It stays if that version fails, and moves back immediately."""
    for slope in (1.0, 2.0):
        publish_price(models, slope=slope)
    set_alias(models, "stable", 1)

    async def scenario(service: Service) -> None:
        (publish_price(models, slope=3.0) / MODEL).write_bytes(b"broken")
        served = []
        for version in (2, 3, 1, 7):
            set_alias(models, "stable", version)
            await service.reconciler.refresh()
            served.append(in_memory(service.registry, "price", "stable").version)
            assert in_memory(service.registry, "price").version == served[-1]

        assert served == ["2", "2", "1", "1"]

    run_scenario(models, scenario)


def test_an_alias_keeps_its_version_after_a_restart(models: Path) -> None:
    """The policy file stores the version that served, so a new process serves it, too."""
    for slope in (1.0, 2.0):
        publish_price(models, slope=slope)
    for version in (1, 2, 3):
        set_alias(models, "stable", version)
    (publish_price(models, slope=3.0) / MODEL).write_bytes(b"broken")

    async def scenario(service: Service) -> None:
        assert in_memory(service.registry, "price").version == "2"
        assert service.index == {"3": "UNAVAILABLE", "2": "READY", "1": "UNAVAILABLE"}

    run_scenario(models, scenario)


def test_a_removed_alias_no_longer_serves(models: Path) -> None:
    """Its version is closed, unless the policy selects it otherwise."""
    publish_price(models, slope=1.0)
    publish_price(models, slope=2.0)
    set_alias(models, "canary", 1)

    async def scenario(service: Service) -> None:
        assert service.index == {"2": "READY", "1": "READY"}
        change_policy(models / "price", partial(Policy.without_alias, alias="canary"))
        await service.reconciler.refresh()

        assert service.index == {"2": "READY", "1": "UNAVAILABLE"}
        with pytest.raises(VersionNotFound, match="no version 'canary'"):
            in_memory(service.registry, "price", "canary")

    run_scenario(models, scenario)


def test_a_model_keeps_serving_if_its_folder_cannot_be_read(models: Path) -> None:
    """For example if it is replaced by a link to itself."""
    model_folder = publish_price(models).parent

    async def scenario(service: Service) -> None:
        before = in_memory(service.registry, "price")
        away = model_folder.rename(models.parent / "away")
        model_folder.symlink_to(model_folder)
        await service.reconciler.refresh()
        assert in_memory(service.registry, "price") is before

        model_folder.unlink()
        away.rename(model_folder)
        await service.reconciler.refresh()
        assert in_memory(service.registry, "price") is before

    run_scenario(models, scenario)


def test_a_removed_model_leaves_no_metrics(models: Path) -> None:
    """Neither counts nor states remain, after they could be scraped."""
    publish_price(models)

    async def scenario(service: Service) -> None:
        await in_memory(service.registry, "price").predict(ONE)
        shutil.rmtree(models / "price")
        await service.reconciler.refresh()

        assert "price" not in scraped(service.metrics).decode()
        with pytest.raises(ModelNotFound):
            in_memory(service.registry, "price")

    run_scenario(models, scenario)
