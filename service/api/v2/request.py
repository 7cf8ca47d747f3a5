"""Inference requests: tensors in JSON, in bytes or in shared memory, and requested outputs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from math import prod
from typing import Any

import numpy as np

from service.api.v2.shared_memory import Regions, read_slot
from service.bundle.features import WHOLE_MAX, FeaturesInput
from service.codecs.columns import is_column
from service.codecs.endpoint import Endpoint, RequestedOutput, ResponseFormat
from service.codecs.images import ImageCodec, has_unscaled
from service.codecs.parameters import find_interval, invalid_level
from service.codecs.tensors import (
    Shape,
    example_shape,
    is_count,
    join_elements,
    read_binary,
    read_json,
    read_shape,
    split_elements,
)
from service.engine.tensors import ABSENT, DTYPES, Array, Arrays, Inputs, TensorSpec
from service.errors import InvalidRequest
from service.limits import Limits
from service.spelling import format_count
from service.values import format_value, is_number, prefix_row, suggestion

# KServe's client repeats the model's name, which the path has too.
_KNOWN = frozenset({"id", "parameters", "inputs", "outputs", "model_name"})
_MAX_ID_LENGTH = 1024
INTERVAL_ENDS = tuple(TensorSpec(name, "FP32", (-1, 1)) for name in ("low", "high"))
"""The outputs that follow a model's own in a response with an interval."""
NO_BYTES = memoryview(b"")
_NUMBER_TYPES = tuple(name for name, dtype in DTYPES.items() if dtype.kind in "iuf")
_ELEMENT_PREFIX = "Element {}: ".format


