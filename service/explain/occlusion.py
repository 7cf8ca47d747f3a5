"""Explain predictions for images by occlusion.

The image is divided into a grid; for each cell, a patch of twice its sides around it is covered
with the image's own background (Zeiler and Fergus, "Visualizing and Understanding Convolutional
Networks", 2014). Patches overlap, so that a stroke between two cells is covered completely.
"""

from collections.abc import Callable

import numpy as np

from service.engine.dtypes import Array
from service.engine.model import ServedModel

# Another request may have to wait for one run; the run of a prediction takes as long.
_SECONDS_OF_A_RUN = 0.01
_FIRST_ROWS = 8
_MOST_ROWS = 256


async def predict_bounded(
    model: ServedModel, count: int, rows: Callable[[int, int], Array]
) -> Array:
    """The first output of a bundle for so many rows, ``[count, width]``.

    The rows go through the model's own batcher in short runs, one after another, so that other
    requests run between them. The number of rows in a run follows from the duration of the run
    before it.

    Args:
        model: that has a manifest.
        count: the number of rows; at least one.
        rows: makes the rows from one number to before another.

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


async def occluded(model: ServedModel, images: Array, cells: int) -> Array:
    """The predictions for each image with each patch covered.

    Args:
        model: that has a manifest.
        images: uint8 ``[images, height, width, channels]``.
        cells: the number of grid cells along each side; at most the pixels of the shorter side.

    Returns:
        ``[images, cells, cells, width]``.
    """
    height, width = images.shape[1:3]
    down, across = _spans(height, cells), _spans(width, cells)
    backgrounds = [background_of(image) for image in images]
    count = cells * cells

    def covered(start: int, end: int) -> Array:
        number, cell = np.divmod(np.arange(start, end), count)
        copies = images[number]
        for image, source, patch in zip(copies, number.tolist(), cell.tolist(), strict=True):
            top, bottom = down[patch // cells]
            left, right = across[patch % cells]
            image[top:bottom, left:right] = backgrounds[source]
        return copies

    answers = await predict_bounded(model, len(images) * count, covered)
    return answers.reshape(len(images), cells, cells, -1)


def background_of(image: Array) -> Array:
    """The median colour of an image's border, ``[channels]``.

    Args:
        image: uint8 ``[height, width, channels]``.
    """
    inner = image[1:-1]
    border = np.concatenate([image[0], image[-1], inner[:, 0], inner[:, -1]])
    colour: Array = np.median(border, axis=0).astype(np.uint8)
    return colour


def _spans(pixels: int, cells: int) -> list[tuple[int, int]]:
    """Start and end of each cell's patch along one side, half a cell beyond the cell."""
    edges = np.linspace(0, pixels, cells + 1)
    margin = pixels / cells / 2
    starts = np.maximum(np.floor(edges[:-1] - margin + 0.5), 0).astype(int)
    ends = np.minimum(np.floor(edges[1:] + margin + 0.5), pixels).astype(int)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
