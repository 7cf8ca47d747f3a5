"""Rows to matrices: the vectorized and the general decoder return the same values."""

import math
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle.features import (
    Feature,
    FeaturesInput,
    IntegerFeature,
    NumericalFeature,
    Range,
)
from service.codecs.features import FeatureCodec, TrainingRange, ValueRules, VectorRows
from service.errors import InvalidInput
from tests.models import mixed_features, number

NUMBERS: list[NumericalFeature] = [
    number("size", allowed=Range(minimum=0)),
    IntegerFeature(name="rooms", type="integer", example=3, allowed=Range(minimum=1, maximum=9)),
    number("level"),
]
FEATURES: list[Feature] = [*NUMBERS]
CODEC = FeatureCodec(FeaturesInput(kind="features", features=FEATURES))


def vector_rows(features: Sequence[NumericalFeature]) -> VectorRows:
    """The vectorized decoder of rows with these features."""
    return VectorRows(features, ValueRules(features), TrainingRange(features).bounds)


QUICK = vector_rows(NUMBERS)

CELLS = (
    st.floats()
    | st.sampled_from([2.00000001, 2**24 + 1, 2**53 + 1, 2.5])
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.integers(min_value=0, max_value=10)
    | st.booleans()
    | st.none()
    | st.sampled_from(["1", "", [], {}, 1e39, 0.1])
)
ROWS = st.lists(
    st.dictionaries(st.sampled_from(["size", "rooms", "level", "color"]), CELLS, min_size=3)
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
    if size < 0 or not 1 <= rooms <= 9 or rooms % 1 or np.float32(rooms) != rooms:
        raise ValueError("rule")
    return [float(np.float32(cell)) for cell in cells]


@given(ROWS)
def test_rows_are_decoded_or_rejected_by_the_rules(rows: list[object]) -> None:
    """For any rows, the codec agrees with the rules applied cell by cell."""
    try:
        expected = [careful(row) for row in rows]
    except ValueError:
        with pytest.raises(InvalidInput):
            CODEC.decode_rows(rows)
        return

    np.testing.assert_array_equal(CODEC.decode_rows(rows), np.array(expected, np.float32))


@given(ROWS)
def test_vectorized_decoding_never_accepts_rows_that_are_invalid(rows: list[object]) -> None:
    """If the vectorized decoder returns a matrix, it is the same matrix."""
    quick = QUICK.decode(rows)

    if quick is not None:
        np.testing.assert_array_equal(quick, CODEC.decode_rows(rows))


def test_plain_rows_are_decoded_vectorized() -> None:
    """Objects with keys in any order and arrays are decoded by the vectorized decoder."""
    rows = [{"level": 1, "rooms": 2, "size": 3.5}, [4, 5, 6]]

    matrix = QUICK.decode(rows)

    assert matrix is not None
    assert matrix.tolist() == [[3.5, 2.0, 1.0], [4.0, 5.0, 6.0]]


def test_a_single_feature_is_decoded_vectorized() -> None:
    """One feature makes a matrix of one column."""
    quick = vector_rows([number("size")]).decode([{"size": 1}, [2]])

    assert quick is not None
    assert quick.tolist() == [[1.0], [2.0]]


def test_words_booleans_and_missing_values_are_decoded_singly() -> None:
    """The vectorized decoder returns None, and the rows are decoded one by one."""
    features = mixed_features()
    codec = FeatureCodec(FeaturesInput(kind="features", features=features))
    row = {"size": None, "rooms": 2, "garden": False, "quarter": "south", "color": "blue"}

    assert vector_rows(features).decode([row]) is None
    matrix = codec.decode_rows([row])

    assert math.isnan(matrix[0, 0])
    assert matrix[0, 1:].tolist() == [2.0, 0.0, 1.0, -1.0]


def test_many_problems_are_counted_and_the_first_hundred_are_reported() -> None:
    """Across many blocks of rows the count is exact, and the details are ordered by row."""
    rows: list[object] = [{}, {"size": 1, "rooms": 0, "level": "x"}, [1, 2], [1, 2, 3]] * 2500

    with pytest.raises(InvalidInput) as rejected:
        CODEC.decode_rows(rows)

    assert rejected.value.count == 2500 * (3 + 2 + 1)
    assert str(rejected.value).startswith("15000 problems. The first: Row 0: feature 'size' is")
    problem_rows = [problem.row for problem in rejected.value.problems]
    assert problem_rows[:7] == [0, 0, 0, 1, 1, 2, 4]
    assert len(problem_rows) == 100


def test_many_problems_take_little_memory() -> None:
    """Rejecting a megabyte of empty objects takes less memory than the rows themselves."""
    rows: list[object] = [{} for _ in range(333_333)]
    tracemalloc.start()

    with pytest.raises(InvalidInput):
        CODEC.decode_rows(rows)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 4_000_000


def test_problems_after_the_first_hundred_are_counted_by_the_same_rule() -> None:
    """A misspelled key is one problem in every row, whether it is reported or not."""
    row = {"size": 1, "rooms": 2, "levle": 3}

    with pytest.raises(InvalidInput) as rejected:
        CODEC.decode_rows([row] * 5000)

    assert rejected.value.count == 5000
    assert "did you mean 'level'?" in rejected.value.problems[99].sentence


def test_valid_rows_of_many_blocks_stay_in_order() -> None:
    """Rows that are decoded in blocks make one matrix."""
    codec = FeatureCodec(FeaturesInput(kind="features", features=mixed_features()))
    rows = [[None, index + 1, 1, "south", "red"] for index in range(3000)]

    matrix = codec.decode_rows(rows)

    assert matrix[:, 1].tolist() == list(range(1, 3001))


@pytest.mark.parametrize(
    ("rooms", "sentence"),
    [
        (2.00000001, "got 2.00000001."),
        (2**24 + 0.5, "got 16777216.5."),
        (2**53, "got 9007199254740992. The largest whole number is 9,007,199,254,740,991."),
        (2.5, "got 2.5."),
    ],
)
@pytest.mark.parametrize("others", [{"size": 1}, {"size": None}])
def test_whole_numbers_are_checked_before_rounding(
    rooms: float, sentence: str, others: dict[str, object]
) -> None:
    """Rounding to 32 bits does not make a fraction valid."""
    whole = IntegerFeature(name="rooms", type="integer", example=3)
    features = [number("size", optional=True), whole]
    codec = FeatureCodec(FeaturesInput(kind="features", features=features))

    with pytest.raises(InvalidInput) as rejected:
        codec.decode_rows([{"rooms": rooms} | others])

    assert "'rooms' must be a whole number, " + sentence in str(rejected.value)


def test_large_whole_numbers_are_rounded_to_32_bits() -> None:
    """A population above 2^24 is valid, as an object, an array, or a cell of a table."""
    whole = IntegerFeature(name="rooms", type="integer", example=3)
    codec = FeatureCodec(FeaturesInput(kind="features", features=[whole]))
    sent = [2**24 + 1, 2**24 + 2, 2**53 - 1, -(2**24) - 1]

    rows = [
        codec.decode_rows([[value] for value in sent]),
        codec.decode_rows([{"rooms": it} for it in sent]),
    ]
    sifted, suspects = codec.find_suspects(np.array(sent, np.float64)[:, None])

    for matrix in (*rows, sifted):
        assert matrix.ravel().tolist() == np.array(sent, np.float32).tolist()
    assert not suspects.size


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (2, 99, "'garden' must be 0 or 1, got 99."),
        (3, 99, """must be a position from 0 to 1: 0 is "north", 1 is "south", got 99."""),
        (4, -2, """from 0 to 1: 0 is "red", 1 is "green", -1 is any other, got -2."""),
        (1, 1.5, "'rooms' must be a whole number from 1, got 1.5."),
        (3, math.nan, "got null. It is required."),
    ],
)
def test_invalid_numbers_of_a_matrix_are_described_as_numbers(
    column: int, value: float, expected: str
) -> None:
    """A matrix has positions for categories, and the message lists them."""
    codec = FeatureCodec(FeaturesInput(kind="features", features=mixed_features()))
    matrix = np.array([[1, 1, 1, 1, 1]], np.float32)
    matrix[0, column] = value

    with pytest.raises(InvalidInput) as rejected:
        codec.check(matrix)

    assert expected in str(rejected.value)


