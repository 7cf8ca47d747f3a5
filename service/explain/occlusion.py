"""Occlusion sensitivity: how much each region of an image contributes to a prediction.

The image is divided into a grid; for each cell, a patch of twice its sides around it is filled with
the image's background (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks",
2014). Patches overlap, so that strokes on a border between two cells are covered whole.
"""

from collections.abc import Callable

import numpy as np

from service.engine.model import ServedModel
from service.engine.tensors import Array

# The duration of a run, which other requests may have to wait for.
_RUN_SECONDS = 0.01
_FIRST_ROWS = 8
_MAX_ROWS = 256


async def predict_in_chunks(
    model: ServedModel, count: int, rows: Callable[[int, int], Array]
) -> Array:
    """Predict rows in chunks, and return the first output of the graph, ``[count, width]``.

    The chunks go through the model's batcher one after another, and other requests are served in
    between. The duration of a run determines the size of the next chunk.

    Args:
        model: has a manifest.
        count: the number of rows; at least one.
        rows: makes the rows from a start index up to an end index.

    Raises:
        OnwardError: as `ServedModel.predict` raises it.
    """
    chunks: list[Array] = []
    done, size = 0, _FIRST_ROWS
    while done < count:
        end = min(done + size, count)
        prediction = await model.predict((rows(done, end),))
        chunks.append(prediction.outputs[0])
        seconds = max(prediction.compute_seconds / (end - done), 1e-9)
        size = min(max(int(_RUN_SECONDS / seconds), 1), _MAX_ROWS)
        done = end
    return np.concatenate(chunks)


async def predict_occluded(model: ServedModel, images: Array, cells: int) -> Array:
    """Predict each image with each patch filled.

    Args:
        model: has a manifest.
        images: uint8 ``[images, height, width, channels]``.
        cells: of the grid, along each side; at most the pixels of the shorter side.

    Returns:
        ``[images, cells, cells, width]``.
    """
    height, width = images.shape[1:3]
    down, across = _spans(height, cells), _spans(width, cells)
    backgrounds = [background_of(image) for image in images]
    count = cells * cells

    def fill_patches(start: int, end: int) -> Array:
        number, cell = np.divmod(np.arange(start, end), count)
        patched = images[number]
        for image, index, position in zip(patched, number.tolist(), cell.tolist(), strict=True):
            top, bottom = down[position // cells]
            left, right = across[position % cells]
            image[top:bottom, left:right] = backgrounds[index]
        return patched

    predictions = await predict_in_chunks(model, len(images) * count, fill_patches)
    return predictions.reshape(len(images), cells, cells, -1)


def background_of(image: Array) -> Array:
    """Return the median color of an image's border, ``[channels]``.

    Args:
        image: uint8 ``[height, width, channels]``.
    """
    inner = image[1:-1]
    border = np.concatenate([image[0], image[-1], inner[:, 0], inner[:, -1]])
    color: Array = np.median(border, axis=0).astype(np.uint8)
    return color


def _spans(pixels: int, cells: int) -> list[tuple[int, int]]:
    """Return the range of each cell's patch along one side: the cell and half a cell around it."""
    edges = np.linspace(0, pixels, cells + 1)
    margin = pixels / cells / 2
    starts = np.maximum(np.floor(edges[:-1] - margin + 0.5), 0).astype(int)
    ends = np.minimum(np.floor(edges[1:] + margin + 0.5), pixels).astype(int)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
