"""Confidence: the threshold of the ``unsure`` flag, and temperature scaling."""

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from training.data.table import Float32s
from training.evaluation.metrics import calibration_error, confidence
from training.images.dataset import Classes

Floats = npt.NDArray[np.floating]
Truths = npt.NDArray[np.bool_]

MIN_RATIO = 3.0
"""The default minimum error rate of unsure predictions, relative to the others."""
_MAX_UNSURE = 0.2
_MIN_WRONG = 5
_HALF = 0.5
_BOUNDS = (-3.0, 3.0)
"""Of the logarithm of the temperature."""


def choose_low_confidence(
    confidence: Floats, right: Truths, min_ratio: float = MIN_RATIO
) -> float | None:
    """The probability below which a prediction is unsure; None if none is useful.

    The threshold maximizes Youden's index (1950), the share of wrong predictions that are marked
    minus the share of correct ones, among the thresholds that mark at most a fifth of the
    predictions and whose unsure predictions are wrong at least `min_ratio` times as often as the
    others.

    Args:
        confidence: ``[rows]``, the probability of the predicted label.
        right: ``[rows]``, whether that label is true, on the validation set; with fewer than five
            wrong predictions there is no threshold.
        min_ratio: the minimum error rate of unsure predictions, relative to the others.
    """
    wrong_in_all = int((~right).sum())
    if wrong_in_all < _MIN_WRONG:
        return None
    order = np.argsort(confidence, kind="stable")
    ascending, wrong = confidence[order].astype(np.float64), ~right[order]
    # Candidates mark the first k predictions, 0 < k < rows, if the next one is more probable.
    flagged = np.flatnonzero(np.diff(ascending) > 0) + 1
    caught = np.cumsum(wrong)[flagged - 1]
    rows = len(right)
    # Counts one more wrong prediction among the others, so that zero observed is not zero.
    ratio = (caught / flagged) / ((wrong_in_all - caught + 1) / (rows - flagged + 1))
    index = caught / wrong_in_all - (flagged - caught) / max(rows - wrong_in_all, 1)
    allowed = (ratio >= min_ratio) & (flagged <= _MAX_UNSURE * rows)
    if not allowed.any():
        return None
    k = flagged[np.argmax(np.where(allowed, index, -np.inf))]
    return float((ascending[k - 1] + ascending[k]) / 2)


def low_confidence_metrics(confidence: Floats, right: Truths, threshold: float) -> dict[str, float]:
    """How well the flag separates wrong predictions.

    ``unsure_share`` is the share of predictions with the flag; ``wrong[unsure]`` and
    ``wrong[others]`` are the error rates with and without it, if there are such predictions.

    Args:
        confidence: ``[rows]``, the probability of the predicted label.
        right: ``[rows]``, whether that label is true.
        threshold: predictions with a lower probability are unsure.
    """
    unsure = confidence < threshold
    found = {"unsure_share": float(unsure.mean())}
    for name, rows in (("wrong[unsure]", unsure), ("wrong[others]", ~unsure)):
        if rows.any():
            found[name] = float((~right[rows]).mean())
    return found


def best_temperature(scores: Tensor, target: Classes) -> float:
    """The temperature with the lowest cross-entropy (Guo et al., 2017).

    Args:
        scores: ``[images, outputs]`` of the validation set.
        target: ``[images]``, positions of labels.
    """
    wanted = torch.from_numpy(target)

    def surprise(logarithm: float) -> float:
        tempered = scores.double() / np.exp(logarithm)
        if scores.shape[1] == 1:
            return functional.binary_cross_entropy_with_logits(
                tempered[:, 0], wanted.double()
            ).item()
        return functional.cross_entropy(tempered, wanted).item()

    return float(np.exp(minimize_scalar(surprise, bounds=_BOUNDS, method="bounded").x))


def error_of(predictions: Float32s, target: Classes) -> float:
    """The expected calibration error of predictions ``[images, outputs]``."""
    shares, right = confidence(target, predictions, _HALF)
    return calibration_error(right, shares.astype(np.float64))
