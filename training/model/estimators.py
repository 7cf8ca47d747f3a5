"""Model families that scikit-learn fits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import KMeans
from sklearn.metrics import confusion_matrix
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from training.data.table import Dataset, Float32s, Floats, Inputs, Rows
from training.model.boosting import Examples, fit_gradient_boosting
from training.model.networks import LARGEST_LOGARITHM
from training.recipe.table import Recipe

_STARTS = 10


@dataclass(frozen=True)
class Estimator:
    """A fitted scikit-learn estimator with the outputs of a published graph."""

    source = "scikit-learn"
    fitted: Any  # scikit-learn ships no types
    recipe: Recipe

    def predict(self, features: Inputs) -> Float32s:
        """Map ``[rows, columns]`` in raw units to predictions ``[rows, outputs]``."""
        labels = self.recipe.target.labels
        if not len(features):  # which scikit-learn rejects
            return np.empty((0, self.recipe.output_width), np.float32)
        if isinstance(self.fitted, ClusterMixin):
            return self._arrange(np.eye(len(labels))[self.fitted.predict(features)])
        predict = self.fitted.predict_proba if labels else self.fitted.predict
        return self._arrange(predict(features))

    def predict_stages(self, features: Inputs, stages: Sequence[int]) -> list[Float32s]:
        """Return what the first trees of gradient boosting predict, ``[rows, outputs]``.

        Args:
            features: ``[rows, columns]`` in raw units, of at least one row.
            stages: numbers of trees, ascending.
        """
        return [self._arrange(one) for one in self.fitted.predict_stages(features, stages)]

    def _arrange(self, found: Floats) -> Float32s:
        """Return values or probabilities of seen labels as outputs ``[rows, outputs]``."""
        labels = self.recipe.target.labels
        if not labels:
            if self.recipe.target.log:
                found = np.exp(np.minimum(found, LARGEST_LOGARITHM)) - 1
            return np.asarray(found[:, np.newaxis], dtype=np.float32)
        probabilities = np.zeros((len(found), len(labels)), dtype=np.float32)
        seen = slice(None) if isinstance(self.fitted, ClusterMixin) else self.fitted.classes_
        probabilities[:, seen] = found
        return probabilities[:, 1:] if self.recipe.task == "binary" else probabilities


def fit_estimator(recipe: Recipe, data: Dataset, training: Rows, validation: Rows) -> Estimator:
    """Fit the recipe's family of scikit-learn to the training set.

    The validation set, which may be empty, decides when gradient boosting stops.
    """
    target = data.target.astype(np.intp) if recipe.is_classification else data.target
    if recipe.target.log:
        target = np.log1p(target)
    seen, unseen = ((data.features[rows], target[rows]) for rows in (training, validation))
    return Estimator(FITTERS[recipe.network.family](recipe, seen, unseen), recipe)


def _fit_decision_tree(recipe: Recipe, training: Examples, _: Examples) -> BaseEstimator:
    x, y = training
    kind = DecisionTreeClassifier if recipe.is_classification else DecisionTreeRegressor
    return kind(random_state=recipe.seed).fit(x, y)


def _fit_k_means(recipe: Recipe, training: Examples, _: Examples) -> BaseEstimator:
    """Find clusters without the labels, then sort them in the order of the labels.

    The assignment of clusters to labels agrees with as many rows as possible.
    """
    x, y = training
    count = len(recipe.target.labels)
    clusters = KMeans(count, n_init=_STARTS, random_state=recipe.seed).fit(x)
    together = confusion_matrix(y, clusters.labels_, labels=range(count))
    _, order = linear_sum_assignment(together, maximize=True)
    clusters.cluster_centers_ = clusters.cluster_centers_[order]
    return clusters


FITTERS: Mapping[str, Callable[[Recipe, Examples, Examples], BaseEstimator]] = {
    "gradient-boosting": fit_gradient_boosting,
    "decision-tree": _fit_decision_tree,
    "k-means": _fit_k_means,
}
"""The families that scikit-learn fits, from the examples of the training and validation set."""
