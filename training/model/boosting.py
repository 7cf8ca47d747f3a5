"""Gradient boosting of decision trees, with encoded categories and binned numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from service.predictions import Ints
from training.data.table import Float32s, Floats, Inputs
from training.model.tree_columns import TreeColumns, fit_tree_columns
from training.recipe.table import Recipe

Examples = tuple[Inputs, Floats | Ints]
"""Features ``[rows, columns]`` in raw units with positions of categories, and target ``[rows]``."""

_BINS = 255
_PARALLEL_CELLS = 500_000


@dataclass(frozen=True)
class BoostedTrees:
    """Fitted trees, which read the bins of encoded columns.

    The edges of the bins are 32-bit numbers, so that an exported graph, which compares the encoded
    columns with the edges themselves, takes the same branches.
    """

    columns: TreeColumns
    edges: list[Float32s]
    """Of each encoded column, ascending; a bin has the numbers up to its edge."""
    boosted: Any  # scikit-learn ships no types

    @property
    def classes_(self) -> Ints:
        """The positions of the labels that the training set has."""
        return np.asarray(self.boosted.classes_)

    def predict(self, features: Inputs) -> Floats:
        """Return the values ``[rows]`` of features ``[rows, columns]``."""
        return np.asarray(self.boosted.predict(self._find_bins(features)))

    def predict_proba(self, features: Inputs) -> Floats:
        """Return the probabilities ``[rows, classes]`` of features ``[rows, columns]``."""
        return np.asarray(self.boosted.predict_proba(self._find_bins(features)))

    def _find_bins(self, features: Inputs) -> Float32s:
        return find_bins(self.columns.encode(features), self.edges)


def fit_gradient_boosting(recipe: Recipe, training: Examples, validation: Examples) -> BoostedTrees:
    """Fit scikit-learn's histogram gradient boosting, which treats missing numbers as values.

    Categories become the smoothed mean of the target, which is learned on other folds than the
    rows it is used for. Without a validation set, all trees are grown.
    """
    x, y = training
    fitted = fit_tree_columns(recipe, x, y)
    encoded = fitted.training
    edges = [choose_edges(column) for column in encoded.T]
    plan = recipe.boosting
    classes = recipe.is_classification
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    has_validation = len(validation[0]) > 0
    boosted = kind(
        learning_rate=plan.learning_rate,
        max_iter=plan.max_iter,
        max_leaf_nodes=plan.max_leaf_nodes,
        min_samples_leaf=plan.min_samples_leaf,
        l2_regularization=plan.l2_regularization,
        max_features=plan.max_features,
        early_stopping=has_validation,
        n_iter_no_change=plan.patience,
        random_state=recipe.seed,
        categorical_features=None,
    )
    unseen = {}
    if has_validation:
        bins = find_bins(fitted.columns.encode(validation[0]), edges)
        unseen = {"X_val": bins, "y_val": validation[1]}
    # Threads wait for each other longer than small tables take.
    with threadpool_limits(None if encoded.size >= _PARALLEL_CELLS else 1, user_api="openmp"):
        boosted.fit(find_bins(encoded, edges), y, **unseen)
    return BoostedTrees(fitted.columns, edges, boosted)


def choose_edges(column: Float32s) -> Float32s:
    """Return the edges of the bins of a column ``[rows]``: between its numbers, or quantiles."""
    numbers = np.unique(column[~np.isnan(column)])
    if len(numbers) <= _BINS:
        return np.asarray((numbers[:-1] + numbers[1:]) / 2, np.float32)
    shares = np.linspace(0, 1, _BINS + 1)[1:-1]
    return np.unique(np.nanquantile(column, shares, method="lower").astype(np.float32))


def find_bins(encoded: Float32s, edges: list[Float32s]) -> Float32s:
    """Return the bin of each number ``[rows, columns]``; NaN remains."""
    bins = np.full_like(encoded, np.nan)
    for k, column in enumerate(encoded.T):
        known = ~np.isnan(column)
        bins[known, k] = np.searchsorted(edges[k], column[known])
    return bins
