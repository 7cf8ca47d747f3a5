"""Inference requests and responses, in JSON and with the binary tensor extension."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import orjson

from service.api.body import BINARY, FORM, JSON, parse_json
from service.api.inference import DecodedRequest, EncodedBody, RequestHead
from service.api.v2.request import (
    Payload,
    json_length,
    parameters_of,
    read_image_inputs,
    read_inputs,
    read_raw,
    read_raw_image,
    split,
    wanted_outputs,
)
from service.api.v2.shared_memory import Regions
from service.codecs.byte_tensors import example_shape, read_binary, write_binary, write_json
from service.codecs.endpoint import (
    DocumentTemplate,
    Endpoint,
    RequestedOutput,
    ResponseDocuments,
    ResponseFormat,
    SharedMemorySlot,
)
from service.codecs.intervals import interval_ends, require_interval
from service.codecs.json_numbers import request_of_tensor
from service.codecs.labels import scores_by_label
from service.engine.dtypes import ABSENT, Array, Arrays, Inputs
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
# Documents with an id are all different; they replace each other, which costs little.
_MAX_TEMPLATES = 64
_MAX_TEMPLATE_BYTES = 1024
_MAX_SHAPES = 64
_ENDS = tuple(TensorSpec(name, "FP32", (-1, 1)) for name in ("low", "high"))


class V2Protocol:
    """Named tensors in, named tensors out."""

    name = "v2"

    def __init__(self, regions: Regions, limits: Limits) -> None:
        self._limits = limits
        self.regions = regions

    def media_types(self, _: Endpoint) -> tuple[str, ...]:
        """JSON, however it is called, and JSON with bytes behind it."""
        return (JSON, BINARY, FORM)

    def json_bytes(self, body: bytes, head: RequestHead) -> int:
        """Those before the binary tensors."""
        return json_length(body, head.get(_JSON_LENGTH))

    def decode(
        self, endpoint: Endpoint, body: bytes, head: RequestHead
    ) -> DecodedRequest[ResponseFormat]:
        """Read ``inputs``; a bundle's rows are also held against its features' rules."""
        payload = split(body, head.get(_JSON_LENGTH), self._limits)
        if payload.document is None:
            every = tuple(RequestedOutput(i, binary=True) for i in range(len(endpoint.outputs)))
            return DecodedRequest(self._raw(endpoint, payload), ResponseFormat(None, every))
        if (template := endpoint.templates.get(payload.document)) is not None:
            spec = endpoint.inputs[0]
            content = payload.take(template.byte_size, spec.name)
            payload.require_consumed()
            array = read_binary(content, template.shape, spec)
            return DecodedRequest(_checked(endpoint, (array,)), template.response)
        sent = request_of_tensor(payload.document)
        if sent is None:
            sent = parse_json(payload.document, lambda: _example(endpoint))
        document = _object(sent, endpoint)
        identity = document.get("id")
        if identity is not None and not (
            isinstance(identity, str) and len(identity) <= _LONGEST_ID
        ):
            raise InvalidRequest(
                f"'id' must be a string of at most {_LONGEST_ID} characters, got {shown(identity)}."
            )
        level = _level(document, endpoint)
        specs = (*endpoint.outputs, *_ENDS) if level is not None else endpoint.outputs
        wanted = wanted_outputs(document, specs)
        inputs = self._inputs(document, payload, endpoint)
        response = ResponseFormat(identity, wanted, level)
        return DecodedRequest(
            inputs, _with_template(endpoint, payload.document, document, response, inputs)
        )

    def encode(self, endpoint: Endpoint, outputs: Arrays, context: ResponseFormat) -> EncodedBody:
        """The outputs asked for, in that order; binary ones after the JSON, in the same order."""
        if context.documents is not None and context.is_binary:
            return self._encode_again(endpoint, outputs, context, context.documents)
        return self._encoded(endpoint, outputs, context)

    def _encode_again(
        self,
        endpoint: Endpoint,
        outputs: Arrays,
        context: ResponseFormat,
        documents: ResponseDocuments,
    ) -> EncodedBody:
        """The same with a document that was written for arrays of these shapes before."""
        arrays = [outputs[wanted.output] for wanted in context.outputs]
        shapes = tuple([array.shape for array in arrays])
        document = documents.get(shapes)
        if document is None or any(array is ABSENT for array in arrays):
            encoded = self._encoded(endpoint, outputs, context)
            length = int(encoded.headers[JSON_LENGTH])
            if len(documents) < _MAX_SHAPES and all(array.dtype != object for array in arrays):
                documents[shapes] = encoded.content[:length]
            return encoded
        specs = endpoint.outputs
        buffers = [
            write_binary(array, specs[wanted.output])
            for array, wanted in zip(arrays, context.outputs, strict=True)
        ]
        headers = {JSON_LENGTH: str(len(document))}
        return EncodedBody(b"".join([document, *buffers]), BINARY, headers)

    def _encoded(self, endpoint: Endpoint, outputs: Arrays, context: ResponseFormat) -> EncodedBody:
        body: dict[str, object] = {"model_name": endpoint.name, "model_version": endpoint.version}
        if context.id is not None:
            body["id"] = context.id
        specs = endpoint.outputs
        if context.level is not None and endpoint.manifest is not None:
            ends = interval_ends(endpoint.manifest.output, context.level, outputs[0])
            outputs, specs = (*outputs, *ends), (*specs, *_ENDS)
        tensors: list[dict[str, object]] = []
        buffers: list[bytes] = []
        for wanted in context.outputs:
            array, spec = outputs[wanted.output], specs[wanted.output]
            if array is ABSENT:
                continue
            if wanted.classes:
                array = classify(array, wanted.classes, endpoint.class_labels.get(spec.name, ()))
                spec = TensorSpec(spec.name, "BYTES", array.shape)
            tensors.append(self._written(array, spec, wanted, buffers))
        body["outputs"] = tensors
        content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        if not buffers and not any(wanted.binary for wanted in context.outputs):
            return EncodedBody(content)
        headers = {JSON_LENGTH: str(len(content))}
        return EncodedBody(b"".join([content, *buffers]), BINARY, headers)

    def _raw(self, endpoint: Endpoint, payload: Payload) -> Inputs:
        if endpoint.images is not None:
            return read_raw_image(payload, endpoint, endpoint.images)
        return _checked(endpoint, (read_raw(payload, endpoint),))

    def _inputs(self, document: Mapping[str, Any], payload: Payload, endpoint: Endpoint) -> Inputs:
        if endpoint.images is not None:
            return read_image_inputs(document, payload, endpoint, self.regions, endpoint.images)
        return _checked(endpoint, read_inputs(document, payload, endpoint, self.regions))

    def _written(
        self, array: Array, spec: TensorSpec, wanted: RequestedOutput, buffers: list[bytes]
    ) -> dict[str, object]:
        """One output's JSON; a binary one's bytes are added to ``buffers``."""
        tensor: dict[str, object] = {
            "name": spec.name,
            "datatype": spec.datatype,
            "shape": array.shape,
        }
        if wanted.slot is not None:
            content = write_binary(array, spec)
            self.regions.write(wanted.slot, content)
            return tensor | {"parameters": _slot_parameters(wanted.slot, len(content))}
        if wanted.binary:
            buffers.append(write_binary(array, spec))
            return tensor | {"parameters": {"binary_data_size": len(buffers[-1])}}
        return tensor | {"data": write_json(array, spec)}


def _checked(endpoint: Endpoint, inputs: Arrays) -> Arrays:
    """The same inputs, whose values keep the rules of their features."""
    if endpoint.features is not None:
        endpoint.features.check(inputs[0])
    return inputs


def _with_template(
    endpoint: Endpoint,
    text: bytes,
    document: Mapping[str, Any],
    response: ResponseFormat,
    inputs: Inputs,
) -> ResponseFormat:
    """Store what the JSON around one binary tensor says, since clients repeat it byte by byte.

    What it says depends on its bytes and the model alone. The JSON of the response depends on that
    and on the shapes of the outputs.

    Args:
        endpoint: of the model.
        text: the JSON.
        document: what it holds.
        response: as it was requested.
        inputs: as they were decoded.

    Returns:
        The response, with the JSON of those before it.
    """
    tensors: Sequence[Mapping[str, Any]] = document["inputs"]
    if not isinstance(inputs, tuple) or len(tensors) != 1 or len(text) > _MAX_TEMPLATE_BYTES:
        return response
    tensor, spec = tensors[0], endpoint.inputs[0]
    parameters = tensor.get("parameters") or {}
    size = inputs[0].nbytes
    # An image file is not the model's own tensor, and shared memory has other bytes each time.
    is_own = tensor.get("datatype") == spec.datatype and spec.datatype != "BYTES"
    if not is_own or parameters != {"binary_data_size": size}:
        return response
    if any(wanted.slot or wanted.classes for wanted in response.outputs):
        return response
    if len(endpoint.templates) >= _MAX_TEMPLATES:
        endpoint.templates.clear()
    response = response._replace(documents={})
    endpoint.templates[text] = DocumentTemplate(inputs[0].shape, size, response)
    return response


def _level(document: Mapping[str, Any], endpoint: Endpoint) -> float | None:
    """The level of the interval that a request's parameters ask for."""
    level = parameters_of(document).get("interval")
    if level is None or endpoint.manifest is None:
        return None  # an unknown parameter, which the protocol lets pass
    if not is_number(level):
        raise InvalidRequest(
            "Parameter 'interval' must be a share between 0 and 1, such as 0.9, "
            f"got {shown(level)}."
        )
    require_interval(endpoint.manifest.output, level)
    return float(level)


