"""Readiness has one definition, lenient or strict."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from service.bundle.store import MODEL
from service.engine.reconciler import Reconciler
from service.engine.registry import Readiness, Registry, Strictness
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.models import publish_admission, publish_price

Scenario = Callable[[Readiness, Reconciler], Awaitable[None]]


def run_scenario(models: Path, strictness: Strictness, scenario: Scenario) -> None:
    """Start with the folder, and run the scenario on one event loop."""

    async def run() -> None:
        registry = Registry("cpu")
        reconciler = Reconciler(Settings(models=models, device="cpu"), Metrics(), registry)
        readiness = Readiness(registry, strictness)
        await reconciler.start()
        readiness.record_first_loads()
        await scenario(readiness, reconciler)
        await reconciler.close()

    asyncio.run(run())


def break_model(folder: Path) -> bytes:
    whole = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(b"broken")
    return whole


def test_lenient_readiness_needs_one_model(models: Path) -> None:
    """A model that failed its first load does not matter."""
    publish_price(models)
    break_model(publish_admission(models))

    async def scenario(readiness: Readiness, _: Reconciler) -> None:
        assert readiness.not_ready_reason is None

    run_scenario(models, "lenient", scenario)


def test_strict_readiness_needs_every_model_of_the_start(models: Path) -> None:
    """It returns the reason until each model has served, for example after its files are fixed."""
    publish_price(models)
    folder = publish_admission(models)
    whole = break_model(folder)

    async def scenario(readiness: Readiness, reconciler: Reconciler) -> None:
        before = readiness.not_ready_reason
        (folder / MODEL).write_bytes(whole)
        await reconciler.refresh()

        assert before is not None
        assert before.startswith("Model 'admission' has not served since the start: model.onnx has")
        assert readiness.not_ready_reason is None

    run_scenario(models, "strict", scenario)


def test_strict_readiness_ignores_removed_models(models: Path) -> None:
    """A broken model that was removed is no longer required."""
    publish_price(models)
    folder = publish_admission(models)
    break_model(folder)

    async def scenario(readiness: Readiness, reconciler: Reconciler) -> None:
        shutil.rmtree(folder.parent)
        await reconciler.refresh()

        assert readiness.not_ready_reason is None

    run_scenario(models, "strict", scenario)


def test_models_that_fail_after_the_start_do_not_matter(models: Path) -> None:
    """The service stays ready with a broken new model and a broken new version."""
    publish_price(models)

    async def scenario(readiness: Readiness, reconciler: Reconciler) -> None:
        break_model(publish_price(models, slope=3.0))
        break_model(publish_admission(models))
        await reconciler.refresh()

        assert readiness.not_ready_reason is None

    run_scenario(models, "strict", scenario)


@pytest.mark.parametrize("strictness", ["lenient", "strict"])
def test_a_service_without_models_is_not_ready(models: Path, strictness: Strictness) -> None:
    """The service becomes ready when the first model serves."""

    async def scenario(readiness: Readiness, reconciler: Reconciler) -> None:
        before = readiness.not_ready_reason
        publish_price(models)
        await reconciler.refresh()

        assert before == "No model serves."
        assert readiness.not_ready_reason is None

    run_scenario(models, strictness, scenario)


def test_a_draining_service_is_not_ready(models: Path) -> None:
    """Readiness is false while the models still serve the last requests."""
    publish_price(models)

    async def scenario(readiness: Readiness, _: Reconciler) -> None:
        readiness.drain()

        assert readiness.not_ready_reason == "The service is stopping."

    run_scenario(models, "lenient", scenario)