class InputReader:
    """Reads the inputs of one request: from its JSON, the bytes after it, or shared memory.

    Args:
        endpoint: of the model.
        limits: on rows and strings.
        regions: of shared memory.
        binary: the bytes after the JSON; binary inputs follow each other in the request's order.
        may_hold_booleans: whether the JSON may contain booleans.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        limits: Limits,
        regions: Regions,
        binary: memoryview = NO_BYTES,
        *,
        may_hold_booleans: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._regions = regions
        self._rest = binary
        self._may_hold_booleans = may_hold_booleans

    def read(self, document: Mapping[str, Any]) -> Inputs:
        """Read the inputs of a request in the graph's order; an omitted optional one is `ABSENT`.

        Images are the pixels of the graph's input, or a BYTES tensor whose elements are files.

        Raises:
            InvalidRequest: an input is missing, unknown, given twice, or does not fit the graph.
            InvalidInput: some files are not supported images, or pixels in JSON end at 1.
        """
        endpoint, given = self._endpoint, document.get("inputs")
        tensor = find_single_tensor(given, endpoint)
        if tensor is None:
            arrays = self._read_by_name(given)
        elif endpoint.images is not None and tensor.get("datatype") == "BYTES":
            return self._read_images(tensor, endpoint.images)
        else:
            arrays = (self._read_tensor(tensor, endpoint.inputs[0]),)
            if endpoint.images is not None and "data" in tensor and has_unscaled(arrays[0]):
                return endpoint.images.decode(arrays[0].tolist(), _ELEMENT_PREFIX)
        if self._rest:
            self._require_consumed()
        return arrays

    def read_repeated(self, size: int, shape: Shape) -> Arrays:
        """Read the only input, which has the size and the shape of an earlier request's."""
        spec = self._endpoint.inputs[0]
        content = self._take(size, spec.name)
        self._require_consumed()
        return (read_binary(content, shape, spec),)

    def read_raw(self) -> Inputs:
        """Read a body without JSON as the only input, a batch of one or an image file.

        Raise `InvalidRequest` if the model has several inputs, or the length does not fit.
        """
        endpoint, content = self._endpoint, self._rest
        if endpoint.images is not None and not endpoint.images.is_raw(content):
            return endpoint.images.decode([bytes(content)], _ELEMENT_PREFIX)
        if len(endpoint.inputs) != 1:
            raise InvalidRequest(
                f"A raw binary request needs a model with one input; {endpoint.name!r} has "
                f"{len(endpoint.inputs)}."
            )
        spec = endpoint.inputs[0]
        if spec.datatype == "BYTES":
            # One element, whose length is missing because no other element follows.
            content = memoryview(join_elements([bytes(content)]))
            shape = tuple(example_shape(spec))
        else:
            shape = _infer_raw_shape(spec, len(content))
            self._limits.require_rows(shape[0] if shape else 1)
        return (read_binary(content, shape, spec),)

    def _read_by_name(self, given: object) -> Arrays:
        """Read any number of inputs."""
        specs = {spec.name: spec for spec in self._endpoint.inputs}
        required = [name for name, spec in specs.items() if not spec.optional]
        if not isinstance(given, list) or (not given and required):
            raise InvalidRequest(
                f"'inputs' must be a list of the tensors {', '.join(map(repr, specs))}, "
                f"got {format_value(given)}."
            )
        found = {
            name: self._read_tensor(tensor, specs[name])
            for name, tensor in _read_named(given, list(specs), "input")
        }
        if missing := [name for name in required if name not in found]:
            spec = specs[missing[0]]
            raise InvalidRequest(
                f"Input {spec.name!r} is missing; add a tensor of {spec.datatype} with that name."
            )
        return tuple(found.get(name, ABSENT) for name in specs)

    def _read_tensor(self, tensor: Mapping[str, Any], spec: TensorSpec) -> Array:
        if tensor.get("datatype") != spec.datatype:
            return self._read_converted(tensor, spec)
        is_bundle = self._endpoint.manifest is not None
        shape = read_shape(tensor.get("shape"), spec, rows_needed=is_bundle)
        if shape and shape[0] > 1:
            self._limits.require_rows(shape[0])
        if spec.datatype == "BYTES":
            self._limits.require_values(prod(shape))
        content = self._read_bytes(tensor, spec) if tensor.get("parameters") is not None else None
        if content is None:
            if "data" not in tensor:
                raise InvalidRequest(
                    f"Input {spec.name!r} has no data; send a list 'data', or bytes of "
                    "'binary_data_size'."
                )
            data = tensor["data"]
            booleans = self._may_hold_booleans and not isinstance(data, np.ndarray)
            # The condition keeps a bundle out of another file.
            nulls = is_bundle or (is_column(spec) and spec.datatype != "BYTES")
            return read_json(data, shape, spec, nulls=nulls, booleans=booleans)
        if "data" in tensor:
            raise InvalidRequest(f"Input {spec.name!r} has both data and bytes; send one of them.")
        return read_binary(content, shape, spec)

    def _read_converted(self, tensor: Mapping[str, Any], spec: TensorSpec) -> Array:
        """Read a tensor of numbers for a bundle whose input is FP64, which holds them exactly."""
        datatype = tensor.get("datatype")
        manifest = self._endpoint.manifest
        described = None if manifest is None else manifest.input
        if (
            not isinstance(described, FeaturesInput)
            or spec.datatype != "FP64"
            or datatype not in _NUMBER_TYPES
        ):
            raise InvalidRequest(
                f"Input {spec.name!r} has datatype {format_value(datatype)}; the model expects "
                f"{spec.datatype}."
            )
        sent = self._read_tensor(tensor, replace(spec, datatype=datatype))
        matrix: Array = sent.astype(DTYPES[spec.datatype])
        if sent.dtype.kind in "iu" and (beyond := np.abs(matrix) > WHOLE_MAX).any():
            row, column = np.argwhere(beyond)[0].tolist()
            sentence = (
                f"feature {described.numerical[column].name!r} is {sent[row, column]}; {datatype} "
                f"is exact in FP64 up to {WHOLE_MAX:,}."
            )
            raise InvalidRequest(prefix_row(row if len(sent) > 1 else None, sentence))
        return matrix

    def _read_images(self, tensor: Mapping[str, Any], codec: ImageCodec) -> Inputs:
        """Decode the elements of a BYTES tensor, which are image files."""
        spec = self._endpoint.inputs[0]
        count = _read_image_count(tensor.get("shape"), spec.name)
        self._limits.require_rows(count)
        content = self._read_bytes(tensor, spec)
        self._require_consumed()
        elements = (
            _flatten(tensor.get("data"))
            if content is None
            else map(bytes, split_elements(content, spec.name))
        )
        files = list(islice(elements, count + 1))
        if len(files) != count:
            found = f"more than {count}" if len(files) > count else str(len(files))
            raise InvalidRequest(
                f"Input {spec.name!r}: its shape holds {format_count(count, 'image')}, got {found}."
            )
        return codec.decode(files, _ELEMENT_PREFIX)

    def _read_bytes(self, tensor: Mapping[str, Any], spec: TensorSpec) -> memoryview | None:
        """Return the bytes of an input from the body or shared memory; None if it has JSON data."""
        parameters = _read_parameters(tensor)
        size = parameters.get("binary_data_size")
        slot = read_slot(parameters, spec.name)
        if slot is None:
            return None if size is None else self._take(size, spec.name)
        if size is not None:
            raise InvalidRequest(
                f"Input {spec.name!r} has both binary_data_size and shared_memory_region; "
                "send one of them."
            )
        return self._regions.read(slot)

    def _take(self, size: object, name: str) -> memoryview:
        """Return the next bytes of the body."""
        if not is_count(size):
            raise InvalidRequest(
                f"Input {name!r}: binary_data_size is {format_value(size)}, not a number of bytes."
            )
        left = len(self._rest)
        if size > left:
            raise InvalidRequest(
                f"Input {name!r}: binary_data_size is {size}, and the body has {left} bytes left."
            )
        content, self._rest = self._rest[:size], self._rest[size:]
        return content

    def _require_consumed(self) -> None:
        if self._rest:
            raise InvalidRequest(
                f"{len(self._rest)} bytes of the body belong to no input; state the size of each "
                "binary input in 'binary_data_size'."
            )


