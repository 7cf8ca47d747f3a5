"""Which columns a model's answers depend on."""

import numpy as np

from training.data.table import Dataset, Float32s, Rows
from training.evaluation.metrics import measure
from training.model.predictor import Learned
from training.recipe.table import Recipe

_SHUFFLED_ROWS = 2000
_SHUFFLES = 3


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
