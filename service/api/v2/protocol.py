"""Version 2: inference requests and responses, in JSON and with the binary tensor extension."""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import orjson

from service.api.body import BINARY, FORM, JSON, RequestHead
from service.api.inference import DecodedRequest, EncodedBody
from service.api.v2.request import (
    INTERVAL_ENDS,
    NO_BYTES,
    InputReader,
    find_single_tensor,
    read_response_format,
    select_all_outputs,
)
from service.api.v2.shared_memory import Regions
from service.codecs.endpoint import (
    DocumentTemplate,
    Endpoint,
    RequestedOutput,
    ResponseFormat,
)
from service.codecs.json_reader import may_hold_booleans, parse_json, parse_tensor_request
from service.codecs.parameters import finite_ends
from service.codecs.tensors import example_shape, write_binary, write_json
from service.engine.tensors import ABSENT, Array, Arrays, Inputs, TensorSpec
from service.errors import InvalidRequest
from service.limits import Limits
from service.predictions import most_probable, scores_by_label
from service.values import format_value, parse_integer

JSON_LENGTH = "inference-header-content-length"
_JSON_LENGTH = JSON_LENGTH.encode()
# Documents with an id never repeat, and evict each other, which costs little.
_MAX_TEMPLATES = 64
_MAX_TEMPLATE_BYTES = 1024
_MAX_SHAPES = 64


class V2Protocol:
    """The Open Inference Protocol: requests and responses of named tensors."""

    name = "v2"

    def __init__(self, regions: Regions, limits: Limits) -> None:
        self._limits = limits
        self.regions = regions

    def media_types(self, _: Endpoint) -> tuple[str, ...]:
        """Return those of JSON, of JSON followed by bytes, and of curl for JSON."""
        return (JSON, BINARY, FORM)

    def json_bytes(self, body: bytes, head: RequestHead) -> int:
        """Return the length before the binary tensors.

        Raise `InvalidRequest` if the header with it is no number, or exceeds the body.
        """
        stated = head.fields.get(_JSON_LENGTH)
        if stated is None:
            return len(body)
        length = parse_integer(stated)
        if length is None:
            raise InvalidRequest(
                f"Inference-Header-Content-Length is {format_value(stated)}; it is the number of "
                "bytes of the JSON part."
            )
        if length > len(body):
            raise InvalidRequest(
                f"Inference-Header-Content-Length is {format_value(stated)}, and the body has "
                f"{len(body)} bytes."
            )
        return length

    def decode(
        self, endpoint: Endpoint, body: bytes, head: RequestHead
    ) -> DecodedRequest[ResponseFormat]:
        """Decode ``inputs``, and check the values of named features."""
        if _JSON_LENGTH in head.fields:
            length = self.json_bytes(body, head)
            decoded = self._decode_binary(endpoint, body[:length], memoryview(body)[length:])
        else:
            decoded = self._decode_json(endpoint, body)
        if endpoint.features is not None and isinstance(decoded.inputs, tuple):
            endpoint.features.check(decoded.inputs[0])
        elif endpoint.texts is not None and isinstance(decoded.inputs, tuple):
            decoded = decoded._replace(inputs=endpoint.texts.check(decoded.inputs))
        return decoded

    def _decode_binary(
        self, endpoint: Endpoint, text: bytes, binary: memoryview
    ) -> DecodedRequest[ResponseFormat]:
        """Decode a request with bytes after its JSON, which may be empty or known already."""
        reader = InputReader(endpoint, self._limits, self.regions, binary)
        if not text:
            response = ResponseFormat(None, select_all_outputs(len(endpoint.outputs), binary=True))
            return DecodedRequest(reader.read_raw(), response)
        template = endpoint.templates.get(text)
        if template is None:
            return self._decode_json(endpoint, text, binary)
        inputs = reader.read_repeated(template.byte_size, template.shape)
        return DecodedRequest(inputs, template.response)

    def _decode_json(
        self, endpoint: Endpoint, text: bytes, binary: memoryview = NO_BYTES
    ) -> DecodedRequest[ResponseFormat]:
        """Decode a request with JSON, whose tensors may be in the bytes after it."""
        may_be_boolean = False
        document = parse_tensor_request(text)
        if document is None:
            document = parse_json(text, lambda: _example(endpoint))
            may_be_boolean = may_hold_booleans(text)
        response = read_response_format(document, endpoint)
        reader = InputReader(
            endpoint, self._limits, self.regions, binary, may_hold_booleans=may_be_boolean
        )
        inputs = reader.read(document)
        if binary:
            response = _cache_template(endpoint, text, document, response, inputs)
        return DecodedRequest(inputs, response)

    def encode(self, endpoint: Endpoint, outputs: Arrays, context: ResponseFormat) -> EncodedBody:
        """Encode the requested outputs in their order, binary ones after the JSON."""
        documents = context.documents
        if documents is None:
            return self._encode_outputs(endpoint, outputs, context)
        arrays = [outputs[entry.output] for entry in context.outputs]
        shapes = tuple([array.shape for array in arrays])
        # The JSON has the sizes of strings, and omits absent outputs; both are arrays of objects.
        has_fixed_json = all(array.dtype != object for array in arrays)
        document = documents.get(shapes) if has_fixed_json else None
        if document is None:
            encoded = self._encode_outputs(endpoint, outputs, context)
            if has_fixed_json and len(documents) < _MAX_SHAPES:
                documents[shapes] = encoded.content[: int(encoded.headers[JSON_LENGTH])]
            return encoded
        specs = [endpoint.outputs[entry.output] for entry in context.outputs]
        return _join(document, map(write_binary, arrays, specs))

    def _encode_outputs(
        self, endpoint: Endpoint, outputs: Arrays, context: ResponseFormat
    ) -> EncodedBody:
        body: dict[str, object] = {"model_name": endpoint.name, "model_version": endpoint.version}
        if context.id is not None:
            body["id"] = context.id
        specs = endpoint.outputs
        if context.level is not None and endpoint.manifest is not None:
            ends = finite_ends(endpoint.manifest.output, context.level, outputs[0])
            outputs, specs = (*outputs, *ends), (*specs, *INTERVAL_ENDS)
        tensors: list[dict[str, object]] = []
        buffers: list[bytes] = []
        is_binary = False
        for entry in context.outputs:
            is_binary |= entry.binary
            array, spec = outputs[entry.output], specs[entry.output]
            if array is ABSENT:
                continue
            if entry.classes:
                labels = endpoint.class_labels.get(spec.name, ())
                array = format_classification(array, spec, entry.classes, labels)
                spec = TensorSpec(spec.name, "BYTES", array.shape)
            tensors.append(self._encode_output(array, spec, entry, buffers))
        body["outputs"] = tensors
        document = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        return _join(document, buffers) if is_binary else EncodedBody(document)

    def _encode_output(
        self, array: Array, spec: TensorSpec, entry: RequestedOutput, buffers: list[bytes]
    ) -> dict[str, object]:
        """Return the JSON of an output; the bytes of a binary one are added to ``buffers``."""
        tensor: dict[str, object] = {
            "name": spec.name,
            "datatype": spec.datatype,
            "shape": array.shape,
        }
        if entry.slot is not None:
            content = write_binary(array, spec)
            self.regions.write(entry.slot, content)
            parameters = {
                "shared_memory_region": entry.slot.region,
                "shared_memory_offset": entry.slot.offset,
                "shared_memory_byte_size": len(content),
            }
            return tensor | {"parameters": parameters}
        if entry.binary:
            buffers.append(write_binary(array, spec))
            return tensor | {"parameters": {"binary_data_size": len(buffers[-1])}}
        return tensor | {"data": write_json(array, spec)}


