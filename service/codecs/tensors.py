"""Tensors from JSON values and little-endian bytes, and back."""

import base64
import binascii
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from math import isfinite, prod
from typing import Any

import numpy as np

from service.engine.tensors import DTYPES, Array, TensorSpec
from service.errors import InvalidRequest
from service.values import shown

# The JSON values that a tensor may hold, by the kind of its element type.
_TAKEN: Mapping[str, set[type]] = {
    "b": {bool},
    "u": {int},
    "i": {int},
    "f": {int, float},
    "O": {str},
}
_BASE64 = "b64"
# Numbers whose squares add up to no more are all within 32 bits.
_MOST_SQUARES = float(np.finfo(np.float32).max) ** 2
Shape = tuple[int, ...]

_LENGTH_BYTES = 4
# What numpy can describe.
_MOST_AXES = 64
_MOST_ARRAY_BYTES = 2**63 - 1
# As numpy aligns what it allocates. On other addresses the runtime adds up in another order, and
# the last bit of an answer would depend on where in the body a tensor happened to lie.
_ALIGNMENT = 16
_SMALL_BYTES = 16 * 1024
# More elements than this are counted by the careful way.
_MOST_USUAL = 2**31
_FEW_LISTS = 1000
_LITTLE = {name: dtype.newbyteorder("<") for name, dtype in DTYPES.items()}


def pack(data: Sequence[Any], spec: TensorSpec) -> Array | None:
    """A flat list of JSON numbers as the graph's own element type, in one pass.

    None where there is anything else among them, or a number does not fit: `read_natural` and
    `cast` say what.

    Args:
        data: without booleans, which would pass for numbers.
        spec: the graph's input.
    """
    dtype = DTYPES[spec.datatype]
    if dtype.kind not in "fiu" or dtype.char == "e":
        return None
    try:
        array = np.frombuffer(struct.pack(f"{len(data)}{dtype.char}", *data), dtype)
    except (struct.error, OverflowError):
        return None
    # JSON has no infinity, so one here was too large a number.
    return None if dtype.kind == "f" and not isfinite(np.vdot(array, array)) else array


def fitted(numbers: Array, datatype: str) -> Array | None:
    """The numbers as a graph's own element type; None where one does not fit."""
    dtype = DTYPES[datatype]
    if dtype.char == "e":
        return None  # in 16 bits few numbers of a text are those that were sent
    if dtype.kind == "f":
        return numbers.astype(dtype) if np.vdot(numbers, numbers) <= _MOST_SQUARES else None
    array = numbers.astype(dtype)
    return array if np.count_nonzero(array == numbers) == array.size else None


def read_natural(data: object, spec: TensorSpec, *, nulls: bool = False) -> Array:
    """The array of JSON ``data``, its values as they came, in the shape of its nesting.

    Args:
        data: what was sent.
        spec: the graph's input.
        nulls: whether null may stand among floating-point numbers.

    Raises:
        InvalidRequest: it is ragged, or holds values of another kind.
    """
    if (usual := _rows_of_numbers(data, spec)) is not None:
        return usual
    # As objects, because numpy would otherwise make strings of numbers that stand beside one,
    # each as long as the longest.
    natural = np.array(data, np.object_)
    found = set(map(type, natural.ravel().tolist()))
    taken = _TAKEN[DTYPES[spec.datatype].kind]
    if nulls and float in taken:
        taken = taken | {type(None)}
    if found <= taken:
        return natural
    if list in found:
        raise InvalidRequest(
            f"Input {spec.name!r}: data is ragged; nested lists must all have the same length."
        )
    kind = "strings" if spec.datatype == "BYTES" else f"{spec.datatype} values"
    sentence = f"Input {spec.name!r}: data is not all {kind}."
    if float in taken and type(None) in found:
        sentence += (
            " For NaN and infinity, which JSON does not have, send binary data by the Open "
            "Inference Protocol."
        )
    raise InvalidRequest(sentence)


def _rows_of_numbers(data: object, spec: TensorSpec) -> Array | None:
    """What `read_natural` reads, of a list of numbers or of lists of as many; None of all else."""
    if not isinstance(data, list) or not data:
        return None
    flat: list[Any] = data
    shape: tuple[int, ...] = (len(data),)
    if isinstance(data[0], list):
        if set(map(type, data)) != {list} or len(set(map(len, data))) != 1:
            return None
        flat, shape = list(chain.from_iterable(data)), (len(data), len(data[0]))
    if not set(map(type, flat)) <= _TAKEN[DTYPES[spec.datatype].kind]:
        return None
    array = pack(flat, spec)
    return None if array is None else array.reshape(shape)


