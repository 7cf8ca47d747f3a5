"""Occlusion sensitivity: how much each region of an image contributes to a prediction.

The image is divided into a grid; for each cell, a patch of twice its sides around it is filled with
the image's background (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks",
2014). Patches overlap, so that strokes on a border between two cells are covered whole.
"""

from collections.abc import Callable

import numpy as np

from service.engine.model import ServedModel
from service.engine.tensors import Array

# Other requests may have to wait for one run.
_RUN_SECONDS = 0.01
_FIRST_ROWS = 8
_MOST_ROWS = 256


async def predict_in_chunks(
    model: ServedModel, count: int, rows: Callable[[int, int], Array]
) -> Array:
    """The first output of a bundle for so many rows, ``[count, width]``.

    The runs go through the model's own batcher, one after another, and other requests are served in
    between. The duration of a run decides how many rows the next one has.

    Args:
        model: that has a manifest.
        count: number of rows; at least one.
        rows: makes the rows from one index to before another.

    Raises:
        OnwardError: as `ServedModel.predict` raises it.
    """
    found: list[Array] = []
    done, size = 0, _FIRST_ROWS
    while done < count:
        end = min(done + size, count)
        prediction = await model.predict((rows(done, end),))
        found.append(prediction.outputs[0])
        seconds = max(prediction.compute_seconds / (end - done), 1e-9)
        size = min(max(int(_RUN_SECONDS / seconds), 1), _MOST_ROWS)
        done = end
    return np.concatenate(found)


async def predict_occluded(model: ServedModel, images: Array, cells: int) -> Array:
    """Predict each image with each patch filled.

    Args:
        model: that has a manifest.
        images: uint8 ``[images, height, width, channels]``.
        cells: of the grid, along either side; no more than the shorter side's pixels.

    Returns:
        ``[images, cells, cells, width]``.
    """
    height, width = images.shape[1:3]
    down, across = _spans(height, cells), _spans(width, cells)
    backgrounds = [background_of(image) for image in images]
    count = cells * cells

    def filled(start: int, end: int) -> Array:
        number, cell = np.divmod(np.arange(start, end), count)
        made = images[number]
        for image, one, position in zip(made, number.tolist(), cell.tolist(), strict=True):
            top, bottom = down[position // cells]
            left, right = across[position % cells]
            image[top:bottom, left:right] = backgrounds[one]
        return made

    predictions = await predict_in_chunks(model, len(images) * count, filled)
    return predictions.reshape(len(images), cells, cells, -1)


def background_of(image: Array) -> Array:
    """The median color of an image's border, ``[channels]``.

    Args:
        image: uint8 ``[height, width, channels]``.
    """
    inner = image[1:-1]
    border = np.concatenate([image[0], image[-1], inner[:, 0], inner[:, -1]])
    color: Array = np.median(border, axis=0).astype(np.uint8)
    return color


def _spans(pixels: int, cells: int) -> list[tuple[int, int]]:
    """The range of each cell's patch along one side, half a cell beyond it."""
    edges = np.linspace(0, pixels, cells + 1)
    margin = pixels / cells / 2
    starts = np.maximum(np.floor(edges[:-1] - margin + 0.5), 0).astype(int)
    ends = np.minimum(np.floor(edges[1:] + margin + 0.5), pixels).astype(int)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
