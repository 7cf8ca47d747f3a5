"""POST /models/{name}/explain, also under /models/{name}/versions/{version}."""

from typing import Any

from fastapi import APIRouter, Request, Response

from service.api.body import JSON
from service.api.error_schemas import PREDICTION_ERRORS, header
from service.api.explain.explainer import Explainer
from service.api.explain.saliency import PNG
from service.api.native.protocol import documented_body
from service.api.paths import OptionalVersion

_EXPLAIN: dict[str, Any] = {
    # Tables are predicted, not explained.
    "openapi_extra": documented_body({}),
    "responses": PREDICTION_ERRORS
    | {
        "200": {
            "headers": header("X-Model-Version"),
            "content": {
                JSON: {"schema": {"type": "object", "required": ["method", "model_version"]}},
                PNG: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
}


def explain_router(explainer: Explainer) -> APIRouter:
    """The paths of explanations."""
    router = APIRouter(tags=["models"])

    @router.post(
        "/models/{name}/explain",
        summary="Predict, and tell why the answers are what they are",
        **_EXPLAIN,
    )
    @router.post(
        "/models/{name}/versions/{version}/explain",
        summary="The same by one version",
        **_EXPLAIN,
    )
    async def explain(request: Request, name: str, version: OptionalVersion) -> Response:
        return await explainer.explain(request, name, version)

    return router
