"""Which label a row gets, by the rule that the manifest states."""

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import ClassesOutput
from service.engine.dtypes import Array

_BINARY = 2


def decided(output: ClassesOutput, scores: Array) -> npt.NDArray[np.intp]:
    """The position of each row's label.

    Args:
        output: with the threshold that two labels have.
        scores: the graph's output, ``[rows, 1]`` for two labels and else ``[rows, labels]``.
    """
    if len(output.labels) > _BINARY:
        most_probable: npt.NDArray[np.intp] = scores.argmax(axis=1)
        return most_probable
    threshold = 0.5 if output.threshold is None else output.threshold
    return (scores[:, 0] >= np.float32(threshold)).astype(np.intp)