def _join(document: bytes, buffers: Iterable[bytes]) -> EncodedBody:
    """Return a body of JSON, followed by the bytes of binary outputs."""
    headers = {JSON_LENGTH: str(len(document))}
    return EncodedBody(b"".join([document, *buffers]), BINARY, headers)


def _cache_template(
    endpoint: Endpoint,
    text: bytes,
    document: Mapping[str, Any],
    response: ResponseFormat,
    inputs: Inputs,
) -> ResponseFormat:
    """Cache the decoded JSON of a request with one binary tensor, since clients repeat it exactly.

    Its meaning depends only on its bytes and the model. If the response is binary, its JSON depends
    on that and on the shapes of the outputs, and the returned format has a cache for it.
    """
    tensor, spec = find_single_tensor(document.get("inputs"), endpoint), endpoint.inputs[0]
    if tensor is None or not isinstance(inputs, tuple) or len(text) > _MAX_TEMPLATE_BYTES:
        return response
    size = inputs[0].nbytes
    # Image files are not the model's own tensor, and the bytes in shared memory may change.
    is_own = tensor["datatype"] == spec.datatype and spec.datatype != "BYTES"
    if not is_own or tensor.get("parameters") != {"binary_data_size": size}:
        return response
    if any(entry.slot or entry.classes for entry in response.outputs):
        return response
    if len(endpoint.templates) >= _MAX_TEMPLATES:
        endpoint.templates.clear()
    if response.level is None and all(entry.binary for entry in response.outputs):
        response = response._replace(documents={})
    endpoint.templates[text] = DocumentTemplate(inputs[0].shape, size, response)
    return response


def _example(endpoint: Endpoint) -> bytes:
    tensors = [
        {"name": spec.name, "shape": example_shape(spec), "datatype": spec.datatype, "data": ["…"]}
        for spec in endpoint.inputs
    ]
    return orjson.dumps({"inputs": tensors})


def format_classification(
    array: Array, spec: TensorSpec, count: int, labels: Sequence[str]
) -> Array:
    """Return the ``count`` largest values of each row, largest first, as strings.

    Args:
        array: numbers; its first axis is the rows, the others together are the classes. An array
            of one axis is one row.
        spec: of the output.
        count: the most values of a row.
        labels: one for each class, or none. Two labels of a single column are those of its
            complement and of itself.

    Raises:
        InvalidRequest: the array does not hold numbers.
    """
    if array.dtype.kind not in "iuf":
        raise InvalidRequest(
            f"'classification' ranks numbers, and output {spec.name!r} has {spec.datatype} values; "
            "request it without 'classification'."
        )
    is_flat = array.ndim < 2  # noqa: PLR2004 - rows and classes
    # numpy cannot infer the number of classes with -1 if there are no rows.
    shape = (1, array.size) if is_flat else (len(array), prod(array.shape[1:]))
    rows = scores_by_label(array.reshape(shape), labels)
    order = most_probable(rows.astype(np.float64), count)
    ranked = np.empty(order.shape, np.object_)
    for position, index in np.ndenumerate(order):
        ranked[position] = _class_text(rows[position[0], index], int(index), labels)
    return ranked.reshape(-1) if is_flat else ranked


def _class_text(value: Any, index: int, labels: Sequence[str]) -> str:  # noqa: ANN401 - a numpy scalar
    text = f"{float(value):f}:{index}"
    return f"{text}:{labels[index]}" if index < len(labels) else text
