"""Metrics of predictions, and constant predictions as the baseline."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from service.bundle.manifest import DEFAULT_THRESHOLD, Evaluation
from service.predictions import are_unsure, label_probabilities, predict_labels
from training.data.table import Float32s, Floats
from training.model.thresholds import Ints, Positions, Truths, compute_probabilities
from training.recipe.table import ModelCard

HEADLINES = ("rmse", "mae", "r2", "accuracy", "balanced_accuracy", "roc_auc", "log_loss")
"""The metrics that summaries show, in this order, as far as a task has them."""
SHARES_BASELINE = "the training shares of the labels"
_BINS = 10
_DIGITS = 7


def measure(
    card: ModelCard, target: Floats, predictions: Float32s, threshold: float = DEFAULT_THRESHOLD
) -> dict[str, float]:
    """Compute the task's metrics.

    Args:
        card: names the labels.
        target: ``[rows]``, raw values or label positions.
        predictions: ``[rows, outputs]`` as the graph returns them.
        threshold: of two labels, the second is predicted at or above this probability.
    """
    if not card.is_classification:
        return measure_regression(target, predictions[:, 0].astype(np.float64))
    probabilities = compute_probabilities(predictions)
    predicted = predict_labels(predictions, threshold)
    return measure_classes(target.astype(int), probabilities, predicted, card.target.labels)


def predict_baseline(card: ModelCard, training: Floats, rows: int) -> tuple[str, Float32s]:
    """Return the name and predictions of a baseline that only knows the training target."""
    if not card.is_classification:
        return "the training mean", np.full((rows, 1), training.mean(), dtype=np.float32)
    shares = compute_label_shares(training, len(card.target.labels)).astype(np.float32)
    chosen = shares[1:] if card.task == "binary" else shares
    return SHARES_BASELINE, np.tile(chosen, (rows, 1))


def compute_label_shares(target: Floats | Positions, labels: int) -> Floats:
    """Return the share of each label, ``[labels]``; the target has positions of labels."""
    counts = np.bincount(target.astype(int), minlength=labels)
    return np.asarray(counts / counts.sum())


def describe_split(evaluation: Evaluation) -> str:
    """Return how the measured rows were held out, as the end of a phrase; empty if at random."""
    rule = evaluation.split
    if rule is None:
        return ""
    if rule.by == "group":
        return f", in groups of {rule.column} that training did not see"
    if evaluation.part == "test":
        return f", the newest by {rule.column}"
    return f", each newer by {rule.column} than the training rows of its model"


def measure_regression(target: Floats, value: Floats) -> dict[str, float]:
    """Compute errors in the target's unit (SSE, MSE in its square), and R² if the target varies."""
    found = {
        "rmse": metrics.root_mean_squared_error(target, value),
        "mae": metrics.mean_absolute_error(target, value),
        "mse": metrics.mean_squared_error(target, value),
        "sse": np.square(target - value).sum(),
    }
    if len(target) > 1 and target.std() > 0:
        found["r2"] = metrics.r2_score(target, value)
    return {name: float(number) for name, number in found.items()}


def measure_classes(
    target: Ints, probabilities: Floats, predicted: Ints, labels: Sequence[str]
) -> dict[str, float]:
    """Compute the metrics of predicted labels and probabilities, and those of each label.

    Recall is the true positive rate, specificity the true negative rate of one label against the
    others. Areas under curves are given where every label occurs.
    """
    positions = list(range(len(labels)))
    found = {
        "accuracy": metrics.accuracy_score(target, predicted),
        "balanced_accuracy": metrics.recall_score(
            target, predicted, labels=np.unique(target), average="macro", zero_division=0
        ),
        "log_loss": metrics.log_loss(target, probabilities, labels=positions),
        "calibration_error": compute_calibration_error(
            label_probabilities(probabilities, predicted), target == predicted
        ),
    }
    if len(np.unique(target)) == len(labels):
        found |= _compute_areas(target, probabilities)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        target, predicted, labels=positions, zero_division=0
    )
    for k, label in enumerate(labels):
        others = target != k
        found[f"precision[{label}]"] = precision[k]
        found[f"recall[{label}]"] = recall[k]
        if others.any():
            found[f"specificity[{label}]"] = (predicted[others] != k).mean()
        found[f"f1[{label}]"] = f1[k]
    return {name: float(number) for name, number in found.items()}


