"""Inference requests: tensors in JSON, in bytes or in shared memory, and requested outputs."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from math import prod
from typing import Any

import numpy as np

from service.api.v2.shared_memory import Regions, is_count, slot_of
from service.codecs.endpoint import Endpoint, RequestedOutput, ResponseFormat
from service.codecs.images import ImageCodec
from service.codecs.outputs import find_interval, invalid_level
from service.codecs.tensors import (
    example_shape,
    join_elements,
    read_binary,
    read_json,
    read_shape,
    split_elements,
)
from service.engine.tensors import ABSENT, DTYPES, Array, Arrays, Inputs, TensorSpec
from service.errors import InvalidRequest
from service.limits import Limits
from service.values import is_number, shown, suggestion

# The client of KServe repeats the model's name of the path.
_KNOWN = frozenset({"id", "parameters", "inputs", "outputs", "model_name"})
_MAX_ID_LENGTH = 1024
INTERVAL_ENDS = tuple(TensorSpec(name, "FP32", (-1, 1)) for name in ("low", "high"))
"""The outputs that follow a model's own in a response with an interval."""


class Payload:
    """The bytes after the JSON of a request, taken in order.

    ``may_hold_booleans`` says whether the JSON may contain booleans.
    """

    def __init__(
        self, limits: Limits, binary: memoryview, *, may_hold_booleans: bool = False
    ) -> None:
        self._limits = limits
        self._binary = binary
        self._taken = 0
        self.has_binary = len(binary) > 0
        self.may_hold_booleans = may_hold_booleans

    def require_size(self, shape: Sequence[int], *, strings: bool) -> None:
        """Check the number of rows and strings of a tensor before reading it.

        Raises:
            TooManyRows: the first axis is too long.
            TooManyJsonMembers: there are too many strings.
        """
        self._limits.require_rows(shape[0] if shape else 1)
        if strings:
            self._limits.require_values(prod(shape))

    def take(self, size: object, name: str) -> memoryview:
        """Return the next bytes; raise `InvalidRequest` if the size is invalid or too large."""
        if not is_count(size):
            raise InvalidRequest(
                f"Input {name!r}: binary_data_size is {shown(size)}, not a number of bytes."
            )
        left = len(self._binary) - self._taken
        if size > left:
            raise InvalidRequest(
                f"Input {name!r}: binary_data_size is {size}, and the body has {left} bytes left."
            )
        self._taken += size
        return self._binary[self._taken - size : self._taken]

    def rest(self) -> memoryview:
        """Return all remaining bytes."""
        return self._binary[self._taken :]

    def require_consumed(self) -> None:
        """Raise `InvalidRequest` if bytes follow those of the inputs."""
        if left := len(self.rest()):
            raise InvalidRequest(f"{left} bytes of the body belong to no input.")


def json_length(body: bytes, stated: str | None) -> int:
    """Return the number of a body's first bytes that are JSON.

    Args:
        body: decompressed.
        stated: the header's text; None for a body of JSON alone, "0" for one without JSON.

    Raises:
        InvalidRequest: the header is not a length, or exceeds the body.
    """
    if stated is None:
        return len(body)
    if not stated.isascii() or not stated.isdecimal() or len(stated) > 15:  # noqa: PLR2004 - digits of any body's length
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {shown(stated)}; it is the number of bytes of the "
            "JSON part."
        )
    length = int(stated)
    if length > len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {length}, and the body has {len(body)} bytes."
        )
    return length


def read_response_format(document: object, endpoint: Endpoint) -> ResponseFormat:
    """Read the requested format; raise `InvalidRequest` if it is not one for this model."""
    request = _object(document, endpoint)
    identity = request.get("id")
    if identity is not None and not (isinstance(identity, str) and len(identity) <= _MAX_ID_LENGTH):
        raise InvalidRequest(
            f"'id' must be a string of at most {_MAX_ID_LENGTH} characters, got {shown(identity)}."
        )
    level = _level(request, endpoint)
    specs = (*endpoint.outputs, *INTERVAL_ENDS) if level is not None else endpoint.outputs
    return ResponseFormat(identity, requested_outputs(request, specs), level)


def _object(document: object, endpoint: Endpoint) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise InvalidRequest("An inference request is a JSON object with 'inputs'.")
    if not document.keys() <= _KNOWN:
        unknown = min(document.keys() - _KNOWN)
        raise InvalidRequest(
            f"{shown(unknown)} is not part of an inference request; it has "
            "'id', 'parameters', 'inputs' and 'outputs'."
        )
    named = document.get("model_name", endpoint.name)
    if named != endpoint.name:
        raise InvalidRequest(
            f"'model_name' is {shown(named)}, and the path has {endpoint.name!r}; leave it out."
        )
    return document


def _level(document: Mapping[str, Any], endpoint: Endpoint) -> float | None:
    """Return the level of the interval in a request's parameters."""
    level = parameters_of(document).get("interval")
    if level is None or endpoint.manifest is None:
        return None  # the protocol ignores unknown parameters
    if not is_number(level):
        raise invalid_level(level)
    find_interval(endpoint.manifest.output, level)
    return float(level)


