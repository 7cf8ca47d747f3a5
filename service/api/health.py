"""What operators and probes request: liveness, readiness, metrics, and the root."""

from collections.abc import Awaitable, Callable

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from service.api.body import JSON
from service.api.schemas import Responses, returns
from service.engine.registry import Readiness
from service.observability.exposition import CONTENT_TYPE

_READINESS: Responses = {
    **returns(ready="boolean"),
    "503": {
        "description": "They should not; the reason says why.",
        "content": {JSON: {"schema": {"type": "object", "required": ["ready", "reason"]}}},
    },
}


def add_health(router: APIRouter, readiness: Readiness) -> None:
    """Answer ``/health/live`` and ``/health/ready`` below the router's prefix."""

    @router.head("/health/live", include_in_schema=False)
    @router.get(
        "/health/live", summary="Whether the process answers", responses=returns(live="boolean")
    )
    async def live() -> Response:
        return json_response({"live": True})

    @router.head("/health/ready", include_in_schema=False)
    @router.get(
        "/health/ready", summary="Whether requests should be sent here", responses=_READINESS
    )
    async def ready() -> Response:
        if (obstacle := readiness.unready_reason) is not None:
            return json_response({"ready": False, "reason": obstacle}, 503)
        return json_response({"ready": True})


def json_response(content: object, status: int = 200) -> Response:
    """The content as JSON."""
    return Response(orjson.dumps(content), status, media_type=JSON)


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
    async def root(request: Request) -> Response:
        # Clients of KServe's first protocol want this object; a browser asks for text/html.
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("docs")
        return json_response({"status": "alive", "models": "/models", "documentation": "/docs"})

    add_health(router, readiness)

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(await exposition(), media_type=CONTENT_TYPE)

    return router
