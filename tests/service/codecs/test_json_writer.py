"""Predictions are written with the same bytes as by orjson."""

import numpy as np
import orjson
import pytest

from service.api.native.protocol import response_body
from service.bundle.manifest import ClassesOutput, Output, ValueOutput
from service.codecs.json_writer import prediction_writer
from service.codecs.outputs import DEFAULT_PARAMETERS, predictions

ODD = ['a"b', "Tür 5%b", "\\", ""]
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
    "odd labels": (ClassesOutput(kind="classes", name="it", labels=[*ODD[:3], "d"]), 4),
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


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("rows", [1, 2, 7, 300])
@pytest.mark.parametrize("warned", [False, True])
def test_written_predictions_equal_the_objects(name: str, rows: int, *, warned: bool) -> None:
    """Single and in a list, with warnings of some rows and without."""
    output, width = OUTPUTS[name]
    numbers = scores(rows, width)
    warnings = {0: ["beyond ü"], rows - 1: ["a", '"b"']} if warned else {}
    objects = predictions(output, numbers, DEFAULT_PARAMETERS)
    for row, sentences in warnings.items():
        objects[row]["warnings"] = sentences

    for single in {False, rows == 1}:
        written = prediction_writer(output, "3").write(numbers, warnings, single=single)

        expected = response_body(objects, {"model_version": "3"}, single=single)
        assert written == orjson.dumps(expected, option=orjson.OPT_SERIALIZE_NUMPY)


def test_the_threshold_decides_between_two_columns_in_one_row_as_in_many() -> None:
    """A single row follows the same rule as a list: the second label from the threshold on."""
    output = ClassesOutput(kind="classes", name="it", labels=["no", "yes"], threshold=0.3)
    row = np.array([[0.6, 0.4]], np.float32)
    writer = prediction_writer(output, "1")

    one = orjson.loads(writer.write(row, {}, single=True))
    two = orjson.loads(writer.write(row.repeat(2, axis=0), {}, single=False))

    assert one["label"] == "yes"
    assert [prediction["label"] for prediction in two["predictions"]] == ["yes", "yes"]


def test_values_of_any_size_are_written_as_orjson_does() -> None:
    """The extremes of 32 bits, and numbers close to integers, are written correctly."""
    output = ValueOutput(kind="value", name="price")
    ends = np.finfo(np.float32)
    numbers = np.array([[ends.max], [ends.tiny], [-ends.max], [1e16], [0.1], [-0.0]], np.float32)

    written = prediction_writer(output, "1").write(numbers, {}, single=False)

    expected = response_body(
        predictions(output, numbers, DEFAULT_PARAMETERS), {"model_version": "1"}, single=False
    )
    assert written == orjson.dumps(expected, option=orjson.OPT_SERIALIZE_NUMPY)
