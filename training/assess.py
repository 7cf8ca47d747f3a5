"""How good a recipe's model is: on the rows set aside, or by cross-validation."""

import numpy as np

from service.bundle.manifest import Baseline, Evaluation
from training.describe import rounded
from training.evaluate import measure, naive_answers
from training.predictor import Learned, learn
from training.recipe import Recipe
from training.split import Parts, folds, set_aside
from training.tabular import Dataset, Floats, Table, encode


def assess(
    recipe: Recipe, table: Table, data: Dataset, parts: Parts, learned: Learned
) -> Evaluation | None:
    """Measure on the test part; where there is none, by cross-validation; None if there is neither.

    Where the recipe asks for both, the metrics of the folds stand beside the test part's as
    ``cross_validated_…``.
    """
    across = cross_validate(recipe, table, data.target) if recipe.split.folds else None
    if not len(parts.test):
        return across
    target = data.target[parts.test]
    answers = learned.predictor.predict(data.features[parts.test])
    name, naive = naive_answers(recipe, data.target[parts.training], len(target))
    found = measure(recipe, target, answers, learned.threshold)
    if across is not None:
        found |= {f"cross_validated_{key}": value for key, value in across.metrics.items()}
    return Evaluation(
        part="test",
        folds=across.folds if across else None,
        rows=len(target),
        metrics=rounded(found),
        baseline=Baseline(name=name, metrics=rounded(measure(recipe, target, naive, 0.5))),
    )


def cross_validate(recipe: Recipe, table: Table, target: Floats) -> Evaluation:
    """Fit the recipe once for each fold, from its columns on, and measure all answers together."""
    classes = recipe.task != "regression"
    width = len(recipe.target.labels) if recipe.task == "multiclass" else 1
    answers = np.zeros((len(target), width), dtype=np.float32)
    naive = np.zeros_like(answers)
    for rest, measured in folds(target, recipe.split.folds, recipe.seed, classes=classes):
        share = recipe.split.validation
        training, validation = set_aside(rest, target, share, recipe.seed, classes=classes)
        data = encode(table, recipe, training)
        learned = learn(recipe, data, training, validation)
        answers[measured] = learned.predictor.predict(data.features[measured])
        name, naive[measured] = naive_answers(recipe, target[training], len(measured))
    return Evaluation(
        part="cross-validation",
        folds=recipe.split.folds,
        rows=len(target),
        metrics=rounded(measure(recipe, target, answers, 0.5)),
        baseline=Baseline(name=name, metrics=rounded(measure(recipe, target, naive, 0.5))),
    )
