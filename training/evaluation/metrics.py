"""Measuring answers on rows that the model never saw, beside a predictor that learned nothing."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from training.data.table import Float32s, Floats
from training.recipe.table import Card

Ints = npt.NDArray[np.intp]
Positions = npt.NDArray[np.int64]
_BINS = 10
_DIGITS = 7


def measure(card: Card, target: Floats, answers: Float32s, threshold: float) -> dict[str, float]:
    """The task's metrics.

    Args:
        card: names the labels.
        target: ``[rows]``, raw values or label positions.
        answers: ``[rows, outputs]`` as the graph gives them.
        threshold: of two labels the second is answered from this probability on.
    """
    if card.task == "regression":
        return regression_metrics(target, answers[:, 0].astype(np.float64))
    shares = probabilities(answers)
    return class_metrics(target.astype(int), shares, decide(answers, threshold), card.target.labels)


def naive_answers(card: Card, training: Floats, rows: int) -> tuple[str, Float32s]:
    """What a predictor says that knows only the training part's target: its name and answers."""
    if card.task == "regression":
        return "the training mean", np.full((rows, 1), training.mean(), dtype=np.float32)
    counts = np.bincount(training.astype(int), minlength=len(card.target.labels))
    shares = (counts / counts.sum()).astype(np.float32)
    chosen = shares[1:] if card.task == "binary" else shares
    return "the training shares of the labels", np.tile(chosen, (rows, 1))


def decide(answers: Float32s, threshold: float) -> Ints:
    """The position of each row's label."""
    if answers.shape[1] == 1:
        return (answers[:, 0] >= np.float32(threshold)).astype(np.intp)
    return np.asarray(answers.argmax(axis=1), dtype=np.intp)


def probabilities(answers: Float32s) -> Floats:
    """One column for each label, also where there are two; each row sums to one in float64."""
    shares = answers.astype(np.float64)
    if shares.shape[1] == 1:
        return np.hstack([1 - shares, shares])
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def confidence(
    target: Floats | Positions, answers: Float32s, threshold: float
) -> tuple[Float32s, npt.NDArray[np.bool_]]:
    """The probability of each row's answered label, and whether that label is true.

    Args:
        target: ``[rows]``, label positions.
        answers: ``[rows, outputs]`` as the graph gives them.
        threshold: of two labels the second is answered from this probability on.
    """
    answered = decide(answers, threshold)
    shares = np.hstack([1 - answers, answers]) if answers.shape[1] == 1 else answers
    return shares[np.arange(len(shares)), answered], answered == target.astype(np.intp)


def choose_threshold(wish: str | float, target: Floats, answers: Float32s) -> float:
    """The decision threshold that the recipe asks for.

    Args:
        wish: a number; ``half``; ``f1``, the one of the greatest F1; or ``youden``, of the
            greatest TPR - FPR (Youden, 1950).
        target: ``[rows]`` of a part that was not fitted on; empty means one half.
        answers: ``[rows, 1]``.
    """
    if not isinstance(wish, str):
        return wish
    if wish == "half" or len(set(target)) < 2:  # noqa: PLR2004 - both labels are needed to choose
        return 0.5
    if wish == "youden":
        fpr, tpr, thresholds = metrics.roc_curve(target, answers[:, 0])
        best = thresholds[np.argmax(tpr - fpr)]
    else:
        precision, recall, thresholds = metrics.precision_recall_curve(target, answers[:, 0])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = thresholds[np.argmax(f1[:-1])]
    return float(np.clip(best, 0.0, 1.0))


def regression_metrics(target: Floats, value: Floats) -> dict[str, float]:
    """Errors in the target's unit (SSE, MSE in its square), and R² where the target varies."""
    found = {
        "rmse": metrics.root_mean_squared_error(target, value),
        "mae": metrics.mean_absolute_error(target, value),
        "mse": metrics.mean_squared_error(target, value),
        "sse": np.square(target - value).sum(),
    }
    if len(target) > 1 and target.std() > 0:
        found["r2"] = metrics.r2_score(target, value)
    return {name: float(number) for name, number in found.items()}


def class_metrics(
    target: Ints, shares: Floats, answered: Ints, labels: Sequence[str]
) -> dict[str, float]:
    """Metrics of the answered labels and of the probabilities, then each label's own.

    Recall is the true positive rate, specificity the true negative rate of one label against the
    others. Areas under curves are given where every label occurs.
    """
    positions = list(range(len(labels)))
    found = {
        "accuracy": metrics.accuracy_score(target, answered),
        "balanced_accuracy": metrics.recall_score(
            target, answered, labels=np.unique(target), average="macro", zero_division=0
        ),
        "log_loss": metrics.log_loss(target, shares, labels=positions),
        "calibration_error": calibration_error(target == answered, _confidence(shares, answered)),
    }
    if len(np.unique(target)) == len(labels):
        found |= _areas(target, shares)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        target, answered, labels=positions, zero_division=0
    )
    for k, label in enumerate(labels):
        others = target != k
        found[f"precision[{label}]"] = precision[k]
        found[f"recall[{label}]"] = recall[k]
        if others.any():
            found[f"specificity[{label}]"] = (answered[others] != k).mean()
        found[f"f1[{label}]"] = f1[k]
    return {name: float(number) for name, number in found.items()}


def calibration_error(right: npt.NDArray[np.bool_], confidence: Floats) -> float:
    """The expected calibration error: over ten bins of confidence, how far it is from the truth.

    Each bin counts by its rows (Guo and others, "On Calibration of Modern Neural Networks", 2017).
    """
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [
        abs(right[place == k].mean() - confidence[place == k].mean()) * (place == k).mean()
        for k in np.unique(place)
    ]
    return float(sum(gaps))


def _confidence(shares: Floats, answered: Ints) -> Floats:
    return np.asarray(shares[np.arange(len(shares)), answered])


def _areas(target: Ints, shares: Floats) -> dict[str, float]:
    if shares.shape[1] > 2:  # noqa: PLR2004 - two columns are one curve
        return {"roc_auc": metrics.roc_auc_score(target, shares, multi_class="ovr")}
    return {
        "roc_auc": metrics.roc_auc_score(target, shares[:, 1]),
        "pr_auc": metrics.average_precision_score(target, shares[:, 1]),
        "brier": metrics.brier_score_loss(target, shares[:, 1]),
    }


def rounded(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics to seven significant digits, what float32 answers carry."""
    return {name: round_number(number) for name, number in metrics.items()}


def round_number(number: float) -> float:
    """The number with as many digits as a manifest records."""
    return float(f"{number:.{_DIGITS}g}")
