"""What operators and probes ask: liveness, readiness, metrics, and the front door."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from service.api.health import add_health
from service.api.responses import json_response
from service.engine.readiness import Readiness
from service.observability.exposition import CONTENT_TYPE


def operations_router(
    readiness: Readiness, exposition: Callable[[], Awaitable[bytes]]
) -> APIRouter:
    """Liveness, readiness, metrics, and ``/``.

    Args:
        readiness: whether requests should be sent here.
        exposition: makes the Prometheus text.
    """
    router = APIRouter(tags=["operations"])

    @router.get("/", include_in_schema=False)
    async def front_door(request: Request) -> Response:
        # Clients of KServe's first protocol want this object; a browser asks for text/html.
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("docs")
        return json_response({"status": "alive", "models": "/models", "documentation": "/docs"})

    add_health(router, readiness)

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(await exposition(), media_type=CONTENT_TYPE)

    return router
