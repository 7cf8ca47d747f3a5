"""Inference requests and responses, in JSON and with the binary tensor extension."""

from collections.abc import Mapping
from typing import Any

import orjson

from service.api.asking import Decoded, Encoded
from service.api.body import BINARY, FORM, JSON, parse_json
from service.api.head import Head
from service.api.v2.classification import classify
from service.api.v2.document_cache import MOST_SHAPES, known, remember
from service.api.v2.inputs import read_inputs, read_raw
from service.api.v2.pictures import read_picture_inputs, read_raw_picture
from service.api.v2.request import (
    Asked,
    Payload,
    Wanted,
    Written,
    json_length,
    parameters_of,
    split,
    wanted_outputs,
)
from service.api.v2.shared_memory import Place, Regions
from service.bundle.manifest import ImageInput
from service.codecs.byte_tensors import example_shape, read_binary, write_binary, write_json
from service.codecs.endpoint import Codecs
from service.codecs.intervals import interval_ends, require_interval
from service.codecs.json_numbers import request_of_tensor
from service.engine.dtypes import ABSENT, Array, Arrays, Inputs
from service.engine.model import ServedModel
from service.engine.session import TensorSpec
from service.errors import InvalidRequest
from service.limits import Limits
from service.values import is_number, shown

# KServe's client repeats the model's name, which its path has already said.
_KNOWN = frozenset({"id", "parameters", "inputs", "outputs", "model_name"})
JSON_LENGTH = "inference-header-content-length"
_JSON_LENGTH = JSON_LENGTH.encode()
# The response repeats it.
_LONGEST_ID = 1024
_ENDS = tuple(TensorSpec(name, "FP32", (-1, 1)) for name in ("low", "high"))


