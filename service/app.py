"""The only place where the service's parts meet."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, MutableSet
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from service.api import door
from service.api.codecs import Codecs
from service.api.door import Door
from service.api.errors import add_error_handlers
from service.api.openapi import complete
from service.api.operations import operations_router
from service.api.plain import PlainDialect, plain_router
from service.api.prediction import Predictor
from service.api.requests import RequestContext
from service.api.v1.routes import v1_routers
from service.api.v2.dialect import V2Dialect
from service.api.v2.routes import v2_routers
from service.api.v2.shared_memory import Regions
from service.engine.reconciler import Reconciler
from service.engine.registry import Registry
from service.logs import configure_logging
from service.metrics import Metrics, count_in_files, workers_folder
from service.settings import Settings
from service.workers.channel import Channel
from service.workers.control import Control
from service.workers.names import SharedNames
from service.workers.slots import claim

VERSION = version("onward")

_log = logging.getLogger(__name__)


class Onward(FastAPI):
    """FastAPI whose OpenAPI document also tells each model's own paths."""

    def __init__(self, registry: Registry, **options: Any) -> None:  # noqa: ANN401 - FastAPI's own
        super().__init__(**options)
        self.registry = registry

    def openapi(self) -> dict[str, Any]:
        """The document, made anew each time: models come and go."""
        self.openapi_schema = None
        return complete(super().openapi(), self.registry)


def create_app(
    settings: Settings, channel: Channel | None = None, unloaded: MutableSet[str] | None = None
) -> Onward:
    """The service as one ASGI application; models are loaded when its lifespan starts.

    Starting raises `DeviceUnavailable` or `NoModels` where the settings cannot be met.

    Args:
        settings: the service's options.
        channel: the way to the other workers, where there are any.
        unloaded: the models that no worker is to serve, kept where all workers find it.
    """
    metrics = Metrics()
    registry = Registry(settings.device)
    reconciler = Reconciler(settings, metrics, registry, unloaded)
    channel = channel or Channel()
    control = Control(reconciler, channel, settings.worker_seconds)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await control.start()
        # What start-up made lives as long as the process; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        watching = asyncio.create_task(reconciler.watch()) if settings.poll_seconds else None
        yield
        if watching is not None:
            watching.cancel()
        await control.close()
        _log.info("stopped")

    app = Onward(
        registry,
        title="Onward",
        version=VERSION,
        description="Predictions from tables and pictures. Train small, serve fast.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    codecs = Codecs()
    predictor = Predictor(registry, metrics, settings)
    plain = PlainDialect(codecs)
    v2 = V2Dialect(Regions(allowed=settings.shared_memory == "system"), codecs)
    app.include_router(plain_router(registry, predictor, plain))
    for router in (
        *v1_routers(registry, predictor, codecs),
        *v2_routers(registry, control, channel, predictor, v2, settings, VERSION),
    ):
        app.include_router(router)
    app.include_router(operations_router(registry, metrics))
    add_error_handlers(app)
    app.add_middleware(Door, predictor=predictor, dialects=((door.PLAIN, plain), (door.V2, v2)))
    app.add_middleware(RequestContext, metrics=metrics, log_requests=settings.log_requests)
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
    return create_app(settings, Channel(slot), SharedNames(folder / "unloaded"))
