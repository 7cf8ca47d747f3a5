"""Inference requests: the tensors from JSON, the body's bytes or shared memory, and the outputs."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from math import prod
from typing import Any

import numpy as np

from service.api.v2.shared_memory import Regions, slot_of
from service.codecs.endpoint import Endpoint, RequestedOutput, ResponseFormat
from service.codecs.images import ImageCodec
from service.codecs.outputs import require_interval
from service.codecs.tensors import example_shape, read_binary, read_json, read_shape, split_elements
from service.engine.tensors import ABSENT, DTYPES, Array, Arrays, Inputs, TensorSpec
from service.errors import InvalidRequest
from service.limits import Limits
from service.values import is_number, nearest_of, shown

# KServe's client repeats the model's name, which its path has already said.
_KNOWN = frozenset({"id", "parameters", "inputs", "outputs", "model_name"})
# The response repeats it.
_LONGEST_ID = 1024
INTERVAL_ENDS = tuple(TensorSpec(name, "FP32", (-1, 1)) for name in ("low", "high"))
"""The outputs that follow a model's own in a response with an interval."""


class Payload:
    """The bytes after the JSON of a request, taken in order.

    Args:
        limits: what the tensors are checked against.
        binary: the bytes.
        may_hold_booleans: whether a boolean can be among the values of the JSON.
    """

    def __init__(
        self, limits: Limits, binary: memoryview, *, may_hold_booleans: bool = False
    ) -> None:
        self._limits = limits
        self._binary = binary
        self._taken = 0
        self.has_binary = len(binary) > 0
        """Whether there are any."""
        self.may_hold_booleans = may_hold_booleans

    def require_size(self, shape: Sequence[int], *, strings: bool) -> None:
        """Reject a tensor of too many rows or strings, before it is read.

        Raises:
            TooManyRows: its first axis is too long.
            TooManyJsonMembers: it has too many strings.
        """
        self._limits.require_rows(shape[0] if shape else 1)
        if strings:
            self._limits.require_values(prod(shape))

    def take(self, size: object, name: str) -> memoryview:
        """The next ``size`` bytes.

        Raises:
            InvalidRequest: ``size`` is no length, or more than is left.
        """
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
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
        """All bytes that are left."""
        return self._binary[self._taken :]

    def require_consumed(self) -> None:
        """Refuse bytes that no input has taken.

        Raises:
            InvalidRequest: some are left.
        """
        if left := len(self.rest()):
            raise InvalidRequest(f"{left} bytes of the body belong to no input.")


def json_length(body: bytes, stated: str | None) -> int:
    """How many of a body's first bytes are JSON, as the header says.

    Args:
        body: the whole body, decompressed.
        stated: the header's text; None is a body of JSON alone, 0 a body without JSON.

    Raises:
        InvalidRequest: the header is no length, or longer than the body.
    """
    if stated is None:
        return len(body)
    if not stated.isascii() or not stated.isdecimal() or len(stated) > 15:  # noqa: PLR2004 - longer than any body
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {stated[:60]!r}; it is the number of bytes "
            "of the JSON part."
        )
    length = int(stated)
    if length > len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {length}, and the body has {len(body)} bytes."
        )
    return length


def split(body: bytes, stated: str) -> tuple[bytes, memoryview]:
    """The JSON of a body, and the bytes after it.

    Args:
        body: the whole body, decompressed.
        stated: the header's text, as `json_length` has it.

    Raises:
        InvalidRequest: the header is no length, or longer than the body.
    """
    length = json_length(body, stated)
    return body[:length], memoryview(body)[length:]


def read_response_format(document: object, endpoint: Endpoint) -> ResponseFormat:
    """What a request says about its response.

    Args:
        document: the JSON.
        endpoint: of the model.

    Raises:
        InvalidRequest: it is no request of the protocol, or not one for this model.
    """
    request = _object(document, endpoint)
    identity = request.get("id")
    if identity is not None and not (isinstance(identity, str) and len(identity) <= _LONGEST_ID):
        raise InvalidRequest(
            f"'id' must be a string of at most {_LONGEST_ID} characters, got {shown(identity)}."
        )
    level = _level(request, endpoint)
    specs = (*endpoint.outputs, *INTERVAL_ENDS) if level is not None else endpoint.outputs
    return ResponseFormat(identity, wanted_outputs(request, specs), level)


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


