"""A report's tables: metrics, labels and single rows, each number as people write it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import Evaluation, Interval, Output, ValueOutput
from training.data.table import Float32s, Floats, Rows, Table
from training.evaluation.metrics import decide, probabilities
from training.recipe.table import Recipe

METRICS = {
    "rmse": "RMSE",
    "mae": "MAE",
    "mse": "MSE",
    "sse": "SSE",
    "r2": "R²",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "brier": "Brier score",
    "unsure_share": "unsure",
    "wrong[unsure]": "wrong where unsure",
    "wrong[others]": "wrong elsewhere",
}
_MEANINGS = {
    "rmse": "root of the mean squared error",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "sse": "sum of squared errors",
    "r2": "share of the variance explained",
    "accuracy": "share of answers that are right",
    "balanced_accuracy": "mean of the labels' recalls",
    "log_loss": "mean surprise at the true label, in nats",
    "calibration_error": "mean gap between confidence and truth",
    "roc_auc": "chance that one of the label ranks above another",
    "pr_auc": "average precision",
    "brier": "mean squared error of the probability",
    "unsure_share": "share of answers whose probability is so low that they are called unsure",
    "wrong[unsure]": "share of wrong answers among those",
    "wrong[others]": "share of wrong answers among the others",
}
_HEADLINES = {
    "regression": ("rmse", "mae", "r2"),
    "binary": ("accuracy", "balanced_accuracy", "roc_auc", "log_loss"),
    "multiclass": ("accuracy", "balanced_accuracy", "roc_auc", "log_loss"),
}
_IN_THE_UNIT = ("rmse", "mae")
_CROSS = "cross_validated_"
_LARGE = 1000
_WORST = 10
_SINGLE = 24
"""Of so few rows all are shown."""


@dataclass(frozen=True)
class Answered:
    """Rows of the table with what the model says of them."""

    recipe: Recipe
    rows: Rows
    target: Floats
    answers: Float32s
    """``[rows, outputs]``."""
    threshold: float


@dataclass(frozen=True)
class Line:
    """One line of a table of metrics."""

    name: str
    meaning: str
    model: str
    naive: str
    across: str
    """In cross-validation, where it was done beside the test."""


@dataclass(frozen=True)
class Tile:
    """A metric to read first."""

    name: str
    value: str
    note: str


def number(value: float) -> str:
    """Four digits that matter, thousands apart; large numbers without fractions."""
    if abs(value) >= _LARGE:
        return f"{value:,.0f}" if abs(value) < 1e12 else f"{value:.4g}"  # noqa: PLR2004 - too long
    return f"{value:.4g}" if abs(value) >= 1e-6 else "0"  # noqa: PLR2004 - float32's rounding


def measured(evaluation: Evaluation | None) -> str:
    """On which rows the metrics were found."""
    if evaluation is None:
        return (
            "Not measured: the table is complete, so there are no other rows to measure on. "
            "The answers below are for the rows it learned from."
        )
    if evaluation.part == "test":
        also = (
            f" In {evaluation.folds}-fold cross-validation the same recipe was fitted anew for "
            "each fold."
            if evaluation.folds
            else ""
        )
        return (
            f"Measured on {evaluation.rows:,} test rows, set aside before anything was learned."
            + also
        )
    kind = f"{evaluation.folds}-fold cross-validation"
    if evaluation.folds == evaluation.rows:
        kind = f"leaving one row out at a time ({kind})"
    return (
        f"Measured on all {evaluation.rows:,} rows by {kind}: "
        "each row was answered by a model that had not seen it."
    )


def tiles(evaluation: Evaluation | None, recipe: Recipe) -> list[Tile]:
    """The few metrics to read first."""
    lines = metric_rows(evaluation, recipe.target.unit)
    wanted = [METRICS[name] for name in _HEADLINES[recipe.task]]
    return [
        Tile(line.name, line.model, f"{line.naive} without a model" if line.naive else "")
        for name in wanted
        for line in lines
        if line.name.partition(" (")[0] == name
    ]


def metric_rows(evaluation: Evaluation | None, unit: str | None = None) -> list[Line]:
    """Every metric of all answers together, beside the naive predictor's; `unit`: the target's."""
    if evaluation is None:
        return []
    found, naive = evaluation.metrics, evaluation.baseline.metrics
    return [
        Line(
            f"{title} ({unit})" if unit and name in _IN_THE_UNIT else title,
            _MEANINGS[name],
            *(
                number(values[key]) if key in values else ""
                for values, key in ((found, name), (naive, name), (found, _CROSS + name))
            ),
        )
        for name, title in METRICS.items()
        if name in found
    ]


def interval_rows(output: Output) -> list[dict[str, str]]:
    """Each level of the prediction intervals with what it held on the test part."""
    if not isinstance(output, ValueOutput) or output.interval is None:
        return []
    interval = output.interval
    unit = f" {output.unit}" if output.unit else ""
    rows = []
    for one in interval.levels:
        ends = [_margin(interval, margin, unit) for margin in (min(one.margins), max(one.margins))]
        rows.append(
            {
                "level": f"{one.level:.0%}",
                "coverage": "" if one.coverage is None else f"{one.coverage:.1%}",
                "width": "" if one.mean_width is None else number(one.mean_width),
                "margin": " to ".join(dict.fromkeys(ends)),
            }
        )
    return rows


def _margin(interval: Interval, margin: float, unit: str) -> str:
    if interval.scale == "value":
        return f"± {number(margin)}{unit}"
    return f"+{math.expm1(margin):.1%} -{-math.expm1(-margin):.1%}"


def label_rows(
    evaluation: Evaluation | None,
    labels: Sequence[str],
    target: npt.NDArray[np.integer | np.float64],
) -> list[dict[str, str]]:
    """Precision, recall, specificity and F1 of each label, with its number of rows.

    Args:
        evaluation: has the shares.
        labels: none for a quantity.
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


def worst_rows(
    answered: Answered, table: Table, columns: Sequence[str]
) -> list[dict[str, str | list[str]]]:
    """The rows that were answered worst, with their cells as the table writes them."""
    errors, said = _errors(answered)
    cells = table.frame.select(columns)
    labels = answered.recipe.target.labels
    count = len(errors) if len(errors) <= _SINGLE else _WORST
    return [
        {
            "row": f"{table.row_number(int(answered.rows[k])):,}",
            "cells": [cell or "" for cell in cells.row(int(answered.rows[k]))],
            "true": labels[int(answered.target[k])] if labels else number(answered.target[k]),
            "answered": said[k],
            "error": f"{errors[k]:.0%}" if labels else number(errors[k]),
        }
        for k in np.argsort(-errors, kind="stable")[:count]
    ]


def _errors(answered: Answered) -> tuple[Floats, list[str]]:
    """How wrong each answer is, and the answer in words."""
    labels = answered.recipe.target.labels
    if not labels:
        value = answered.answers[:, 0].astype(np.float64)
        return np.abs(value - answered.target), [number(one) for one in value]
    shares = probabilities(answered.answers)
    chosen = decide(answered.answers, answered.threshold)
    said = [
        f"{labels[label]} ({row[label]:.0%})" for label, row in zip(chosen, shares, strict=True)
    ]
    return 1 - shares[np.arange(len(shares)), answered.target.astype(int)], said