class V2Dialect:
    """Named tensors in, named tensors out."""

    name = "v2"

    def __init__(self, regions: Regions, codecs: Codecs, limits: Limits) -> None:
        self._limits = limits
        self.regions = regions
        self._codecs = codecs

    def media_types(self, _: ServedModel) -> tuple[str, ...]:
        """JSON, however it is called, and JSON with bytes behind it."""
        return (JSON, BINARY, FORM)

    def json_bytes(self, body: bytes, head: Head) -> int:
        """Those before the binary tensors."""
        return json_length(body, head.get(_JSON_LENGTH))

    def decode(self, model: ServedModel, body: bytes, head: Head) -> Decoded[Asked]:
        """Read ``inputs``; a bundle's rows are also held against its features' rules."""
        payload = split(body, head.get(_JSON_LENGTH), self._limits)
        if payload.document is None:
            asked = Asked(None, tuple(Wanted(i, binary=True) for i in range(len(model.outputs))))
            return Decoded(self._raw(model, payload), asked)
        if (understood := known(model, payload.document)) is not None:
            spec = model.inputs[0]
            content = payload.take(understood.size, spec.name)
            payload.require_consumed()
            array = read_binary(content, understood.shape, spec)
            asked = understood.asked._replace(written=understood.written)
            return Decoded(self._checked(model, (array,)), asked)
        sent = request_of_tensor(payload.document)
        if sent is None:
            sent = parse_json(payload.document, lambda: _example(model))
        document = _object(sent, model)
        identity = document.get("id")
        if identity is not None and not (
            isinstance(identity, str) and len(identity) <= _LONGEST_ID
        ):
            raise InvalidRequest(
                f"'id' must be a string of at most {_LONGEST_ID} characters, got {shown(identity)}."
            )
        level = _level(document, model)
        specs = (*model.outputs, *_ENDS) if level is not None else model.outputs
        wanted = wanted_outputs(document, specs)
        inputs = self._inputs(document, payload, model)
        asked = Asked(identity, wanted, level)
        return Decoded(inputs, remember(model, payload.document, document, asked, inputs))

    def encode(self, model: ServedModel, outputs: Arrays, context: Asked) -> Encoded:
        """The outputs asked for, in that order; binary ones after the JSON, in the same order."""
        if context.written is not None and context.all_binary:
            return self._again(model, outputs, context, context.written)
        return self._encoded(model, outputs, context)

    def _again(
        self, model: ServedModel, outputs: Arrays, context: Asked, written: Written
    ) -> Encoded:
        """The same with a document that was written for arrays of these shapes before."""
        arrays = [outputs[wanted.output] for wanted in context.outputs]
        shapes = tuple([array.shape for array in arrays])
        document = written.get(shapes)
        if document is None or any(array is ABSENT for array in arrays):
            encoded = self._encoded(model, outputs, context)
            length = int(encoded.headers[JSON_LENGTH])
            if len(written) < MOST_SHAPES and all(array.dtype != object for array in arrays):
                written[shapes] = encoded.content[:length]
            return encoded
        specs = model.outputs
        buffers = [
            write_binary(array, specs[wanted.output])
            for array, wanted in zip(arrays, context.outputs, strict=True)
        ]
        headers = {JSON_LENGTH: str(len(document))}
        return Encoded(b"".join([document, *buffers]), BINARY, headers)

    def _encoded(self, model: ServedModel, outputs: Arrays, context: Asked) -> Encoded:
        body: dict[str, object] = {"model_name": model.name, "model_version": model.version}
        if context.id is not None:
            body["id"] = context.id
        specs = model.outputs
        if context.level is not None and model.manifest is not None:
            ends = interval_ends(model.manifest.output, context.level, outputs[0])
            outputs, specs = (*outputs, *ends), (*specs, *_ENDS)
        tensors: list[dict[str, object]] = []
        buffers: list[bytes] = []
        for wanted in context.outputs:
            array, spec = outputs[wanted.output], specs[wanted.output]
            if array is ABSENT:
                continue
            if wanted.classes:
                array = classify(array, wanted.classes, model.labels.get(spec.name, ()))
                spec = TensorSpec(spec.name, "BYTES", array.shape)
            tensors.append(self._written(array, spec, wanted, buffers))
        body["outputs"] = tensors
        content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        if not buffers and not any(wanted.binary for wanted in context.outputs):
            return Encoded(content)
        headers = {JSON_LENGTH: str(len(content))}
        return Encoded(b"".join([content, *buffers]), BINARY, headers)

    def _raw(self, model: ServedModel, payload: Payload) -> Inputs:
        pictures = self._codecs.of_pictures(model)
        if pictures is not None:
            return read_raw_picture(payload, model, pictures)
        return self._checked(model, (read_raw(payload, model),))

    def _inputs(self, document: Mapping[str, Any], payload: Payload, model: ServedModel) -> Inputs:
        pictures = self._codecs.of_pictures(model)
        if pictures is not None:
            return read_picture_inputs(document, payload, model, self.regions, pictures)
        return self._checked(model, read_inputs(document, payload, model, self.regions))

    def _checked(self, model: ServedModel, inputs: Arrays) -> Arrays:
        if model.manifest is not None and not isinstance(model.manifest.input, ImageInput):
            self._codecs.of(model, model.manifest).check(inputs[0])
        return inputs

    def _written(
        self, array: Array, spec: TensorSpec, wanted: Wanted, buffers: list[bytes]
    ) -> dict[str, object]:
        """One output's JSON; a binary one's bytes are added to ``buffers``."""
        tensor: dict[str, object] = {
            "name": spec.name,
            "datatype": spec.datatype,
            "shape": array.shape,
        }
        if wanted.place is not None:
            content = write_binary(array, spec)
            self.regions.write(wanted.place, content)
            return tensor | {"parameters": _told(wanted.place, len(content))}
        if wanted.binary:
            buffers.append(write_binary(array, spec))
            return tensor | {"parameters": {"binary_data_size": len(buffers[-1])}}
        return tensor | {"data": write_json(array, spec)}


def _level(document: Mapping[str, Any], model: ServedModel) -> float | None:
    """The level of the interval that a request's parameters ask for."""
    level = parameters_of(document).get("interval")
    if level is None or model.manifest is None:
        return None  # an unknown parameter, which the protocol lets pass
    if not is_number(level):
        raise InvalidRequest(
            "Parameter 'interval' must be a share between 0 and 1, such as 0.9, "
            f"got {shown(level)}."
        )
    require_interval(model.manifest.output, level)
    return float(level)


def _told(place: Place, size: int) -> dict[str, object]:
    return {
        "shared_memory_region": place.region,
        "shared_memory_offset": place.offset,
        "shared_memory_byte_size": size,
    }


def _object(document: object, model: ServedModel) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise InvalidRequest("An inference request is a JSON object with 'inputs'.")
    if not document.keys() <= _KNOWN:
        unknown = min(document.keys() - _KNOWN)
        raise InvalidRequest(
            f"{unknown[:100]!r} is not part of an inference request; it has "
            "'id', 'parameters', 'inputs' and 'outputs'."
        )
    named = document.get("model_name", model.name)
    if named != model.name:
        raise InvalidRequest(
            f"'model_name' is {shown(named)}, and the path asks {model.name!r}; leave it out."
        )
    return document


def _example(model: ServedModel) -> bytes:
    tensors = [
        {"name": spec.name, "shape": example_shape(spec), "datatype": spec.datatype, "data": ["…"]}
        for spec in model.inputs
    ]
    return orjson.dumps({"inputs": tensors})
