"""Random plans of small networks that are trained together and then mixed."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.bundle.manifest import BINARY
from training.model.packing import ACTIVATIONS
from training.recipe.table import Network, Preprocessing, Training

# Small tables have small batches, so that an epoch has enough steps.
_SMALL_TABLE, _SMALL_BATCH = 1_500, 64
_MEDIUM_TABLE, _MEDIUM_BATCH = 6_000, 128
_LARGE_BATCH = 256
_EPOCHS = 50
# The steps of a fit, which cost 2 to 8 milliseconds for eight networks on one core.
_FEWEST_STEPS, _MOST_STEPS = 700, 4_000
_WIDTHS = (32, 48, 64)
# Of every five networks, one has the numbers themselves, which fits linear relations.
_EMBEDDINGS: tuple[Literal["none", "piecewise-linear", "periodic"], ...] = (
    "piecewise-linear",
    "periodic",
    "piecewise-linear",
    "periodic",
    "none",
)
_WIDE_TABLE, _VERY_WIDE_TABLE = 30, 100
_BINS, _FEW_BINS = 16, 8


@dataclass(frozen=True)
class NetworkPlan:
    """The sections of a recipe that describe one network."""

    network: Network
    preprocessing: Preprocessing
    training: Training


@dataclass(frozen=True)
class _Ranges:
    """What networks of a task are drawn from."""

    layers: tuple[int, ...]
    dropout: tuple[float, ...]
    learning_rate: tuple[float, float]
    weight_decay: tuple[float, float]


# On the tables of 500 to 1,000 rows, values were fitted best with little dropout and high rates.
_VALUE = _Ranges((1, 2, 3), (0.0, 0.1, 0.2), (2e-3, 1e-2), (1e-3, 0.3))
# A binary target has less information per row, so its networks are smaller.
_BINARY = _Ranges((1, 2), (0.1, 0.3, 0.5), (5e-4, 5e-3), (1e-2, 1.0))
_MULTICLASS = _Ranges((1, 2, 3), (0.1, 0.2, 0.4), (1e-3, 1e-2), (3e-3, 0.3))


def draw_networks(count: int, rows: int, numbers: int, labels: int, seed: int) -> list[NetworkPlan]:
    """Draw plans of MLPs of different sizes, embeddings, dropout and rates; the same for a seed.

    They share what `training.fit_together` needs: preprocessing, epochs and batches.

    Args:
        count: of networks.
        rows: of the training set.
        numbers: columns that are numbers; without any there are no embeddings.
        labels: of the target; 0 for a value.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    ranges = _VALUE if labels == 0 else _BINARY if labels == BINARY else _MULTICLASS
    batch_size = _choose_batch_size(rows)
    batches = -(-rows // batch_size)
    steps = int(np.clip(_EPOCHS * batches, _FEWEST_STEPS, _MOST_STEPS))
    epochs = max(round(steps / batches), 1)
    plans = []
    for k in range(count):
        embedding = _EMBEDDINGS[k % len(_EMBEDDINGS)] if 0 < numbers <= _VERY_WIDE_TABLE else "none"
        network = Network(
            family="mlp",
            hidden_layer_sizes=[int(rng.choice(_WIDTHS))] * int(rng.choice(ranges.layers)),
            dropout=float(rng.choice(ranges.dropout)),
            embedding=embedding,
            bins=_BINS if numbers <= _WIDE_TABLE else _FEW_BINS,
            frequency_deviation=_draw_logarithmic(rng, 0.05, 0.5),
        )
        training = Training(
            optimizer="AdamW",
            learning_rate=_draw_logarithmic(rng, *ranges.learning_rate),
            weight_decay=_draw_logarithmic(rng, *ranges.weight_decay),
            schedule="one-cycle",
            epochs=epochs,
            batch_size=batch_size,
            # Ends fits in which every network overfits; others improve until the rate is zero.
            patience=max(epochs // 2, 1),
        )
        plans.append(NetworkPlan(network, Preprocessing(), training))
    return plans


def find_common_keys(plan: NetworkPlan) -> str | None:
    """Return what plans must have in common to be trained together; None if that is impossible."""
    network, training = plan.network, plan.training
    common = Training(
        optimizer="AdamW",
        learning_rate=1,
        schedule=training.schedule,
        epochs=training.epochs,
        batch_size=training.batch_size,
        patience=training.patience,
    )
    drawn = {"learning_rate": training.learning_rate, "weight_decay": training.weight_decay}
    is_plain = training == common.model_copy(update=drawn) and not network.batch_norm
    if network.family != "mlp" or network.members > 1 or not is_plain:
        return None
    if network.activation not in ACTIVATIONS:
        return None
    shared = common.model_dump_json(), plan.preprocessing.model_dump_json(), network.activation
    return " ".join(shared)


def _choose_batch_size(rows: int) -> int:
    if rows < _SMALL_TABLE:
        return _SMALL_BATCH
    return _MEDIUM_BATCH if rows < _MEDIUM_TABLE else _LARGE_BATCH


def _draw_logarithmic(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number whose logarithm is uniform, with two digits."""
    return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.2g}")
