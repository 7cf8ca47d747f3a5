"""Routes for operators: health and metrics."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from service.api.body import json_response
from service.api.schemas import (
    STRING,
    Responses,
    Schema,
    json_content,
    object_schema,
    refer,
    returns,
)
from service.api.static_files import PageFiles
from service.engine.registry import Readiness
from service.observability.exposition import CONTENT_TYPE

TAG = "Health and metrics"
HEALTH_SCHEMAS: Schema = {
    "Live": object_schema({"live": {"type": "boolean"}}),
    "Ready": object_schema({"ready": {"type": "boolean"}}),
    "NotReady": object_schema({"ready": {"type": "boolean"}, "reason": STRING}),
}
_LIVENESS = returns(refer("Live"))
_READINESS: Responses = {
    **returns(refer("Ready")),
    "503": {
        "description": "Requests should not be sent here, for this reason.",
        "content": json_content(refer("NotReady")),
    },
}


def add_health(router: APIRouter, readiness: Readiness, *, aliases: bool = False) -> None:
    """Add ``/health/live`` and ``/health/ready`` below the router's prefix.

    The aliases are ``/healthz``, which probes of liveness request, and ``/health``, by which load
    balancers find out whether to send requests.
    """

    @router.get("/health/live", summary="Whether the process is alive", responses=_LIVENESS)
    async def check_live() -> Response:
        return json_response({"live": True})

    @router.get(
        "/health/ready", summary="Whether requests should be sent here", responses=_READINESS
    )
    async def check_ready() -> Response:
        if (reason := readiness.not_ready_reason) is not None:
            return json_response({"ready": False, "reason": reason}, 503)
        return json_response({"ready": True})

    if aliases:
        router.add_api_route("/healthz", check_live, include_in_schema=False)
        router.add_api_route("/health", check_ready, include_in_schema=False)


def operations_router(
    readiness: Readiness, exposition: Callable[[], Awaitable[bytes]], files: PageFiles
) -> APIRouter:
    """Create the routes of health, metrics in the text format of ``exposition``, and ``/``."""
    router = APIRouter(tags=[TAG])

    @router.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        # Clients of KServe's v1 expect this object; browsers accept text/html.
        if "text/html" in request.headers.get("accept", ""):
            response = await files.get_response("page/index.html", request.scope)
        else:
            prefix = request.scope.get("root_path", "")
            links = {"models": f"{prefix}/models", "documentation": f"{prefix}/docs"}
            response = json_response({"status": "alive"} | links)
        response.headers["vary"] = "accept"
        return response

    @router.get("/favicon.ico", include_in_schema=False)
    async def icon(request: Request) -> Response:
        return await files.get_response("page/icon.svg", request.scope)

    add_health(router, readiness, aliases=True)

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def get_service_metrics() -> Response:
        return Response(await exposition(), media_type=CONTENT_TYPE)

    return router
