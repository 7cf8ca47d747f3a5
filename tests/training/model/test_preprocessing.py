"""Each preprocessing step equals numpy, and is fitted to the training set only."""

import numpy as np
import pytest
import torch

from training.data.table import Column, Float32s, Floats
from training.errors import DataError
from training.model.preprocessing import fit_preprocessing
from training.recipe import table as recipe
from training.recipe.table import Feature

_NUMBER = Column(Feature(name="n", type="number", optional=True))
_COLOR = Column(
    Feature(name="c", type="category", unseen="other", optional=True), ("blue", "green", "red")
)
_ROWS = np.array([[1, 0], [2, 1], [np.nan, 2], [9, 0]], dtype=np.float32)


def _prepared(plan: recipe.Preprocessing, training: Float32s, rows: Float32s) -> Floats:
    preprocessing = fit_preprocessing(plan, [_NUMBER, _COLOR], training)
    return np.asarray(preprocessing(torch.from_numpy(rows).double()).numpy())


def test_output_columns_are_numbers_categories_and_indicators() -> None:
    """The median replaces a missing number, which an indicator marks; categories are one-hot."""
    found = _prepared(recipe.Preprocessing(scaler="none"), _ROWS, _ROWS)

    expected = [[1, 1, 0, 0, 0], [2, 0, 1, 0, 0], [2, 0, 0, 1, 1], [9, 1, 0, 0, 0]]
    np.testing.assert_array_equal(found, expected)


def test_a_missing_or_unknown_category_is_all_zeros() -> None:
    """NaN and -1 both give zeros in all one-hot columns."""
    strange = np.array([[1, np.nan], [1, -1]], dtype=np.float32)

    found = _prepared(recipe.Preprocessing(scaler="none"), _ROWS, strange)

    np.testing.assert_array_equal(found[:, 1:4], np.zeros((2, 3)))


def test_clipping_uses_quantiles_of_the_training_set() -> None:
    """A value outside the bounds is replaced by the nearest one."""
    training = np.column_stack([np.arange(101), np.zeros(101)]).astype(np.float32)
    extreme = np.array([[-1e6, 0], [1e6, 0]], dtype=np.float32)

    found = _prepared(recipe.Preprocessing(scaler="none", clip=0.05), training, extreme)

    assert found[:, 0].tolist() == [5, 95]


def test_imputation_by_the_mean() -> None:
    """`impute = "mean"` uses the mean of the training set; indicators are optional."""
    plan = recipe.Preprocessing(scaler="none", impute="mean", add_indicator=False)

    found = _prepared(plan, _ROWS, _ROWS)

    assert found.shape == (4, 4)
    assert found[2, 0] == pytest.approx(4)


def test_other_sets_do_not_influence_the_fit() -> None:
    """Rows outside the training set are scaled by the statistics of the training set."""
    found = _prepared(recipe.Preprocessing(scaler="min-max"), _ROWS, _ROWS * 10)

    assert found[:, 0].max() == pytest.approx((90 - 1) / 8)


def test_an_empty_column_is_rejected() -> None:
    """A column without a value in the training set cannot be used, unless it is optional."""
    empty = np.array([[np.nan, 0], [np.nan, 1]], dtype=np.float32)
    required = Column(_NUMBER.feature.model_copy(update={"optional": False}))

    with pytest.raises(DataError, match="All training cells of 'n' are empty"):
        fit_preprocessing(recipe.Preprocessing(), [required, _COLOR], empty)


def test_rotated_pairs_are_rotations() -> None:
    """At 45 degrees a point on the diagonal has its distance, and at 135 degrees zero."""
    x, y = (Column(Feature(name=name, type="number")) for name in "xy")
    plan = recipe.Preprocessing(scaler="none", rotated=[("x", "y")])
    rows = np.array([[1, 1], [2, 2]], dtype=np.float32)

    preprocessing = fit_preprocessing(plan, [x, y], rows)
    found = preprocessing(torch.from_numpy(rows).double()).numpy()

    assert found.shape == (2, 8)
    assert preprocessing.numbers_width == 8
    np.testing.assert_allclose(found[:, 3], np.sqrt(2) * rows[:, 0])
    np.testing.assert_allclose(found[:, 6], [0, 0], atol=1e-12)