def cast(natural: Array, spec: TensorSpec) -> Array:
    """Checked JSON values as the graph's own element type; null becomes NaN.

    Raises:
        InvalidRequest: a value is outside what the type can hold.
    """
    dtype = DTYPES[spec.datatype]
    try:
        with np.errstate(over="ignore"):
            array = natural.astype(dtype)
    except OverflowError:
        fits = False
    else:
        # JSON has no infinity, so one here was too large a number.
        fits = dtype.kind != "f" or not np.isinf(array).any()
    if not fits:
        raise InvalidRequest(f"Input {spec.name!r}: a value does not fit {spec.datatype}.")
    return array


def shape_fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    """Whether a shape is one of those a graph expects, where -1 is any length."""
    return len(shape) == len(expected) and all(
        wanted in (-1, axis) for axis, wanted in zip(shape, expected, strict=True)
    )


def is_base64(value: object) -> bool:
    """Whether a JSON value is a string in the form ``{"b64": "…"}``."""
    return isinstance(value, dict) and set(value) == {_BASE64}


def without_base64(data: object, spec: TensorSpec) -> object:
    """The same data with each ``{"b64": "…"}`` in it replaced by its string.

    Raises:
        InvalidRequest: one is not base64, or its bytes are not UTF-8.
    """
    natural = np.array(data, np.object_)
    flat = natural.ravel().tolist()
    if not any(map(is_base64, flat)):
        return data
    values = np.empty(len(flat), np.object_)
    values[:] = [_decoded(value[_BASE64], spec) if is_base64(value) else value for value in flat]
    return values.reshape(natural.shape)


def with_base64(text: str) -> Mapping[str, str]:
    """A string in the form ``{"b64": "…"}``."""
    return {_BASE64: base64.b64encode(text.encode()).decode()}


def _decoded(text: Any, spec: TensorSpec) -> str:  # noqa: ANN401 - JSON is any of its types
    try:
        return base64.b64decode(text, validate=True).decode()
    except (TypeError, ValueError, binascii.Error) as error:
        reason = "its bytes are not UTF-8" if isinstance(error, UnicodeError) else "it is not"
        raise InvalidRequest(
            f"Input {spec.name!r}: 'b64' holds a UTF-8 string in base64, and {reason}; "
            f"got {shown(text)}."
        ) from None


def read_shape(shape: object, spec: TensorSpec, *, rows_needed: bool) -> Shape:
    """The shape a request states, held against the graph's.

    Args:
        shape: what was sent.
        spec: the graph's input.
        rows_needed: whether a first axis of length nothing makes no sense.

    Raises:
        InvalidRequest: it is no shape, or not one that the graph takes.
    """
    if isinstance(shape, list) and _is_usual(shape, spec):
        return tuple(shape)
    if not isinstance(shape, list) or not all(map(_is_length, shape)):
        raise InvalidRequest(
            f"Input {spec.name!r} has shape {shown(shape)}; send a list of whole numbers, "
            f"like {example_shape(spec)}."
        )
    # An empty shape may be the graph's way of not telling the rank; the runtime knows.
    if spec.shape and not shape_fits(shape, spec.shape):
        raise InvalidRequest(
            f"Input {spec.name!r} has shape {shown(shape)}; the model expects "
            f"{list(spec.shape)}, where -1 is any length."
        )
    _require_possible(shape, spec)
    if rows_needed and shape and shape[0] == 0:
        raise InvalidRequest(f"Input {spec.name!r} has no rows; send at least one.")
    return tuple(shape)


def read_json(
    data: object, shape: Shape, spec: TensorSpec, *, nulls: bool, booleans: bool = True
) -> Array:
    """The array of JSON ``data``, flat or nested.

    Args:
        data: what was sent, or a flat array of it.
        shape: its shape, already held against the graph's.
        spec: the graph's input.
        booleans: whether there may be some in it.
        nulls: whether a null among floating-point numbers becomes NaN; whether a NaN may be there
            is then for the model's rules.

    Raises:
        InvalidRequest: the data does not fit datatype or shape.
    """
    if (usual := _usual_array(data, shape, spec, booleans=booleans)) is not None:
        return usual
    if isinstance(data, np.ndarray):
        data = data.tolist()
    if spec.datatype == "FP16":
        raise InvalidRequest(f"Input {spec.name!r} is FP16, which JSON cannot carry; send binary.")
    if shape and not isinstance(data, list):
        raise InvalidRequest(f"Input {spec.name!r}: data must be a list, got {shown(data)}.")
    if isinstance(data, list) and data and not isinstance(data[0], list):
        _require_count(len(data), "", shape, spec)  # before millions of them cost memory
    elif isinstance(data, list) and len(data) > max(prod(shape), _FEW_LISTS):
        # Nested, and yet more lists than values: numpy would lock the interpreter to read them.
        _require_count(len(data), " or more", shape, spec)
    natural = read_natural(data, spec, nulls=nulls)
    nested = natural.ndim > 1
    form = f" nested as {list(natural.shape)}" if nested else ""
    if not nested or natural.shape != shape:
        _require_count(natural.size, form, shape, spec)
    return cast(natural, spec).reshape(shape)


