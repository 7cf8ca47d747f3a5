"""Liveness and readiness, in one form for every prefix under which probes ask."""

from fastapi import APIRouter, Response

from service.api.body import JSON
from service.api.error_schemas import Responses, returns
from service.api.responses import json_response
from service.engine.readiness import Readiness

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
