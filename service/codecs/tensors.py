"""JSON values as tensors, whichever protocol brought them."""

import base64
import binascii
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from math import isfinite
from typing import Any

import numpy as np

from service.engine.dtypes import DTYPES, Array
from service.engine.session import TensorSpec
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
