"""Tables of a report: metrics, labels and rows, with formatted numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import Evaluation, Interval, Output, ValueOutput
from service.predictions import label_probabilities, predict_labels
from training.data.table import Float32s, Floats, Rows, Table
from training.evaluation.metrics import HEADLINES, describe_split
from training.model.thresholds import compute_probabilities
from training.recipe.table import ModelCard


class MetricText(NamedTuple):
    """The name and the meaning of a metric in reports."""

    title: str
    meaning: str


METRICS = {
    "rmse": MetricText("RMSE", "root of the mean squared error"),
    "mae": MetricText("MAE", "mean absolute error"),
    "mse": MetricText("MSE", "mean squared error"),
    "sse": MetricText("SSE", "sum of squared errors"),
    "r2": MetricText("R²", "share of the variance explained"),
    "accuracy": MetricText("accuracy", "share of correct predictions"),
    "balanced_accuracy": MetricText("balanced accuracy", "mean of the labels' recalls"),
    "log_loss": MetricText("log loss", "mean negative log probability of the true label"),
    "calibration_error": MetricText(
        "calibration error", "mean difference between confidence and accuracy"
    ),
    "roc_auc": MetricText("ROC AUC", "area under the ROC curve"),
    "pr_auc": MetricText("PR AUC", "average precision"),
    "brier": MetricText("Brier score", "mean squared error of the probability"),
    "unsure_share": MetricText("unsure", "share of predictions with low confidence, marked unsure"),
    "wrong[unsure]": MetricText(
        "error rate, unsure predictions", "error rate of these predictions"
    ),
    "wrong[others]": MetricText(
        "error rate, other predictions", "error rate of the predictions without the mark"
    ),
}
_METRICS_WITH_UNIT = ("rmse", "mae")
_CROSS = "cross_validated_"
_LARGE = 1000
_WORST = 10
# Up to this number, all rows are shown.
_SINGLE = 24


@dataclass(frozen=True)
class Predicted:
    """Rows of the table with their predictions."""

    card: ModelCard
    rows: Rows
    target: Floats
    predictions: Float32s
    """``[rows, outputs]``."""
    threshold: float


@dataclass(frozen=True)
class Line:
    """A row of the table of metrics."""

    name: str
    meaning: str
    model: str
    baseline: str
    cross_validation: str
    """The value in cross-validation, if it was done in addition to the test."""


@dataclass(frozen=True)
class Tile:
    """A headline metric."""

    name: str
    value: str
    note: str


def add_unit(name: str, unit: str | None) -> str:
    """Return ``name (unit)``, or the name if there is no other unit."""
    return f"{name} ({unit})" if unit and unit != name else name


def format_number(value: float) -> str:
    """Format four significant digits, with thousands separators, and large numbers as integers."""
    if abs(value) >= _LARGE:
        return f"{value:,.0f}" if abs(value) < 1e12 else f"{value:.4g}"  # noqa: PLR2004 - too long
    return f"{value:.4g}" if abs(value) >= 1e-6 else "0"  # noqa: PLR2004 - float32's rounding


def describe_measured_rows(evaluation: Evaluation | None, things: str = "rows") -> str:
    """Describe the rows, or other ``things``, that the metrics were measured on."""
    if evaluation is None:
        return (
            "Not measured: the table has every possible row, so there is no test set. "
            "The predictions below are for the training rows."
        )
    if evaluation.part == "given":
        return (
            f"Measured on the {evaluation.rows:,} given {things}, which may include training "
            f"{things}; on new {things} the model may be worse."
        )
    if evaluation.part == "test":
        also = (
            f" For {evaluation.folds}-fold cross-validation the same recipe was fitted once "
            "per fold."
            if evaluation.folds
            else ""
        )
        rule = describe_split(evaluation)
        return f"Measured on the held-out test set of {evaluation.rows:,} rows{rule}." + also
    kind = f"{evaluation.folds}-fold cross-validation"
    if evaluation.folds == evaluation.rows:
        kind = f"leave-one-out ({kind})"
    kind += describe_split(evaluation)
    every = "" if evaluation.split and evaluation.split.by == "time" else "all "
    return (
        f"Measured on {every}{evaluation.rows:,} rows by {kind}: "
        "each row was predicted by a model that was not fitted on it."
    )


def create_tiles(evaluation: Evaluation | None, unit: str | None) -> list[Tile]:
    """Return the headline metrics; ``unit`` is that of the target."""
    lines = list_metrics(evaluation, unit)
    return [
        Tile(line.name, line.model, f"baseline {line.baseline}" if line.baseline else "")
        for name in HEADLINES
        for line in lines
        if line.name.partition(" (")[0] == METRICS[name].title
    ]


def list_metrics(evaluation: Evaluation | None, unit: str | None = None) -> list[Line]:
    """List every metric of the model and of the baseline; ``unit`` is that of the target."""
    if evaluation is None:
        return []
    found, baseline = evaluation.metrics, evaluation.baseline.metrics
    return [
        Line(
            add_unit(text.title, unit if name in _METRICS_WITH_UNIT else None),
            text.meaning,
            *(
                format_number(values[key]) if key in values else ""
                for values, key in ((found, name), (baseline, name), (found, _CROSS + name))
            ),
        )
        for name, text in METRICS.items()
        if name in found
    ]


def list_intervals(output: Output) -> list[dict[str, str]]:
    """List each level of the prediction intervals with its coverage on the test set."""
    if not isinstance(output, ValueOutput) or output.interval is None:
        return []
    interval = output.interval
    unit = f" {output.unit}" if output.unit else ""
    rows = []
    for one in interval.levels:
        ends = [
            _format_margin(interval, margin, unit)
            for margin in (min(one.margins), max(one.margins))
        ]
        rows.append(
            {
                "level": f"{one.level:.0%}",
                "coverage": "" if one.coverage is None else f"{one.coverage:.1%}",
                "width": "" if one.mean_width is None else format_number(one.mean_width),
                "margin": " to ".join(dict.fromkeys(ends)),
            }
        )
    return rows


def _format_margin(interval: Interval, margin: float, unit: str) -> str:
    if interval.scale == "value":
        return f"± {format_number(margin)}{unit}"
    return f"+{math.expm1(margin):.1%} -{-math.expm1(-margin):.1%}"


def list_labels(
    evaluation: Evaluation | None,
    labels: Sequence[str],
    target: npt.NDArray[np.integer | np.float64],
) -> list[dict[str, str]]:
    """List precision, recall, specificity, F1 and number of rows of each label.

    Args:
        evaluation: with the metrics.
        labels: empty for regression.
        target: ``[rows]``, positions of labels.
    """
    if evaluation is None or not labels:
        return []
    counts = np.bincount(target.astype(int), minlength=len(labels))
    rows = []
    for label, count in zip(labels, counts, strict=True):
        keys = ("precision", "recall", "specificity", "f1")
        shares = {key: evaluation.metrics.get(f"{key}[{label}]") for key in keys}
        written = {key: "" if share is None else f"{share:.3f}" for key, share in shares.items()}
        rows.append({"label": label, "rows": f"{count:,}", **written})
    return rows


def find_worst_rows(
    predicted: Predicted, table: Table, columns: Sequence[str]
) -> list[dict[str, str | list[str]]]:
    """List the rows with the largest errors, with their cells as in the table."""
    errors, formatted = _compute_errors(predicted)
    cells = table.frame.select(columns)
    labels = predicted.card.target.labels
    count = len(errors) if len(errors) <= _SINGLE else _WORST
    return [
        {
            "row": f"{table.row_number(int(predicted.rows[k])):,}",
            "cells": [cell or "" for cell in cells.row(int(predicted.rows[k]))],
            "true": labels[int(predicted.target[k])]
            if labels
            else format_number(predicted.target[k]),
            "predicted": formatted[k],
            "error": f"{errors[k]:.0%}" if labels else format_number(errors[k]),
        }
        for k in np.argsort(-errors, kind="stable")[:count]
    ]


def _compute_errors(predicted: Predicted) -> tuple[Floats, list[str]]:
    """Return the error of each prediction, and the formatted prediction."""
    labels = predicted.card.target.labels
    if not labels:
        value = predicted.predictions[:, 0].astype(np.float64)
        return np.abs(value - predicted.target), [format_number(one) for one in value]
    probabilities = compute_probabilities(predicted.predictions)
    chosen = predict_labels(predicted.predictions, predicted.threshold)
    formatted = [
        f"{labels[label]} ({row[label]:.0%})"
        for label, row in zip(chosen, probabilities, strict=True)
    ]
    return 1 - label_probabilities(probabilities, predicted.target.astype(int)), formatted
