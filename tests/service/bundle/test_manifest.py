"""The manifest: contradictions are rejected with a message."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from service.bundle.manifest import (
    ClassesOutput,
    Examples,
    Interval,
    Manifest,
    ValueOutput,
    output_name,
    output_width,
)
from tests.models import admission_features, manifest, mixed_features, number

BINARY = ClassesOutput(kind="classes", name="decision", labels=["no", "yes"])


def document() -> dict[str, Any]:
    return manifest("admission", admission_features(), BINARY).model_dump()


def test_a_manifest_survives_json() -> None:
    """All types of features are read as they were written."""
    made = manifest("mixed", mixed_features(), ValueOutput(kind="value", name="price"))

    assert Manifest.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"task": "regression"}, "task 'regression' does not fit the output, which is binary"),
        ({"format_version": 2}, "Input should be 1"),
        ({"name": "../etc"}, "String should match pattern"),
        ({"surprise": 1}, "Extra inputs are not permitted"),
        ({"title": ""}, "at least 1 character"),
        (
            {"input": {"kind": "features", "features": [number("a"), number("a")]}},
            "feature names repeat: a",
        ),
        (
            {"output": {"kind": "classes", "name": "x", "labels": ["a", "a"]}},
            "labels repeat",
        ),
        (
            {
                "output": {
                    "kind": "classes",
                    "name": "x",
                    "labels": ["a", "b", "c"],
                    "threshold": 0.5,
                }
            },
            "a threshold needs exactly two labels",
        ),
    ],
)
def test_contradictions_are_rejected(change: dict[str, Any], sentence: str) -> None:
    """The validation error describes the contradiction."""
    with pytest.raises(ValidationError, match=sentence):
        Manifest.model_validate(document() | change)


@pytest.mark.parametrize(
    ("feature", "sentence"),
    [
        ({"type": "number", "allowed": {"minimum": 2, "maximum": 1}}, "minimum 2.0 is above"),
        ({"type": "category", "categories": ["a", "a"], "example": "a"}, "categories repeat"),
        ({"type": "category", "categories": ["a"], "example": "b"}, "'b' is not among"),
        ({"type": "date"}, "does not match any of the expected tags"),
    ],
)
def test_impossible_features_are_rejected(feature: dict[str, Any], sentence: str) -> None:
    """A feature that accepts no value is rejected."""
    features = [{"name": "a", "example": 1} | feature]

    with pytest.raises(ValidationError, match=sentence):
        Manifest.model_validate(document() | {"input": {"kind": "features", "features": features}})


def test_the_name_and_width_of_the_output_follow_from_its_kind() -> None:
    """Two class labels share one probability; more labels have one each."""
    three = ClassesOutput(kind="classes", name="x", labels=["a", "b", "c"])
    value = ValueOutput(kind="value", name="x")

    tensors = [(output_name(output), output_width(output)) for output in (BINARY, three, value)]

    assert tensors == [("probability", 1), ("probabilities", 3), ("value", 1)]


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("value", [2, 1], "output is 'value'"),
        ("probability", [2, 2], r"output is 'probability' \[2, 2\]"),
        ("probability", [1, 1], "output is"),
    ],
)
def test_examples_that_do_not_fit_are_reported(name: str, shape: list[int], sentence: str) -> None:
    """Names and shapes must match those of the manifest."""
    examples = Examples.model_validate(
        {
            "input": {"name": "features", "shape": [2, 2], "data": [1, 2, 3, None]},
            "output": {"name": name, "shape": shape, "data": [0.5] * (shape[0] * shape[1])},
            "tolerance": {"absolute": 0, "relative": 0},
        }
    )

    found = examples.mismatch(Manifest.model_validate(document()))

    assert found is not None
    assert re.match(sentence, found)


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
def test_contradictory_intervals_are_rejected(change: dict[str, Any], sentence: str) -> None:
    """The validation error describes the contradiction."""
    Interval.model_validate(interval())

    with pytest.raises(ValidationError, match=sentence):
        Interval.model_validate(interval(**change))
