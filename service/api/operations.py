"""What operators and probes ask: liveness, readiness, metrics, and the front door."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from service.api.health import add_health
from service.api.responses import json_response
from service.engine.readiness import Readiness
from service.metrics import CONTENT_TYPE, Metrics
from service.workers.channel import Channel

_SETTLE = "settle"
# A worker that hangs is not to keep the others' metrics from whoever asks.
_SETTLE_SECONDS = 0.5


def operations_router(readiness: Readiness, metrics: Metrics, channel: Channel) -> APIRouter:
    """Liveness, readiness, metrics, and ``/``."""
    router = APIRouter(tags=["operations"])

    async def settle(_: object) -> None:
        metrics.settle()

    channel.on(_SETTLE, settle)

    @router.get("/", include_in_schema=False)
    async def front_door(request: Request) -> Response:
        # Clients of KServe's first protocol want this object; a browser asks for text/html.
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("docs")
        return json_response({"status": "alive", "models": "/models", "documentation": "/docs"})

    add_health(router, readiness)

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def exposition() -> Response:
        await channel.ask(_SETTLE, seconds=_SETTLE_SECONDS)
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return router