def _usual_array(data: object, shape: Shape, spec: TensorSpec, *, booleans: bool) -> Array | None:
    """What `read_json` reads of as many numbers as there are to be; None of all else."""
    array = None
    if isinstance(data, np.ndarray) and data.size == prod(shape):
        array = fitted(data, spec.datatype)
    elif isinstance(data, list) and len(data) == prod(shape) and not booleans:
        array = pack(data, spec)
    return None if array is None else array.reshape(shape)


def read_binary(content: memoryview, shape: Shape, spec: TensorSpec) -> Array:
    """The array of raw little-endian bytes; strings each follow their length in four bytes.

    Raises:
        InvalidRequest: the bytes do not fill the shape exactly, or are not what they should be.
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
        return _objects(strings).reshape(shape)
    dtype = _LITTLE[spec.datatype]
    if len(content) != prod(shape) * dtype.itemsize:
        raise InvalidRequest(
            f"Input {spec.name!r}: {len(content)} bytes were sent, {spec.datatype} "
            f"{list(shape)} takes {prod(shape) * dtype.itemsize}."
        )
    array = np.frombuffer(content, dtype).reshape(shape)
    # Finding its address takes longer than copying a small one.
    if len(content) <= _SMALL_BYTES or array.ctypes.data % _ALIGNMENT:
        array = array.copy()
    if spec.datatype == "BOOL" and array.size and array.view(np.uint8).max() > 1:
        raise InvalidRequest(f"Input {spec.name!r}: a BOOL is a byte of 0 or 1.")
    return array


def write_json(array: Array, spec: TensorSpec) -> object:
    """Flat data, row by row, as orjson writes it.

    Raises:
        InvalidRequest: it is FP16, which JSON cannot carry.
    """
    if spec.datatype == "FP16":
        raise InvalidRequest(
            f"Output {spec.name!r} is FP16, which JSON cannot carry; ask for binary_data."
        )
    flat = np.ascontiguousarray(array).ravel()
    return flat.tolist() if spec.datatype == "BYTES" else flat


def write_binary(array: Array, spec: TensorSpec) -> bytes:
    """Raw little-endian bytes; strings each after their length in four bytes."""
    if spec.datatype != "BYTES":
        return np.ascontiguousarray(array, _LITTLE[spec.datatype]).tobytes()
    encoded = [str(value).encode() for value in array.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)


def example_shape(spec: TensorSpec) -> list[int]:
    """A shape that the graph takes."""
    return [1 if axis == -1 else axis for axis in spec.shape]


def _require_possible(shape: Sequence[int], spec: TensorSpec) -> None:
    """Refuse what no array can be, even one that is empty."""
    if len(shape) > _MOST_AXES:
        raise InvalidRequest(
            f"Input {spec.name!r} has a shape of {len(shape)} axes; {_MOST_AXES} are the most."
        )
    # An axis of length nothing makes an array empty, and not the others short.
    size = prod(max(axis, 1) for axis in shape) * DTYPES[spec.datatype].itemsize
    if size > _MOST_ARRAY_BYTES:
        raise InvalidRequest(
            f"Input {spec.name!r} has shape {shown(shape)}, longer than any memory; send the "
            "shape of its data."
        )


def _require_count(count: int, form: str, shape: Shape, spec: TensorSpec) -> None:
    if form or count != prod(shape):
        raise InvalidRequest(
            f"Input {spec.name!r}: data has {count} values{form}, shape {list(shape)} "
            f"holds {prod(shape)}."
        )


def _is_usual(shape: Sequence[object], spec: TensorSpec) -> bool:
    """Whether a shape is surely one that the graph takes, with something in it."""
    if not shape or len(shape) != len(spec.shape):
        return False
    size = 1
    for axis, wanted in zip(shape, spec.shape, strict=True):
        if type(axis) is not int or axis < 1 or wanted not in (-1, axis):
            return False
        size *= axis
    return size <= _MOST_USUAL


def _is_length(axis: object) -> bool:
    return isinstance(axis, int) and not isinstance(axis, bool) and axis >= 0


def split_elements(content: memoryview, name: str) -> Iterator[memoryview]:
    """The elements of a BYTES tensor, each preceded by its length in four bytes.

    Args:
        content: the tensor.
        name: of the input, for the message.

    Raises:
        InvalidRequest: the last element is incomplete.
    """
    start = 0
    while start < len(content):
        length = int.from_bytes(content[start : start + _LENGTH_BYTES], "little")
        start += _LENGTH_BYTES
        end = start + length
        if end > len(content):
            raise InvalidRequest(f"Input {name!r}: its bytes end within an element.")
        yield content[start:end]
        start = end


def _read_strings(content: memoryview, spec: TensorSpec) -> Iterator[str]:
    for element in split_elements(content, spec.name):
        try:
            yield str(element, "utf-8")
        except UnicodeDecodeError:
            raise InvalidRequest(
                f"Input {spec.name!r}: a string is not UTF-8, which ONNX strings are."
            ) from None


def _objects(values: Sequence[object]) -> Array:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array