def wanted_outputs(
    document: Mapping[str, Any], specs: Sequence[TensorSpec]
) -> tuple[RequestedOutput, ...]:
    """The outputs a request asks for, in its order; all of them where it names none.

    Raises:
        InvalidRequest: one is unknown, given twice, or requested in a form that does not exist.
    """
    binary = _flag(parameters_of(document), "binary_data_output", default=False)
    given = document.get("outputs")
    if given is None or given == []:
        return _all_of(len(specs), binary=binary)
    if not isinstance(given, list):
        raise InvalidRequest("'outputs' must be a list of objects, each with a 'name'.")
    names = [spec.name for spec in specs]
    found: dict[str, RequestedOutput] = {}
    for output in given:
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str):
            raise InvalidRequest("Each output is an object with a 'name', a string.")
        if name not in names:
            raise InvalidRequest(f"Unknown output {name[:100]!r}; {nearest_of(name, names)}")
        if name in found:
            raise InvalidRequest(f"Output {name!r} is given twice.")
        found[name] = _wanted(names.index(name), name, parameters_of(output), binary=binary)
    return tuple(found.values())


@lru_cache(maxsize=64)
def _all_of(count: int, *, binary: bool) -> tuple[RequestedOutput, ...]:
    return tuple(RequestedOutput(index, binary) for index in range(count))


def _wanted(
    index: int, name: str, parameters: Mapping[str, Any], *, binary: bool
) -> RequestedOutput:
    classes = parameters.get("classification", 0)
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 0:
        raise InvalidRequest(f"'classification' must be a number of classes, got {shown(classes)}.")
    own = _flag(parameters, "binary_data", default=binary)
    slot = slot_of(parameters, name)
    return RequestedOutput(index, own and slot is None, classes, slot)


