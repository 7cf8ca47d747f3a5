"""Inference requests and responses, in JSON and with the binary tensor extension."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from starlette.datastructures import Headers

from service.api.bodies import BINARY, JSON, parse_json
from service.api.features import FeatureCodec
from service.api.prediction import Decoded, Encoded
from service.api.v2.classification import classify
from service.api.v2.request import Payload, Wanted, split, wanted_outputs
from service.api.v2.tensors import (
    example_shape,
    read_binary,
    read_json,
    read_shape,
    write_binary,
    write_json,
)
from service.api.values import nearest_of, shown
from service.bundle.manifest import ClassesOutput
from service.engine.datatypes import ABSENT, DTYPES, Array, Arrays
from service.engine.model import ServedModel
from service.engine.session import TensorSpec
from service.errors import InvalidRequest

JSON_LENGTH = "inference-header-content-length"


@dataclass(frozen=True)
class Asked:
    """What a request says about its answer."""

    id: str | None
    outputs: tuple[Wanted, ...]


class V2Dialect:
    """Named tensors in, named tensors out."""

    name = "v2"
    media_types = (JSON, BINARY)

    def __init__(self) -> None:
        self._codecs: WeakKeyDictionary[ServedModel, FeatureCodec] = WeakKeyDictionary()

    def decode(self, model: ServedModel, body: bytes, headers: Headers) -> Decoded[Asked]:
        """Read ``inputs``; a bundle's rows are also held against its features' rules."""
        payload = split(body, headers.get(JSON_LENGTH))
        if payload.document is None:
            asked = Asked(None, tuple(Wanted(i, binary=True) for i in range(len(model.outputs))))
            return Decoded(self._checked(model, (_raw(payload, model),)), asked)
        document = _object(parse_json(payload.document, _example(model)))
        identity = document.get("id")
        if identity is not None and not isinstance(identity, str):
            raise InvalidRequest(f"'id' must be a string, got {shown(identity)}.")
        inputs = self._checked(model, _inputs(document, payload, model))
        return Decoded(inputs, Asked(identity, wanted_outputs(document, model.outputs)))

    def encode(self, model: ServedModel, outputs: Arrays, context: Asked) -> Encoded:
        """The outputs asked for, in that order; binary ones after the JSON, in the same order."""
        body: dict[str, object] = {"model_name": model.name, "model_version": model.version}
        if context.id is not None:
            body["id"] = context.id
        tensors: list[dict[str, object]] = []
        buffers: list[bytes] = []
        for wanted in context.outputs:
            array, spec = outputs[wanted.index], model.outputs[wanted.index]
            if array is ABSENT:
                continue
            if wanted.classes:
                array = classify(array, wanted.classes, _labels(model))
                spec = TensorSpec(spec.name, "BYTES", array.shape)
            tensors.append(_written(array, spec, wanted, buffers))
        body["outputs"] = tensors
        content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        if not any(wanted.binary for wanted in context.outputs):
            return Encoded(content)
        headers = {JSON_LENGTH: str(len(content))}
        return Encoded(b"".join([content, *buffers]), BINARY, headers)

    def _checked(self, model: ServedModel, inputs: Arrays) -> Arrays:
        if model.manifest is not None:
            codec = self._codecs.get(model)
            if codec is None:
                codec = self._codecs[model] = FeatureCodec(model.manifest.input)
            codec.check(inputs[0])
        return inputs


def _object(document: object) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise InvalidRequest("An inference request is a JSON object with 'inputs'.")
    known = {"id", "parameters", "inputs", "outputs"}
    if unknown := sorted(set(document) - known):
        raise InvalidRequest(
            f"{unknown[0][:100]!r} is not part of an inference request; it has "
            "'id', 'parameters', 'inputs' and 'outputs'."
        )
    return document


def _inputs(document: Mapping[str, Any], payload: Payload, model: ServedModel) -> Arrays:
    """The arrays of every input, in the graph's order; the binary parts are read in theirs."""
    given = document.get("inputs")
    known = [spec.name for spec in model.inputs]
    if not isinstance(given, list) or (not given and known):
        raise InvalidRequest(f"'inputs' must be a list of {', '.join(map(repr, known))}.")
    found: dict[str, Array] = {}
    for tensor in given:
        name = tensor.get("name") if isinstance(tensor, dict) else None
        if not isinstance(name, str):
            raise InvalidRequest("Each input is an object with a 'name', a string.")
        if name not in known:
            raise InvalidRequest(f"Unknown input {name[:100]!r}; {nearest_of(name, known)}")
        if name in found:
            raise InvalidRequest(f"Input {name!r} is given twice.")
        spec = model.inputs[known.index(name)]
        found[name] = _array(tensor, spec, payload, bundled=model.manifest is not None)
    payload.require_consumed()
    if missing := [spec.name for spec in model.inputs if spec.name not in found]:
        raise InvalidRequest(f"Input {missing[0]!r} is missing.")
    return tuple(found[name] for name in known)


