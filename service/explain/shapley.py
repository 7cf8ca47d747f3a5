"""Shapley values: the contribution of each feature, by inserting the values of a row one by one.

They are estimated from sampled orders (Castro and others, "Polynomial calculation of the Shapley
value based on sampling", 2009). Each order begins at a reference row and inserts the row's own
values one after another; the change of the prediction is the feature's contribution. Every order is
also used in reverse, which makes the values exact for predictions in which features act alone or in
pairs.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
import numpy.typing as npt

from service.engine.model import ServedModel
from service.engine.tensors import Array
from service.explain.occlusion import predict_in_chunks

ORDERS = 16
_ALL_ORDERS_UP_TO = 3
_SEED = 20_260

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
def plan_of(features: int) -> Plan:
    """Return the mixtures for rows of so many features; always the same ones."""
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
    """Predict each mixture of each row.

    Args:
        model: has a manifest.
        rows: ``[rows, features]``, valid.
        predictions: ``[rows, width]``, of the rows.
        reference: ``[features]``, a typical row.

    Returns:
        ``[rows, mixtures, width]``.
    """
    masks = plan_of(rows.shape[1]).masks[1:-1]
    base = (await model.predict((reference[np.newaxis],))).outputs[0]
    between = predictions[:0]
    if len(masks):

        def mix(start: int, end: int) -> Array:
            row, mask = np.divmod(np.arange(start, end), len(masks))
            return np.where(masks[mask], rows[row], reference)

        between = await predict_in_chunks(model, len(rows) * len(masks), mix)
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