def _flag(parameters: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{key!r} must be true or false, got {shown(value)}.")
    return value


def parameters_of(owner: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a request, an input or an output.

    Raises:
        InvalidRequest: they are no object.
    """
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"'parameters' must be an object, got {shown(parameters)}.")
    return parameters


def read_inputs(
    document: Mapping[str, Any], payload: Payload, endpoint: Endpoint, regions: Regions
) -> Arrays:
    """The arrays of every input, in the graph's order; the binary parts are read in theirs.

    An optional input that is left out is `ABSENT`.

    Raises:
        InvalidRequest: an input is missing, unknown, given twice, or not what the graph takes.
    """
    given = document.get("inputs")
    if (only := _only(given, endpoint)) is not None:
        array = _array(
            only, endpoint.inputs[0], payload, regions, bundled=endpoint.manifest is not None
        )
        if payload.has_binary:
            payload.require_consumed()
        return (array,)
    return _by_name(given, payload, endpoint, regions)


def _by_name(given: object, payload: Payload, endpoint: Endpoint, regions: Regions) -> Arrays:
    """The arrays of several inputs, in the graph's order."""
    known = [spec.name for spec in endpoint.inputs]
    required = [spec.name for spec in endpoint.inputs if not spec.optional]
    if not isinstance(given, list) or (not given and required):
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
        spec = endpoint.inputs[known.index(name)]
        bundled = endpoint.manifest is not None
        found[name] = _array(tensor, spec, payload, regions, bundled=bundled)
    payload.require_consumed()
    if missing := [name for name in required if name not in found]:
        raise InvalidRequest(f"Input {missing[0]!r} is missing.")
    return tuple(found.get(name, ABSENT) for name in known)


def _only(given: object, endpoint: Endpoint) -> Mapping[str, Any] | None:
    """The one tensor that was sent, where the model has one input and this is its name."""
    if not isinstance(given, list) or len(given) != 1 or len(endpoint.inputs) != 1:
        return None
    tensor = given[0]
    if not isinstance(tensor, dict) or tensor.get("name") != endpoint.inputs[0].name:
        return None
    return tensor


def read_raw(payload: Payload, endpoint: Endpoint) -> Array:
    """The whole body as the model's one input, a batch of one.

    Raises:
        InvalidRequest: the model has several inputs, or the bytes do not fill its one.
    """
    if len(endpoint.inputs) != 1:
        raise InvalidRequest(
            f"A raw binary request needs a model with one input; {endpoint.name!r} has "
            f"{len(endpoint.inputs)}."
        )
    spec = endpoint.inputs[0]
    content = payload.rest()
    if spec.datatype == "BYTES":
        # One element, without the length that would tell it from the next.
        content = memoryview(len(content).to_bytes(4, "little") + bytes(content))
        return read_binary(content, tuple(example_shape(spec)), spec)
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
    content = bytes_of(tensor, spec, payload, regions) if has_parameters else None
    if content is None:
        if "data" not in tensor:
            raise InvalidRequest(f"Input {spec.name!r} has no data.")
        data = tensor["data"]
        booleans = not isinstance(data, np.ndarray) and payload.may_hold_booleans
        return read_json(data, shape, spec, nulls=bundled, booleans=booleans)
    if "data" in tensor:
        raise InvalidRequest(f"Input {spec.name!r} has both data and bytes; send one of them.")
    return read_binary(content, shape, spec)


def bytes_of(
    tensor: Mapping[str, Any], spec: TensorSpec, payload: Payload, regions: Regions
) -> memoryview | None:
    """The input's bytes, wherever they are; None where it has JSON data.

    Raises:
        InvalidRequest: they are not where it says, or in two places.
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


def read_image_inputs(
    document: Mapping[str, Any],
    payload: Payload,
    endpoint: Endpoint,
    regions: Regions,
    codec: ImageCodec,
) -> Inputs:
    """The graph's own pixels, or the images of a BYTES tensor, each element a file.

    Raises:
        InvalidRequest: the tensor is neither.
        InvalidInput: some files are no images that are read here; says which.
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
    content = bytes_of(tensor, spec, payload, regions)
    payload.require_consumed()
    if content is not None:
        files: Sequence[Any] = list(
            islice(map(bytes, split_elements(content, spec.name)), count + 1)
        )
    else:
        files = _flat(tensor.get("data"))
    if len(files) != count:
        raise InvalidRequest(
            f"Input {spec.name!r}: {_number(len(files), count)} images were sent, and its shape "
            f"holds {count}."
        )
    return codec.decode(files, _place)


def read_raw_image(payload: Payload, endpoint: Endpoint, codec: ImageCodec) -> Inputs:
    """A body that is one image: the graph's own pixels, or a file."""
    content = payload.rest()
    if codec.is_raw(content):
        return (read_raw(payload, endpoint),)
    return codec.decode([bytes(content)], _place)


def _place(number: int) -> str:
    return f"Element {number}: "


def _count(shape: object, name: str) -> int:
    """How many files there are: one axis, or a second of length one."""
    if isinstance(shape, list) and shape and all(type(axis) is int for axis in shape):
        count, *rest = shape
        if count > 0 and all(axis == 1 for axis in rest):
            return int(count)
    raise InvalidRequest(
        f"Input {name!r} has shape {shown(shape)}; BYTES are files of images, so send [how many]."
    )


def _number(found: int, expected: int) -> str:
    """How many elements there are; reading ends at one more than are expected."""
    return f"more than {expected}" if found > expected else str(found)


def _flat(data: object) -> list[Any]:
    """The elements of nested lists; each is text in base64."""
    flat: list[Any] = []
    # Not by recursion: how deep they are nested is for the client to choose.
    remaining = [data]
    while remaining:
        item = remaining.pop()
        if isinstance(item, list):
            remaining += reversed(item)
        else:
            flat.append(item)
    return flat
