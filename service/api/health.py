"""Routes for operators: liveness, readiness, metrics, and the root."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from service.api.body import JSON, json_response
from service.api.schemas import Responses, returns
from service.engine.registry import Readiness
from service.observability.exposition import CONTENT_TYPE

_READINESS: Responses = {
    **returns(ready="boolean"),
    "503": {
        "description": "Requests should not be sent here, for this reason.",
        "content": {JSON: {"schema": {"type": "object", "required": ["ready", "reason"]}}},
    },
}


def add_health(router: APIRouter, readiness: Readiness) -> None:
    """Add ``/health/live`` and ``/health/ready`` below the router's prefix."""

    @router.head("/health/live", include_in_schema=False)
    @router.get(
        "/health/live", summary="Whether the process is alive", responses=returns(live="boolean")
    )
    async def live() -> Response:
        return json_response({"live": True})

    @router.head("/health/ready", include_in_schema=False)
    @router.get(
        "/health/ready", summary="Whether requests should be sent here", responses=_READINESS
    )
    async def ready() -> Response:
        if (reason := readiness.not_ready_reason) is not None:
            return json_response({"ready": False, "reason": reason}, 503)
        return json_response({"ready": True})


def operations_router(
    readiness: Readiness, exposition: Callable[[], Awaitable[bytes]]
) -> APIRouter:
    """Create the routes of liveness, readiness, metrics, and ``/``.

    Args:
        readiness: of the service.
        exposition: writes the metrics in the Prometheus text format.
    """
    router = APIRouter(tags=["operations"])

    @router.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        # Clients of KServe's version 1 expect this object; browsers accept text/html.
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("docs")
        return json_response({"status": "alive", "models": "/models", "documentation": "/docs"})

    add_health(router, readiness)

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(await exposition(), media_type=CONTENT_TYPE)

    return router
