"""The core of the Open Inference Protocol, version 2, in JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from fastapi import APIRouter, Request, Response

from service.api.bodies import parse_json
from service.api.features import FeatureCodec
from service.api.prediction import Decoded, Predictor
from service.api.tensors import read_tensor, write_tensor
from service.engine.batcher import Arrays
from service.engine.model import ServedModel
from service.engine.registry import Registry
from service.engine.session import TensorSpec
from service.errors import InvalidRequest, nearest

PLATFORM = "onnx_onnxv1"
_REQUEST_KEYS = {"id", "parameters", "inputs", "outputs"}


@dataclass(frozen=True)
class Asked:
    """What a request says about its answer: its id, and which outputs it wants."""

    id: str | None
    outputs: tuple[int, ...]


class V2Dialect:
    """Named tensors in, named tensors out."""

    name = "v2"

    def __init__(self) -> None:
        self._codecs: WeakKeyDictionary[ServedModel, FeatureCodec] = WeakKeyDictionary()

    def decode(self, model: ServedModel, body: bytes) -> Decoded[Asked]:
        """Read ``inputs``; a bundle's rows are also held against its features' rules."""
        document = parse_json(body, _example(model))
        if not isinstance(document, dict):
            raise InvalidRequest("An inference request is a JSON object with 'inputs'.")
        if unknown := sorted(set(document) - _REQUEST_KEYS):
            raise InvalidRequest(
                f"{unknown[0]!r} is not part of an inference request; it has "
                "'id', 'parameters', 'inputs' and 'outputs'."
            )
        identity = document.get("id")
        if identity is not None and not isinstance(identity, str):
            raise InvalidRequest("'id' must be a string.")
        tensors = _by_name("input", document.get("inputs"), model.inputs)
        inputs = []
        for spec in model.inputs:
            if spec.name not in tensors:
                raise InvalidRequest(f"Input {spec.name!r} is missing.")
            inputs.append(read_tensor(tensors[spec.name], spec))
        self._check(model, tuple(inputs))
        return Decoded(tuple(inputs), Asked(identity, _wanted(document, model)))

    def encode(self, model: ServedModel, outputs: Arrays, context: Asked) -> bytes:
        """The outputs asked for, in that order, or all."""
        body: dict[str, object] = {"model_name": model.name, "model_version": model.version}
        if context.id is not None:
            body["id"] = context.id
        body["outputs"] = [
            write_tensor(outputs[index], model.outputs[index]) for index in context.outputs
        ]
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)

    def _check(self, model: ServedModel, inputs: Arrays) -> None:
        if model.manifest is None:
            return
        codec = self._codecs.get(model)
        if codec is None:
            codec = self._codecs[model] = FeatureCodec(model.manifest.input)
        codec.check(inputs[0])  # type: ignore[arg-type] # a bundle's one input is proved FP32


def v2_router(
    registry: Registry, predictor: Predictor, server_name: str, version: str
) -> APIRouter:
    """The protocol's paths."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    dialect = V2Dialect()

    @router.get("", summary="The server")
    @router.get("/", include_in_schema=False)
    async def server() -> Response:
        return _json({"name": server_name, "version": version, "extensions": []})

    @router.get("/health/live", summary="Whether the process answers")
    async def live() -> Response:
        return _json({"live": True})

    @router.get("/health/ready", summary="Whether at least one model serves")
    async def ready() -> Response:
        return _json({"ready": registry.ready}, 200 if registry.ready else 503)

    @router.get("/models/{name}", summary="A model's tensors")
    @router.get("/models/{name}/versions/{version}", summary="The tensors of one version")
    async def metadata(name: str, version: str | None = None) -> Response:
        return _json(_metadata(registry.get(name, version), registry))

    @router.get("/models/{name}/ready", summary="Whether a model serves")
    @router.get("/models/{name}/versions/{version}/ready", summary="Whether one version serves")
    async def model_ready(name: str, version: str | None = None) -> Response:
        is_ready = registry.entry(name, version).model is not None
        return _json({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    @router.post("/models/{name}/infer", summary="Infer")
    @router.post("/models/{name}/versions/{version}/infer", summary="Infer by one version")
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        return await predictor.answer(dialect, request, name, version)

    return router


def _by_name(role: str, tensors: object, specs: Sequence[TensorSpec]) -> dict[str, dict[str, Any]]:
    """The tensors of a request by name, each known and given once."""
    known = [spec.name for spec in specs]
    if not isinstance(tensors, list) or not tensors:
        raise InvalidRequest(f"'{role}s' must be a list of {', '.join(map(repr, known))}.")
    found: dict[str, dict[str, Any]] = {}
    for tensor in tensors:
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(name, str):
            raise InvalidRequest(f"Each {role} is an object with a 'name', a string.")
        if name not in known:
            close = nearest(name, known)
            advice = f"did you mean {close!r}?" if close else f"the model has {', '.join(known)}."
            raise InvalidRequest(f"Unknown {role} {name[:100]!r}; {advice}")
        if name in found:
            raise InvalidRequest(f"{role.capitalize()} {name!r} is given twice.")
        found[name] = tensor
    return found


def _wanted(document: dict[str, Any], model: ServedModel) -> tuple[int, ...]:
    if document.get("outputs") is None:
        return tuple(range(len(model.outputs)))
    names = [spec.name for spec in model.outputs]
    return tuple(
        names.index(name) for name in _by_name("output", document["outputs"], model.outputs)
    )


def _metadata(model: ServedModel, registry: Registry) -> dict[str, object]:
    ready = [entry.version for entry in registry.versions(model.name) if entry.model]
    return {
        "name": model.name,
        "versions": sorted(ready, key=int),
        "platform": PLATFORM,
        "inputs": [_described(spec) for spec in model.inputs],
        "outputs": [_described(spec) for spec in model.outputs],
    }


def _described(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _example(model: ServedModel) -> bytes:
    tensors = [_described(spec) | {"data": ["…"]} for spec in model.inputs]
    return orjson.dumps({"inputs": tensors})


def _json(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
