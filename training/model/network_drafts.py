"""Random plans of small networks that are trained together and then mixed."""

from dataclasses import dataclass

import numpy as np

from training.model.packing import ACTIVATIONS
from training.recipe.table import Network, Preprocessing, Training

_SMALL, _MEDIUM = 1500, 6000


@dataclass(frozen=True)
class NetworkPlan:
    """The sections of a recipe that describe one network."""

    network: Network
    preprocessing: Preprocessing
    training: Training


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
    batch_size = 64 if rows < _SMALL else 128 if rows < _MEDIUM else 256
    batches = -(-rows // batch_size)
    steps = int(np.clip(batches * 60, 800, 4000))
    epochs = -(-steps // batches)
    plans = []
    for k in range(count):
        embedding = ("piecewise-linear", "periodic", "none")[k % 3] if numbers else "none"
        width, depth = int(rng.choice([32, 48, 64])), int(rng.integers(1, 4))
        plans.append(
            NetworkPlan(
                Network(
                    family="mlp",
                    hidden_layer_sizes=[width] * depth,
                    dropout=float(rng.choice([0.0, 0.1, 0.2, 0.3])),
                    embedding=embedding,
                    bins=16,
                ),
                Preprocessing(),
                Training(
                    optimizer="AdamW",
                    learning_rate=_draw_logarithmic(rng, 1e-3, 1e-2),
                    weight_decay=_draw_logarithmic(rng, 1e-3, 0.3),
                    schedule="one-cycle",
                    epochs=epochs,
                    batch_size=batch_size,
                    patience=epochs,
                ),
            )
        )
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


def _draw_logarithmic(rng: np.random.Generator, low: float, high: float) -> float:
    return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.2g}")
