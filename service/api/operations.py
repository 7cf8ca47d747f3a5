"""What operators and probes ask: liveness, readiness, metrics, and the front door."""

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from service.engine.registry import Registry
from service.metrics import CONTENT_TYPE, Metrics


def operations_router(registry: Registry, metrics: Metrics) -> APIRouter:
    """Liveness, readiness, metrics, and ``/``."""
    router = APIRouter(tags=["operations"])

    @router.get("/", include_in_schema=False)
    async def front_door(request: Request) -> Response:
        # Clients of KServe's first protocol want this object; a browser asks for text/html.
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("docs")
        return _json({"status": "alive", "models": "/models", "documentation": "/docs"})

    @router.get("/health/live", summary="Whether the process answers")
    async def live() -> Response:
        return _json({"live": True})

    @router.get("/health/ready", summary="Whether at least one model serves")
    async def ready() -> Response:
        return _json({"ready": registry.ready}, 200 if registry.ready else 503)

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def exposition() -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return router


def _json(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
