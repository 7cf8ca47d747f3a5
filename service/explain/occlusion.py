"""What each place of a picture does for the answer, found by painting it over.

The picture is parted into a grid; for each cell, a patch of twice its sides around it is painted
with the picture's own background (Zeiler and Fergus, "Visualizing and Understanding Convolutional
Networks", 2014). Patches overlap, so that ink on a border between two cells is covered whole.
"""

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


async def occluded(model: ServedModel, pictures: Array, cells: int) -> Array:
    """What the model answers to each picture with each patch painted over.

    Args:
        model: that has a manifest.
        pictures: uint8 ``[pictures, height, width, channels]``.
        cells: of the grid, along either side; no more than the shorter side's pixels.

    Returns:
        ``[pictures, cells, cells, width]``.
    """
    height, width = pictures.shape[1:3]
    down, across = _spans(height, cells), _spans(width, cells)
    behind = [background_of(picture) for picture in pictures]
    count = cells * cells

    def painted(start: int, end: int) -> Array:
        number, cell = np.divmod(np.arange(start, end), count)
        made = pictures[number]
        for picture, one, place in zip(made, number.tolist(), cell.tolist(), strict=True):
            top, bottom = down[place // cells]
            left, right = across[place % cells]
            picture[top:bottom, left:right] = behind[one]
        return made

    answers = await predict_bounded(model, len(pictures) * count, painted)
    return answers.reshape(len(pictures), cells, cells, -1)


def background_of(picture: Array) -> Array:
    """The median colour of a picture's border, ``[channels]``.

    Args:
        picture: uint8 ``[height, width, channels]``.
    """
    inner = picture[1:-1]
    border = np.concatenate([picture[0], picture[-1], inner[:, 0], inner[:, -1]])
    colour: Array = np.median(border, axis=0).astype(np.uint8)
    return colour


def _spans(pixels: int, cells: int) -> list[tuple[int, int]]:
    """From where to where each cell's patch reaches along one side, half a cell beyond it."""
    edges = np.linspace(0, pixels, cells + 1)
    margin = pixels / cells / 2
    starts = np.maximum(np.floor(edges[:-1] - margin + 0.5), 0).astype(int)
    ends = np.minimum(np.floor(edges[1:] + margin + 0.5), pixels).astype(int)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
