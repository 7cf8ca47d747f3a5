"""Liveness and readiness, in one form for every prefix under which probes ask."""

from fastapi import APIRouter, Response

from service.api.responses import json_response
from service.engine.registry import Registry


def add_health(router: APIRouter, registry: Registry) -> None:
    """Answer ``/health/live`` and ``/health/ready`` below the router's prefix."""

    @router.head("/health/live", include_in_schema=False)
    @router.get("/health/live", summary="Whether the process answers")
    async def live() -> Response:
        return json_response({"live": True})

    @router.head("/health/ready", include_in_schema=False)
    @router.get("/health/ready", summary="Whether at least one model serves")
    async def ready() -> Response:
        return json_response({"ready": registry.ready}, 200 if registry.ready else 503)
