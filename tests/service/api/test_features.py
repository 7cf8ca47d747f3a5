"""Rows to matrices: the quick way and the careful way agree on everything."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.features import FeatureCodec
from service.api.quick import QuickRows
from service.bundle.manifest import Feature, FeaturesInput, IntegerFeature, Range
from service.errors import InvalidInput
from tests.models import mixed_features, number

FEATURES: list[Feature] = [
    number("size", allowed=Range(minimum=0)),
    IntegerFeature(name="rooms", type="integer", example=3, allowed=Range(minimum=1, maximum=9)),
    number("level"),
]
CODEC = FeatureCodec(FeaturesInput(kind="features", features=FEATURES))
QUICK = QuickRows(FEATURES)

CELLS = (
    st.floats()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.integers(min_value=0, max_value=10)
    | st.booleans()
    | st.none()
    | st.sampled_from(["1", "", [], {}, 1e39, 0.1])
)
ROWS = st.lists(
    st.dictionaries(st.sampled_from(["size", "rooms", "level", "colour"]), CELLS, min_size=3)
    | st.lists(CELLS, min_size=2, max_size=4)
    | st.fixed_dictionaries(
        {"size": st.floats(0, 100), "rooms": st.integers(1, 9), "level": st.integers(-5, 5)}
    ),
    min_size=1,
    max_size=3,
)


def careful(row: object) -> list[float]:
    """One row by the rules, cell by cell, without numpy."""
    names = [feature.name for feature in FEATURES]
    if isinstance(row, dict) and set(row) == set(names):
        cells = [row[name] for name in names]
    elif isinstance(row, list) and len(row) == len(names):
        cells = row
    else:
        raise ValueError("shape")
    if any(type(cell) not in {int, float} or not abs(cell) <= 3.4028235e38 for cell in cells):
        raise ValueError("kind")
    size, rooms, _ = cells
    if size < 0 or not 1 <= rooms <= 9 or float(np.float32(rooms)) % 1:
        raise ValueError("rule")
    return [float(np.float32(cell)) for cell in cells]


@given(ROWS)
def test_rows_are_read_or_refused_as_the_rules_say(rows: list[object]) -> None:
    """For any rows, the codec agrees with the rules spelt out cell by cell."""
    try:
        expected = [careful(row) for row in rows]
    except ValueError:
        with pytest.raises(InvalidInput):
            CODEC.rows(rows)
        return

    np.testing.assert_array_equal(CODEC.rows(rows), np.array(expected, np.float32))


@given(ROWS)
def test_the_quick_way_never_reads_what_the_careful_way_refuses(rows: list[object]) -> None:
    """Where the quick way answers, it answers the same."""
    quick = QUICK.read(rows)

    if quick is not None:
        np.testing.assert_array_equal(quick, CODEC.rows(rows))


def test_plain_rows_take_the_quick_way() -> None:
    """Objects in any order of keys, and arrays, are read without the careful way."""
    rows = [{"level": 1, "rooms": 2, "size": 3.5}, [4, 5, 6]]

    matrix = QUICK.read(rows)

    assert matrix is not None
    assert matrix.tolist() == [[3.5, 2.0, 1.0], [4.0, 5.0, 6.0]]


def test_a_single_feature_is_read_too() -> None:
    """One column is a matrix of one column."""
    quick = QuickRows([number("size")]).read([{"size": 1}, [2]])

    assert quick is not None
    assert quick.tolist() == [[1.0], [2.0]]


def test_words_flags_and_gaps_go_the_careful_way() -> None:
    """A table with more than numbers is left to the careful way, which reads it."""
    features = mixed_features()
    codec = FeatureCodec(FeaturesInput(kind="features", features=features))
    row = {"size": None, "rooms": 2, "garden": False, "quarter": "south", "colour": "blue"}

    assert QuickRows(features).read([row]) is None
    matrix = codec.rows([row])

    assert math.isnan(matrix[0, 0])
    assert matrix[0, 1:].tolist() == [2.0, 0.0, 1.0, -1.0]
