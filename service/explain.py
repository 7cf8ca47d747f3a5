"""Attributions of predictions, without HTTP: Shapley values of tables and occlusion of images.

Shapley values are estimated from sampled orders (Castro and others, "Polynomial calculation of the
Shapley value based on sampling", 2009). Each order begins at a reference row and inserts the row's
own values one after another; the change of the prediction is the feature's contribution. Every
order is also used in reverse, which makes the values exact for predictions in which features act
alone or in pairs.

Occlusion sensitivity is how much each region of an image contributes. The image is divided into a
grid; for each cell, a patch of twice its sides around it is filled with the image's background
(Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014). Patches overlap,
so that strokes on a border between two cells are covered whole.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
import numpy.typing as npt

from service.engine.model import ServedModel
from service.engine.tensors import Array, Arrays

ORDERS = 16
_ALL_ORDERS_UP_TO = 3
_SEED = 20_260
# The duration of a run, which other requests may have to wait for.
_RUN_SECONDS = 0.01
_FIRST_ROWS = 8
_MAX_ROWS = 256

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """The mixtures of reference and row that are predicted, and their weights in the values."""

    masks: npt.NDArray[np.bool_]
    """``[mixtures, features]``: true where a mixture has the row's value; the first mixture is the
    reference, the last one the row."""
    weights: Floats
    """``[mixtures, features]``: Shapley values are predictions times weights."""
    orders: int


@lru_cache(maxsize=64)
def plan_mixtures(features: int) -> Plan:
    """Return the mixtures for rows of this many features; always the same ones."""
    orders = _orders(features)
    # A feature has the row's value from its position in an order on.
    positions = np.argsort(orders, axis=1)
    steps = np.arange(features + 1)
    chains = positions[:, np.newaxis, :] < steps[np.newaxis, :, np.newaxis]
    masks, found = np.unique(chains.reshape(-1, features), axis=0, return_inverse=True)
    found = found.reshape(len(orders), features + 1)
    weights = np.zeros(masks.shape)
    for chain, order in zip(found, orders, strict=True):
        np.add.at(weights, (chain[1:], order), 1)
        np.add.at(weights, (chain[:-1], order), -1)
    return Plan(masks, weights / len(orders), len(orders))


async def predict_mixtures(
    model: ServedModel, rows: Array, predictions: Array, reference: Array
) -> Array:
    """Predict each mixture of each row, ``[rows, mixtures, width]``.

    Args:
        model: has a manifest.
        rows: ``[rows, features]``, valid.
        predictions: ``[rows, width]``, of the rows.
        reference: ``[features]``, a typical row.
    """
    masks = plan_mixtures(rows.shape[1]).masks[1:-1]
    base = (await model.predict((reference[np.newaxis],))).outputs[0]
    between = predictions[:0]
    if len(masks):

        def mix(start: int, end: int) -> Array:
            row, mask = np.divmod(np.arange(start, end), len(masks))
            return np.where(masks[mask], rows[row], reference)

        between = await _predict_in_chunks(model, len(rows) * len(masks), mix)
    parts = [
        np.broadcast_to(base, (len(rows), 1, predictions.shape[1])),
        between.reshape(len(rows), len(masks), predictions.shape[1]),
        predictions[:, np.newaxis],
    ]
    return np.concatenate(parts, axis=1)


def _orders(features: int) -> npt.NDArray[np.intp]:
    """Return ``[orders, features]``: all orders of few features, else sampled pairs of orders."""
    if features <= _ALL_ORDERS_UP_TO:
        return np.array(list(permutations(range(features))), dtype=np.intp)
    generator = np.random.default_rng(_SEED)
    drawn = np.array([generator.permutation(features) for _ in range(ORDERS // 2)], dtype=np.intp)
    return np.concatenate([drawn, drawn[:, ::-1]])


async def predict_occluded(model: ServedModel, images: Array, cells: int) -> Array:
    """Predict each image with each patch filled, ``[images, cells, cells, width]``.

    Args:
        model: has a manifest.
        images: uint8 ``[images, height, width, channels]``.
        cells: of the grid, along each side; at most the pixels of the shorter side.
    """
    height, width = images.shape[1:3]
    down, across = _spans(height, cells), _spans(width, cells)
    backgrounds = [find_background(image) for image in images]
    count = cells * cells

    def fill_patches(start: int, end: int) -> Array:
        number, cell = np.divmod(np.arange(start, end), count)
        patched = images[number]
        for image, index, position in zip(patched, number.tolist(), cell.tolist(), strict=True):
            top, bottom = down[position // cells]
            left, right = across[position % cells]
            image[top:bottom, left:right] = backgrounds[index]
        return patched

    predictions = await _predict_in_chunks(model, len(images) * count, fill_patches)
    return predictions.reshape(len(images), cells, cells, -1)


def find_background(image: Array) -> Array:
    """Return the median color of an image's border, ``[channels]``.

    The image is uint8 ``[height, width, channels]``.
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


async def _predict_in_chunks(
    model: ServedModel, count: int, rows: Callable[[int, int], Array]
) -> Array:
    """Predict rows, made by start and end index, in chunks; return ``[count, width]``."""

    def inputs(start: int, end: int) -> Arrays:
        return (rows(start, end),)

    return np.concatenate(
        [outputs[0] async for outputs, _ in predict_in_chunks(model, count, inputs)]
    )


async def predict_in_chunks(
    model: ServedModel, count: int, inputs: Callable[[int, int], Arrays]
) -> AsyncIterator[tuple[Arrays, int]]:
    """Predict inputs, made by start and end index, in chunks; yield the outputs of each.

    The outputs are followed by the number of their rows. The chunks go through the model's batcher
    one after another, and other requests are served in between. The duration of a run determines
    the size of the next chunk.
    """
    done, size = 0, _FIRST_ROWS
    while done < count:
        end = min(done + size, count)
        prediction = await model.predict(inputs(done, end))
        yield prediction.outputs, end - done
        seconds = max(prediction.compute_seconds / (end - done), 1e-9)
        size = min(max(int(_RUN_SECONDS / seconds), 1), _MAX_ROWS)
        done = end
