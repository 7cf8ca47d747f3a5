"""Explanations of linear models: exact sums, and terms that match the features."""

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from service.bundle.explanations import Additive, CategoryTerm, NumberTerm, sum_exactly
from service.bundle.manifest import Manifest, ValueOutput
from tests.models import manifest, mixed_features

NUMBER = NumberTerm(kind="number", coefficients=[2.0], reference=10.0)
WORD = CategoryTerm(kind="category", words=[[-1.0], [1.0]], other=[0.5])
OPTIONAL = NUMBER.model_copy(update={"missing": [7.0]})


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_parts_add_up_exactly_in_any_order(size: float) -> None:
    """The sum of the parts equals the score exactly, in any order."""
    generator = np.random.default_rng(3)
    parts = generator.uniform(-size, size, 50).tolist()

    found = sum_exactly(parts[0], parts[1:])

    for _ in range(20):
        shuffled = generator.permutation([found.base, *found.contributions]).tolist()
        assert sum(shuffled) == found.score
    assert found.score == pytest.approx(math.fsum(parts), rel=1e-13, abs=1e-13 * size)


def test_a_sum_of_zeros_is_zero() -> None:
    """Without a magnitude, there is no power of two to round to."""
    assert sum_exactly(0.0, [0.0, 0.0]).score == 0


def test_a_number_contributes_by_its_distance_from_the_reference() -> None:
    """It is clipped to its bounds, and a missing value has its own contribution."""
    term = NUMBER.model_copy(update={"minimum": 0.0, "maximum": 20.0, "missing": [7.0]})

    assert [term.contributions(x) for x in (10, 12, 25, -3, math.nan)] == [
        [0],
        [4],
        [20],
        [-20],
        [7],
    ]


def test_each_category_has_its_own_contribution() -> None:
    """Unknown words share one, which missing words use too unless they have their own."""
    assert [WORD.contributions(x) for x in (0, 1, -1, math.nan)] == [[-1], [1], [0.5], [0.5]]


def reasons(**change: Any) -> dict[str, Any]:  # noqa: ANN401 - the class checks them
    """Return the explanation of a model with the mixed features."""
    additive = Additive(score="value", base=[1.0], terms=[OPTIONAL, NUMBER, NUMBER, WORD, WORD])
    return additive.model_dump() | change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"terms": [NUMBER]}, "the terms do not match the features"),
        (
            {"terms": [NUMBER, NUMBER, NUMBER, WORD, NUMBER]},
            "the terms do not match the features",
        ),
        ({"base": [1.0, 2.0]}, "base has 2 scores, and term 0 has others"),
        ({"score": "log-odds"}, "a regression model has no score 'log-odds'"),
    ],
)
def test_reasons_of_another_model_are_rejected(change: dict[str, Any], sentence: str) -> None:
    """A manifest with them is not valid."""
    document = manifest("mixed", mixed_features(), ValueOutput(kind="value", name="x")).model_dump()
    Manifest.model_validate(document | {"reasons": reasons()})

    with pytest.raises(ValidationError, match=sentence):
        Manifest.model_validate(document | {"reasons": reasons(**change)})