def requested_outputs(
    document: Mapping[str, Any], specs: Sequence[TensorSpec]
) -> tuple[RequestedOutput, ...]:
    """Return the requested outputs in their order; all of them if a request has none.

    Raise `InvalidRequest` if one is unknown, given twice, or has invalid parameters.
    """
    binary = _flag(parameters_of(document), "binary_data_output", default=False)
    given = document.get("outputs")
    if given is None or given == []:
        return _all_of(len(specs), binary=binary)
    if not isinstance(given, list):
        raise InvalidRequest("'outputs' must be a list of objects, each with a 'name'.")
    names = [spec.name for spec in specs]
    return tuple(
        _requested_output(names.index(name), name, parameters_of(output), binary=binary)
        for name, output in _named(given, names, "output")
    )


def _named(
    given: Sequence[object], known: Sequence[str], kind: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each object with its name, which must be a known one and not be given twice."""
    found: set[str] = set()
    for item in given:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(name, str):
            raise InvalidRequest(f"Each {kind} must be an object with a 'name', a string.")
        if name not in known:
            raise InvalidRequest(f"Unknown {kind} {shown(name)}; {suggestion(name, known)}")
        if name in found:
            raise InvalidRequest(f"The {kind} {name!r} is given twice.")
        found.add(name)
        yield name, item


@lru_cache(maxsize=64)
def _all_of(count: int, *, binary: bool) -> tuple[RequestedOutput, ...]:
    return tuple(RequestedOutput(index, binary) for index in range(count))


def _requested_output(
    index: int, name: str, parameters: Mapping[str, Any], *, binary: bool
) -> RequestedOutput:
    classes = parameters.get("classification", 0)
    if not is_count(classes):
        raise InvalidRequest(f"'classification' must be a number of classes, got {shown(classes)}.")
    is_binary = _flag(parameters, "binary_data", default=binary)
    slot = slot_of(parameters, name)
    return RequestedOutput(index, is_binary and slot is None, classes, slot)


def _flag(parameters: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{key!r} must be true or false, got {shown(value)}.")
    return value


def parameters_of(owner: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters of a request or tensor; raise `InvalidRequest` if no object."""
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"'parameters' must be an object, got {shown(parameters)}.")
    return parameters


def read_inputs(
    document: Mapping[str, Any], payload: Payload, endpoint: Endpoint, regions: Regions
) -> Arrays:
    """Read the arrays of all inputs in the graph's order; binary ones in the request's order.

    An optional input that is omitted is `ABSENT`. Raise `InvalidRequest` if an input is missing,
    unknown, given twice, or does not fit the graph.
    """
    given = document.get("inputs")
    if (tensor := _single_tensor(given, endpoint)) is not None:
        array = _array(
            tensor, endpoint.inputs[0], payload, regions, bundled=endpoint.manifest is not None
        )
        if payload.has_binary:
            payload.require_consumed()
        return (array,)
    return _by_name(given, payload, endpoint, regions)


def _by_name(given: object, payload: Payload, endpoint: Endpoint, regions: Regions) -> Arrays:
    """Read the arrays of several inputs, in the graph's order."""
    known = [spec.name for spec in endpoint.inputs]
    required = [spec.name for spec in endpoint.inputs if not spec.optional]
    if not isinstance(given, list) or (not given and required):
        raise InvalidRequest(f"'inputs' must be a list of {', '.join(map(repr, known))}.")
    found: dict[str, Array] = {}
    for name, tensor in _named(given, known, "input"):
        spec = endpoint.inputs[known.index(name)]
        bundled = endpoint.manifest is not None
        found[name] = _array(tensor, spec, payload, regions, bundled=bundled)
    payload.require_consumed()
    if missing := [name for name in required if name not in found]:
        raise InvalidRequest(f"Input {missing[0]!r} is missing.")
    return tuple(found.get(name, ABSENT) for name in known)


def _single_tensor(given: object, endpoint: Endpoint) -> Mapping[str, Any] | None:
    """Return the only tensor of a request if it is the only input of the model, else None."""
    if not isinstance(given, list) or len(given) != 1 or len(endpoint.inputs) != 1:
        return None
    tensor = given[0]
    if not isinstance(tensor, dict) or tensor.get("name") != endpoint.inputs[0].name:
        return None
    return tensor


def read_raw(payload: Payload, endpoint: Endpoint) -> Array:
    """Read the whole body as the model's only input, a batch of one.

    Raise `InvalidRequest` if the model has several inputs, or the length does not fit its input.
    """
    if len(endpoint.inputs) != 1:
        raise InvalidRequest(
            f"A raw binary request needs a model with one input; {endpoint.name!r} has "
            f"{len(endpoint.inputs)}."
        )
    spec = endpoint.inputs[0]
    content = payload.rest()
    if spec.datatype == "BYTES":
        # One element, whose length is missing because no other element follows.
        element = memoryview(join_elements([bytes(content)]))
        return read_binary(element, tuple(example_shape(spec)), spec)
    shape = _raw_shape(spec, len(content))
    payload.require_size(shape, strings=False)
    return read_binary(content, shape, spec)


