"""Encode and decode tensors as JSON values and as little-endian bytes."""

import base64
import binascii
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from math import isfinite, prod
from typing import Any, TypeGuard

import numpy as np

from service.engine.tensors import DTYPES, Array, TensorSpec
from service.errors import InvalidRequest
from service.limits import STRING_LENGTH_BYTES
from service.spelling import format_count
from service.values import format_value

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
# The JSON values that a tensor may hold, by the kind of its element type.
_JSON_TYPES: Mapping[str, set[type]] = {
    "b": {bool},
    "u": {int},
    "i": {int},
    "f": {int, float},
    "O": {str},
}
_VALUES_TO_SEND: Mapping[str, str] = {
    "b": "true or false",
    "u": "whole numbers",
    "i": "whole numbers",
    "f": "numbers",
    "O": "strings",
}
BASE64 = "b64"
"""The key of a string or file in base64."""
# Numbers whose squares add up to no more are all within 32 bits.
_MAX_SUM_OF_SQUARES = LARGEST_FLOAT32**2
Shape = tuple[int, ...]

# The limits of numpy.
_MAX_AXES = 64
_MAX_ARRAY_BYTES = 2**63 - 1
# numpy's own alignment. At other addresses the runtime adds in another order, and the last bit of a
# prediction would depend on the position of the tensor in the body.
_ALIGNMENT = 16
_SMALL_BYTES = 16 * 1024
_BYTES_SHOWN = 20
# Larger shapes are checked without the shortcut.
_MAX_ELEMENTS = 2**31
_MIN_LISTS_TO_COUNT = 1000
_LITTLE = {name: dtype.newbyteorder("<") for name, dtype in DTYPES.items()}


def pack(data: Sequence[Any], spec: TensorSpec) -> Array | None:
    """Convert a flat list of JSON numbers, without booleans, to the element type of an input.

    None if a value is not a number or does not fit; `read_natural` and `cast` report why.
    """
    dtype = DTYPES[spec.datatype]
    if dtype.kind not in "fiu" or dtype.char == "e":
        return None
    try:
        array = np.frombuffer(struct.pack(f"{len(data)}{dtype.char}", *data), dtype)
    except (struct.error, OverflowError):
        return None
    # JSON has no infinity, so an infinity here was a number that is too large.
    return None if dtype.kind == "f" and not isfinite(np.vdot(array, array)) else array


def convert_exactly(numbers: Array, datatype: str) -> Array | None:
    """Convert numbers to an element type; None if one does not fit."""
    dtype = DTYPES[datatype]
    if dtype.char == "e":
        return None  # few decimal numbers are exact in 16 bits
    if dtype.kind == "f":
        return numbers.astype(dtype) if np.vdot(numbers, numbers) <= _MAX_SUM_OF_SQUARES else None
    array = numbers.astype(dtype)
    return array if np.count_nonzero(array == numbers) == array.size else None


def read_natural(data: object, spec: TensorSpec, *, nulls: bool = False) -> Array:
    """Convert JSON ``data`` to an array of its values, in the shape of its nesting.

    ``nulls`` allows null among floating-point numbers and strings. Raise `InvalidRequest` if the
    data is ragged, or has values of another type.
    """
    if (array := _rows_of_numbers(data, spec)) is not None:
        return array
    # As objects, because numpy would otherwise convert numbers next to a string to strings, each as
    # long as the longest.
    natural = np.array(data, np.object_)
    values = natural.ravel().tolist()
    found = set(map(type, values))
    allowed = _JSON_TYPES[DTYPES[spec.datatype].kind]
    if nulls and not allowed.isdisjoint((float, str)):
        allowed = allowed | {type(None)}
    if found <= allowed:
        return natural
    if list in found:
        raise InvalidRequest(
            f"Input {spec.name!r}: data is ragged; nested lists must all have the same length."
        )
    kind = "strings" if spec.datatype == "BYTES" else f"{spec.datatype} values"
    types = list(map(type, values))
    odd = values[min(map(types.index, found - allowed))]
    sentence = (
        f"Input {spec.name!r}: data is not all {kind}, got {format_value(odd)}; send "
        f"{_VALUES_TO_SEND[DTYPES[spec.datatype].kind]}."
    )
    if float in allowed and type(None) in found:
        sentence += (
            " For NaN and infinity, which JSON does not have, send binary data by the Open "
            "Inference Protocol."
        )
    raise InvalidRequest(sentence)


