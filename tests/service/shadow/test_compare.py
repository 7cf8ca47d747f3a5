"""Two versions' answers side by side: what counts as the same, and how far apart they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.engine.model import ServedModel
from service.engine.tensors import ABSENT, Array, Arrays
from service.shadow.compare import Tolerance, compare, incompatibility, prediction_of, row_of
from tests.models import (
    place_bare,
    publish_admission,
    publish_iris,
    publish_mixed,
    publish_price,
    sum_and_difference,
)
from tests.service.shadow.loading import loaded

EXACT = Tolerance(0.0, 0.0)


@pytest.fixture
def bare(models: Path) -> ServedModel:
    """A model of which only the graph is known."""
    return loaded(place_bare(models, "bare", sum_and_difference()))


def rows(*values: object, dtype: Any = np.float32) -> Arrays:  # noqa: ANN401 - numpy's own
    """A column of values."""
    return (np.array(values, dtype).reshape(-1, 1),)


def test_labels_are_compared_by_what_they_are_called(models: Path) -> None:
    """The label is the manifest's choice, the distance that of any label's probability."""
    iris = loaded(publish_iris(models))
    one = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    other = np.array([[0.5, 0.4, 0.1], [0.2, 0.3, 0.5]])

    found = compare((iris, iris), rows(0, 0), ((one,), (other,)), EXACT)

    assert found.same.tolist() == [True, False]
    assert found.differences == pytest.approx([0.1, 0.2])
    assert found.labels == (["setosa", "versicolor"], ["setosa", "virginica"])


def test_of_two_labels_the_threshold_decides(models: Path) -> None:
    """The graph's one column is the second label's probability."""
    admission = loaded(publish_admission(models))

    found = compare((admission, admission), rows(0, 0), (rows(0.49, 0.9), rows(0.51, 0.6)), EXACT)

    assert found.same.tolist() == [False, True]
    assert found.differences == pytest.approx([0.02, 0.3])
    assert found.labels is not None
    assert found.labels[0] == ["not admitted", "admitted"]


@pytest.mark.parametrize(
    ("tolerance", "same"),
    [
        (EXACT, [True, False, False]),
        (Tolerance(0.0, 0.05), [True, True, False]),
        (Tolerance(2.0, 0.0), [True, False, True]),
    ],
)
def test_numbers_are_the_same_within_the_tolerance(
    models: Path, tolerance: Tolerance, same: list[bool]
) -> None:
    """Relative to the serving version's number, or absolute."""
    price = loaded(publish_price(models))

    found = compare(
        (price, price), rows(0, 0, 0), (rows(100, 100, 1), rows(100, 104, 2)), tolerance
    )

    assert found.same.tolist() == same
    assert found.differences.tolist() == [0.0, 4.0, 1.0]
    assert found.labels is None


def test_what_is_no_number_is_compared_too(bare: ServedModel) -> None:
    """Two NaN are alike, one is as far as can be; infinities are alike where their signs are."""
    one = rows(np.nan, np.nan, np.inf, np.inf)
    other = rows(np.nan, 1, np.inf, -np.inf)

    found = compare((bare, bare), rows(0, 0, 0, 0), (one, other), EXACT)

    assert found.same.tolist() == [True, False, True, False]
    assert np.isfinite(found.differences).all()
    assert found.differences.tolist()[::2] == [0.0, 0.0]


def test_words_are_the_same_or_not(bare: ServedModel) -> None:
    """A distance between them is 0 or 1."""
    found = compare(
        (bare, bare),
        rows(0, 0),
        (rows("a", "b", dtype=object), rows("a", "c", dtype=object)),
        EXACT,
    )

    assert (found.same.tolist(), found.differences.tolist()) == ([True, False], [0.0, 1.0])


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
def test_an_output_without_rows_speaks_for_all(
    bare: ServedModel, one: Array, other: Array, same: list[bool]
) -> None:
    """Scalars, other shapes, outputs that are left out."""
    assert compare((bare, bare), rows(0, 0), ((one,), (other,)), EXACT).same.tolist() == same


def test_several_outputs_must_all_agree(bare: ServedModel) -> None:
    """The distance is the largest."""
    one = (*rows(1, 1), *rows(5, 5))
    other = (*rows(1, 1), *rows(5, 8))

    found = compare((bare, bare), rows(0, 0), (one, other), EXACT)

    assert (found.same.tolist(), found.differences.tolist()) == ([True, False], [0.0, 3.0])


def test_versions_that_cannot_be_requested_the_same_are_reported(models: Path) -> None:
    """Other tensors, other features, or a manifest on one side."""
    price, again = loaded(publish_price(models)), loaded(publish_price(models, slope=3.0))
    bare = loaded(place_bare(models, "bare", sum_and_difference()))
    admission, iris = loaded(publish_admission(models)), loaded(publish_iris(models))

    assert incompatibility(price, again) is None
    assert "other inputs" in str(incompatibility(price, bare))
    assert "other inputs" in str(incompatibility(admission, iris))


def test_a_row_is_shown_as_a_client_would_write_it(models: Path) -> None:
    """Words, truths, and null where a value is missing."""
    mixed = loaded(publish_mixed(models))
    row = np.array([[np.nan, 3, 1, 1, -1]], np.float32)

    assert row_of(mixed, (row,), 0) == {
        "size": None,
        "rooms": 3.0,
        "garden": True,
        "quarter": "south",
        "colour": "(another)",
    }


def test_an_answer_is_shown_as_people_read_it(models: Path, bare: ServedModel) -> None:
    """A label with its probabilities, a number, several tensors, and nothing too long to read."""
    admission, price = loaded(publish_admission(models)), loaded(publish_price(models))

    assert prediction_of(admission, rows(0.25), 0) == {
        "label": "not admitted",
        "probabilities": {"not admitted": 0.75, "admitted": 0.25},
    }
    assert prediction_of(price, rows(1, 2), 1) == [2.0]
    assert prediction_of(bare, (np.array([[1, 2]]), np.array([[3]])), 0) == [[1, 2], [3]]
    assert prediction_of(bare, (np.zeros((1, 1000)), np.array([[3]])), 0) == [3]
