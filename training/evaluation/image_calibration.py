"""Making probabilities say how often they are right, by one number: the temperature."""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from training.data.table import Float32s
from training.evaluation.metrics import calibration_error, confidence
from training.images.dataset import Classes

_HALF = 0.5
_BOUNDS = (-3.0, 3.0)
"""Of the temperature's logarithm."""


def best_temperature(scores: Tensor, target: Classes) -> float:
    """What to divide the scores by for the least cross-entropy (Guo and others, 2017).

    Args:
        scores: ``[pictures, outputs]`` of the validation part, which was not fitted on.
        target: ``[pictures]``, positions of labels.
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


def error_of(answers: Float32s, target: Classes) -> float:
    """The expected calibration error of answers, ``[pictures, outputs]``."""
    shares, right = confidence(target, answers, _HALF)
    return calibration_error(right, shares.astype(np.float64))