def _rows_of_numbers(data: object, spec: TensorSpec) -> Array | None:
    """Convert as `read_natural` does a list of numbers, or of equally long lists; else None."""
    if not isinstance(data, list) or not data:
        return None
    flat: list[Any] = data
    shape: tuple[int, ...] = (len(data),)
    if isinstance(data[0], list):
        if set(map(type, data)) != {list} or len(set(map(len, data))) != 1:
            return None
        flat, shape = list(chain.from_iterable(data)), (len(data), len(data[0]))
    if not set(map(type, flat)) <= _JSON_TYPES[DTYPES[spec.datatype].kind]:
        return None
    array = pack(flat, spec)
    return None if array is None else array.reshape(shape)


def cast(natural: Array, spec: TensorSpec) -> Array:
    """Convert JSON values to the element type of an input; null becomes NaN.

    Raise `InvalidRequest` if a value is outside the range of the type.
    """
    dtype = DTYPES[spec.datatype]
    try:
        with np.errstate(over="ignore"):
            array = natural.astype(dtype)
    except OverflowError:
        raise _range_error(natural, spec) from None
    # JSON has no infinity, so an infinity here was a number that is too large.
    if dtype.kind == "f" and (infinite := np.isinf(array)).any():
        raise _range_error(natural[infinite], spec)
    return array


def _range_error(natural: Array, spec: TensorSpec) -> InvalidRequest:
    """Return the error of values, one of which is outside the range of the input's type."""
    dtype = DTYPES[spec.datatype]
    low: float
    high: float
    if dtype.kind == "f":
        low, high = float(np.finfo(dtype).min), float(np.finfo(dtype).max)
        bounds = f"{low:.8g} to {high:.8g}"
    else:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        bounds = f"{low} to {high}"
    odd = next(value for value in natural.ravel().tolist() if not low <= value <= high)
    return InvalidRequest(
        f"Input {spec.name!r}: {format_value(odd)} does not fit {spec.datatype}; send numbers from "
        f"{bounds}."
    )


def shape_fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    """Return whether a shape matches the one that a graph expects, where -1 is any length."""
    return len(shape) == len(expected) and all(
        wanted in (-1, axis) for axis, wanted in zip(shape, expected, strict=True)
    )


def is_base64(value: object) -> bool:
    """Return whether a JSON value is a string in the form ``{"b64": "…"}``."""
    return isinstance(value, dict) and set(value) == {BASE64}


def without_base64(data: object, spec: TensorSpec) -> object:
    """Replace each ``{"b64": "…"}`` in the data by its string.

    Raise `InvalidRequest` if a string is not base64, or its bytes are not UTF-8.
    """
    natural = np.array(data, np.object_)
    flat = natural.ravel().tolist()
    if not any(map(is_base64, flat)):
        return data
    decoded = [_decode_base64(value[BASE64], spec) if is_base64(value) else value for value in flat]
    return _to_objects(decoded).reshape(natural.shape)


def with_base64(text: str) -> Mapping[str, str]:
    """Return a string in the form ``{"b64": "…"}``."""
    return {BASE64: base64.b64encode(text.encode()).decode()}


def _decode_base64(text: Any, spec: TensorSpec) -> str:  # noqa: ANN401 - JSON is any of its types
    try:
        return base64.b64decode(text, validate=True).decode()
    except (TypeError, ValueError, binascii.Error) as error:
        reason = "its bytes are not UTF-8" if isinstance(error, UnicodeError) else "it is not"
        raise InvalidRequest(
            f"Input {spec.name!r}: 'b64' holds a UTF-8 string in base64, and {reason}; "
            f"got {format_value(text)}."
        ) from None


def read_shape(shape: object, spec: TensorSpec, *, rows_needed: bool) -> Shape:
    """Return the shape that a request states, if it matches the graph.

    ``rows_needed`` rejects a first axis of length zero. Raise `InvalidRequest` if the value is not
    a shape, or not one that the graph takes.
    """
    if isinstance(shape, list) and _is_plain_shape(shape, spec):
        return tuple(shape)
    if not isinstance(shape, list) or not all(map(is_count, shape)):
        raise InvalidRequest(
            f"Input {spec.name!r} has shape {format_value(shape)}; send a list of whole numbers, "
            f"like {example_shape(spec)}."
        )
    # A graph without a known rank has an empty shape; the runtime checks the shape then.
    if spec.shape and not shape_fits(shape, spec.shape):
        raise InvalidRequest(
            f"Input {spec.name!r} has shape {format_value(shape)}; {format_expected_shape(spec)}"
        )
    _require_possible(shape, spec)
    if rows_needed and shape and shape[0] == 0:
        raise InvalidRequest(f"Input {spec.name!r} has no rows; send at least one.")
    return tuple(shape)


