"""From probabilities to labels: decision threshold, low-confidence threshold and temperature.

Thresholds and temperature are chosen on the validation set.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from sklearn import metrics
from torch import Tensor

from service.bundle.manifest import DEFAULT_THRESHOLD
from service.predictions import expand_binary_scores, label_probabilities, predict_labels
from training.data.table import Float32s, Floats
from training.model.losses import compute_mean_cross_entropy

Ints = npt.NDArray[np.intp]
Positions = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]

MIN_RATIO = 3.0
"""The default minimum error rate of unsure predictions, relative to the others."""
_MAX_UNSURE = 0.2
_MIN_WRONG = 5
_LOG_TEMPERATURES = (-3.0, 3.0)
_MIN_ROWS_TO_SHARPEN = 100
# Of the logarithm; the search ends this close to a bound when the best value is beyond it.
_BOUND_TOLERANCE = 0.01


def compute_probabilities(predictions: Float32s) -> Floats:
    """Return ``[rows, labels]``, also for two labels; each row sums to one in float64."""
    shares = expand_binary_scores(predictions.astype(np.float64))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def compute_confidence(
    target: Floats | Positions, predictions: Float32s, threshold: float = DEFAULT_THRESHOLD
) -> tuple[Float32s, Truths]:
    """Return the probability of each row's predicted label, and whether that label is true.

    Args:
        target: ``[rows]``, label positions.
        predictions: ``[rows, outputs]`` as the graph returns them.
        threshold: of two labels, the second is predicted at or above this probability.
    """
    predicted = predict_labels(predictions, threshold)
    shares = label_probabilities(expand_binary_scores(predictions), predicted)
    return shares, predicted == target.astype(np.intp)


def choose_threshold(rule: str | float, target: Floats, predictions: Float32s) -> float:
    """Choose the decision threshold of a recipe.

    Args:
        rule: a number; ``half``; ``f1`` for the highest F1 score; or ``youden`` for the highest
            TPR - FPR (Youden, 1950).
        target: ``[rows]`` of the validation set; if empty, the threshold is one half.
        predictions: ``[rows, 1]``.
    """
    if not isinstance(rule, str):
        return rule
    if rule == "half" or len(set(target)) < 2:  # noqa: PLR2004 - both labels are needed to choose
        return DEFAULT_THRESHOLD
    if rule == "youden":
        fpr, tpr, thresholds = metrics.roc_curve(target, predictions[:, 0])
        best = thresholds[np.argmax(tpr - fpr)]
    else:
        precision, recall, thresholds = metrics.precision_recall_curve(target, predictions[:, 0])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = thresholds[np.argmax(f1[:-1])]
    return float(np.clip(best, 0.0, 1.0))


def choose_low_confidence(
    confidence: npt.NDArray[np.floating], correct: Truths, min_ratio: float = MIN_RATIO
) -> float | None:
    """Choose the probability below which a prediction is unsure; None if none is useful.

    The threshold maximizes Youden's index (1950), the share of wrong predictions that are marked
    minus the share of correct ones, among the thresholds that mark at most a fifth of the
    predictions and whose unsure predictions are wrong at least ``min_ratio`` times as often as the
    others.

    Args:
        confidence: ``[rows]``, the probability of the predicted label.
        correct: ``[rows]``, whether that label is true, on the validation set; with fewer than
            five wrong predictions there is no threshold.
        min_ratio: the minimum error rate of unsure predictions, relative to the others.
    """
    wrong_in_total = int((~correct).sum())
    if wrong_in_total < _MIN_WRONG:
        return None
    order = np.argsort(confidence, kind="stable")
    ascending, wrong = confidence[order].astype(np.float64), ~correct[order]
    # Candidates mark the first k predictions, 0 < k < rows, if the next one is more probable.
    flagged = np.flatnonzero(np.diff(ascending) > 0) + 1
    caught = np.cumsum(wrong)[flagged - 1]
    rows = len(correct)
    # Counts one more wrong prediction among the others, so that zero observed is not zero.
    ratio = (caught / flagged) / ((wrong_in_total - caught + 1) / (rows - flagged + 1))
    index = caught / wrong_in_total - (flagged - caught) / max(rows - wrong_in_total, 1)
    allowed = (ratio >= min_ratio) & (flagged <= _MAX_UNSURE * rows)
    if not allowed.any():
        return None
    k = flagged[np.argmax(np.where(allowed, index, -np.inf))]
    return float((ascending[k - 1] + ascending[k]) / 2)


def choose_temperature(scores: Tensor, target: Positions) -> float:
    """Choose the temperature with the lowest cross-entropy (Guo et al., 2017).

    It is at least 1 with fewer than a hundred rows, or if none is predicted wrong: the
    cross-entropy of perfectly separated rows falls without end as the temperature does, and
    probabilities near 0 and 1 need evidence.

    Args:
        scores: ``[rows, outputs]`` of the validation set.
        target: ``[rows]``, label positions.
    """
    labels = torch.from_numpy(target)

    def compute_loss(log_temperature: float) -> float:
        return compute_mean_cross_entropy(scores.double() / np.exp(log_temperature), labels).item()

    best = minimize_scalar(compute_loss, bounds=_LOG_TEMPERATURES, method="bounded")
    # The threshold of a single column is that of scores, not of probabilities.
    wrong = predict_labels(scores.numpy(), threshold=0.0) != target
    if len(target) < _MIN_ROWS_TO_SHARPEN or not wrong.any():
        return float(np.exp(max(best.x, 0.0)))
    return float(np.exp(best.x))


def is_at_bound(temperature: float) -> bool:
    """Return whether the search ended at a bound, so that a better temperature may be beyond it."""
    lowest, highest = _LOG_TEMPERATURES
    value = float(np.log(temperature))
    return min(value - lowest, highest - value) < _BOUND_TOLERANCE
