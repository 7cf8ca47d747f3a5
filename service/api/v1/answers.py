"""The arrays of a graph's outputs to rows and columns of values."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from service.codecs.tensors import with_base64
from service.engine.dtypes import ABSENT, DTYPES, Array, Arrays
from service.engine.session import TensorSpec
from service.errors import InvalidRequest

# The name's end by which TensorFlow Serving tells that strings go out in base64.
_BINARY = "_bytes"


def by_row(specs: Sequence[TensorSpec], outputs: Arrays, count: int, *, whole: bool) -> object:
    """A value for each row where there is one output, else an object by the outputs' names.

    Args:
        specs: the graph's outputs.
        outputs: what they are.
        count: how many rows were asked.
        whole: whether they are the answer to one row that had no axis of rows.

    Raises:
        InvalidRequest: an output does not have one value for each of several rows.
    """
    present = _present(specs, outputs)
    split = [_split(array, spec, count, whole=whole) for spec, array in present]
    if len(specs) == 1:
        return split[0] if split else [None] * count
    names = [spec.name for spec, _ in present]
    rows = zip(*split, strict=True) if split else [()] * count
    return [dict(zip(names, row, strict=True)) for row in rows]


def by_column(specs: Sequence[TensorSpec], outputs: Arrays) -> object:
    """The only output's values, or all of them by name."""
    written = {spec.name: _written(array, spec) for spec, array in _present(specs, outputs)}
    return written if len(specs) != 1 else next(iter(written.values()), None)


def _present(specs: Sequence[TensorSpec], outputs: Arrays) -> list[tuple[TensorSpec, Array]]:
    return [
        (spec, array) for spec, array in zip(specs, outputs, strict=True) if array is not ABSENT
    ]


def _split(array: Array, spec: TensorSpec, count: int, *, whole: bool) -> Iterable[object]:
    has_rows = array.ndim > 0 and len(array) == count
    if whole or (count == 1 and not has_rows):
        return [_written(array, spec)]
    if not has_rows:
        raise InvalidRequest(
            f"Output {spec.name!r} has the shape {list(array.shape)}, not one value for each of "
            f"{count} instances; send 'inputs' instead of 'instances'."
        )
    rows: Iterable[object] = _written(array, spec)
    return rows


def _written(array: Array, spec: TensorSpec) -> Any:  # noqa: ANN401 - an array, a list or a scalar
    """An array as orjson writes it; one without an axis as its scalar."""
    if spec.datatype == "BYTES":
        if spec.name.endswith(_BINARY):
            coded = np.empty(array.size, np.object_)
            coded[:] = [with_base64(str(text)) for text in array.ravel()]
            array = coded.reshape(array.shape)
        return array.tolist()
    # The runtime has two types for the same integer, and orjson knows one of them.
    array = np.asarray(array, DTYPES[spec.datatype], order="C")
    return array if array.ndim else array[()]
