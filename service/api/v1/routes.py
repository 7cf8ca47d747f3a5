"""The protocol's paths."""

from http import HTTPStatus

from fastapi import APIRouter, HTTPException, Request, Response

from service.api.codecs import Codecs
from service.api.prediction import Predictor
from service.api.responses import json_response
from service.api.v1.describe import metadata, status
from service.api.v1.examples import CLASSIFY, REGRESS, ExamplesDialect
from service.api.v1.predict import PredictDialect
from service.engine.registry import Registry
from service.errors import NotFound
from service.limits import Limits
from service.workers.worker import Worker

_TAG = "TensorFlow Serving and KServe, version 1"


def v1_routers(
    worker: Worker, predictor: Predictor, predict: PredictDialect, codecs: Codecs, limits: Limits
) -> list[APIRouter]:
    """Every path of the protocol."""
    return [
        _prediction_router(predictor, predict, codecs, limits),
        _refusing_router(worker.registry),
        _model_router(worker),
    ]


def _prediction_router(
    predictor: Predictor, predict: PredictDialect, codecs: Codecs, limits: Limits
) -> APIRouter:
    """The three verbs."""
    router = APIRouter(prefix="/v1", tags=[_TAG])
    classify = ExamplesDialect(codecs, CLASSIFY, limits)
    regress = ExamplesDialect(codecs, REGRESS, limits)

    @router.post("/models/{name}:predict", summary="Predict rows or columns")
    @router.post("/models/{name}/versions/{version}:predict", summary="The same by one version")
    @router.post("/models/{name}/labels/{label}:predict", summary="The same by a label's version")
    async def predicted(
        request: Request, name: str, version: str | None = None, label: str | None = None
    ) -> Response:
        return await predictor.answer(predict, request, name, _asked(version, label))

    @router.post("/models/{name}:classify", summary="Label examples")
    @router.post("/models/{name}/versions/{version}:classify", summary="The same by one version")
    @router.post("/models/{name}/labels/{label}:classify", summary="The same by a label's version")
    async def classified(
        request: Request, name: str, version: str | None = None, label: str | None = None
    ) -> Response:
        return await predictor.answer(classify, request, name, _asked(version, label))

    @router.post("/models/{name}:regress", summary="One number for each example")
    @router.post("/models/{name}/versions/{version}:regress", summary="The same by one version")
    @router.post("/models/{name}/labels/{label}:regress", summary="The same by a label's version")
    async def regressed(
        request: Request, name: str, version: str | None = None, label: str | None = None
    ) -> Response:
        return await predictor.answer(regress, request, name, _asked(version, label))

    return router


def _model_router(worker: Worker) -> APIRouter:
    """What there is."""
    router = APIRouter(prefix="/v1", tags=[_TAG])
    registry, readiness = worker.registry, worker.readiness

    @router.get("/models", summary="The models' names")
    async def models() -> Response:
        return json_response({"models": registry.names})

    @router.get("/models/{name}", summary="Whether a model serves, and the state of its versions")
    @router.get("/models/{name}/versions/{version}", summary="The state of one version")
    @router.get("/models/{name}/labels/{label}", summary="The state of a label's version")
    async def model_status(
        name: str, version: str | None = None, label: str | None = None
    ) -> Response:
        asked = _asked(version, label)
        known = await worker.index.entries(name)
        if asked is not None:
            version = registry.entry(name, asked).version
            known = [entry for entry in known if entry.version == version]
        return json_response(status(name, known, draining=readiness.draining))

    @router.get("/models/{name}/metadata", summary="A model's tensors")
    @router.get("/models/{name}/versions/{version}/metadata", summary="The tensors of one version")
    @router.get("/models/{name}/labels/{label}/metadata", summary="Those of a label's version")
    async def model_metadata(
        name: str, version: str | None = None, label: str | None = None
    ) -> Response:
        return json_response(metadata(await worker.reconciler.about(name, _asked(version, label))))

    return router


def _refusing_router(registry: Registry) -> APIRouter:
    """What the protocol's servers have and this one has not, told in a sentence."""
    router = APIRouter(prefix="/v1", include_in_schema=False)

    @router.get("/models/{name}:predict")
    @router.get("/models/{name}:classify")
    @router.get("/models/{name}:regress")
    async def not_read(name: str) -> Response:  # noqa: ARG001 - the path's own parameter
        # Otherwise the verb would be taken for part of a model's name.
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})

    @router.post("/models/{name}:{verb}")
    @router.post("/models/{name}/versions/{version}:{verb}")
    @router.post("/models/{name}/labels/{label}:{verb}")
    async def another_verb(name: str, verb: str) -> Response:
        registry.versions(name)
        raise NotFound(f"Model {name!r} cannot {verb[:60]!r}; use :predict, :classify or :regress.")

    return router


def _asked(version: str | None, label: str | None) -> str | None:
    """What a path asks for; a number is no label, whatever version there is."""
    if label is not None and label.isdecimal():
        return f"labels/{label}"
    return version if label is None else label
