"""The sections of a manifest: features of rows in 32 and in 64 bits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.bundle.features import FeaturesInput, IntegerFeature, NumberFeature
from service.bundle.store import parse_document, to_json
from service.codecs.features import FeatureCodec
from training.data.table import Column, Dataset, Floats
from training.export.manifest import describe_input, with_training_values
from training.recipe.table import Feature

COLUMNS = [Column(Feature(name="id", type="integer")), Column(Feature(name="time", type="number"))]


def described(rows: Floats, dtype: type[np.floating]) -> FeaturesInput:
    """The input of a manifest after it was written and read, by training rows of this type."""
    converted = rows.astype(dtype)
    data = Dataset(COLUMNS, np.empty((0, 2), np.float32), rows[:, 0])
    content = to_json(describe_input(data, converted))
    return parse_document(FeaturesInput, content, "manifest.json")


def test_rows_in_32_bits_are_described_with_seven_digits() -> None:
    """The digits that such rows have."""
    found = described(np.array([[3, 1 / 3]]), np.float32)

    assert found.datatype == "FP32"
    assert isinstance(found.features[1], NumberFeature)
    assert found.features[1].example == 0.3333333


def test_rows_in_64_bits_are_described_with_all_digits() -> None:
    """Identifiers differ in their last digits, and times by seconds."""
    found = described(np.array([[2**53 - 1, 1_764_500_000.25], [2**53 - 3, 0.1]]), np.float64)
    identifier, time = found.features

    assert found.datatype == "FP64"
    assert isinstance(identifier, IntegerFeature)
    assert isinstance(time, NumberFeature)
    assert identifier.trained is not None
    assert (identifier.trained.low, identifier.trained.high) == (2**53 - 3, 2**53 - 1)
    assert time.trained is not None
    assert (time.trained.low, time.trained.high) == (0.1, 1_764_500_000.25)
    assert time.example in (0.1, 1_764_500_000.25)


def example_row(columns: list[Column], rows: Floats) -> list[object]:
    """The examples of a manifest by these training rows."""
    data = Dataset(columns, rows, rows[:, 0])
    described = with_training_values(describe_input(data, rows), data, rows)
    content = to_json(described)
    return [f.example for f in parse_document(FeaturesInput, content, "manifest.json").features]


def test_the_example_has_values_of_different_rows() -> None:
    """So it is no row of the training set; only a boolean is the usual one."""
    columns = [
        Column(Feature(name="size", type="number")),
        Column(Feature(name="rooms", type="integer")),
        Column(Feature(name="garden", type="boolean")),
        Column(Feature(name="quarter", type="category"), ("north", "south")),
        Column(Feature(name="day", type="datetime", format="DD.MM.YYYY")),
    ]
    nan = np.nan
    rows = np.array([[50, nan, 0, 0, 3], [0.1, 7, 1, 1, 31], [50, 3, 0, 0, 3], [50, 3, 0, 0, 3]])

    assert example_row(columns, rows) == [50, 3, False, "north", "04.01.1970"]


def test_the_example_has_what_a_recipe_states() -> None:
    """Other values are those of rows, if the service accepts them."""
    columns = [
        Column(Feature(name="size", type="number", example=12)),
        Column(Feature(name="rooms", type="integer", maximum=9)),
        Column(Feature(name="quarter", type="category", unseen="other"), ("north", "south")),
    ]
    rows = np.array([[1, 99, -1], [2, 8, 1], [3, 5, 0], [4, 5, 0]])

    assert example_row(columns, rows) == [12, 5, "north"]


def test_the_example_has_no_missing_values() -> None:
    """Each value is of a row that has one."""
    columns = [Column(Feature(name=name, type="number", optional=True)) for name in "abc"]
    nan = np.nan
    rows = np.array([[1, nan, nan], [2, nan, 6], [nan, 5, nan], [3, nan, 7]])

    assert example_row(columns, rows) == [1, 5, 6]


@given(
    st.lists(
        st.tuples(st.integers(-(2**53) + 1, 2**53 - 1), st.floats(-3e38, 3e38)),
        min_size=1,
        max_size=20,
    )
)
def test_rows_of_the_training_set_are_within_its_range(rows: list[tuple[int, float]]) -> None:
    """The ends of a range of rows in 64 bits are not rounded away from them."""
    matrix = np.array(rows, np.float64)

    codec = FeatureCodec(described(matrix, np.float64))

    decoded = codec.decode_rows([[*row] for row in rows])
    assert decoded.tobytes() == matrix.tobytes()
    assert not codec.training_range.warnings(decoded)
