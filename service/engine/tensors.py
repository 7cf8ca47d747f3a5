"""Arrays, and the tensors of a graph: their element types, names and shapes."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = tuple[Array, ...]
Inputs = Arrays | Callable[[], Awaitable[Arrays]]
"""Validated arrays in the order of a model's inputs, or a function that decodes them."""

# Compared by identity; marks an optional input or output that is absent.
ABSENT: Array = np.empty(0, np.object_)

# The datatypes of the Open Inference Protocol. BYTES is text of any length, so its arrays hold
# Python strings.
DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph; -1 in the shape is an axis of any length.

    An empty shape is a scalar, or a tensor whose rank the graph does not declare.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


def count_rows(inputs: Arrays) -> int:
    """Return the length of the first axis; inputs without axes count as one row."""
    return len(inputs[0]) if inputs and inputs[0].ndim else 1
