"""Creates the FastAPI app and connects the parts of the service."""

import asyncio
import gc
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.column_paths import describe_model
from service.api.documentation import Documentation, documentation_router
from service.api.errors import add_error_handlers
from service.api.explain.routes import Explainer, explain_router
from service.api.inference import FastInference
from service.api.inference_service import InferenceService
from service.api.middleware import PredictRoutingMiddleware, RequestContext
from service.api.native.examples import find_command
from service.api.native.protocol import NativeProtocol, native_router
from service.api.native.tables import NativePredictions
from service.api.operations import operations_router
from service.api.routing import NATIVE, V1, V2, PredictRoute, PredictRouter, name_operation
from service.api.shadow import ShadowMirror, shadow_router
from service.api.static_files import PageFiles
from service.api.v1.protocol import V1Protocol
from service.api.v1.routes import v1_routers
from service.api.v2.protocol import V2Protocol
from service.api.v2.routes import v2_routers
from service.api.v2.shared_memory import Regions
from service.codecs.endpoint import EndpointCache
from service.engine.heap import map_large_blocks
from service.engine.registry import Registry
from service.limits import Limits
from service.observability.logs import configure_logging
from service.observability.metrics import Metrics, RequestRecorder
from service.server.connections import Connections
from service.server.fast_path import FastPath
from service.server.signals import SignalHandlers
from service.settings import Settings
from service.shadow.runner import ShadowRunner
from service.tablefiles.process import TableFileProcesses
from service.workers.coordination import Worker
from service.workers.ipc import WORKERS_FOLDER, Slot, claim_slot

VERSION = version("onward")

# How long a thread that decodes a body may hold the interpreter lock while the event loop waits for
# it. Python's default of 5 ms adds up, since the loop needs the lock many times for one request.
_SWITCH_SECONDS = 0.000_5

_log = logging.getLogger(__name__)


class Onward(FastAPI):
    """A FastAPI app whose OpenAPI document has the paths of each model."""

    def __init__(
        self,
        registry: Registry,
        settings: Settings,
        **options: Any,  # noqa: ANN401 - FastAPI's own
    ) -> None:
        # `documentation_router` replaces FastAPI's routes for the document and its pages.
        super().__init__(**options, openapi_url=None)
        describe = partial(describe_model, max_explained_rows=settings.max_explained_rows)
        self.documentation = Documentation(registry, super().openapi, describe, settings.root_path)
        self.fast_path: FastPath | None = None
        """Used by `service.server.fast_path`, and not by other servers."""
        self.entry: ASGIApp = self.route
        """The app's own middleware around FastAPI."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or the lifespan."""
        serve = self.entry if scope["type"] == "http" else self.route
        await serve(scope, receive, send)

    async def route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request with FastAPI's middleware and router."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            # Every GET has a HEAD, whose body the server omits.
            scope = {**scope, "method": "GET"}
        await super().__call__(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Build FastAPI's middleware without the outermost, which has its own error responses."""
        stack = super().build_middleware_stack()
        return stack.app if isinstance(stack, ServerErrorMiddleware) else stack

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document for the current models."""
        document: dict[str, Any] = json.loads(self.documentation.content())
        return document


def create_app(settings: Settings, slot: Slot | None = None) -> Onward:
    """Create the service as an ASGI app, which loads the models when its lifespan starts.

    The start raises `DeviceUnavailable` or `NoModels` if the settings cannot be applied. The slot
    is that of this worker, if there are several.
    """
    metrics = Metrics()
    worker = Worker(settings, metrics, slot)
    shadows = ShadowRunner(metrics)
    limits = Limits(settings, metrics.count_rejection)
    processes = TableFileProcesses(settings, limits)
    app = Onward(
        worker.registry,
        settings,
        title="Onward",
        version=VERSION,
        description="Predictions from tables and images. Train small, serve fast.",
        lifespan=_lifespan(worker, shadows, processes, settings),
        redirect_slashes=False,
        generate_unique_id_function=name_operation,
    )
    endpoints = EndpointCache(settings, limits)
    mirror = ShadowMirror(worker.registry, shadows)
    service = InferenceService(worker, endpoints, metrics, mirror, settings, limits)
    native = NativeProtocol(limits)
    predictions = NativePredictions(service, native, metrics, settings, limits, processes)
    files = PageFiles()
    v1 = V1Protocol(limits)
    v2 = V2Protocol(Regions(allowed=settings.shared_memory == "system"), limits)
    for router in (
        native_router(worker, predictions),
        shadow_router(worker.registry, shadows, worker.channel),
        explain_router(Explainer(service, native, metrics, settings)),
        *v1_routers(worker, service, v1, limits),
        *v2_routers(worker, service, v2, settings, VERSION),
        operations_router(worker.readiness, worker.totals.render, files),
        documentation_router(app.documentation, files),
    ):
        app.include_router(router)
    app.mount("/static", files)
    find_example = partial(find_command, worker.registry, settings.root_path)
    add_error_handlers(app, find_example, settings.root_path)
    predict_router = PredictRouter(
        (
            PredictRoute(NATIVE, native, predictions.predict),
            PredictRoute(V1, v1, partial(service.predict, v1)),
            PredictRoute(V2, v2, partial(service.predict, v2)),
        ),
        settings.root_path,
    )
    recorder = RequestRecorder(metrics, settings.log_requests)
    fast = FastInference(worker.registry, worker.readiness, endpoints, recorder, limits)
    connections = Connections(settings, recorder)
    app.fast_path = FastPath(fast, predict_router, connections)
    routing = PredictRoutingMiddleware(app.route, predict_router, settings.root_path)
    app.entry = RequestContext(routing, worker.readiness, recorder, settings, limits)
    return app


def create_app_from_environment() -> Onward:
    """Create the app in one of several workers, whose settings are in the environment."""
    settings = Settings()
    limited = settings.log_requests != "all"
    configure_logging(settings.log_format, settings.log_level, limited=limited)
    return create_app(settings, claim_slot(Path(os.environ[WORKERS_FOLDER])))


def _lifespan(
    worker: Worker, shadows: ShadowRunner, processes: TableFileProcesses, settings: Settings
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Load the models at the start, and release everything at the end."""
    signals = SignalHandlers(
        worker.readiness,
        worker.control,
        drain_seconds=settings.drain_seconds,
        deadline_seconds=settings.deadline_seconds,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        map_large_blocks()
        sys.setswitchinterval(_SWITCH_SECONDS)
        await worker.start()
        signals.install()
        # Objects of the startup live as long as the process; exclude them from garbage collection.
        gc.collect()
        gc.freeze()
        tasks = [asyncio.create_task(worker.totals.write_often())]
        if settings.poll_seconds > 0:
            tasks.append(asyncio.create_task(worker.reconciler.watch()))
        yield
        worker.readiness.drain()
        signals.remove()
        for task in tasks:
            task.cancel()
        shadows.close()
        processes.close()
        await worker.control.close()
        await worker.totals.write()
        _log.info("stopped")

    return lifespan
