"""The classification extension: the largest values of an output as ``value:index[:label]``."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.engine.datatypes import Array
from service.errors import InvalidRequest


def classify(array: Array, count: int, labels: Sequence[str]) -> Array:
    """The ``count`` largest values of each row, largest first, as strings.

    Args:
        array: numbers; its first axis is the rows, the others together are the classes. An array
            of one axis is one row.
        count: how many; all where there are fewer.
        labels: one a class, or none. Two labels of a single column are its complement and itself.

    Raises:
        InvalidRequest: the array does not hold numbers.
    """
    if array.dtype.kind not in "iuf":
        raise InvalidRequest("Classification needs an output of numbers.")
    rows = array.reshape(1, -1) if array.ndim < 2 else array.reshape(len(array), -1)  # noqa: PLR2004 - rows and classes
    if rows.shape[1] == 1 and len(labels) == 2:  # noqa: PLR2004 - the second's probability
        rows = np.concatenate([1 - rows, rows], axis=1)
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    named = np.empty(order.shape, np.object_)
    for place, index in np.ndenumerate(order):
        named[place] = _named(rows[place[0], index], int(index), labels)
    return named.reshape(-1) if array.ndim < 2 else named  # noqa: PLR2004 - as above


def _named(value: Any, index: int, labels: Sequence[str]) -> str:  # noqa: ANN401 - a numpy scalar
    text = f"{float(value):f}:{index}"
    return f"{text}:{labels[index]}" if index < len(labels) else text
