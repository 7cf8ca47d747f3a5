"""Statistics of the target are those of scikit-learn's target encoder."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import TargetEncoder

from training.export.onnx_export import export_module
from training.model.statistics import fit_statistics
from training.onnx_files import Graph

_MISSING = -2.0


def _table(labels: int) -> tuple["np.ndarray[tuple[int, int], np.dtype[np.float32]]", np.ndarray]:
    """Two columns of categories with gaps and unknown ones, a number, and a target."""
    generator = np.random.default_rng(2)
    x = generator.integers(-1, [300, 1, 4], (900, 3)).astype(np.float32)
    x[generator.random(900) < 0.1, 0] = np.nan
    target = generator.normal(size=900) + x[:, 2]
    return x, np.digitize(target, range(labels - 1)) if labels else target


@pytest.mark.parametrize("labels", [0, 2, 3])
def test_means_are_smoothed_and_of_other_folds_for_the_training_set(labels: int) -> None:
    """Of a value, two labels and three; missing cells are a category, and so are unknown ones."""
    x, y = _table(labels)
    kind = {0: "continuous", 2: "binary", 3: "multiclass"}[labels]
    splitter = (StratifiedKFold if labels else KFold)(5, shuffle=True, random_state=7)
    encoder = TargetEncoder(smooth=10.0, cv=splitter, target_type=kind)
    marked = np.where(np.isnan(x), _MISSING, x)[:, [0, 2]]
    expected = encoder.fit_transform(marked, y)

    fitted = fit_statistics([0, 2], x, y, labels=labels, seed=7)

    np.testing.assert_allclose(fitted.out_of_fold, expected, atol=1e-12)
    found = fitted.lookup(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, encoder.transform(marked), atol=1e-12)


def test_the_graph_finds_the_same_statistics() -> None:
    """Also of missing and unknown categories, and of positions that training did not have."""
    x, y = _table(3)
    lookup = fit_statistics([0, 2], x, y, labels=3, seed=0).lookup.float()
    rows = np.array([[np.nan, 0, 9], [-1, 0, np.nan], [5, 0, 2], [1e9, 0, 0]], np.float32)

    graph = Graph(export_module(lookup, torch.from_numpy(rows[:3]), "x", "y"))

    np.testing.assert_array_equal(graph.predict(rows), lookup(torch.from_numpy(rows)).numpy())


def test_a_category_without_rows_has_the_mean_of_all() -> None:
    """A gap in a column without gaps is predicted as an average row."""
    x = np.array([[0], [0], [2], [2]], np.float32)

    lookup = fit_statistics([0], x, np.array([1.0, 3, 5, 7]), labels=0, seed=0).lookup

    found = lookup(torch.tensor([[1.0], [np.nan], [-1.0]])).numpy()
    np.testing.assert_array_equal(found, np.full((3, 1), 4.0))
