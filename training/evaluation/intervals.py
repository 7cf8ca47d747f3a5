"""Prediction intervals, from the errors on rows that the model was not fitted on."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.bundle.manifest import Interval, IntervalLevel
from service.predictions import interval_bins, interval_ends
from training.data.split import RowSplit
from training.data.table import Dataset, Float32s, Floats, Table
from training.evaluation.assessment import Assessment, predict_out_of_fold
from training.evaluation.metrics import round_number
from training.learn import FittedModel
from training.recipe.table import Recipe

LEVELS = (0.5, 0.8, 0.9, 0.95)
_MIN_VALIDATION_ROWS = 100
_ROWS_OF_A_BIN = 200
_MAX_BINS = 20

Source = Literal["validation", "cross-validation"]


@dataclass(frozen=True)
class HeldOutPredictions:
    """Predictions and true values, for rows that the models were not fitted on."""

    source: Source
    value: Floats
    target: Floats


def build_interval(  # noqa: PLR0913 - it takes all that a run has
    recipe: Recipe,
    table: Table,
    data: Dataset,
    parts: RowSplit,
    *,
    model: FittedModel,
    assessment: Assessment,
) -> Interval | None:
    """Fit the model's intervals, and measure them on the test set; None if there are too few rows.

    With ``split.interval_folds`` they come from out-of-fold predictions for the rows outside the
    test set; otherwise from cross-validation or from the validation set.
    """
    if recipe.is_classification:
        return None
    held_out = _get_held_out_predictions(
        recipe, table, data, parts, model=model, assessment=assessment
    )
    if held_out is None:
        return None
    fitted = fit_interval(held_out, "log1p" if recipe.target.log else "value")
    if fitted is None or assessment.evaluation is None or assessment.evaluation.part != "test":
        return fitted
    value, target = _to_values(assessment.predictions), data.target[assessment.rows]
    return measure_coverage(fitted, value, target)


def fit_interval(held_out: HeldOutPredictions, scale: Literal["value", "log1p"]) -> Interval | None:
    """Fit the margins for each bin of values, and for each level with enough rows.

    Of n errors the margin is the ceil((n + 1) * level)-th smallest; without one, the level is
    left out (split conformal prediction: Lei et al., "Distribution-Free Predictive Inference for
    Regression", 2018).
    """
    edges = _compute_edges(held_out.value)
    position = interval_bins(edges, held_out.value)
    distances = np.abs(_scale(held_out.target, scale) - _scale(held_out.value, scale))
    grouped = [np.sort(distances[position == k]) for k in range(len(edges) + 1)]
    levels = []
    for level in LEVELS:
        ranks = [math.ceil((len(one) + 1) * level - 1e-9) for one in grouped]
        if all(rank <= len(one) for rank, one in zip(ranks, grouped, strict=True)):
            pairs = zip(ranks, grouped, strict=True)
            margins = [round_number(one[rank - 1]) for rank, one in pairs]
            levels.append(IntervalLevel(level=level, margins=margins))
    if not levels:
        return None
    return Interval(
        scale=scale, source=held_out.source, rows=len(held_out.value), edges=edges, levels=levels
    )


def measure_coverage(interval: Interval, value: Floats, target: Floats) -> Interval:
    """Measure the coverage and mean width of each level on other rows.

    Args:
        interval: as it was fitted.
        value: ``[rows]``, what the model predicts.
        target: ``[rows]``, true values.
    """
    levels = []
    for level in interval.levels:
        low, high = interval_ends(interval, level, value)
        coverage = round_number(((low <= target) & (target <= high)).mean())
        width = round_number((high - low).mean())
        levels.append(level.model_copy(update={"coverage": coverage, "mean_width": width}))
    return interval.model_copy(update={"levels": levels})


def _get_held_out_predictions(  # noqa: PLR0913 - as above
    recipe: Recipe,
    table: Table,
    data: Dataset,
    parts: RowSplit,
    *,
    model: FittedModel,
    assessment: Assessment,
) -> HeldOutPredictions | None:
    source: Source = "cross-validation"
    evaluation = assessment.evaluation
    if recipe.split.interval_folds:
        found = predict_out_of_fold(
            recipe, table, data.target, parts.outside_test, recipe.split.interval_folds
        )
        rows, predictions = found.rows, found.predictions
    elif evaluation is not None and evaluation.part == "cross-validation":
        rows, predictions = assessment.rows, assessment.predictions
    elif len(parts.validation) >= _MIN_VALIDATION_ROWS:
        source, rows = "validation", parts.validation
        predictions = model.predictor.predict(data.features[rows])
    else:
        return None
    return HeldOutPredictions(source, _to_values(predictions), data.target[rows])


def _to_values(predictions: Float32s) -> Floats:
    return predictions[:, 0].astype(np.float64)


def _compute_edges(value: Floats) -> list[float]:
    """Return the edges of bins with equal numbers of rows."""
    bins = min(max(len(value) // _ROWS_OF_A_BIN, 1), _MAX_BINS)
    edges = sorted(set(map(round_number, np.quantile(value, np.arange(1, bins) / bins))))
    while edges:
        counts = np.bincount(interval_bins(edges, value), minlength=len(edges) + 1)
        smallest = int(counts.argmin())
        if 2 * counts[smallest] >= _ROWS_OF_A_BIN:
            break
        del edges[max(smallest - 1, 0)]
    return edges


def _scale(value: Floats, scale: Literal["value", "log1p"]) -> Floats:
    return np.log1p(value) if scale == "log1p" else value
