"""The protocol's paths."""

import orjson
from fastapi import APIRouter, Request, Response

from service.api.bodies import parse_json, read_body
from service.api.prediction import Predictor
from service.api.v2.describe import config, metadata, statistics
from service.api.v2.dialect import V2Dialect
from service.engine.reconciler import Reconciler
from service.engine.registry import Entry, Registry
from service.errors import InvalidRequest
from service.settings import Settings

EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
]
_TAG = "Open Inference Protocol"
_SMALL = 64 * 1024


def v2_routers(
    registry: Registry,
    reconciler: Reconciler,
    predictor: Predictor,
    settings: Settings,
    version: str,
) -> list[APIRouter]:
    """Every path of the protocol."""
    return [
        _server_router(registry, settings.server_name, version),
        _model_router(registry, predictor),
        _repository_router(registry, reconciler),
    ]


def _server_router(registry: Registry, server_name: str, version: str) -> APIRouter:
    """The server, its health, and what all its models have done."""
    router = APIRouter(prefix="/v2", tags=[_TAG])

    @router.get("", summary="The server")
    @router.get("/", include_in_schema=False)
    async def server() -> Response:
        return _json({"name": server_name, "version": version, "extensions": EXTENSIONS})

    @router.get("/health/live", summary="Whether the process answers")
    async def live() -> Response:
        return _json({"live": True})

    @router.get("/health/ready", summary="Whether at least one model serves")
    async def ready() -> Response:
        return _json({"ready": registry.ready}, 200 if registry.ready else 503)

    @router.get("/models/stats", summary="What every model has done so far")
    async def all_statistics() -> Response:
        serving = [registry.serving(name) for name in registry.names]
        return _json({"model_stats": [statistics(model) for model in serving if model]})

    return router


def _model_router(registry: Registry, predictor: Predictor) -> APIRouter:
    """One model, or one version of it."""
    router = APIRouter(prefix="/v2", tags=[_TAG])
    dialect = V2Dialect()

    @router.get("/models/{name}", summary="A model's tensors")
    @router.get("/models/{name}/versions/{version}", summary="The tensors of one version")
    async def model_metadata(name: str, version: str | None = None) -> Response:
        return _json(metadata(registry.get(name, version), registry))

    @router.get("/models/{name}/ready", summary="Whether a model serves")
    @router.get("/models/{name}/versions/{version}/ready", summary="Whether one version serves")
    async def model_ready(name: str, version: str | None = None) -> Response:
        is_ready = registry.entry(name, version).model is not None
        return _json({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    @router.get("/models/{name}/config", summary="A model's configuration, as Triton tells it")
    @router.get("/models/{name}/versions/{version}/config", summary="The same of one version")
    async def model_config(name: str, version: str | None = None) -> Response:
        return _json(config(registry.get(name, version)))

    @router.get("/models/{name}/stats", summary="What a model has done so far")
    @router.get("/models/{name}/versions/{version}/stats", summary="The same of one version")
    async def model_statistics(name: str, version: str | None = None) -> Response:
        return _json({"model_stats": [statistics(registry.get(name, version))]})

    @router.post("/models/{name}/infer", summary="Infer")
    @router.post("/models/{name}/versions/{version}/infer", summary="Infer by one version")
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        return await predictor.answer(dialect, request, name, version)

    return router


def _repository_router(registry: Registry, reconciler: Reconciler) -> APIRouter:
    """The model repository extension."""
    router = APIRouter(prefix="/v2/repository", tags=[_TAG])

    @router.post("/index", summary="Every version, its state, and why")
    async def index(request: Request) -> Response:
        body = await read_body(request, _SMALL)
        # Triton's client posts an empty body.
        asked = parse_json(body, b'{"ready": true}') if body.strip() else {}
        if not isinstance(asked, dict) or not isinstance(asked.get("ready", False), bool):
            raise InvalidRequest("Send nothing, or an object with 'ready', true or false.")
        entries = [entry for name in registry.names for entry in registry.versions(name)]
        if asked.get("ready"):
            entries = [entry for entry in entries if entry.model]
        return _json([_indexed(entry) for entry in entries])

    @router.post("/models/{name}/load", summary="Load a model, or load it again")
    async def load(name: str) -> Response:
        await reconciler.load_model(name)
        return _json({})

    @router.post("/models/{name}/unload", summary="Take a model out of service")
    async def unload(name: str) -> Response:
        await reconciler.unload_model(name)
        return _json({})

    return router


def _indexed(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "version": entry.version,
        "state": entry.state,
        "reason": entry.reason,
    }


def _json(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
