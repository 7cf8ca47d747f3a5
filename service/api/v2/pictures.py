"""Images by the protocol: pixels as UINT8, or whole files as BYTES."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from service.api.v2.inputs import bytes_of, read_inputs, read_raw
from service.api.v2.request import Payload
from service.api.v2.shared_memory import Regions
from service.codecs.byte_tensors import split_elements
from service.codecs.images import ImageCodec
from service.engine.dtypes import Inputs
from service.engine.model import ServedModel
from service.errors import InvalidRequest
from service.values import shown


def read_picture_inputs(
    document: Mapping[str, Any],
    payload: Payload,
    model: ServedModel,
    regions: Regions,
    codec: ImageCodec,
) -> Inputs:
    """The graph's own pixels, or the images of a BYTES tensor, each element a file.

    Raises:
        InvalidRequest: the tensor is neither.
        InvalidInput: some files are no images that are read here; says which.
    """
    spec = model.inputs[0]
    given = document.get("inputs")
    tensor = given[0] if isinstance(given, list) and len(given) == 1 else None
    if not (
        isinstance(tensor, dict)
        and tensor.get("datatype") == "BYTES"
        and tensor.get("name") == spec.name
    ):
        return read_inputs(document, payload, model, regions)
    count = _count(tensor.get("shape"), spec.name)
    payload.require_size([count], strings=False)
    content = bytes_of(tensor, spec, payload, regions)
    payload.require_consumed()
    if content is not None:
        files: Sequence[Any] = list(
            map(bytes, islice(split_elements(content, spec.name), count + 1))
        )
    else:
        files = _flat(tensor.get("data"))
    if len(files) != count:
        raise InvalidRequest(
            f"Input {spec.name!r}: {_number(len(files), count)} images were sent, and its shape "
            f"holds {count}."
        )
    return codec.read(files, _place)


def read_raw_picture(payload: Payload, model: ServedModel, codec: ImageCodec) -> Inputs:
    """A body that is one image: the graph's own pixels, or a file."""
    content = payload.rest()
    if codec.is_raw(content):
        return (read_raw(payload, model),)
    return codec.read([bytes(content)], _place)


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
