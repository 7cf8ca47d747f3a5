"""Choose the weights of an ensemble greedily, by the loss on rows that its members did not see."""

from collections.abc import Sequence

import numpy as np

from training.data.table import Float32s, Floats
from training.evaluation.losses import compute_loss, select_values
from training.model.blend import mix

_STEPS = 20
_SAMPLES = 20
_MIN_WEIGHT = 0.04
# Members with equal weights, and the shares of these weights that are compared.
_EQUAL = 6
_SHARES = (0.0, 0.5, 1.0)


def choose_weights(target: Floats, predictions: Sequence[Float32s], *, classes: bool) -> Floats:
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
    values = np.stack([select_values(target, one, classes=classes) for one in predictions])
    generator = np.random.default_rng(0)
    counts = np.zeros(len(values))
    for _ in range(_SAMPLES):
        rows = generator.integers(len(target), size=len(target))
        counts += _add_greedily(target[rows], values[:, rows], classes=classes)
    weights = counts / counts.sum()
    weights[weights < _MIN_WEIGHT] = 0
    return np.asarray(weights / weights.sum())


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

    Few rows choose greedy weights badly, so these are mixed with equal weights of the best
    members, in the share that is best on the folds.

    Args:
        targets: of each fold, ``[rows]``.
        predictions: of each member, and in it of each fold, ``[rows, outputs]``.
        classes: whether the targets have labels.

    Returns:
        The weights, chosen on all folds; and the predictions of each fold, by weights that its
        rows did not choose, if there are other folds.
    """

    def choose(folds: Sequence[int]) -> tuple[Floats, Floats]:
        target = np.concatenate([targets[fold] for fold in folds])
        rows = [np.concatenate([one[fold] for fold in folds]) for one in predictions]
        greedy = choose_weights(target, rows, classes=classes)
        return greedy, _weigh_best_equally(target, rows, classes=classes)

    everything = range(len(targets))
    chosen = [choose([k for k in everything if k != fold] or [fold]) for fold in everything]
    best_loss, best_share, best = np.inf, 0.0, list[Float32s]()
    for share in _SHARES:
        mixed = [
            mix([one[fold] for one in predictions], _combine(*chosen[fold], share))
            for fold in everything
        ]
        losses = [
            compute_loss(target, found, classes=classes)
            for target, found in zip(targets, mixed, strict=True)
        ]
        if np.mean(losses) < best_loss:
            best_loss, best_share, best = float(np.mean(losses)), share, mixed
    return _combine(*choose(everything), best_share), best


def _weigh_best_equally(
    target: Floats, predictions: Sequence[Float32s], *, classes: bool
) -> Floats:
    losses = [compute_loss(target, one, classes=classes) for one in predictions]
    best = np.argsort(losses)[:_EQUAL]
    return np.asarray(np.isin(np.arange(len(losses)), best) / len(best))


def _combine(greedy: Floats, equal: Floats, share: float) -> list[float]:
    """Return the mean of both weights, with this share of the equal ones."""
    weights = (1 - share) * greedy + share * equal
    weights[weights < _MIN_WEIGHT] = 0
    return [float(weight) for weight in weights / weights.sum()]
