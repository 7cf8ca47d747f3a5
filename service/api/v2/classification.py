"""The classification extension: the largest values of an output as ``value:index[:label]``."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from service.codecs.labels import scores_by_label
from service.engine.dtypes import Array
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
    flat = array.ndim < 2  # noqa: PLR2004 - rows and classes
    # Told in full, for of no rows numpy cannot work out how many classes they would have.
    shape = (1, array.size) if flat else (len(array), prod(array.shape[1:]))
    rows = scores_by_label(array.reshape(shape), labels)
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    named = np.empty(order.shape, np.object_)
    for place, index in np.ndenumerate(order):
        named[place] = _named(rows[place[0], index], int(index), labels)
    return named.reshape(-1) if flat else named


def _named(value: Any, index: int, labels: Sequence[str]) -> str:  # noqa: ANN401 - a numpy scalar
    text = f"{float(value):f}:{index}"
    return f"{text}:{labels[index]}" if index < len(labels) else text