@pytest.mark.parametrize("rows", [1, 3])
def test_an_optional_number_may_be_missing_in_a_matrix(rows: int) -> None:
    """NaN is valid for an optional feature, and infinity for none."""
    features: list[Feature] = [number("size", optional=True), number("level")]
    codec = FeatureCodec(FeaturesInput(kind="features", features=features))

    codec.check(np.array([[math.nan, 1]] * rows, np.float32))

    for invalid in ([1, math.nan], [math.inf, 1]):
        with pytest.raises(InvalidInput) as rejected:
            codec.check(np.array([invalid] * rows, np.float32))
        assert rejected.value.count == rows


def test_a_bound_that_is_inexact_in_32_bits_is_within_every_range() -> None:
    """0.1 in 32 bits is above 0.1 in 64 bits; every check accepts a value at the bound."""
    span = Range(minimum=0, maximum=0.1)
    features: list[Feature] = [
        number("width", allowed=span, trained=span),
        number("depth", allowed=Range(minimum=0, maximum=9), trained=Range(minimum=5, maximum=9)),
    ]
    codec = FeatureCodec(FeaturesInput(kind="features", features=features))
    at_bound = np.array([[0.1, 5]], np.float32)

    codec.check(at_bound)
    codec.check(at_bound.repeat(3, axis=0))

    assert codec.decode_row([0.1, 5]) is not None
    assert not codec.find_suspects(np.array([[0.1, 5.0]]))[1].size
    trained = TrainingRange(codec.features)
    assert not trained.warnings(at_bound)
    assert trained.swap_hint(np.array([6, 0.1], np.float32), 0) is not None
    assert trained.swap_hint(at_bound[0], 0) is None


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, "a number"),
        (Range(), "a number"),
        (Range(minimum=1), "a number from 1"),
        (Range(maximum=9), "a number up to 9"),
        (Range(minimum=1, maximum=9), "a number from 1 to 9"),
    ],
)
def test_messages_describe_the_allowed_range(allowed: Range | None, expected: str) -> None:
    """Each end of the range may be open."""
    codec = FeatureCodec(FeaturesInput(kind="features", features=[number("size", allowed=allowed)]))

    with pytest.raises(InvalidInput) as rejected:
        codec.decode_rows([["x"]])

    assert f"feature 'size' must be {expected}, got" in str(rejected.value).lower()