def read_json(
    data: object, shape: Shape, spec: TensorSpec, *, nulls: bool, booleans: bool = True
) -> Array:
    """Convert JSON ``data``, flat or nested, to an array.

    Args:
        data: of the request, or a flat array of it.
        shape: of the array, already compared with the graph.
        spec: the input of the graph.
        booleans: whether the data may contain booleans.
        nulls: whether null becomes NaN among floating-point numbers, and None among strings; the
            rules of the model decide whether they are allowed.

    Raises:
        InvalidRequest: the data does not fit datatype or shape.
    """
    if (array := _convert_plain(data, shape, spec, booleans=booleans)) is not None:
        return array
    if isinstance(data, np.ndarray):
        data = data.tolist()
    if spec.datatype == "FP16":
        raise InvalidRequest(f"Input {spec.name!r} is FP16, which JSON cannot carry; send binary.")
    if shape and not isinstance(data, list):
        raise InvalidRequest(f"Input {spec.name!r}: data must be a list, got {format_value(data)}.")
    if isinstance(data, list) and data and not isinstance(data[0], list):
        _require_count(len(data), "", shape, spec)  # before millions of them cost memory
    elif isinstance(data, list) and len(data) > max(prod(shape), _MIN_LISTS_TO_COUNT):
        # Nested, and yet more lists than values: numpy would lock the interpreter to read them.
        _require_count(len(data), " or more", shape, spec)
    natural = read_natural(data, spec, nulls=nulls)
    nested = natural.ndim > 1
    form = f" nested as {list(natural.shape)}" if nested else ""
    if not nested or natural.shape != shape:
        _require_count(natural.size, form, shape, spec)
    return cast(natural, spec).reshape(shape)


def _convert_plain(data: object, shape: Shape, spec: TensorSpec, *, booleans: bool) -> Array | None:
    """Convert as `read_json` does a list of the expected number of numbers; else None."""
    array = None
    if isinstance(data, np.ndarray) and data.size == prod(shape):
        array = convert_exactly(data, spec.datatype)
    elif isinstance(data, list) and len(data) == prod(shape) and not booleans:
        array = pack(data, spec)
    return None if array is None else array.reshape(shape)


def read_binary(content: memoryview, shape: Shape, spec: TensorSpec) -> Array:
    """Convert raw little-endian bytes to an array; each string follows its length in four bytes.

    Raise `InvalidRequest` if the bytes do not fill the shape exactly, or are invalid for the type.
    """
    if spec.datatype == "BYTES":
        expected = prod(shape)
        strings = list(islice(_read_strings(content, spec), expected + 1))
        if len(strings) != expected:
            found = f"more than {expected}" if len(strings) > expected else str(len(strings))
            raise InvalidRequest(
                f"Input {spec.name!r}: its bytes hold {found} strings, shape {list(shape)} "
                f"holds {expected}."
            )
        return _to_objects(strings).reshape(shape)
    dtype = _LITTLE[spec.datatype]
    if len(content) != prod(shape) * dtype.itemsize:
        raise InvalidRequest(
            f"Input {spec.name!r}: {spec.datatype} {list(shape)} takes "
            f"{format_count(prod(shape) * dtype.itemsize, 'byte')}, got {len(content):,}."
        )
    array = np.frombuffer(content, dtype).reshape(shape)
    # Finding the address of a small array takes longer than copying it.
    if len(content) <= _SMALL_BYTES or array.ctypes.data % _ALIGNMENT:
        array = array.copy()
    if spec.datatype == "BOOL" and array.size and (largest := array.view(np.uint8).max()) > 1:
        raise InvalidRequest(
            f"Input {spec.name!r}: each BOOL must be a byte of 0 or 1, got {largest}."
        )
    return array


