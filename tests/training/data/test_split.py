"""Splits are reproducible, disjoint and stratified."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.split import folds, split_rows
from training.errors import DataError
from training.recipe.table import Split


@given(rows=st.integers(10, 300), seed=st.integers(0, 99), classes=st.booleans())
def test_every_row_is_in_one_set(rows: int, seed: int, classes: bool) -> None:  # noqa: FBT001
    """The sets are disjoint and complete, and the same seed gives the same sets."""
    target = (np.arange(rows) % 2).astype(np.float64)
    shares = Split(test=0.3, validation=0.3)

    parts = split_rows(target, shares, seed, classes=classes)

    together = np.concatenate([parts.training, parts.validation, parts.test])
    assert sorted(together) == list(range(rows))
    again = split_rows(target, shares, seed, classes=classes)
    assert np.array_equal(again.test, parts.test)
    assert np.array_equal(again.training, parts.training)


def test_sets_are_stratified() -> None:
    """A rare class has the same share in each set."""
    target = np.array([1.0] * 20 + [0.0] * 180)

    parts = split_rows(target, Split(test=0.25, validation=0.25), 1, classes=True)

    for part in (parts.training, parts.validation, parts.test):
        assert target[part].mean() == pytest.approx(0.1, abs=0.011)


def test_a_class_of_one_row_cannot_be_split() -> None:
    """The message suggests how to fix the recipe."""
    with pytest.raises(DataError, match=r"split\.test = 0"):
        split_rows(np.array([0.0, 0.0, 0.0, 0.0, 1.0]), Split(test=0.4), 1, classes=True)


@pytest.mark.parametrize(
    ("rows", "count", "classes"), [(6, 6, False), (40, 10, True), (7, 7, True)]
)
def test_folds_measure_every_row_once(rows: int, count: int, classes: bool) -> None:  # noqa: FBT001
    """Each row is in one fold, and not in the training rows of that fold."""
    target = (np.arange(rows) % 2).astype(np.float64)

    measured = []
    for rest, fold in folds(target, count, 1, classes=classes):
        assert not set(rest) & set(fold)
        measured += fold.tolist()

    assert sorted(measured) == list(range(rows))


def test_more_folds_than_rows_are_rejected() -> None:
    """The message has the number of folds and the number of rows."""
    with pytest.raises(DataError, match="7 folds need as many rows; there are 6"):
        list(folds(np.zeros(6), 7, 1, classes=False))
    with pytest.raises(DataError, match="the rarest has 1"):
        list(folds(np.array([0.0] * 5 + [1.0]), 3, 1, classes=True))
