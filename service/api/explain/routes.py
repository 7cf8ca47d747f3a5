"""POST /models/{name}/explain, also under /models/{name}/versions/{version}."""

from fastapi import APIRouter, Request, Response

from service.api.explain.explainer import Explainer
from service.api.plain import BODY


def explain_router(explainer: Explainer) -> APIRouter:
    """The paths of explanations."""
    router = APIRouter(tags=["models"])

    @router.post(
        "/models/{name}/explain",
        summary="Predict, and tell why the answers are what they are",
        openapi_extra=BODY,
    )
    @router.post(
        "/models/{name}/versions/{version}/explain",
        summary="The same by one version",
        openapi_extra=BODY,
    )
    async def explain(request: Request, name: str, version: str | None = None) -> Response:
        return await explainer.answer(request, name, version)

    return router
