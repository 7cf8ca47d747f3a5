"""A request's inputs as the arrays of the graph: from JSON, the body's bytes, or shared memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from service.api.v2.request import Payload, parameters_of
from service.api.v2.shared_memory import Regions, place_of
from service.codecs.byte_tensors import example_shape, read_binary, read_json, read_shape
from service.engine.dtypes import ABSENT, DTYPES, Array, Arrays
from service.engine.model import ServedModel
from service.engine.session import TensorSpec
from service.errors import InvalidRequest
from service.values import nearest_of, shown


def read_inputs(
    document: Mapping[str, Any], payload: Payload, model: ServedModel, regions: Regions
) -> Arrays:
    """The arrays of every input, in the graph's order; the binary parts are read in theirs.

    An optional input that is left out is `ABSENT`.

    Raises:
        InvalidRequest: an input is missing, unknown, given twice, or not what the graph takes.
    """
    given = document.get("inputs")
    if (only := _only(given, model)) is not None:
        array = _array(only, model.inputs[0], payload, regions, bundled=model.manifest is not None)
        payload.require_consumed()
        return (array,)
    known = [spec.name for spec in model.inputs]
    required = [spec.name for spec in model.inputs if not spec.optional]
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
        spec = model.inputs[known.index(name)]
        bundled = model.manifest is not None
        found[name] = _array(tensor, spec, payload, regions, bundled=bundled)
    payload.require_consumed()
    if missing := [name for name in required if name not in found]:
        raise InvalidRequest(f"Input {missing[0]!r} is missing.")
    return tuple(found.get(name, ABSENT) for name in known)


def _only(given: object, model: ServedModel) -> Mapping[str, Any] | None:
    """The one tensor that was sent, where the model has one input and this is its name."""
    if not isinstance(given, list) or len(given) != 1 or len(model.inputs) != 1:
        return None
    tensor = given[0]
    if not isinstance(tensor, dict) or tensor.get("name") != model.inputs[0].name:
        return None
    return tensor


def read_raw(payload: Payload, model: ServedModel) -> Array:
    """The whole body as the model's one input, a batch of one.

    Raises:
        InvalidRequest: the model has several inputs, or the bytes do not fill its one.
    """
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
    payload.require_size(shape, strings=spec.datatype == "BYTES")
    content = bytes_of(tensor, spec, payload, regions)
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
    place = place_of(parameters, spec.name)
    if place is None:
        return None if size is None else payload.take(size, spec.name)
    if size is not None:
        raise InvalidRequest(
            f"Input {spec.name!r} has both binary_data_size and shared_memory_region."
        )
    return regions.read(place)


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
