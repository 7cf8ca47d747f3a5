"""Loading a bundle runs code of few files, so that it can be followed easily."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from service.engine.reconciler import Reconciler
from service.engine.registry import Registry
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.models import publish_admission

SERVICE = Path(__file__).parents[3] / "service"
MOST_FILES = 18


@contextmanager
def traced(calls: list[str]) -> Iterator[None]:
    """Record the file of every Python function of the service that is called, in any thread."""

    def record(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        # Comprehensions, lambdas and classes have names in angle brackets.
        if event == "call" and path.is_relative_to(SERVICE):
            calls.append(str(path.relative_to(SERVICE)))

    before = sys.getprofile()
    threading.setprofile(record)
    sys.setprofile(record)
    try:
        yield
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


def test_a_bundle_becomes_ready_in_few_files(models: Path) -> None:
    """Loading a bundle, from the scan of its folder until it serves, runs code of few files."""
    publish_admission(models)
    calls: list[str] = []

    async def start() -> None:
        registry = Registry("cpu")
        reconciler = Reconciler(Settings(models=models, device="cpu"), Metrics(), registry)
        with traced(calls):
            await reconciler.start()
        assert registry.is_ready
        await reconciler.close()

    asyncio.run(start())

    files = list(dict.fromkeys(calls))
    assert len(files) <= MOST_FILES, " > ".join(files)