def _array(
    tensor: Mapping[str, Any],
    spec: TensorSpec,
    payload: Payload,
    regions: Regions,
    *,
    bundled: bool,
) -> Array:
    datatype = tensor.get("datatype")
    if datatype != spec.datatype:
        raise InvalidRequest(
            f"Input {spec.name!r} has datatype {shown(datatype)}; the model expects "
            f"{spec.datatype}."
        )
    shape = read_shape(tensor.get("shape"), spec, rows_needed=bundled)
    is_bytes = spec.datatype == "BYTES"
    if is_bytes or (shape and shape[0] > 1):
        payload.require_size(shape, strings=is_bytes)
    has_parameters = tensor.get("parameters") is not None
    content = tensor_bytes(tensor, spec, payload, regions) if has_parameters else None
    if content is None:
        if "data" not in tensor:
            raise InvalidRequest(f"Input {spec.name!r} has no data.")
        data = tensor["data"]
        booleans = not isinstance(data, np.ndarray) and payload.may_hold_booleans
        return read_json(data, shape, spec, nulls=bundled, booleans=booleans)
    if "data" in tensor:
        raise InvalidRequest(f"Input {spec.name!r} has both data and bytes; send one of them.")
    return read_binary(content, shape, spec)


def tensor_bytes(
    tensor: Mapping[str, Any], spec: TensorSpec, payload: Payload, regions: Regions
) -> memoryview | None:
    """Return the bytes of an input from the body or from shared memory; None if it has JSON data.

    Raise `InvalidRequest` if the bytes are missing, or both sources are given.
    """
    parameters = parameters_of(tensor)
    size = parameters.get("binary_data_size")
    slot = slot_of(parameters, spec.name)
    if slot is None:
        return None if size is None else payload.take(size, spec.name)
    if size is not None:
        raise InvalidRequest(
            f"Input {spec.name!r} has both binary_data_size and shared_memory_region."
        )
    return regions.read(slot)


def _raw_shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    """Return the shape of a batch of one; the bytes determine one other axis of any length."""
    shape = list(spec.shape)
    if shape and shape[0] == -1:
        shape[0] = 1
    if shape.count(-1) > 1:
        raise InvalidRequest(
            f"Input {spec.name!r} is {list(spec.shape)}; a raw request does not state the lengths."
        )
    if -1 in shape:
        known = DTYPES[spec.datatype].itemsize
        for axis in shape:
            known *= max(axis, 1)
        shape[shape.index(-1)] = size // known
    return tuple(shape)


def read_image_inputs(
    document: Mapping[str, Any],
    payload: Payload,
    endpoint: Endpoint,
    regions: Regions,
    codec: ImageCodec,
) -> Inputs:
    """Read the pixels of the graph's input, or a BYTES tensor whose elements are image files.

    Raises:
        InvalidRequest: the tensor is neither.
        InvalidInput: some files are not supported images.
    """
    spec = endpoint.inputs[0]
    given = document.get("inputs")
    tensor = given[0] if isinstance(given, list) and len(given) == 1 else None
    if not (
        isinstance(tensor, dict)
        and tensor.get("datatype") == "BYTES"
        and tensor.get("name") == spec.name
    ):
        return read_inputs(document, payload, endpoint, regions)
    count = _count(tensor.get("shape"), spec.name)
    payload.require_size([count], strings=False)
    content = tensor_bytes(tensor, spec, payload, regions)
    payload.require_consumed()
    if content is not None:
        files: Sequence[Any] = list(
            islice(map(bytes, split_elements(content, spec.name)), count + 1)
        )
    else:
        files = _flatten(tensor.get("data"))
    if len(files) != count:
        # Reading ends after one too many.
        found = f"more than {count}" if len(files) > count else str(len(files))
        raise InvalidRequest(
            f"Input {spec.name!r}: {found} images were sent, and its shape holds {count}."
        )
    return codec.decode(files, _element_prefix)


def read_raw_image(payload: Payload, endpoint: Endpoint, codec: ImageCodec) -> Inputs:
    """Read a body that is one image: the pixels of the graph's input, or a file."""
    content = payload.rest()
    if codec.is_raw(content):
        return (read_raw(payload, endpoint),)
    return codec.decode([bytes(content)], _element_prefix)


def _element_prefix(number: int) -> str:
    return f"Element {number}: "


def _count(shape: object, name: str) -> int:
    """Return the number of files: the first axis, if all others have length one."""
    if isinstance(shape, list) and shape and all(type(axis) is int for axis in shape):
        count, *rest = shape
        if count > 0 and all(axis == 1 for axis in rest):
            return int(count)
    raise InvalidRequest(
        f"Input {name!r} has shape {shown(shape)}; BYTES are files of images, so send [how many]."
    )


def _flatten(data: object) -> list[Any]:
    """Return the elements of nested lists."""
    flat: list[Any] = []
    # Without recursion: clients choose the depth.
    remaining = [data]
    while remaining:
        item = remaining.pop()
        if isinstance(item, list):
            remaining += reversed(item)
        else:
            flat.append(item)
    return flat
