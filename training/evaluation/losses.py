"""The losses by which candidates and columns are compared: RMSE and log loss."""

import numpy as np

from training.data.table import Float32s, Floats

_SMALLEST_PROBABILITY = 1e-6


def compute_loss(target: Floats, predictions: Float32s, *, classes: bool) -> float:
    """Return the RMSE of values, or the log loss of labels.

    Args:
        target: ``[rows]``, raw values or positions of labels.
        predictions: ``[rows, outputs]`` as a graph returns them.
        classes: whether the target has labels.
    """
    values = select_values(target, predictions, classes=classes)
    if classes:
        return float(-np.mean(np.log(values)))
    return float(np.sqrt(np.mean(np.square(target - values))))


def select_values(target: Floats, predictions: Float32s, *, classes: bool) -> Floats:
    """Return the predicted values, or the probability of each row's true label, ``[rows]``.

    Its arguments are those of `compute_loss`.
    """
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
