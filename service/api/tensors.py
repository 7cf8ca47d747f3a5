"""Tensors of the Open Inference Protocol in JSON: checked arrays in, flat data out."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from service.engine.session import TensorSpec
from service.errors import InvalidRequest

DTYPES: Mapping[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}

_NATURAL_KINDS = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}


def read_tensor(tensor: Mapping[str, Any], spec: TensorSpec) -> npt.NDArray[Any]:
    """The array of one JSON input, as the graph's input ``spec`` wants it.

    Raises:
        InvalidRequest: datatype, shape or data do not fit the graph or one another.
    """
    datatype = tensor.get("datatype")
    if datatype != spec.datatype:
        raise InvalidRequest(
            f"Input {spec.name!r} has datatype {datatype!r}; the model expects {spec.datatype}."
        )
    if spec.datatype == "FP16":
        raise InvalidRequest(f"Input {spec.name!r} is FP16, which JSON cannot carry.")
    shape = _shape(tensor.get("shape"), spec)
    if "data" not in tensor:
        raise InvalidRequest(f"Input {spec.name!r} has no data.")
    return _array(tensor["data"], shape, spec)


def _shape(shape: object, spec: TensorSpec) -> tuple[int, ...]:
    is_shape = isinstance(shape, list) and all(
        isinstance(axis, int) and not isinstance(axis, bool) and axis >= 0 for axis in shape
    )
    if not isinstance(shape, list) or not is_shape:
        raise InvalidRequest(
            f"Input {spec.name!r} has shape {_short(shape)}; send a list of whole numbers, "
            f"like {_example_shape(spec)}."
        )
    fits = len(shape) == len(spec.shape) and all(
        wanted in (-1, axis) for axis, wanted in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        raise InvalidRequest(
            f"Input {spec.name!r} has shape {_short(shape)}; the model expects "
            f"{list(spec.shape)}, where -1 is any length."
        )
    if spec.shape and spec.shape[0] == -1 and shape[0] == 0:
        raise InvalidRequest(f"Input {spec.name!r} has no rows; send at least one.")
    return tuple(shape)


def _array(data: object, shape: tuple[int, ...], spec: TensorSpec) -> npt.NDArray[Any]:
    dtype = np.dtype(DTYPES[spec.datatype])
    try:
        natural = np.array(data)
    except ValueError:
        raise InvalidRequest(
            f"Input {spec.name!r}: data is ragged; nested lists must all have the same length."
        ) from None
    if natural.size and natural.dtype.kind not in _NATURAL_KINDS[dtype.kind]:
        raise InvalidRequest(f"Input {spec.name!r}: data is not all {spec.datatype} numbers.")
    if natural.size != prod(shape) or (natural.ndim > 1 and natural.shape != shape):
        raise InvalidRequest(
            f"Input {spec.name!r}: data has {_measure(natural)}, shape {list(shape)} holds "
            f"{prod(shape)} values."
        )
    return _cast(natural, dtype, spec).reshape(shape)


def _cast(natural: npt.NDArray[Any], dtype: np.dtype[Any], spec: TensorSpec) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        array = natural.astype(dtype)
    fits = np.isfinite(array).all() if dtype.kind == "f" else np.array_equal(array, natural)
    if not fits:
        raise InvalidRequest(f"Input {spec.name!r}: a value does not fit {spec.datatype}.")
    return array


def write_tensor(array: npt.NDArray[Any], spec: TensorSpec) -> dict[str, object]:
    """One JSON output, its data flat, row by row.

    Raises:
        InvalidRequest: it is FP16, which JSON cannot carry.
    """
    if spec.datatype == "FP16":
        raise InvalidRequest(f"Output {spec.name!r} is FP16, which JSON cannot carry.")
    return {
        "name": spec.name,
        "datatype": spec.datatype,
        "shape": array.shape,
        "data": np.ascontiguousarray(array).ravel(),
    }


def _measure(natural: npt.NDArray[Any]) -> str:
    values = f"{natural.size} values"
    return values if natural.ndim < 2 else f"{values} nested as {list(natural.shape)}"  # noqa: PLR2004 - flat has one axis


def _example_shape(spec: TensorSpec) -> list[int]:
    return [1 if axis == -1 else axis for axis in spec.shape]


def _short(value: object, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
