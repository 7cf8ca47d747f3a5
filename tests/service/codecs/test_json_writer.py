"""Predictions as JSON, compared with objects that orjson writes."""

from typing import Any

import numpy as np
import orjson
import pytest

from service.bundle.manifest import ClassesOutput, Output, ValueOutput
from service.codecs.json_writer import Fields, JsonObject, prediction_writer
from service.codecs.parameters import DEFAULT_PARAMETERS, Parameters

ODD = ['a"b', "Tür 5%b", "\\", "two\nlines"]
OUTPUTS: dict[str, tuple[Output, int]] = {
    "value": (ValueOutput(kind="value", name="price"), 1),
    "value with a unit": (ValueOutput(kind="value", name="price", unit='5" discs'), 1),
    "two labels": (ClassesOutput(kind="classes", name="it", labels=["no", "yes"]), 1),
    "two with a threshold": (
        ClassesOutput(kind="classes", name="it", labels=["no", "yes"], threshold=0.3),
        1,
    ),
    "two that may be unsure": (
        ClassesOutput(kind="classes", name="it", labels=["no", "yes"], unsure_below=0.8),
        1,
    ),
    "two labels in two columns": (
        ClassesOutput(kind="classes", name="it", labels=["no", "yes"], threshold=0.3),
        2,
    ),
    "odd labels": (ClassesOutput(kind="classes", name="it", labels=ODD), 4),
    "many that may be unsure": (
        ClassesOutput(kind="classes", name="it", labels=list("0123456789"), unsure_below=0.5),
        10,
    ),
}


def scores(rows: int, width: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Numbers of every length, and both ends."""
    random = np.random.default_rng(rows)
    found = random.random((rows, width)).astype(np.float32) ** random.integers(1, 12, (rows, width))
    found[0, 0], found[-1, -1] = 1, 0
    return found.astype(np.float32)


def expected_row(output: Output, row: "np.ndarray[Any, Any]", parameters: Parameters) -> JsonObject:
    """Return the object of a row, computed with Python's own functions."""
    if isinstance(output, ValueOutput):
        return {"value": row[0]} | ({} if output.unit is None else {"unit": output.unit})
    numbers = [1 - row[0], row[0]] if len(row) == 1 else list(row)
    label = numbers.index(max(numbers))
    if len(numbers) == 2:
        label = int(numbers[1] >= output.decision_threshold)
    found: JsonObject = {"label": output.labels[label], "probability": numbers[label]}
    by_label = dict(zip(output.labels, numbers, strict=True))
    if parameters.top is not None:
        ranked = sorted(by_label.items(), key=lambda item: item[1], reverse=True)
        by_label = dict(ranked[: parameters.top])
    if parameters.probabilities:
        found["probabilities"] = by_label
    if output.unsure_below is not None:
        found["unsure"] = float(numbers[label]) < output.unsure_below
    return found


def dumps(document: JsonObject) -> bytes:
    """Return what orjson writes."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("rows", [1, 2, 7, 300])
@pytest.mark.parametrize("warned", [False, True])
@pytest.mark.parametrize(
    "parameters", [DEFAULT_PARAMETERS, Parameters(top=3), Parameters(probabilities=False)]
)
def test_predictions_are_written_as_objects(
    name: str, rows: int, parameters: Parameters, *, warned: bool
) -> None:
    """Single and in a list, as lines, with warnings of some rows and without."""
    output, width = OUTPUTS[name]
    numbers = scores(rows, width)
    fields: Fields = {}
    if warned:
        fields = {0: {"warnings": ["beyond ü"]}, rows - 1: {"warnings": ["a", '"b"'], "file": "c"}}
    writer = prediction_writer(output, "3")
    expected = [
        expected_row(output, row, parameters) | fields.get(position, {})
        for position, row in enumerate(numbers)
    ]

    written = writer.write(numbers, parameters, fields, single=False)
    with_method = writer.write(numbers, parameters, fields, single=False, shared={"method": "m"})
    single = writer.write(numbers[:1], parameters, {0: fields[0]} if warned else {}, single=True)

    assert written == dumps({"predictions": expected, "model_version": "3"})
    assert with_method == dumps({"predictions": expected, "method": "m", "model_version": "3"})
    assert single == dumps({**expected[0], "model_version": "3"})
    assert writer.write_rows(numbers, parameters, fields) == [dumps(row) for row in expected]


def test_the_threshold_decides_between_two_columns_in_one_row_as_in_many() -> None:
    """A single row follows the same rule as a list: the second label from the threshold on."""
    output = ClassesOutput(kind="classes", name="it", labels=["no", "yes"], threshold=0.3)
    row = np.array([[0.6, 0.4]], np.float32)
    writer = prediction_writer(output, "1")

    one = orjson.loads(writer.write(row, DEFAULT_PARAMETERS, single=True))
    two = orjson.loads(writer.write(row.repeat(2, axis=0), DEFAULT_PARAMETERS, single=False))

    assert one["label"] == "yes"
    assert [prediction["label"] for prediction in two["predictions"]] == ["yes", "yes"]


def test_values_of_any_size_are_written_as_orjson_does() -> None:
    """The extremes of 32 bits, and numbers close to integers, are written correctly."""
    output = ValueOutput(kind="value", name="price")
    ends = np.finfo(np.float32)
    numbers = np.array([[ends.max], [ends.tiny], [-ends.max], [1e16], [0.1], [-0.0]], np.float32)

    written = prediction_writer(output, "1").write(numbers, DEFAULT_PARAMETERS, single=False)

    expected = [{"value": number} for number in numbers[:, 0]]
    assert written == dumps({"predictions": expected, "model_version": "1"})
