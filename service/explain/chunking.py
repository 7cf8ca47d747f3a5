"""Many rows through a model in small runs, so that nobody else's prediction waits long for them."""

from collections.abc import Callable

import numpy as np

from service.engine.dtypes import Array
from service.engine.model import ServedModel

# A run that a caller may have to wait for; a prediction's own run takes as long.
_SECONDS_OF_A_RUN = 0.01
_FIRST_ROWS = 8
_MOST_ROWS = 256


async def predict_bounded(
    model: ServedModel, count: int, rows: Callable[[int, int], Array]
) -> Array:
    """The first output of a bundle for so many rows, ``[count, width]``.

    Every run goes the way of all predictions, through the model's own batcher, one after another;
    between two of them others get their turn. How many rows a run has follows from how long the
    run before it took.

    Args:
        model: that has a manifest.
        count: how many rows there are; at least one.
        rows: makes those from one number to before another.

    Raises:
        OnwardError: as a prediction does.
    """
    found: list[Array] = []
    done, size = 0, _FIRST_ROWS
    while done < count:
        end = min(done + size, count)
        prediction = await model.predict((rows(done, end),))
        found.append(prediction.outputs[0])
        seconds = max(prediction.compute_seconds / (end - done), 1e-9)
        size = min(max(int(_SECONDS_OF_A_RUN / seconds), 1), _MOST_ROWS)
        done = end
    return np.concatenate(found)
