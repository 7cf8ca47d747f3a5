"""The only place where the service's parts meet."""

import asyncio
import gc
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from service.api.codecs import Codecs
from service.api.copies import Copies
from service.api.documentation import Documentation, documentation_router
from service.api.door import PLAIN, V1, V2, AsgiDoor, Door, Way
from service.api.errors import add_error_handlers
from service.api.explain.explainer import Explainer
from service.api.explain.routes import explain_router
from service.api.openapi import model_paths
from service.api.operations import operations_router
from service.api.plain import PlainDialect, PlainPredictions, plain_router
from service.api.prediction import Predictor
from service.api.requests import Ledger, RequestContext
from service.api.shadow import shadow_router
from service.api.tables.exchange import TableExchange
from service.api.v1.predict import PredictDialect
from service.api.v1.routes import v1_routers
from service.api.v2.dialect import V2Dialect
from service.api.v2.routes import v2_routers
from service.api.v2.shared_memory import Regions
from service.engine.registry import Registry
from service.limits import Limits
from service.logs import configure_logging
from service.metrics import Metrics
from service.settings import Settings
from service.shadow.shadows import Shadows
from service.shared_metrics import count_in_files, workers_folder
from service.signals import Signals
from service.workers.slots import claim
from service.workers.worker import Place, Worker

VERSION = version("onward")

_SETTLE_SECONDS = 0.25

_log = logging.getLogger(__name__)


class Onward(FastAPI):
    """FastAPI whose OpenAPI document also tells each model's own paths."""

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        **options: Any,  # noqa: ANN401 - FastAPI's own
    ) -> None:
        # Its routes for the document and the pages are replaced by `documentation_router`.
        super().__init__(**options, openapi_url=None)
        of_model = partial(model_paths, max_explained_rows=settings.max_explained_rows)
        self.documentation = Documentation(registry, super().openapi, of_model)
        self.limits: Limits | None = None
        """What connections and requests share; `create_app` sets it."""
        self.door: Door | None = None
        """Where `service.protocol` hands over predictions; other servers know nothing of it."""

    def openapi(self) -> dict[str, Any]:
        """The document for the models as they are now."""
        document: dict[str, Any] = json.loads(self.documentation.content())
        return document


def create_app(settings: Settings, place: Place | None = None) -> Onward:
    """The service as one ASGI application; models are loaded when its lifespan starts.

    Starting raises `DeviceUnavailable` or `NoModels` where the settings cannot be met.

    Args:
        settings: the service's options.
        place: where this process stands among the workers, if there are several.
    """
    metrics = Metrics()
    worker = Worker(settings, metrics, place or Place())
    shadows = Shadows(metrics)
    app = Onward(
        worker.registry,
        settings,
        title="Onward",
        version=VERSION,
        description="Predictions from tables and pictures. Train small, serve fast.",
        lifespan=_lifespan(worker, shadows, metrics, settings),
        redirect_slashes=False,
    )
    app.limits = Limits(settings, metrics.rejected)
    codecs = Codecs(settings)
    copies = Copies(worker.registry, shadows)
    predictor = Predictor(worker.registry, worker.reconciler, metrics, copies, settings)
    exchange = TableExchange(predictor, codecs, metrics, settings)
    plain = PlainDialect(codecs)
    predictions = PlainPredictions(predictor, plain, exchange)
    v1 = PredictDialect(codecs)
    v2 = V2Dialect(Regions(allowed=settings.shared_memory == "system"), codecs)
    for router in (
        plain_router(worker, predictions),
        shadow_router(worker.registry, shadows, worker.channel),
        explain_router(Explainer(predictor, plain, metrics, settings)),
        *v1_routers(worker, predictor, v1, codecs),
        *v2_routers(worker, predictor, v2, settings, VERSION),
        operations_router(worker.readiness, metrics, worker.channel),
        documentation_router(app.documentation, app.title),
    ):
        app.include_router(router)
    add_error_handlers(app)
    ways = (
        Way(PLAIN, plain, predictions.answer),
        Way(V1, v1, partial(predictor.answer, v1)),
        Way(V2, v2, partial(predictor.answer, v2)),
    )
    ledger = Ledger(metrics, worker.readiness, settings.log_requests)
    app.door = Door(predictor, ways, ledger, settings.max_body_bytes)
    app.add_middleware(AsgiDoor, ways=ways)
    app.add_middleware(RequestContext, ledger=ledger)
    return app


def create_app_from_environment() -> Onward:
    """What each of several workers calls; their settings travel in the environment."""
    settings = Settings()
    configure_logging(settings.log_format, settings.log_level)
    folder = workers_folder()
    if folder is None:
        return create_app(settings)
    slot = claim(folder)
    count_in_files(slot.number)
    return create_app(settings, Place.among(folder, slot))


async def _settle_often(metrics: Metrics) -> None:
    """Tell the others of this worker's counts before anybody asks: who asks may not wait long."""
    while True:
        await asyncio.sleep(_SETTLE_SECONDS)
        try:
            metrics.settle()
        except Exception:  # noqa: BLE001 - whatever it is, the next may succeed
            _log.exception("counts could not be settled")


def _lifespan(
    worker: Worker, shadows: Shadows, metrics: Metrics, settings: Settings
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """From the loading of the models until the last answer is out."""
    signals = Signals(worker.readiness, worker.control, settings.drain_seconds)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await worker.start()
        signals.install()
        # What start-up made lives as long as the process; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        watches = settings.poll_seconds > 0
        working = [asyncio.create_task(worker.reconciler.watch())] if watches else []
        if metrics.is_shared:
            working.append(asyncio.create_task(_settle_often(metrics)))
        yield
        worker.readiness.drain()
        signals.remove()
        for task in working:
            task.cancel()
        shadows.close()
        await worker.control.close()
        metrics.settle()
        _log.info("stopped")

    return lifespan
