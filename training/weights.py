"""Choose the weights of an ensemble greedily, by the loss on rows that its members did not see."""

from collections.abc import Sequence

import numpy as np

from training.data.table import Float32s, Floats
from training.model.blend import mix

_STEPS = 20
_SAMPLES = 20
_MIN_WEIGHT = 0.04
_SMALLEST_PROBABILITY = 1e-6


def compute_loss(target: Floats, predictions: Float32s, *, classes: bool) -> float:
    """Return the RMSE of values, or the log loss of labels.

    Args:
        target: ``[rows]``, raw values or positions of labels.
        predictions: ``[rows, outputs]`` as a graph returns them.
        classes: whether the target has labels.
    """
    values = _select_values(target, predictions, classes=classes)
    if classes:
        return float(-np.mean(np.log(values)))
    return float(np.sqrt(np.mean(np.square(target - values))))


def _select_values(target: Floats, predictions: Float32s, *, classes: bool) -> Floats:
    """Return the predicted values, or the probability of each row's true label, ``[rows]``."""
    if not classes:
        return predictions[:, 0].astype(np.float64)
    positions = target.astype(np.intp)
    if predictions.shape[1] == 1:
        second = predictions[:, 0].astype(np.float64)
        shares = np.where(positions == 1, second, 1 - second)
    else:
        shares = predictions[np.arange(len(target)), positions].astype(np.float64)
        shares = shares / predictions.sum(axis=1, dtype=np.float64)
    # Some models are sure of a wrong label, whose logarithm is infinite.
    return np.asarray(np.clip(shares, _SMALLEST_PROBABILITY, 1))


def choose_weights(
    target: Floats, predictions: Sequence[Float32s], *, classes: bool
) -> list[float]:
    """Add the member that lowers the loss most, again and again (Caruana et al., 2004).

    The weights are the mean over samples of the rows, drawn with replacement, so that they depend
    less on single rows. Small weights are dropped.

    Args:
        target: ``[rows]``, as in `compute_loss`.
        predictions: of each member, ``[rows, outputs]``.
        classes: whether the target has labels.

    Returns:
        The weight of each member; many are zero, and their sum is one.
    """
    # The loss of labels only depends on the probability of the true one.
    values = np.stack([_select_values(target, one, classes=classes) for one in predictions])
    generator = np.random.default_rng(0)
    counts = np.zeros(len(values))
    for _ in range(_SAMPLES):
        rows = generator.integers(len(target), size=len(target))
        counts += _add_greedily(target[rows], values[:, rows], classes=classes)
    weights = counts / counts.sum()
    weights[weights < max(_MIN_WEIGHT, weights.max() * _MIN_WEIGHT)] = 0
    return [float(weight) for weight in weights / weights.sum()]


def _add_greedily(target: Floats, values: Floats, *, classes: bool) -> Floats:
    """Return how often each member, ``[members, rows]``, was added."""
    counts = np.zeros(len(values))
    total = np.zeros(len(target))
    for step in range(1, _STEPS + 1):
        means = (total + values) / step
        losses = -np.log(means).mean(1) if classes else np.square(target - means).mean(1)
        best = int(losses.argmin())
        counts[best] += 1
        total += values[best]
    return counts


def mix_out_of_fold(
    targets: Sequence[Floats], predictions: Sequence[Sequence[Float32s]], *, classes: bool
) -> tuple[list[float], list[Float32s]]:
    """Choose the weights of an ensemble, and predict each fold by those of the other folds.

    Args:
        targets: of each fold, ``[rows]``.
        predictions: of each member, and in it of each fold, ``[rows, outputs]``.
        classes: whether the targets have labels.

    Returns:
        The weights, chosen on all folds; and the predictions of each fold, by weights that its
        rows did not choose, if there are other folds.
    """

    def choose(folds: Sequence[int]) -> list[float]:
        target = np.concatenate([targets[fold] for fold in folds])
        rows = [np.concatenate([one[fold] for fold in folds]) for one in predictions]
        return choose_weights(target, rows, classes=classes)

    everything = range(len(targets))
    mixed = []
    for fold in everything:
        others = [other for other in everything if other != fold] or [fold]
        mixed.append(mix([one[fold] for one in predictions], choose(others)))
    return choose(everything), mixed
