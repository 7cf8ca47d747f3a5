"""Below which probability an answer is called unsure, chosen where nothing was fitted."""

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

LEAST_RATIO = 3.0
"""How many times as often wrong as the others unsure answers must be, unless a caller asks more."""
_MOST_UNSURE = 0.2
_LEAST_WRONG = 5
_HALF = 0.5
_BOUNDS = (-3.0, 3.0)
"""Of the temperature's logarithm."""


def choose_unsure(
    confidence: Floats, right: Truths, least_ratio: float = LEAST_RATIO
) -> float | None:
    """The probability below which an answer is unsure, or None where the flag would mean little.

    Of the thresholds that call at most a fifth of the answers unsure, and whose unsure answers are
    at least `least_ratio` times as often wrong as the others, it is the one of the greatest share
    of wrong answers caught less the share of right answers flagged (Youden's index, 1950, of
    finding what is wrong).

    Args:
        confidence: ``[rows]``, the probability of the label answered.
        right: ``[rows]``, whether that label was true; of a part that was not fitted on. Fewer
            than five wrong answers tell nothing.
        least_ratio: what the flag must promise.
    """
    wrong_in_all = int((~right).sum())
    if wrong_in_all < _LEAST_WRONG:
        return None
    order = np.argsort(confidence, kind="stable")
    ascending, wrong = confidence[order].astype(np.float64), ~right[order]
    # Flagging the first k answers: k from 1 to rows - 1, where the next is more probable.
    flagged = np.flatnonzero(np.diff(ascending) > 0) + 1
    caught = np.cumsum(wrong)[flagged - 1]
    rows = len(right)
    # One wrong answer more among the others, so that none seen is not taken for none to come.
    ratio = (caught / flagged) / ((wrong_in_all - caught + 1) / (rows - flagged + 1))
    index = caught / wrong_in_all - (flagged - caught) / max(rows - wrong_in_all, 1)
    allowed = (ratio >= least_ratio) & (flagged <= _MOST_UNSURE * rows)
    if not allowed.any():
        return None
    k = flagged[np.argmax(np.where(allowed, index, -np.inf))]
    return float((ascending[k - 1] + ascending[k]) / 2)


def unsure_metrics(confidence: Floats, right: Truths, threshold: float) -> dict[str, float]:
    """What the flag is worth on these rows.

    ``unsure_share`` of the answers bear it; ``wrong[unsure]`` and ``wrong[others]`` are the shares
    of wrong answers with and without it, left out where there is no such answer.

    Args:
        confidence: ``[rows]``, the probability of the label answered.
        right: ``[rows]``, whether that label was true.
        threshold: an answer of a lesser probability is unsure.
    """
    unsure = confidence < threshold
    found = {"unsure_share": float(unsure.mean())}
    for name, rows in (("wrong[unsure]", unsure), ("wrong[others]", ~unsure)):
        if rows.any():
            found[name] = float((~right[rows]).mean())
    return found


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
