"""Comparison of two versions' predictions: which are equal, and how much they differ."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.policy import Shadow
from service.engine.model import ServedModel
from service.engine.tensors import ABSENT, Array, Arrays
from service.shadow.compare import (
    compare,
    find_incompatibility,
    format_prediction,
    format_row,
)
from tests.models import (
    publish_admission,
    publish_bare,
    publish_iris,
    publish_mixed,
    publish_price,
    sum_and_difference,
)
from tests.service.shadow.loading import loaded

EXACT = Shadow(absolute=0.0, relative=0.0)


@pytest.fixture
def bare(models: Path) -> ServedModel:
    """Load a model without a manifest."""
    return loaded(publish_bare(models, "bare", sum_and_difference()))


def rows(*values: object, dtype: Any = np.float32) -> Arrays:  # noqa: ANN401 - numpy's own
    """Return a column of values."""
    return (np.array(values, dtype).reshape(-1, 1),)


def test_class_labels_are_compared_by_name(models: Path) -> None:
    """The difference is the largest one of the probabilities of a label."""
    iris = loaded(publish_iris(models))
    one = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    other = np.array([[0.5, 0.4, 0.1], [0.2, 0.3, 0.5]])

    found = compare((iris, iris), rows(0, 0), ((one,), (other,)), EXACT)

    assert found.is_equal.tolist() == [True, False]
    assert found.differences == pytest.approx([0.1, 0.2])
    assert found.labels == (["setosa", "versicolor"], ["setosa", "virginica"])


def test_the_threshold_decides_between_two_labels(models: Path) -> None:
    """The only column of the graph is the probability of the second label."""
    admission = loaded(publish_admission(models))

    found = compare((admission, admission), rows(0, 0), (rows(0.49, 0.9), rows(0.51, 0.6)), EXACT)

    assert found.is_equal.tolist() == [False, True]
    assert found.differences == pytest.approx([0.02, 0.3])
    assert found.labels is not None
    assert found.labels[0] == ["not admitted", "admitted"]


@pytest.mark.parametrize(
    ("policy", "same"),
    [
        (EXACT, [True, False, False]),
        (Shadow(absolute=0.0, relative=0.05), [True, True, False]),
        (Shadow(absolute=2.0, relative=0.0), [True, False, True]),
    ],
)
def test_numbers_within_the_tolerance_are_equal(
    models: Path, policy: Shadow, same: list[bool]
) -> None:
    """The tolerance is relative to the serving version's number, or absolute."""
    price = loaded(publish_price(models))

    found = compare((price, price), rows(0, 0, 0), (rows(100, 100, 1), rows(100, 104, 2)), policy)

    assert found.is_equal.tolist() == same
    assert found.differences.tolist() == [0.0, 4.0, 1.0]
    assert found.labels is None


def test_nan_and_infinities_are_compared(bare: ServedModel) -> None:
    """Two NaN are equal, and so are infinities of one sign; other differences are finite."""
    one = rows(np.nan, np.nan, np.inf, np.inf)
    other = rows(np.nan, 1, np.inf, -np.inf)

    found = compare((bare, bare), rows(0, 0, 0, 0), (one, other), EXACT)

    assert found.is_equal.tolist() == [True, False, True, False]
    assert np.isfinite(found.differences).all()
    assert found.differences.tolist()[::2] == [0.0, 0.0]


def test_strings_differ_by_0_or_1(bare: ServedModel) -> None:
    """Equal strings differ by 0, others by 1."""
    found = compare(
        (bare, bare),
        rows(0, 0),
        (rows("a", "b", dtype=object), rows("a", "c", dtype=object)),
        EXACT,
    )

    assert (found.is_equal.tolist(), found.differences.tolist()) == ([True, False], [0.0, 1.0])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (np.array(1.0), np.array(1.0), [True, True]),
        (np.array(1.0), np.array(2.0), [False, False]),
        (np.zeros((2, 3)), np.zeros((2, 4)), [False, False]),
        (ABSENT, np.zeros(2), [False, False]),
        (ABSENT, ABSENT, [True, True]),
        (np.zeros((5, 1)), np.zeros((5, 1)), [True, True]),
        (np.zeros((2, 0)), np.zeros((2, 0)), [True, True]),
    ],
)
def test_an_output_without_rows_counts_for_all_rows(
    bare: ServedModel, one: Array, other: Array, same: list[bool]
) -> None:
    """That holds for scalars, other shapes and omitted outputs."""
    assert compare((bare, bare), rows(0, 0), ((one,), (other,)), EXACT).is_equal.tolist() == same


def test_all_outputs_must_be_equal(bare: ServedModel) -> None:
    """The difference is the largest one."""
    one = (*rows(1, 1), *rows(5, 5))
    other = (*rows(1, 1), *rows(5, 8))

    found = compare((bare, bare), rows(0, 0), (one, other), EXACT)

    assert (found.is_equal.tolist(), found.differences.tolist()) == ([True, False], [0.0, 3.0])


def test_versions_with_other_inputs_are_incompatible(models: Path) -> None:
    """They differ in tensors or features, or only one has a manifest."""
    price, again = loaded(publish_price(models)), loaded(publish_price(models, slope=3.0))
    bare = loaded(publish_bare(models, "bare", sum_and_difference()))
    admission, iris = loaded(publish_admission(models)), loaded(publish_iris(models))

    assert find_incompatibility(price, again) is None
    assert "other inputs" in str(find_incompatibility(price, bare))
    assert "other inputs" in str(find_incompatibility(admission, iris))


def test_a_row_is_shown_as_a_client_would_write_it(models: Path) -> None:
    """Categories are strings, flags are booleans, and missing values are null."""
    mixed = loaded(publish_mixed(models))
    row = np.array([[np.nan, 3, 1, 1, -1]], np.float32)

    assert format_row(mixed, (row,), 0) == {
        "size": None,
        "rooms": 3.0,
        "garden": True,
        "quarter": "south",
        "color": "(other category)",
    }


def test_a_prediction_is_shown_in_readable_form(models: Path, bare: ServedModel) -> None:
    """It is a label with probabilities, a number, or several tensors; long tensors are omitted."""
    admission, price = loaded(publish_admission(models)), loaded(publish_price(models))

    assert format_prediction(admission, rows(0.25), 0) == {
        "label": "not admitted",
        "probabilities": {"not admitted": 0.75, "admitted": 0.25},
    }
    assert format_prediction(price, rows(1, 2), 1) == [2.0]
    assert format_prediction(bare, (np.array([[1, 2]]), np.array([[3]])), 0) == [[1, 2], [3]]
    assert format_prediction(bare, (np.zeros((1, 1000)), np.array([[3]])), 0) == [3]
