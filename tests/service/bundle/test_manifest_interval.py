"""Prediction intervals in the manifest: contradictions are rejected."""

from typing import Any

import pytest
from pydantic import ValidationError

from service.bundle.manifest import Interval


def interval(**change: Any) -> dict[str, Any]:  # noqa: ANN401 - the class checks them
    """Return an interval of two bins and two levels."""
    levels = [{"level": 0.5, "margins": [1, 2]}, {"level": 0.9, "margins": [3, 2]}]
    whole = {"scale": "value", "source": "validation", "rows": 9, "edges": [5.0], "levels": levels}
    return whole | change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"edges": [5.0, 5.0]}, "edges do not ascend"),
        ({"edges": []}, "0 edges make 1 bins"),
        ({"levels": []}, "at least 1 item"),
        (
            {"levels": [{"level": 0.9, "margins": [1, 1]}, {"level": 0.5, "margins": [2, 2]}]},
            "levels do not ascend",
        ),
        (
            {"levels": [{"level": 0.5, "margins": [1, 3]}, {"level": 0.9, "margins": [2, 2]}]},
            "a margin of level 0.9 is below that of level 0.5",
        ),
        ({"levels": [{"level": 1.0, "margins": [1, 1]}]}, "less than 1"),
        ({"levels": [{"level": 0.5, "margins": [-1, 1]}]}, "greater than or equal to 0"),
    ],
)
def test_contradictions_are_rejected(change: dict[str, Any], sentence: str) -> None:
    """The validation error describes the contradiction."""
    Interval.model_validate(interval())

    with pytest.raises(ValidationError, match=sentence):
        Interval.model_validate(interval(**change))