def compute_calibration_error(confidence: npt.NDArray[np.floating], correct: Truths) -> float:
    """Compute the expected calibration error over ten bins of confidence.

    Bins are weighted by their rows (Guo et al., "On Calibration of Modern Neural Networks", 2017).
    """
    bins = compute_calibration_bins(confidence, correct)
    return float(sum(abs(one.accuracy - one.confidence) * one.share for one in bins))


class CalibrationBin(NamedTuple):
    """Predictions of similar confidence."""

    confidence: float
    """Their mean probability."""
    accuracy: float
    share: float
    """Of all predictions."""


def compute_calibration_bins(
    confidence: npt.NDArray[np.floating], correct: Truths
) -> list[CalibrationBin]:
    """Group predictions into ten bins of equal width; empty bins are omitted.

    Args:
        confidence: ``[rows]``, the probability of the predicted label.
        correct: ``[rows]``, whether that label is true.
    """
    confidence = confidence.astype(np.float64)
    position = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return [
        CalibrationBin(confidence[rows].mean(), correct[rows].mean(), rows.mean())
        for rows in (position == k for k in np.unique(position))
    ]


def measure_low_confidence(
    confidence: npt.NDArray[np.floating], correct: Truths, threshold: float
) -> dict[str, float]:
    """Measure how well the flag of unsure predictions separates wrong ones.

    ``unsure_share`` is the share of predictions with the flag; ``wrong[unsure]`` and
    ``wrong[others]`` are the error rates with and without it, if there are such predictions.

    Args:
        confidence: ``[rows]``, the probability of the predicted label.
        correct: ``[rows]``, whether that label is true.
        threshold: predictions with a lower probability are unsure.
    """
    unsure = are_unsure(confidence, np.float64(threshold))
    found = {"unsure_share": float(unsure.mean())}
    for name, rows in (("wrong[unsure]", unsure), ("wrong[others]", ~unsure)):
        if rows.any():
            found[name] = float((~correct[rows]).mean())
    return found


def describe_below_baseline(evaluation: Evaluation | None) -> str:
    """Return a warning with a remedy if the model is worse than the baseline, else ``""``.

    Values are compared by RMSE, probabilities by log loss. Imported models can have labels without
    probabilities, and are compared by accuracy.
    """
    if evaluation is None:
        return ""
    found, baseline = evaluation.metrics, evaluation.baseline
    imported = evaluation.part == "given"
    remedy = (
        "Check the order of the columns, their units and the names of the labels."
        if imported
        else "These columns do not predict the target, or there are too few rows."
    )
    for name, sign in (("rmse", 1), ("accuracy", -1) if imported else ("log_loss", 1)):
        if name in found and sign * found[name] > sign * baseline.metrics.get(name, found[name]):
            return (
                f"Worse than the baseline: {name} {found[name]:.4g}, and "
                f"{baseline.metrics[name]:.4g} for {baseline.name}. {remedy}"
            )
    return ""


def _compute_areas(target: Ints, probabilities: Floats) -> dict[str, float]:
    if probabilities.shape[1] > 2:  # noqa: PLR2004 - two columns are one curve
        return {"roc_auc": metrics.roc_auc_score(target, probabilities, multi_class="ovr")}
    return {
        "roc_auc": metrics.roc_auc_score(target, probabilities[:, 1]),
        "pr_auc": metrics.average_precision_score(target, probabilities[:, 1]),
        "brier": metrics.brier_score_loss(target, probabilities[:, 1]),
    }


def round_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """Round metrics to seven significant digits, the precision of float32."""
    return {name: round_number(number) for name, number in metrics.items()}


def round_number(number: float) -> float:
    """Round a number to the significant digits that a manifest records."""
    return float(f"{number:.{_DIGITS}g}")
