"""How good a recipe's model is: on the rows set aside, or by cross-validation."""

from dataclasses import dataclass

import numpy as np

from service.bundle.manifest import Baseline, Evaluation
from training.data.split import Parts, folds, set_aside
from training.data.table import Dataset, Float32s, Floats, Rows, Table, encode
from training.evaluation.calibration import unsure_metrics
from training.evaluation.metrics import confidence, measure, naive_answers, rounded
from training.learn import Learned, learn
from training.recipe.table import Recipe

_SHUFFLED_ROWS = 2000
_SHUFFLES = 3


@dataclass(frozen=True)
class Naive:
    """What a predictor says that learned nothing but the training part's target."""

    name: str
    answers: Float32s


@dataclass(frozen=True)
class Assessment:
    """What was measured, row by row, and in sum."""

    rows: Rows
    """The measured rows; none where the recipe is unmeasured."""
    answers: Float32s
    """``[rows, outputs]``, by a model that had not seen the row."""
    evaluation: Evaluation | None


def assess(
    recipe: Recipe, table: Table, data: Dataset, parts: Parts, learned: Learned
) -> Assessment:
    """Measure on the test part; where there is none, by cross-validation.

    Where the recipe asks for both, the metrics of the folds stand beside the test part's as
    ``cross_validated_…``.
    """
    target, test = data.target, parts.test
    answers = learned.predictor.predict(data.features[test])
    if not len(test) and not recipe.split.folds:
        return Assessment(test, answers, None)
    across = cross_validate(recipe, table, target) if recipe.split.folds else None
    if across is not None and not len(test):
        return across
    name, naive = naive_answers(recipe, target[parts.training], len(test))
    found = measure(recipe, target[test], answers, learned.threshold)
    if learned.unsure_below is not None:
        seen = confidence(target[test], answers, learned.threshold)
        found |= unsure_metrics(*seen, learned.unsure_below)
    if across is not None and across.evaluation is not None:
        metrics = across.evaluation.metrics.items()
        found |= {f"cross_validated_{metric}": value for metric, value in metrics}
    evaluation = Evaluation(
        part="test",
        folds=recipe.split.folds or None,
        rows=len(test),
        metrics=rounded(found),
        baseline=Baseline(name=name, metrics=rounded(measure(recipe, target[test], naive, 0.5))),
    )
    return Assessment(test, answers, evaluation)


def cross_validate(recipe: Recipe, table: Table, target: Floats) -> Assessment:
    """Fit the recipe once for each fold, from its columns on, and measure all answers together."""
    everything = np.arange(len(target))
    answers, naive = out_of_fold(recipe, table, target, everything, recipe.split.folds)
    evaluation = Evaluation(
        part="cross-validation",
        folds=recipe.split.folds,
        rows=len(target),
        metrics=rounded(measure(recipe, target, answers, 0.5)),
        baseline=Baseline(
            name=naive.name, metrics=rounded(measure(recipe, target, naive.answers, 0.5))
        ),
    )
    return Assessment(everything, answers, evaluation)


def out_of_fold(
    recipe: Recipe, table: Table, target: Floats, rows: Rows, count: int
) -> tuple[Float32s, Naive]:
    """Answers to some rows, each by a model that was fitted to the other folds of these rows.

    Args:
        recipe: what is fitted, from its columns on.
        table: all rows.
        target: of all rows.
        rows: those to divide into folds; no other row takes part.
        count: how many folds.

    Returns:
        The answers, ``[len(rows), outputs]``, and those of a predictor that learned nothing.
    """
    classes = recipe.task != "regression"
    width = len(recipe.target.labels) if recipe.task == "multiclass" else 1
    answers = np.zeros((len(rows), width), dtype=np.float32)
    naive = np.zeros_like(answers)
    name = ""
    share = recipe.split.validation * len(target) / len(rows)
    for rest, measured in folds(target[rows], count, recipe.seed, classes=classes):
        training, validation = set_aside(rows[rest], target, share, recipe.seed, classes=classes)
        data = encode(table, recipe, training)
        learned = learn(recipe, data, training, validation)
        answers[measured] = learned.predictor.predict(data.features[rows[measured]])
        name, naive[measured] = naive_answers(recipe, target[training], len(measured))
    return answers, Naive(name, naive)


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
