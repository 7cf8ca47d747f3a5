"""Tables of a report: metrics, labels and rows, with formatted numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import Evaluation, Interval, Output, ValueOutput
from service.predictions import label_probabilities, predict_labels
from service.spelling import format_count
from training.data.table import Float32s, Floats, Rows, Table
from training.evaluation.metrics import HEADLINES, describe_split
from training.model.thresholds import compute_probabilities
from training.recipe.table import ModelCard
from training.report.numbers import align_points, format_metrics, format_numbers


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
# Their size depends on the unit of the target; that of others is about one.
_SCALED_METRICS = ("rmse", "mae", "mse", "sse")
_CROSS = "cross_validated_"
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


def describe_measured_rows(evaluation: Evaluation | None, thing: str = "row") -> str:
    """Describe the rows, or other things, that the metrics were measured on."""
    if evaluation is None:
        return (
            "Not measured: the table has every possible row, so there is no test set. "
            "The predictions below are for the training rows."
        )
    if evaluation.part == "given":
        return (
            f"Measured on the {format_count(evaluation.rows, f'given {thing}')}, which may include "
            f"training {thing}s; on new {thing}s the model may be worse."
        )
    if evaluation.part == "test":
        also = (
            f" For {evaluation.folds}-fold cross-validation the same recipe was fitted once "
            "per fold."
            if evaluation.folds
            else ""
        )
        rule = describe_split(evaluation)
        rows = format_count(evaluation.rows, "row")
        return f"Measured on the held-out test set of {rows}{rule}.{also}"
    kind = f"{evaluation.folds}-fold cross-validation"
    if evaluation.folds == evaluation.rows:
        kind = f"leave-one-out ({kind})"
    kind += describe_split(evaluation)
    every = "" if evaluation.split and evaluation.split.by == "time" else "all "
    return (
        f"Measured on {every}{format_count(evaluation.rows, 'row')} by {kind}: "
        "each row was predicted by a model that was not fitted on it."
    )


def create_tiles(evaluation: Evaluation | None, unit: str | None) -> list[Tile]:
    """Return the headline metrics; ``unit`` is that of the target."""
    lines = list_metrics(evaluation, unit)
    return [
        Tile(
            line.name,
            line.model.rstrip(),
            f"baseline {line.baseline.rstrip()}" if line.baseline else "",
        )
        for name in HEADLINES
        for line in lines
        if line.name.partition(" (")[0] == METRICS[name].title
    ]


def list_metrics(evaluation: Evaluation | None, unit: str | None = None) -> list[Line]:
    """List every metric of the model and of the baseline; ``unit`` is that of the target."""
    if evaluation is None:
        return []
    names = [name for name in METRICS if name in evaluation.metrics]
    cells = zip(*(_format_metric(evaluation, name) for name in names), strict=True)
    # One column after another, so that their decimal points are aligned.
    columns = zip(*(align_points(column) for column in cells), strict=True)
    return [
        Line(
            add_unit(METRICS[name].title, unit if name in _METRICS_WITH_UNIT else None),
            METRICS[name].meaning,
            *row,
        )
        for name, row in zip(names, columns, strict=True)
    ]


def _format_metric(evaluation: Evaluation, name: str) -> list[str]:
    """Format a metric of the model, the baseline and the cross-validation with one precision."""
    found, baseline = evaluation.metrics, evaluation.baseline.metrics
    values = [found[name], baseline.get(name), found.get(_CROSS + name)]
    known = [value for value in values if value is not None]
    texts = iter((format_numbers if name in _SCALED_METRICS else format_metrics)(known))
    return ["" if value is None else next(texts) for value in values]


def list_intervals(output: Output) -> list[dict[str, str]]:
    """List each level of the prediction intervals with its coverage on the test set."""
    if not isinstance(output, ValueOutput) or output.interval is None:
        return []
    levels = output.interval.levels
    widths = iter(format_numbers([one.mean_width for one in levels if one.mean_width is not None]))
    return [
        {
            "level": f"{one.level:.0%}",
            "coverage": "" if one.coverage is None else f"{one.coverage:.1%}",
            "width": "" if one.mean_width is None else next(widths),
            "margin": " to ".join(dict.fromkeys(ends)),
        }
        for one, ends in zip(levels, _format_margins(output.interval, output.unit), strict=True)
    ]


def _format_margins(interval: Interval, unit: str | None) -> list[list[str]]:
    """Format the narrowest and the widest margin of each level."""
    ends = [end for one in interval.levels for end in (min(one.margins), max(one.margins))]
    if interval.scale == "value":
        texts = [f"± {text}{f' {unit}' if unit else ''}" for text in format_numbers(ends)]
    else:
        texts = [f"+{math.expm1(end):.1%} -{-math.expm1(-end):.1%}" for end in ends]
    return [texts[k : k + 2] for k in range(0, len(texts), 2)]


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
    cells = table.frame.select(columns)
    shown = (_find_worst_labels if predicted.card.target.labels else _find_worst_values)(predicted)
    return [
        {
            "row": f"{table.row_number(int(predicted.rows[k])):,}",
            "cells": [cell or "" for cell in cells.row(int(predicted.rows[k]))],
            "true": true,
            "predicted": prediction,
            "error": error,
        }
        for k, true, prediction, error in shown
    ]


def _find_worst_values(predicted: Predicted) -> list[tuple[int, str, str, str]]:
    """Return position, true value, prediction and error; each column has one precision."""
    value = predicted.predictions[:, 0].astype(np.float64)
    errors = np.abs(value - predicted.target)
    rows = _choose_worst(errors)
    texts = (
        format_numbers(numbers[rows].tolist()) for numbers in (predicted.target, value, errors)
    )
    return list(zip(rows.tolist(), *texts, strict=True))


def _find_worst_labels(predicted: Predicted) -> list[tuple[int, str, str, str]]:
    """Return position, true label, predicted label with its probability, and error."""
    labels = predicted.card.target.labels
    probabilities = compute_probabilities(predicted.predictions)
    chosen = predict_labels(predicted.predictions, predicted.threshold)
    errors = 1 - label_probabilities(probabilities, predicted.target.astype(int))
    return [
        (
            k,
            labels[int(predicted.target[k])],
            f"{labels[chosen[k]]} ({probabilities[k, chosen[k]]:.0%})",
            f"{errors[k]:.0%}",
        )
        for k in _choose_worst(errors).tolist()
    ]


def _choose_worst(errors: Floats) -> Rows:
    """Return the positions of the largest errors, or of all if there are few."""
    count = len(errors) if len(errors) <= _SINGLE else _WORST
    return np.argsort(-errors, kind="stable")[:count]