def read_response_format(document: object, endpoint: Endpoint) -> ResponseFormat:
    """Read the requested format; raise `InvalidRequest` if it is not one for this model."""
    request = _require_request(document, endpoint)
    identity = request.get("id")
    if identity is not None and not (isinstance(identity, str) and len(identity) <= _MAX_ID_LENGTH):
        raise InvalidRequest(
            f"'id' must be a string of at most {_MAX_ID_LENGTH} characters, got "
            f"{format_value(identity)}."
        )
    level = _read_level(request, endpoint)
    specs = (*endpoint.outputs, *INTERVAL_ENDS) if level is not None else endpoint.outputs
    return ResponseFormat(identity, _read_outputs(request, specs), level)


def _require_request(document: object, endpoint: Endpoint) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise InvalidRequest(
            "An inference request must be a JSON object with 'inputs', got "
            f"{format_value(document)}."
        )
    if not document.keys() <= _KNOWN:
        unknown = min(document.keys() - _KNOWN)
        raise InvalidRequest(
            f"{format_value(unknown)} is not part of an inference request; it has "
            "'id', 'parameters', 'inputs' and 'outputs'."
        )
    named = document.get("model_name", endpoint.name)
    if named != endpoint.name:
        raise InvalidRequest(
            f"'model_name' is {format_value(named)}, and the path has {endpoint.name!r}; leave "
            "it out."
        )
    return document


def _read_level(document: Mapping[str, Any], endpoint: Endpoint) -> float | None:
    """Return the level of the interval in a request's parameters."""
    level = _read_parameters(document).get("interval")
    if level is None or endpoint.manifest is None:
        return None  # the protocol ignores unknown parameters
    if not is_number(level):
        raise invalid_level(level)
    find_interval(endpoint.manifest.output, level)
    return float(level)


