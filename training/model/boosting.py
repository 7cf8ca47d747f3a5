"""Gradient boosting of decision trees, with encoded categories and binned numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator
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
    members: Sequence[Any]  # scikit-learn ships no types
    """Fitted with other seeds; the score is the mean of theirs."""

    @property
    def classes_(self) -> Ints:
        """The positions of the labels that the training set has."""
        return np.asarray(self.members[0].classes_)

    def predict(self, features: Inputs) -> Floats:
        """Return the values ``[rows]`` of features ``[rows, columns]``."""
        bins = self._find_bins(features)
        return np.asarray(np.mean([member.predict(bins) for member in self.members], axis=0))

    def predict_proba(self, features: Inputs) -> Floats:
        """Return the probabilities ``[rows, classes]`` of features ``[rows, columns]``."""
        bins = self._find_bins(features)
        scores = np.mean([member.decision_function(bins) for member in self.members], axis=0)
        return _to_probabilities(scores)

    def predict_stages(self, features: Inputs, stages: Sequence[int]) -> list[Floats]:
        """Return what the first trees predict, for each of these ascending numbers of trees.

        The shape is that of `predict`, or of `predict_proba` for labels. More trees than there are
        predict what all of them do.
        """
        bins = self._find_bins(features)
        staged = [_list_stages(member, bins, stages) for member in self.members]
        means = [np.mean(of_stage, axis=0) for of_stage in zip(*staged, strict=True)]
        is_classifier = hasattr(self.members[0], "decision_function")
        return [_to_probabilities(mean) for mean in means] if is_classifier else means

    def _find_bins(self, features: Inputs) -> Float32s:
        return find_bins(self.columns.encode(features), self.edges)


def fit_gradient_boosting(recipe: Recipe, training: Examples, validation: Examples) -> BoostedTrees:
    """Fit scikit-learn's histogram gradient boosting, which treats missing numbers as values.

    Categories become the smoothed mean of the target, which is learned on other folds than the
    rows it is used for. Without a validation set, or with a patience of 0, all trees are grown.
    """
    x, y = training
    fitted = fit_tree_columns(recipe, x, y)
    encoded = fitted.training
    edges = [choose_edges(column) for column in encoded.T]
    plan = recipe.boosting
    classes = recipe.is_classification
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    has_validation = len(validation[0]) > 0 and plan.patience > 0
    members = [
        kind(
            learning_rate=plan.learning_rate,
            max_iter=plan.max_iter,
            max_leaf_nodes=plan.max_leaf_nodes,
            min_samples_leaf=plan.min_samples_leaf,
            l2_regularization=plan.l2_regularization,
            max_features=plan.max_features,
            early_stopping=has_validation,
            n_iter_no_change=max(plan.patience, 1),
            random_state=recipe.seed + member,
            categorical_features=None,
        )
        for member in range(plan.members)
    ]
    unseen = {}
    if has_validation:
        bins = find_bins(fitted.columns.encode(validation[0]), edges)
        unseen = {"X_val": bins, "y_val": validation[1]}
    # Threads wait for each other longer than small tables take.
    with threadpool_limits(None if encoded.size >= _PARALLEL_CELLS else 1, user_api="openmp"):
        seen = find_bins(encoded, edges)
        # scikit-learn rejects a column without a value; no tree splits on a constant one.
        seen[:, np.isnan(encoded).all(axis=0)] = 0
        for member in members:
            member.fit(seen, y, **unseen)
    return BoostedTrees(fitted.columns, edges, members)


def _list_stages(member: BaseEstimator, bins: Float32s, stages: Sequence[int]) -> list[Floats]:
    """Return the scores after so many trees, or those of all trees if there are fewer."""
    is_classifier = hasattr(member, "decision_function")
    name = "staged_decision_function" if is_classifier else "staged_predict"
    found: list[Floats] = []
    last: Floats = np.empty(0)
    for count, last in enumerate(getattr(member, name)(bins), 1):
        if count == stages[len(found)]:
            found.append(last.copy())
            if len(found) == len(stages):
                break
    return [*found, *(last for _ in stages[len(found) :])]


def _to_probabilities(scores: Floats) -> Floats:
    """Map scores ``[rows]`` of the second of two classes, or ``[rows, classes]``."""
    if scores.ndim == 1:
        second = expit(scores)
        return np.column_stack([1 - second, second])
    return np.asarray(softmax(scores, axis=1))


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
