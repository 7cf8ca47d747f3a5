"""Fit linear and logistic models by scikit-learn's solvers, which find the minimum of the loss."""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor, nn

from training.data.table import Floats

# With more weights, the Hessian of Newton's method costs more than the steps that it saves.
_MOST_NEWTON_WEIGHTS = 500
_TOLERANCE = 1e-6
_MOST_STEPS = 2_000


def solve(layer: nn.Linear, rows: tuple[Tensor, Tensor, Tensor], l2: float, labels: int) -> None:
    """Give a layer the weights with the least mean loss and penalty.

    The loss is the squared error, or the cross-entropy of labels. Biases have no penalty.

    Args:
        layer: changed in place.
        rows: ``[rows, width]``, preprocessed; their target, ``[rows]``, as scaled values or
            positions of labels; and the weight of each in the loss, ``[rows]``.
        l2: the penalty on the squares of the weights.
        labels: of the target; 0 for a value.
    """
    x, y, weight = (one.double().numpy() for one in rows)
    if labels:
        coefficients, intercepts = _solve_labels(labels, x, y, weight, l2)
        if layer.out_features == 1:
            coefficients, intercepts = coefficients[1:] - coefficients[:1], np.diff(intercepts)
    else:
        # Without a penalty, columns that depend on each other need the slower decomposition.
        ridge = Ridge(alpha=l2 * len(y), solver="cholesky" if l2 else "svd")
        ridge.fit(x, y, sample_weight=weight)
        coefficients, intercepts = ridge.coef_.reshape(1, -1), np.array([ridge.intercept_])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(coefficients))
        layer.bias.copy_(torch.from_numpy(intercepts))


def _solve_labels(
    labels: int, x: Floats, y: Floats, weight: Floats, l2: float
) -> tuple[Floats, Floats]:
    """Return the weights ``[labels, width]`` and biases ``[labels]`` of a softmax."""
    present = np.unique(y).astype(np.intp)
    scores, biases = np.zeros((1, x.shape[1])), np.zeros(1)
    if len(present) > 1:
        newton = len(present) * x.shape[1] <= _MOST_NEWTON_WEIGHTS
        model = LogisticRegression(
            C=1 / (2 * l2 * len(y)) if l2 else np.inf,
            solver="newton-cholesky" if newton else "lbfgs",
            tol=_TOLERANCE,
            max_iter=_MOST_STEPS,
        )
        with warnings.catch_warnings():
            # Labels that a plane separates have no minimum without a penalty.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y, sample_weight=weight)
        scores, biases = model.coef_, model.intercept_
    if len(present) == 2:  # noqa: PLR2004 - scikit-learn has one score for two labels
        scores, biases = np.vstack([-scores, scores]) / 2, np.append(-biases, biases) / 2
    # Labels that are in no row get a small probability.
    coefficients = np.zeros((labels, x.shape[1]))
    intercepts = np.full(labels, biases.min() - np.log(len(y) + 1))
    coefficients[present], intercepts[present] = scores, biases
    return coefficients, intercepts
