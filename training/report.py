"""The report: one self-contained page that a reviewer reads before trusting a model."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from service.bundle.manifest import CategoryFeature, Evaluation, Manifest
from training import figures
from training.assess import Assessment
from training.config import parse_recipe, toml_of
from training.evaluate import decide, measure, probabilities
from training.predictor import Learned
from training.recipe import Recipe
from training.tabular import Dataset, Float32s, Floats, Rows, Table

_TEMPLATE = Path(__file__).parent / "report.html.j2"
_WORST = 10
_SHUFFLED_ROWS = 2000
_SHUFFLES = 3


def render(
    manifest: Manifest, table: Table, data: Dataset, learned: Learned, assessment: Assessment
) -> bytes:
    """The page as HTML with its figures inside; it loads nothing."""
    recipe = _recipe(manifest)
    target = data.target[assessment.rows]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(
        manifest=manifest,
        provenance=manifest.provenance,
        measured=_measured(manifest.evaluation),
        metrics=_metric_rows(manifest.evaluation),
        pictures=[_data_uri(svg) for svg in _pictures(recipe, data, learned, assessment)],
        features=[_feature_row(feature) for feature in manifest.input.features],
        scaler=manifest.scaler,
        threshold=learned.threshold if recipe.task == "binary" else None,
        columns=[feature.name for feature in recipe.features],
        worst=_worst(recipe, table, target, assessment, learned.threshold),
        recipe=toml_of(recipe),
        command=f"python -m training {recipe.name}",
    )
    return page.encode()


def permutation_importance(
    recipe: Recipe, data: Dataset, learned: Learned, rows: Rows
) -> tuple[str, dict[str, float]]:
    """How much worse the model answers when one column's cells are dealt out anew.

    Breiman, "Random Forests" (2001), section 10.

    Returns:
        The metric, and its mean rise over a few shuffles for each column.
    """
    metric = "rmse" if recipe.task == "regression" else "log_loss"
    generator = np.random.default_rng(recipe.seed)
    rows = generator.permutation(rows)[:_SHUFFLED_ROWS]
    features, target = data.features[rows], data.target[rows]

    def error(seen: Float32s) -> float:
        answers = learned.predictor.predict(seen)
        return measure(recipe, target, answers, learned.threshold)[metric]

    usual = error(features)
    importance = {}
    for k, column in enumerate(data.columns):
        rises = []
        for _ in range(_SHUFFLES):
            shuffled = features.copy()
            shuffled[:, k] = generator.permutation(shuffled[:, k])
            rises.append(error(shuffled) - usual)
        importance[column.feature.name] = float(np.mean(rises))
    return metric, importance


def _recipe(manifest: Manifest) -> Recipe:
    return parse_recipe(manifest.provenance.recipe if manifest.provenance else {}, manifest.name)


def _pictures(recipe: Recipe, data: Dataset, learned: Learned, assessment: Assessment) -> list[str]:
    pictures = []
    target = data.target[assessment.rows]
    if len(target) and recipe.task == "regression":
        value = assessment.answers[:, 0].astype(np.float64)
        pictures += [
            figures.predicted_and_true(target, value, recipe.target.unit),
            figures.residuals(target, value, recipe.target.unit),
        ]
    elif len(target):
        pictures += _class_pictures(recipe, target, learned.threshold, assessment.answers)
    shown = assessment.rows if len(target) else np.arange(len(data.target))
    metric, importance = permutation_importance(recipe, data, learned, shown)
    pictures.append(figures.importance_bars(importance, metric.replace("_", " ")))
    if learned.histories:
        pictures.append(figures.learning_curves(learned.histories))
    return pictures


def _class_pictures(
    recipe: Recipe, target: Floats, threshold: float, answers: Float32s
) -> list[str]:
    classes, labels = target.astype(np.intp), recipe.target.labels
    shares = probabilities(answers)
    pictures = [figures.confusion(classes, decide(answers, threshold), labels)]
    if len(np.unique(classes)) == len(labels):
        pictures += [
            figures.roc_curves(classes, shares, labels),
            figures.precision_recall_curves(classes, shares, labels),
            figures.calibration(classes, shares, labels),
        ]
    return pictures


def _worst(
    recipe: Recipe, table: Table, target: Floats, assessment: Assessment, threshold: float
) -> list[dict[str, Any]]:
    """The measured rows that were answered worst, with their cells as the table writes them."""
    if recipe.task == "regression":
        answered = [f"{value:,.6g}" for value in assessment.answers[:, 0]]
        errors = np.abs(assessment.answers[:, 0] - target)
    else:
        shares = probabilities(assessment.answers)
        errors = 1 - shares[np.arange(len(target)), target.astype(int)]
        chosen = decide(assessment.answers, threshold)
        answered = [
            f"{recipe.target.labels[label]} ({row[label]:.0%})"
            for label, row in zip(chosen, shares, strict=True)
        ]
    cells = table.frame.select([feature.name for feature in recipe.features])
    truth = table.column(recipe.target.column)
    return [
        {
            "row": int(assessment.rows[k]) + 1,
            "cells": ["" if cell is None else cell for cell in cells.row(int(assessment.rows[k]))],
            "true": truth[int(assessment.rows[k])],
            "answered": answered[k],
        }
        for k in np.argsort(-errors, kind="stable")[:_WORST]
    ]


def _measured(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "Not measured: the table is complete, so there are no other rows to measure on."
    if evaluation.part == "test":
        return f"Measured on {evaluation.rows:,} test rows, set aside before anything was learned."
    return (
        f"Measured on all {evaluation.rows:,} rows by {evaluation.folds}-fold cross-validation: "
        "each row was answered by a model that had not seen it."
    )


@dataclass(frozen=True)
class _MetricRow:
    name: str
    model: str
    naive: str


def _metric_rows(evaluation: Evaluation | None) -> list[_MetricRow]:
    if evaluation is None:
        return []
    naive = evaluation.baseline.metrics
    return [
        _MetricRow(
            name.replace("_", " "), f"{value:,.5g}", f"{naive[name]:,.5g}" if name in naive else ""
        )
        for name, value in evaluation.metrics.items()
    ]


def _feature_row(feature: Any) -> dict[str, str]:  # noqa: ANN401 - any of the contract's features
    """One line of the model card."""
    span = getattr(feature, "trained", None)
    trained = f"{span.minimum:,.6g} to {span.maximum:,.6g}" if span else ""
    if isinstance(feature, CategoryFeature):
        trained = ", ".join(feature.categories)
    return {
        "name": feature.name,
        "type": feature.type + (", may be missing" if feature.optional else ""),
        "unit": feature.unit or "",
        "trained": trained,
        "description": feature.description,
    }


def _data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
