"""How good a recipe's model is: on the rows set aside, or by cross-validation."""

from dataclasses import dataclass

import numpy as np

from service.bundle.manifest import Baseline, Evaluation
from training.describe import rounded
from training.evaluate import measure, naive_answers
from training.predictor import Learned, learn
from training.recipe import Recipe
from training.split import Parts, folds, set_aside
from training.tabular import Dataset, Float32s, Floats, Rows, Table, encode


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
    classes = recipe.task != "regression"
    width = len(recipe.target.labels) if recipe.task == "multiclass" else 1
    answers = np.zeros((len(target), width), dtype=np.float32)
    naive = np.zeros_like(answers)
    name = ""
    for rest, measured in folds(target, recipe.split.folds, recipe.seed, classes=classes):
        share = recipe.split.validation
        training, validation = set_aside(rest, target, share, recipe.seed, classes=classes)
        data = encode(table, recipe, training)
        learned = learn(recipe, data, training, validation)
        answers[measured] = learned.predictor.predict(data.features[measured])
        name, naive[measured] = naive_answers(recipe, target[training], len(measured))
    evaluation = Evaluation(
        part="cross-validation",
        folds=recipe.split.folds,
        rows=len(target),
        metrics=rounded(measure(recipe, target, answers, 0.5)),
        baseline=Baseline(name=name, metrics=rounded(measure(recipe, target, naive, 0.5))),
    )
    return Assessment(np.arange(len(target)), answers, evaluation)
