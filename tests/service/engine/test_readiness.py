"""Readiness: its one meaning, lenient and strict."""

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


def play(models: Path, strictness: Strictness, scenario: Scenario) -> None:
    """Start on the folder and run the scenario on one event loop."""

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


def test_lenient_is_content_with_one_model(models: Path) -> None:
    """A neighbour that failed its first load does not matter."""
    publish_price(models)
    break_model(publish_admission(models))

    async def scenario(readiness: Readiness, _: Reconciler) -> None:
        assert readiness.ready

    play(models, "lenient", scenario)


def test_strict_waits_for_every_model_of_the_start(models: Path) -> None:
    """Not ready while one has never served, with the reason; ready once its files are mended."""
    publish_price(models)
    folder = publish_admission(models)
    whole = break_model(folder)

    async def scenario(readiness: Readiness, reconciler: Reconciler) -> None:
        before = readiness.unready_reason
        (folder / MODEL).write_bytes(whole)
        await reconciler.refresh()

        assert before is not None
        assert before.startswith("Model 'admission' has not served since the start: model.onnx has")
        assert readiness.ready

    play(models, "strict", scenario)


def test_strict_is_content_when_the_broken_model_is_removed(models: Path) -> None:
    """What is no longer in the folder is no longer asked for."""
    publish_price(models)
    folder = publish_admission(models)
    break_model(folder)

    async def scenario(readiness: Readiness, reconciler: Reconciler) -> None:
        shutil.rmtree(folder.parent)
        await reconciler.refresh()

        assert readiness.ready

    play(models, "strict", scenario)


def test_what_comes_later_never_makes_it_unready(models: Path) -> None:
    """A broken new model, and a broken new version, leave the service in the load balancer."""
    publish_price(models)

    async def scenario(readiness: Readiness, reconciler: Reconciler) -> None:
        break_model(publish_price(models, slope=3.0))
        break_model(publish_admission(models))
        await reconciler.refresh()

        assert readiness.ready

    play(models, "strict", scenario)


@pytest.mark.parametrize("strictness", ["lenient", "strict"])
def test_nothing_to_serve_is_not_ready(models: Path, strictness: Strictness) -> None:
    """An empty folder at the start; the first model makes it ready."""

    async def scenario(readiness: Readiness, reconciler: Reconciler) -> None:
        before = readiness.unready_reason
        publish_price(models)
        await reconciler.refresh()

        assert before == "No model serves."
        assert readiness.ready

    play(models, strictness, scenario)


def test_draining_is_not_ready(models: Path) -> None:
    """Whatever serves."""
    publish_price(models)

    async def scenario(readiness: Readiness, _: Reconciler) -> None:
        readiness.drain()

        assert readiness.unready_reason == "The service is stopping."

    play(models, "lenient", scenario)