def write_json(array: Array, spec: TensorSpec) -> object:
    """Return the flat data of an array for orjson, row by row.

    Raise `InvalidRequest` if the type is FP16, which JSON cannot represent.
    """
    if spec.datatype == "FP16":
        raise InvalidRequest(
            f"Output {spec.name!r} is FP16, which JSON cannot carry; request binary_data."
        )
    flat = np.ascontiguousarray(array).ravel()
    return flat.tolist() if spec.datatype == "BYTES" else flat


def write_binary(array: Array, spec: TensorSpec) -> bytes:
    """Convert an array to raw little-endian bytes; each string follows its length in four bytes."""
    if spec.datatype != "BYTES":
        return np.ascontiguousarray(array, _LITTLE[spec.datatype]).tobytes()
    return join_elements(str(value).encode() for value in array.ravel())


def example_shape(spec: TensorSpec) -> list[int]:
    """Return a shape that the graph takes."""
    return [1 if axis == -1 else axis for axis in spec.shape]


def format_expected_shape(spec: TensorSpec) -> str:
    """Return the end of a message about a shape that the graph does not take."""
    is_fixed = len(spec.shape) > 1 and spec.shape[0] >= 0
    advice = (
        " If the first axis is the batch, send that many rows in a request, or export the graph "
        "with a free batch axis."
    )
    return f"the model expects {list(spec.shape)}, where -1 is any length.{advice * is_fixed}"


def _require_possible(shape: Sequence[int], spec: TensorSpec) -> None:
    """Reject a shape that no array can have, even an empty one."""
    if len(shape) > _MAX_AXES:
        raise InvalidRequest(
            f"Input {spec.name!r} has a shape of {len(shape)} axes; {_MAX_AXES} are the most."
        )
    # An axis of length zero makes an array empty, but numpy still limits the other axes.
    size = prod(max(axis, 1) for axis in shape) * DTYPES[spec.datatype].itemsize
    if size > _MAX_ARRAY_BYTES:
        raise InvalidRequest(
            f"Input {spec.name!r} has shape {format_value(shape)}, longer than any memory; send "
            "the shape of its data."
        )


def _require_count(count: int, form: str, shape: Shape, spec: TensorSpec) -> None:
    if form or count != prod(shape):
        raise InvalidRequest(
            f"Input {spec.name!r}: data has {format_count(count, 'value')}{form}, shape "
            f"{list(shape)} holds {prod(shape)}."
        )


def _is_plain_shape(shape: Sequence[object], spec: TensorSpec) -> bool:
    """Return whether a shape of moderate size surely matches the graph, without an empty axis."""
    if not shape or len(shape) != len(spec.shape):
        return False
    size = 1
    for axis, wanted in zip(shape, spec.shape, strict=True):
        if type(axis) is not int or axis < 1 or wanted not in (-1, axis):
            return False
        size *= axis
    return size <= _MAX_ELEMENTS


def is_count(value: object) -> TypeGuard[int]:
    """Return whether a JSON value is a whole number from zero."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def join_elements(elements: Iterable[bytes]) -> bytes:
    """Return the bytes of a BYTES tensor: each element follows its length in four bytes."""
    return b"".join(
        len(element).to_bytes(STRING_LENGTH_BYTES, "little") + element for element in elements
    )


def split_elements(content: memoryview, name: str) -> Iterator[memoryview]:
    """Yield the elements of a BYTES tensor, each preceded by its length in four bytes.

    Raise `InvalidRequest`, with the name of the input, if the last element is incomplete.
    """
    start = 0
    while start < len(content):
        length = int.from_bytes(content[start : start + STRING_LENGTH_BYTES], "little")
        start += STRING_LENGTH_BYTES
        end = start + length
        if end > len(content):
            raise InvalidRequest(
                f"Input {name!r}: its bytes end within an element; each element follows its length "
                "in four bytes, little-endian."
            )
        yield content[start:end]
        start = end


def _read_strings(content: memoryview, spec: TensorSpec) -> Iterator[str]:
    for element in split_elements(content, spec.name):
        try:
            yield str(element, "utf-8")
        except UnicodeDecodeError:
            raise InvalidRequest(
                f"Input {spec.name!r}: the string {bytes(element[:_BYTES_SHOWN])!r} is not UTF-8, "
                "which ONNX strings are; encode it so."
            ) from None


def _to_objects(values: Sequence[object]) -> Array:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array