def _read_outputs(
    document: Mapping[str, Any], specs: Sequence[TensorSpec]
) -> tuple[RequestedOutput, ...]:
    """Return the requested outputs in their order; all of them if a request has none.

    Raise `InvalidRequest` if one is unknown, given twice, or has invalid parameters.
    """
    binary = _read_flag(_read_parameters(document), "binary_data_output", default=False)
    given = document.get("outputs")
    if given is None or given == []:
        return select_all_outputs(len(specs), binary=binary)
    if not isinstance(given, list):
        raise InvalidRequest(
            f"'outputs' must be a list of objects, each with a 'name', got {format_value(given)}."
        )
    names = [spec.name for spec in specs]
    requested = []
    for name, output in _read_named(given, names, "output"):
        parameters = _read_parameters(output)
        classes = parameters.get("classification", 0)
        if not is_count(classes):
            raise InvalidRequest(
                f"'classification' must be a number of classes, got {format_value(classes)}."
            )
        is_binary = _read_flag(parameters, "binary_data", default=binary)
        slot = read_slot(parameters, name)
        index = names.index(name)
        requested.append(RequestedOutput(index, is_binary and slot is None, classes, slot))
    return tuple(requested)


def _read_named(
    given: Sequence[object], known: Sequence[str], kind: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each object with its name, which must be a known one and not be given twice."""
    found: set[str] = set()
    for item in given:
        name = item.get("name") if isinstance(item, dict) else item
        if not isinstance(item, dict) or not isinstance(name, str):
            raise InvalidRequest(
                f"Each {kind} must be an object with a 'name', a string, got {format_value(name)}."
            )
        if name not in known:
            raise InvalidRequest(f"Unknown {kind} {format_value(name)}; {suggestion(name, known)}")
        if name in found:
            raise InvalidRequest(f"The {kind} {name!r} is given twice; send it once.")
        found.add(name)
        yield name, item


@lru_cache(maxsize=64)
def select_all_outputs(count: int, *, binary: bool) -> tuple[RequestedOutput, ...]:
    """Return this many outputs in their order."""
    return tuple(RequestedOutput(index, binary) for index in range(count))


def _read_flag(parameters: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{key!r} must be true or false, got {format_value(value)}.")
    return value


def _read_parameters(owner: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters of a request or tensor; raise `InvalidRequest` if no object."""
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"'parameters' must be an object, got {format_value(parameters)}.")
    return parameters


def find_single_tensor(given: object, endpoint: Endpoint) -> Mapping[str, Any] | None:
    """Return the only tensor of a request if it is the only input of the model, else None."""
    if not isinstance(given, list) or len(given) != 1 or len(endpoint.inputs) != 1:
        return None
    tensor = given[0]
    if not isinstance(tensor, dict) or tensor.get("name") != endpoint.inputs[0].name:
        return None
    return tensor


def _infer_raw_shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    """Return the shape of a batch of one; the bytes determine one other axis of any length."""
    shape = list(spec.shape)
    if shape and shape[0] == -1:
        shape[0] = 1
    if shape.count(-1) > 1:
        raise InvalidRequest(
            f"Input {spec.name!r} is {list(spec.shape)}; a raw request does not state the lengths."
        )
    if -1 in shape:
        known = DTYPES[spec.datatype].itemsize * prod(max(axis, 1) for axis in shape)
        shape[shape.index(-1)] = size // known
    return tuple(shape)


def _read_image_count(shape: object, name: str) -> int:
    """Return the number of files: the first axis, if all others have length one."""
    if isinstance(shape, list) and shape and all(map(is_count, shape)):
        count, *rest = shape
        if count > 0 and set(rest) <= {1}:
            return int(count)
    raise InvalidRequest(
        f"Input {name!r} has shape {format_value(shape)}; BYTES are files of images, so send "
        "[how many]."
    )


def _flatten(data: object) -> Iterator[object]:
    """Yield the elements of nested lists; `parse_json` limits their depth."""
    if not isinstance(data, list):
        yield data
        return
    for item in data:
        yield from _flatten(item)
