"""The plain dialect: named features in, labelled answers out.

GET /models · GET /models/{name} · POST /models/{name}/predict, each model also under
/models/{name}/versions/{version}.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers

from service.api.bodies import JSON, parse_json
from service.api.codecs import Codecs
from service.api.features import FeatureCodec
from service.api.labels import scores_by_label
from service.api.prediction import Decoded, Encoded, Predictor
from service.api.responses import json_response
from service.bundle.manifest import Manifest
from service.bundle.outputs import ClassesOutput, ValueOutput
from service.engine.datatypes import Arrays
from service.engine.model import ServedModel
from service.engine.registry import Entry, Registry
from service.errors import InvalidRequest

_INSTANCES = "instances"
_BODY = {
    "requestBody": {
        "required": True,
        "description": "An object by feature name, an array of rows, or an object of instances; "
        "each model's own path tells its features.",
        "content": {JSON: {"schema": {"type": ["object", "array"]}}},
    }
}


class PlainDialect:
    """JSON objects by feature name; the context tells whether one row was sent bare."""

    name = "plain"
    media_types = (JSON,)

    def __init__(self, codecs: Codecs) -> None:
        self._codecs = codecs

    def decode(self, model: ServedModel, body: bytes, headers: Headers) -> Decoded[bool]:  # noqa: ARG002 - the protocol's own parameter
        """One object, an array of rows, or ``{"instances": [rows]}``."""
        codec = self._codecs.of(model, _manifest(model))
        document = parse_json(body, orjson.dumps(codec.example))
        rows, single = _rows(document, codec)
        return Decoded((codec.rows(rows),), single)

    def encode(self, model: ServedModel, outputs: Arrays, context: bool) -> Encoded:  # noqa: FBT001 - the protocol's own parameter
        """One answer for a bare object, else ``{"predictions": [answers]}``."""
        answers = _answers(_manifest(model), outputs[0])
        version = {"model_version": model.version}
        body = answers[0] | version if context else {"predictions": answers} | version
        return Encoded(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))


def plain_router(registry: Registry, predictor: Predictor, dialect: PlainDialect) -> APIRouter:
    """The plain dialect's paths."""
    router = APIRouter(tags=["models"])

    @router.head("/models", include_in_schema=False)
    @router.get("/models", summary="Every model, and the device they run on")
    async def models() -> Response:
        device = registry.device
        used: dict[str, str] = {"requested": device.requested, "actual": device.actual}
        if device.reason:
            used["reason"] = device.reason
        listed = [_summary(registry.entry(name)) for name in registry.names]
        return json_response({"models": listed, "device": used})

    @router.get("/models/{name}", summary="What a model takes, answers, and how good it is")
    @router.get("/models/{name}/versions/{version}", summary="The same of one version")
    async def model(name: str, version: str | None = None) -> Response:
        entry = registry.entry(name, version)
        versions = [_version(known) for known in registry.versions(name)]
        return json_response(_summary(entry) | _facts(entry) | {"versions": versions})

    @router.post("/models/{name}/predict", summary="Predict one row or many", openapi_extra=_BODY)
    @router.post(
        "/models/{name}/versions/{version}/predict",
        summary="The same by one version",
        openapi_extra=_BODY,
    )
    async def predict(request: Request, name: str, version: str | None = None) -> Response:
        return await predictor.answer(dialect, request, name, version)

    return router


def _rows(document: Any, codec: FeatureCodec) -> tuple[list[Any], bool]:  # noqa: ANN401 - JSON is any of its types
    """The rows of a body, and whether it was one bare object."""
    if isinstance(document, dict):
        names = {feature.name for feature in codec.features}
        if _INSTANCES not in document or _INSTANCES in names:
            return [document], True
        if extra := sorted(set(document) - {_INSTANCES}):
            raise InvalidRequest(f"{extra[0]!r} is not known beside 'instances'; remove it.")
        document = document[_INSTANCES]
    example = orjson.dumps([codec.example]).decode()
    if not isinstance(document, list):
        raise InvalidRequest(f"Expected an object, an array of objects, or instances: {example}")
    if not document:
        raise InvalidRequest(f"There is no row to predict; send at least one: {example}")
    return document, False


def _answers(manifest: Manifest, output: npt.NDArray[Any]) -> list[dict[str, object]]:
    if isinstance(manifest.output, ValueOutput):
        unit = {} if manifest.output.unit is None else {"unit": manifest.output.unit}
        return [{"value": value, **unit} for value in output[:, 0]]
    labels = manifest.output.labels
    probabilities = scores_by_label(output, labels)
    chosen = _chosen(manifest.output, probabilities)
    shares = [dict(zip(labels, row, strict=True)) for row in probabilities]
    named = [labels[index] for index in chosen]
    return [
        {"label": label, "probability": share[label], "probabilities": share}
        for label, share in zip(named, shares, strict=True)
    ]


def _chosen(output: ClassesOutput, probabilities: npt.NDArray[Any]) -> list[int]:
    """The position of each row's label."""
    if len(output.labels) > 2:  # noqa: PLR2004 - two labels have a threshold instead
        chosen: list[int] = probabilities.argmax(axis=1).tolist()
        return chosen
    threshold = 0.5 if output.threshold is None else output.threshold
    return [int(second) for second in probabilities[:, 1] >= np.float32(threshold)]


def _manifest(model: ServedModel) -> Manifest:
    if model.manifest is None:
        raise InvalidRequest(
            f"Model {model.name!r} has no manifest, so its features have no names here; "
            f"use POST /v2/models/{model.name}/infer."
        )
    return model.manifest


def _summary(entry: Entry) -> dict[str, object]:
    """What a person needs to choose a model."""
    summary: dict[str, object] = {"name": entry.name, "version": entry.version}
    summary |= {"ready": entry.model is not None}
    if entry.model is None:
        return summary | {"reason": entry.reason}
    manifest = entry.model.manifest
    if manifest is not None:
        summary |= {
            "title": manifest.title,
            "description": manifest.description,
            "task": manifest.task,
        }
    return summary | {"device": entry.model.device}


def _facts(entry: Entry) -> dict[str, object]:
    """Everything the manifest says, and how the model is served."""
    if entry.model is None:
        return {}
    facts: dict[str, object] = {"execution": entry.model.execution}
    manifest = entry.model.manifest
    if manifest is None:
        return facts
    stated = manifest.model_dump(mode="json", exclude_none=True)
    facts |= {"features": stated["input"]["features"]}
    return facts | {
        key: stated[key]
        for key in ("output", "scaler", "evaluation", "provenance")
        if key in stated
    }


def _version(entry: Entry) -> dict[str, object]:
    version: dict[str, object] = {"version": entry.version, "state": entry.state}
    return version | ({"reason": entry.reason} if entry.reason else {})
