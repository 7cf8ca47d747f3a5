"""The protocol's paths."""

from http import HTTPStatus
from itertools import product
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from service.api.body import JSON
from service.api.health import json_response
from service.api.inference_service import InferenceService
from service.api.routing import OptionalLabel, OptionalVersion
from service.api.schemas import MODEL_ERRORS, PREDICTION_ERRORS, Schema, header, returns
from service.api.v1.describe import metadata, status
from service.api.v1.examples import CLASSIFY, REGRESS, V1ExamplesProtocol
from service.api.v1.protocol import V1Protocol
from service.engine.registry import Registry
from service.errors import NotFound
from service.limits import Limits
from service.workers.coordination import Worker

_STATUS = returns(name="string", ready="boolean", model_version_status="array")
_METADATA = MODEL_ERRORS | returns(model_spec="object", metadata="object")


def _options(request: Schema, key: str) -> dict[str, Any]:
    """Options of the routes of a prediction, whose response is an object with this key."""
    schema = {"type": "object", **request}
    schema["properties"] = {
        "signature_name": {"type": ["string", "null"]},
        **request.get("properties", {}),
    }
    predicted = returns(**({key: "array"} if key else {}))["200"]
    return {
        "openapi_extra": {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}},
        "responses": PREDICTION_ERRORS
        | {"200": predicted | {"headers": header("X-Model-Version", "Server-Timing")}},
    }


_ROWS: Schema = {
    "required": ["instances"],
    "properties": {"instances": {"type": "array", "minItems": 1}},
}
_COLUMNS: Schema = {"required": ["inputs"]}
_PREDICT = _options({"oneOf": [_ROWS, _COLUMNS]}, "")
_EXAMPLES = _options(
    {
        "required": ["examples"],
        "properties": {
            "examples": {"type": "array", "items": {"type": "object"}, "minItems": 1},
            "context": {"type": "object"},
        },
    },
    "results",
)
_PATHS = ("/models/{name}", "/models/{name}/versions/{version}", "/models/{name}/labels/{label}")
_VERBS = ("predict", "classify", "regress")
_NOT_POST = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"]
_TAG = "TensorFlow Serving and KServe, version 1"


def v1_routers(
    worker: Worker, service: InferenceService, predict: V1Protocol, limits: Limits
) -> list[APIRouter]:
    """Every path of the protocol."""
    return [
        _prediction_router(service, predict, limits),
        _refusing_router(worker.registry),
        _model_router(worker),
    ]


def _prediction_router(service: InferenceService, predict: V1Protocol, limits: Limits) -> APIRouter:
    """The three verbs."""
    router = APIRouter(prefix="/v1", tags=[_TAG])
    classify = V1ExamplesProtocol(CLASSIFY, limits)
    regress = V1ExamplesProtocol(REGRESS, limits)

    @router.post("/models/{name}:predict", summary="Predict rows or columns", **_PREDICT)
    @router.post(
        "/models/{name}/versions/{version}:predict", summary="The same by one version", **_PREDICT
    )
    @router.post(
        "/models/{name}/labels/{label}:predict", summary="The same by a label's version", **_PREDICT
    )
    async def predicted(
        request: Request, name: str, version: OptionalVersion, label: OptionalLabel
    ) -> Response:
        return await service.predict(predict, request, name, _version_or_alias(version, label))

    @router.post("/models/{name}:classify", summary="Label examples", **_EXAMPLES)
    @router.post(
        "/models/{name}/versions/{version}:classify", summary="The same by one version", **_EXAMPLES
    )
    @router.post(
        "/models/{name}/labels/{label}:classify",
        summary="The same by a label's version",
        **_EXAMPLES,
    )
    async def classified(
        request: Request, name: str, version: OptionalVersion, label: OptionalLabel
    ) -> Response:
        return await service.predict(classify, request, name, _version_or_alias(version, label))

    @router.post("/models/{name}:regress", summary="One number for each example", **_EXAMPLES)
    @router.post(
        "/models/{name}/versions/{version}:regress", summary="The same by one version", **_EXAMPLES
    )
    @router.post(
        "/models/{name}/labels/{label}:regress",
        summary="The same by a label's version",
        **_EXAMPLES,
    )
    async def regressed(
        request: Request, name: str, version: OptionalVersion, label: OptionalLabel
    ) -> Response:
        return await service.predict(regress, request, name, _version_or_alias(version, label))

    return router


def _model_router(worker: Worker) -> APIRouter:
    """What there is."""
    router = APIRouter(prefix="/v1", tags=[_TAG])
    registry, readiness = worker.registry, worker.readiness

    @router.get("/models", summary="The models' names", responses=returns(models="array"))
    async def models() -> Response:
        return json_response({"models": registry.names})

    @router.get(
        "/models/{name}",
        summary="Whether a model serves, and the state of its versions",
        responses=_STATUS,
    )
    @router.get(
        "/models/{name}/versions/{version}", summary="The state of one version", responses=_STATUS
    )
    @router.get(
        "/models/{name}/labels/{label}",
        summary="The state of a label's version",
        responses=_STATUS,
    )
    async def model_status(name: str, version: OptionalVersion, label: OptionalLabel) -> Response:
        requested = _version_or_alias(version, label)
        known = await worker.index.entries(name)
        if requested is not None:
            version = registry.entry(name, requested).version
            known = [entry for entry in known if entry.version == version]
        return json_response(status(name, known, draining=readiness.draining))

    @router.get("/models/{name}/metadata", summary="A model's tensors", responses=_METADATA)
    @router.get(
        "/models/{name}/versions/{version}/metadata",
        summary="The tensors of one version",
        responses=_METADATA,
    )
    @router.get(
        "/models/{name}/labels/{label}/metadata",
        summary="Those of a label's version",
        responses=_METADATA,
    )
    async def model_metadata(name: str, version: OptionalVersion, label: OptionalLabel) -> Response:
        return json_response(
            metadata(await worker.reconciler.model_info(name, _version_or_alias(version, label)))
        )

    return router


def _refusing_router(registry: Registry) -> APIRouter:
    """What the protocol's servers have and this one has not, reported in a sentence."""
    router = APIRouter(prefix="/v1", include_in_schema=False)

    async def not_read() -> Response:
        # Otherwise the verb would be taken for part of a name, a version or a label.
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})

    for path, verb in product(_PATHS, _VERBS):
        router.add_api_route(f"{path}:{verb}", not_read, methods=_NOT_POST)

    @router.post("/models/{name}:{verb}")
    @router.post("/models/{name}/versions/{version}:{verb}")
    @router.post("/models/{name}/labels/{label}:{verb}")
    async def another_verb(name: str, verb: str) -> Response:
        registry.versions(name)
        raise NotFound(f"Model {name!r} cannot {verb[:60]!r}; use :predict, :classify or :regress.")

    return router


def _version_or_alias(version: str | None, label: str | None) -> str | None:
    """The version or alias that a path names; a number is no label, whatever version there is."""
    if label is not None and label.isdecimal():
        return f"labels/{label}"
    return version if label is None else label
