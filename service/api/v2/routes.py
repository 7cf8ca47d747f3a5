"""The protocol's paths."""

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response

from service.api.health import add_health, json_response
from service.api.inference_service import InferenceService
from service.api.routing import OptionalVersion
from service.api.schemas import MODEL_ERRORS, fails_with, returns
from service.api.v2.describe import config, metadata
from service.api.v2.exchange import TAG, read_document
from service.api.v2.origins import NOT_FROM_A_BROWSER
from service.api.v2.protocol import V2Protocol
from service.api.v2.schemas import CONFIG, INDEX, INFER, METADATA, READY, STATISTICS
from service.api.v2.shared_memory_routes import shared_memory_router
from service.api.v2.statistics import StatisticsOfWorkers
from service.engine.registry import Entry, PublishedVersions, Readiness, State
from service.errors import InvalidRequest, NotAllowed
from service.settings import Settings
from service.workers.coordination import Worker

EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
]


def v2_routers(
    worker: Worker,
    service: InferenceService,
    protocol: V2Protocol,
    settings: Settings,
    version: str,
) -> list[APIRouter]:
    """Every path of the protocol."""
    shares = settings.shared_memory == "system"
    extensions = [*EXTENSIONS, "system_shared_memory"] if shares else EXTENSIONS
    about = {"name": settings.server_name, "version": version, "extensions": extensions}
    statistics = StatisticsOfWorkers(worker.registry, worker.channel)
    return [
        _server_router(worker.readiness, about, statistics),
        _model_router(worker, service, protocol, statistics),
        _repository_router(worker),
        shared_memory_router(protocol.regions),
    ]


def _server_router(
    readiness: Readiness, about: Mapping[str, object], statistics: StatisticsOfWorkers
) -> APIRouter:
    """The server, its health, and what all its models have done."""
    router = APIRouter(prefix="/v2", tags=[TAG])

    @router.get(
        "",
        summary="The server",
        responses=returns(name="string", version="string", extensions="array"),
    )
    @router.get("/", include_in_schema=False)
    async def server() -> Response:
        return json_response(about)

    add_health(router, readiness)

    @router.get("/models/stats", summary="What every model has done so far", responses=STATISTICS)
    async def all_statistics() -> Response:
        return json_response({"model_stats": await statistics.of()})

    return router


def _model_router(
    worker: Worker,
    service: InferenceService,
    protocol: V2Protocol,
    statistics: StatisticsOfWorkers,
) -> APIRouter:
    """One model, or one version of it."""
    registry = worker.registry
    router = APIRouter(prefix="/v2", tags=[TAG], responses=MODEL_ERRORS)

    @router.get("/models/{name}", summary="A model's tensors", responses=METADATA)
    @router.get(
        "/models/{name}/versions/{version}",
        summary="The tensors of one version",
        responses=METADATA,
    )
    async def model_metadata(name: str, version: OptionalVersion) -> Response:
        return json_response(metadata(await worker.reconciler.model_info(name, version), registry))

    @router.get("/models/{name}/ready", summary="Whether a model serves", responses=READY)
    @router.get(
        "/models/{name}/versions/{version}/ready",
        summary="Whether one version serves",
        responses=READY,
    )
    async def model_ready(name: str, version: OptionalVersion) -> Response:
        serves = registry.entry(name, version).serves
        is_ready = serves and not worker.readiness.draining
        return json_response({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    @router.get(
        "/models/{name}/config",
        summary="A model's configuration, as Triton tells it",
        responses=CONFIG,
    )
    @router.get(
        "/models/{name}/versions/{version}/config",
        summary="The same of one version",
        responses=CONFIG,
    )
    async def model_config(name: str, version: OptionalVersion) -> Response:
        return json_response(config(await worker.reconciler.model_info(name, version)))

    @router.get(
        "/models/{name}/stats", summary="What a model has done so far", responses=STATISTICS
    )
    @router.get(
        "/models/{name}/versions/{version}/stats",
        summary="The same of one version",
        responses=STATISTICS,
    )
    async def model_statistics(name: str, version: OptionalVersion) -> Response:
        info = await worker.reconciler.model_info(name, version)
        return json_response({"model_stats": await statistics.of([info])})

    _add_inference(router, service, protocol)
    return router


def _add_inference(router: APIRouter, service: InferenceService, protocol: V2Protocol) -> None:
    @router.post("/models/{name}/infer", summary="Infer", **INFER)
    @router.post("/models/{name}/versions/{version}/infer", summary="Infer by one version", **INFER)
    async def infer(request: Request, name: str, version: OptionalVersion) -> Response:
        return await service.predict(protocol, request, name, version)


def _repository_router(worker: Worker) -> APIRouter:
    """The model repository extension."""
    registry, control = worker.registry, worker.control
    router = APIRouter(prefix="/v2/repository", tags=[TAG])

    @router.post("/index", summary="Every version, its state, and why", **INDEX)
    async def index(request: Request) -> Response:
        document = await read_document(request, b'{"ready": true}')
        if not isinstance(document, dict) or not isinstance(document.get("ready", False), bool):
            raise InvalidRequest("Send nothing, or an object with 'ready', true or false.")
        entries = await worker.index.entries()
        if document.get("ready"):
            entries = [entry for entry in entries if entry.state is State.READY]
        return json_response([_indexed(entry, registry.published(entry.name)) for entry in entries])

    @router.post(
        "/models/{name}/load",
        summary="Load a model, or load it again",
        dependencies=NOT_FROM_A_BROWSER,
        responses=MODEL_ERRORS | fails_with(NotAllowed) | returns(),
    )
    async def load(name: str) -> Response:
        await control.load_model(name)
        return json_response({})

    @router.post(
        "/models/{name}/unload",
        summary="Take a model out of service",
        dependencies=NOT_FROM_A_BROWSER,
        responses=fails_with(NotAllowed) | returns(),
    )
    async def unload(name: str) -> Response:
        await control.unload_model(name)
        return json_response({})

    return router


def _indexed(entry: Entry, offer: PublishedVersions) -> dict[str, object]:
    """The protocol's four facts, and this version's aliases where it has any."""
    aliases = [alias for alias in offer.aliases if offer.routes.get(alias) == entry.version]
    return {
        "name": entry.name,
        "version": entry.version,
        "state": entry.state,
        "reason": entry.reason,
    } | ({"aliases": aliases} if aliases else {})
