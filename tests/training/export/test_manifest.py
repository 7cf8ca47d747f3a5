"""The sections of a manifest: features of rows in 32 and in 64 bits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.bundle.features import FeaturesInput, IntegerFeature, NumberFeature
from service.bundle.store import parse_document, to_json
from service.codecs.features import FeatureCodec
from training.data.table import Column, Dataset, Floats
from training.export.manifest import describe_input
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
