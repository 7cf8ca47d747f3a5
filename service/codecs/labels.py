"""What a graph's scores are, label by label."""

from collections.abc import Sized

import numpy as np

from service.engine.dtypes import Array

_TWO = 2


def scores_by_label(scores: Array, labels: Sized) -> Array:
    """Scores ``[rows, labels]``; where two labels have one column, it is that of the second.

    Args:
        scores: ``[rows, columns]``.
        labels: as many as there are; none where nobody knows them.
    """
    if scores.shape[1] != 1 or len(labels) != _TWO:
        return scores
    both = np.empty((len(scores), _TWO), scores.dtype)
    np.subtract(1, scores[:, 0], out=both[:, 0])
    both[:, 1] = scores[:, 0]
    return both