def _slot_parameters(slot: SharedMemorySlot, size: int) -> dict[str, object]:
    return {
        "shared_memory_region": slot.region,
        "shared_memory_offset": slot.offset,
        "shared_memory_byte_size": size,
    }


def _object(document: object, endpoint: Endpoint) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise InvalidRequest("An inference request is a JSON object with 'inputs'.")
    if not document.keys() <= _KNOWN:
        unknown = min(document.keys() - _KNOWN)
        raise InvalidRequest(
            f"{unknown[:100]!r} is not part of an inference request; it has "
            "'id', 'parameters', 'inputs' and 'outputs'."
        )
    named = document.get("model_name", endpoint.name)
    if named != endpoint.name:
        raise InvalidRequest(
            f"'model_name' is {shown(named)}, and the path asks {endpoint.name!r}; leave it out."
        )
    return document


def _example(endpoint: Endpoint) -> bytes:
    tensors = [
        {"name": spec.name, "shape": example_shape(spec), "datatype": spec.datatype, "data": ["…"]}
        for spec in endpoint.inputs
    ]
    return orjson.dumps({"inputs": tensors})


def classify(array: Array, count: int, labels: Sequence[str]) -> Array:
    """The ``count`` largest values of each row, largest first, as strings.

    Args:
        array: numbers; its first axis is the rows, the others together are the classes. An array
            of one axis is one row.
        count: how many; all where there are fewer.
        labels: one a class, or none. Two labels of a single column are its complement and itself.

    Raises:
        InvalidRequest: the array does not hold numbers.
    """
    if array.dtype.kind not in "iuf":
        raise InvalidRequest("Classification needs an output of numbers.")
    flat = array.ndim < 2  # noqa: PLR2004 - rows and classes
    # Told in full, for of no rows numpy cannot work out how many classes they would have.
    shape = (1, array.size) if flat else (len(array), prod(array.shape[1:]))
    rows = scores_by_label(array.reshape(shape), labels)
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    named = np.empty(order.shape, np.object_)
    for place, index in np.ndenumerate(order):
        named[place] = _named(rows[place[0], index], int(index), labels)
    return named.reshape(-1) if flat else named


def _named(value: Any, index: int, labels: Sequence[str]) -> str:  # noqa: ANN401 - a numpy scalar
    text = f"{float(value):f}:{index}"
    return f"{text}:{labels[index]}" if index < len(labels) else text