def _array(
    tensor: Mapping[str, Any], spec: TensorSpec, payload: Payload, *, bundled: bool
) -> Array:
    datatype = tensor.get("datatype")
    if datatype != spec.datatype:
        raise InvalidRequest(
            f"Input {spec.name!r} has datatype {shown(datatype)}; the model expects "
            f"{spec.datatype}."
        )
    shape = read_shape(tensor.get("shape"), spec, rows_needed=bundled)
    parameters = tensor.get("parameters") or {}
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None:
        if "data" in tensor:
            raise InvalidRequest(f"Input {spec.name!r} has both data and binary_data_size.")
        return read_binary(payload.take(size, spec.name), shape, spec)
    if "data" not in tensor:
        raise InvalidRequest(f"Input {spec.name!r} has no data.")
    return read_json(tensor["data"], shape, spec, nulls=bundled)


def _raw(payload: Payload, model: ServedModel) -> Array:
    """The whole body as the model's one input, a batch of one."""
    if len(model.inputs) != 1:
        raise InvalidRequest(
            f"A raw binary request needs a model with one input; {model.name!r} has "
            f"{len(model.inputs)}."
        )
    spec = model.inputs[0]
    content = payload.rest()
    if spec.datatype == "BYTES":
        # One element, without the length that would tell it from the next.
        content = memoryview(len(content).to_bytes(4, "little") + bytes(content))
        return read_binary(content, tuple(example_shape(spec)), spec)
    return read_binary(content, _raw_shape(spec, len(content)), spec)


def _raw_shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    """A batch of one; a single other axis of any length is what the bytes fill."""
    shape = list(spec.shape)
    if shape and shape[0] == -1:
        shape[0] = 1
    if shape.count(-1) > 1:
        raise InvalidRequest(
            f"Input {spec.name!r} is {list(spec.shape)}; a raw request cannot tell which."
        )
    if -1 in shape:
        known = DTYPES[spec.datatype].itemsize
        for axis in shape:
            known *= max(axis, 1)
        shape[shape.index(-1)] = size // known
    return tuple(shape)


def _written(
    array: Array, spec: TensorSpec, wanted: Wanted, buffers: list[bytes]
) -> dict[str, object]:
    """One output's JSON; a binary one's bytes are added to ``buffers``."""
    tensor: dict[str, object] = {
        "name": spec.name,
        "datatype": spec.datatype,
        "shape": array.shape,
    }
    if wanted.binary:
        buffers.append(write_binary(array, spec))
        return tensor | {"parameters": {"binary_data_size": len(buffers[-1])}}
    return tensor | {"data": write_json(array, spec)}


def _labels(model: ServedModel) -> Sequence[str]:
    output = None if model.manifest is None else model.manifest.output
    return output.labels if isinstance(output, ClassesOutput) else ()


def _example(model: ServedModel) -> bytes:
    tensors = [
        {"name": spec.name, "shape": example_shape(spec), "datatype": spec.datatype, "data": ["…"]}
        for spec in model.inputs
    ]
    return orjson.dumps({"inputs": tensors})
