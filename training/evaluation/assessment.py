"""The assessment of a recipe's model: on the test set or by cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.bundle.manifest import Baseline, Evaluation, SplitRule
from training.data.split import RowSplit, create_splitter
from training.data.table import Dataset, Float32s, Floats, Inputs, Rows, Table, encode
from training.evaluation.losses import compute_loss
from training.evaluation.metrics import (
    measure,
    measure_low_confidence,
    predict_baseline,
    round_metrics,
)
from training.learn import FittedModel, choose_thresholds, fit_model
from training.model.thresholds import compute_confidence
from training.recipe.table import Recipe

_SHUFFLED_ROWS = 2000
_SHUFFLES = 3
# More would take longer than the fit of a wide table.
_MOST_SHUFFLED_ROWS = 120_000
_FEWEST_ROWS = 100


@dataclass(frozen=True)
class Assessment:
    """Predictions for the measured rows, and their metrics."""

    rows: Rows
    """The measured rows; empty if the recipe is unmeasured."""
    predictions: Float32s
    """``[rows, outputs]``, by a model that was not fitted on the row."""
    evaluation: Evaluation | None


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """Predictions by models that were not fitted on the row."""

    rows: Rows
    """The predicted rows, in order; in the order of time, the oldest rows are not predicted."""
    predictions: Float32s
    """``[rows, outputs]``."""
    baseline: tuple[str, Float32s]
    """Name and predictions of the baseline."""


def assess(  # noqa: PLR0913 - it takes all that a run has
    recipe: Recipe,
    table: Table,
    data: Dataset,
    parts: RowSplit,
    fitted: FittedModel,
    *,
    known: OutOfFoldPredictions | None = None,
) -> Assessment:
    """Measure on the test set or, without one, by cross-validation.

    If the recipe has both, the metrics of the folds are added as ``cross_validated_…``. The
    out-of-fold predictions of all rows are computed unless they are ``known``.
    """
    target, test = data.target, parts.test
    predictions = fitted.predictor.predict(data.features[test])
    if not len(test) and not recipe.split.folds:
        return Assessment(test, predictions, None)
    cross_validation = None
    if recipe.split.folds:
        cross_validation = cross_validate(recipe, table, target, known)
    if cross_validation is not None and not len(test):
        return cross_validation
    baseline = predict_baseline(recipe, target[parts.training], len(test))
    found = measure(recipe, target[test], predictions, fitted.threshold)
    if fitted.unsure_below is not None:
        seen = compute_confidence(target[test], predictions, fitted.threshold)
        found |= measure_low_confidence(*seen, fitted.unsure_below)
    if cross_validation is not None and cross_validation.evaluation is not None:
        metrics = cross_validation.evaluation.metrics.items()
        found |= {f"cross_validated_{metric}": value for metric, value in metrics}
    return Assessment(
        test, predictions, _build_evaluation(recipe, "test", target[test], found, baseline)
    )


def cross_validate(
    recipe: Recipe, table: Table, target: Floats, known: OutOfFoldPredictions | None = None
) -> Assessment:
    """Fit the recipe once per fold, preprocessing included, and measure all predictions."""
    rows = np.arange(len(target))
    found = known or predict_out_of_fold(recipe, table, target, rows, recipe.split.folds)
    measured = target[found.rows]
    threshold, _ = choose_thresholds(recipe, measured, found.predictions)
    metrics = measure(recipe, measured, found.predictions, threshold)
    evaluation = _build_evaluation(recipe, "cross-validation", measured, metrics, found.baseline)
    return Assessment(found.rows, found.predictions, evaluation)


def _build_evaluation(
    recipe: Recipe,
    part: Literal["test", "cross-validation"],
    target: Floats,
    found: dict[str, float],
    baseline: tuple[str, Float32s],
) -> Evaluation:
    """Return the metrics of the measured rows, next to those of the baseline's predictions."""
    name, predictions = baseline
    return Evaluation(
        part=part,
        folds=recipe.split.folds or None,
        rows=len(target),
        split=_describe_rule(recipe),
        metrics=round_metrics(found),
        baseline=Baseline(name=name, metrics=round_metrics(measure(recipe, target, predictions))),
    )


def _describe_rule(recipe: Recipe) -> SplitRule | None:
    split = recipe.split
    if split.group is not None:
        return SplitRule(by="group", column=split.group)
    return None if split.time is None else SplitRule(by="time", column=split.time)


def predict_out_of_fold(
    recipe: Recipe, table: Table, target: Floats, rows: Rows, count: int
) -> OutOfFoldPredictions:
    """Predict rows by models that were fitted to other folds.

    Args:
        recipe: fitted once per fold, preprocessing included.
        table: all rows.
        target: of all rows.
        rows: the rows to split into folds; no others are used.
        count: the number of folds.
    """
    splitter = create_splitter(recipe, table, target)
    share = recipe.split.validation * len(target) / len(rows)
    folds, predictions = list(splitter.folds(rows, count)), []
    for rest, measured in folds:
        training, validation = splitter.hold_out(rest, share)
        data = encode(table, recipe, training)
        fitted = fit_model(recipe, data, training, validation)
        predictions.append(fitted.predictor.predict(data.features[measured]))
    return join_folds(recipe, target, folds, predictions)


def join_folds(
    recipe: Recipe,
    target: Floats,
    folds: Sequence[tuple[Rows, Rows]],
    predictions: Sequence[Float32s],
) -> OutOfFoldPredictions:
    """Return the predictions of all folds, with those of the baseline, in the order of the rows.

    Args:
        recipe: that predicted them.
        target: of all rows.
        folds: the rows to fit, and the measured rows.
        predictions: of the measured rows of each fold.
    """
    pairs = [predict_baseline(recipe, target[rest], len(measured)) for rest, measured in folds]
    predicted = np.concatenate([measured for _, measured in folds])
    order = np.argsort(predicted)
    return OutOfFoldPredictions(
        predicted[order],
        np.concatenate(predictions)[order],
        (pairs[0][0], np.concatenate([baseline for _, baseline in pairs])[order]),
    )


def measure_permutation_importance(
    recipe: Recipe, data: Dataset, fitted: FittedModel, rows: Rows
) -> tuple[str, dict[str, float]]:
    """Measure how much the error increases when the cells of one column are shuffled.

    Breiman, "Random Forests" (2001), section 10.

    Returns:
        The metric, and its mean increase over a few shuffles for each column.
    """
    metric = "log_loss" if recipe.is_classification else "rmse"
    generator = np.random.default_rng(recipe.seed)
    columns = len(data.columns)
    shuffles = int(np.clip(_MOST_SHUFFLED_ROWS // (columns * _SHUFFLED_ROWS), 1, _SHUFFLES))
    most = min(_SHUFFLED_ROWS, max(_MOST_SHUFFLED_ROWS // (columns * shuffles), _FEWEST_ROWS))
    rows = generator.permutation(rows)[:most]
    features, target = data.features[rows], data.target[rows]

    def compute_error(shuffled: Inputs) -> float:
        predictions = fitted.predictor.predict(shuffled)
        return compute_loss(target, predictions, classes=recipe.is_classification)

    unshuffled = compute_error(features)
    importance = {}
    for k, column in enumerate(data.columns):
        increases = []
        for _ in range(shuffles):
            shuffled = features.copy()
            shuffled[:, k] = generator.permutation(shuffled[:, k])
            increases.append(compute_error(shuffled) - unshuffled)
        importance[column.feature.name] = float(np.mean(increases))
    return metric, importance
