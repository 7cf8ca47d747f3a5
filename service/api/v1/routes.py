"""Routes of v1: predictions, the state of models, and their tensors."""

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus

from fastapi import APIRouter, HTTPException, Request, Response

from service.api.body import json_response
from service.api.inference_service import InferenceService
from service.api.routing import add_model_routes
from service.api.v1 import schemas
from service.api.v1.examples import CLASSIFY, REGRESS, V1ExamplesProtocol
from service.api.v1.protocol import V1Protocol
from service.engine.model import ModelInfo
from service.engine.registry import Entry, Registry, State
from service.engine.tensors import TensorSpec
from service.errors import NotFound
from service.limits import Limits
from service.values import format_value
from service.workers.coordination import Worker

# The terms of TensorFlow Serving; other states and types have the same names there.
_STATES = {State.READY: "AVAILABLE", State.UNAVAILABLE: "END"}
_TYPES = {"FP16": "HALF", "FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING"}
_PATHS = ("/models/{name}", "/models/{name}/versions/{version}", "/models/{name}/labels/{label}")
_NOT_POST = ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"]
TAG = "TensorFlow Serving and KServe (v1)"


def v1_routers(
    worker: Worker, service: InferenceService, predict: V1Protocol, limits: Limits
) -> list[APIRouter]:
    """Create all routes of the protocol."""
    return [
        _prediction_router(service, predict, limits),
        _unsupported_router(worker.registry),
        _model_router(worker),
    ]


def _prediction_router(service: InferenceService, predict: V1Protocol, limits: Limits) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=[TAG])
    predicted = partial(service.predict, predict)
    classified = partial(service.predict, V1ExamplesProtocol(CLASSIFY, limits))
    regressed = partial(service.predict, V1ExamplesProtocol(REGRESS, limits))
    for verb, summary, handler, options in (
        ("predict", "Predict rows or columns", predicted, schemas.PREDICT),
        ("classify", "Label examples", classified, schemas.CLASSIFY),
        ("regress", "One number for each example", regressed, schemas.REGRESS),
    ):
        add_model_routes(
            router, "POST", f":{verb}", summary, handler, labels=True, name=verb, **options
        )
    return router


def _model_router(worker: Worker) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=[TAG])
    registry, readiness = worker.registry, worker.readiness

    @router.get("/models", summary="The models' names", responses=schemas.MODELS)
    async def list_models() -> Response:
        return json_response({"models": registry.names})

    async def get_status(_: Request, name: str, version: str | None) -> Response:
        known = await worker.index.entries(name)
        if version is not None:
            version = registry.entry(name, version).version
            known = [entry for entry in known if entry.version == version]
        return json_response(_format_status(name, known, draining=readiness.is_draining))

    async def get_metadata(_: Request, name: str, version: str | None) -> Response:
        return json_response(_format_metadata(await worker.reconciler.model_info(name, version)))

    for path, summary, handler, responses in (
        (
            "",
            "Whether a model serves, and the state of its versions",
            get_status,
            schemas.STATUS,
        ),
        ("/metadata", "A model's tensors", get_metadata, schemas.METADATA),
    ):
        add_model_routes(router, "GET", path, summary, handler, labels=True, responses=responses)
    return router


def _unsupported_router(registry: Registry) -> APIRouter:
    """Create routes that reject other methods and verbs with a helpful error."""
    router = APIRouter(prefix="/v1", include_in_schema=False)

    async def reject_method() -> Response:
        # Other routes would match the verb as part of a name, a version or a label.
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})

    async def reject_verb(name: str, verb: str) -> Response:
        registry.versions(name)
        raise NotFound(
            f"Model {name!r} cannot {format_value(verb)}; use :predict, :classify or :regress."
        )

    for path in _PATHS:
        for verb in ("predict", "classify", "regress"):
            router.add_api_route(f"{path}:{verb}", reject_method, methods=_NOT_POST)
        router.add_api_route(f"{path}:{{verb}}", reject_verb, methods=["POST"])
    return router


def _format_status(name: str, entries: Sequence[Entry], *, draining: bool) -> dict[str, object]:
    """Return TensorFlow Serving's ``model_version_status`` and KServe's ``ready`` in one object."""
    return {
        "name": name,
        "ready": not draining and any(entry.state is State.READY for entry in entries),
        "model_version_status": [_format_version(entry) for entry in entries],
    }


def _format_metadata(info: ModelInfo) -> dict[str, object]:
    """Return the tensors of the graph as the only signature of the model."""
    signature = {
        "inputs": {spec.name: _format_tensor(spec) for spec in info.inputs},
        "outputs": {spec.name: _format_tensor(spec) for spec in info.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": info.name, "signature_name": "", "version": info.version},
        # In TensorFlow Serving, `signature_def` is a message with a field of the same name.
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }


def _format_version(entry: Entry) -> dict[str, object]:
    failed = entry.state is not State.READY and bool(entry.reason)
    return {
        "version": entry.version,
        "state": _STATES.get(entry.state, entry.state),
        "status": {
            "error_code": "UNAVAILABLE" if failed else "OK",
            "error_message": entry.reason,
        },
    }


def _format_tensor(spec: TensorSpec) -> dict[str, object]:
    return {
        "dtype": f"DT_{_TYPES.get(spec.datatype, spec.datatype)}",
        "tensor_shape": {
            "dim": [{"size": str(axis), "name": ""} for axis in spec.shape],
            "unknown_rank": False,
        },
        "name": spec.name,
    }
