"""Rows of a bundle whose input is float64: every way to send a row gives the same bits."""

import math
from collections.abc import Sequence

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle.features import (
    CategoryFeature,
    Feature,
    FeaturesInput,
    IntegerFeature,
    Range,
)
from service.bundle.manifest import Tensor
from service.bundle.store import parse_document, to_json
from service.codecs.csv_cells import CellReader
from service.codecs.features import FeatureCodec
from service.codecs.json_reader import parse_number_rows
from service.errors import InvalidInput
from service.values import format_number
from tests.models import number

LARGEST = 2**53 - 1
NUMBERS: list[Feature] = [number("a"), number("b", optional=True)]
MIXED: list[Feature] = [
    IntegerFeature(name="id", type="integer", example=1),
    number("share", allowed=Range(minimum=0.1, maximum=1e300)),
    CategoryFeature(name="word", type="category", categories=["x", "y"], example="x"),
]
IN_64_BITS = st.floats(allow_nan=False, allow_infinity=False)
IDENTIFIERS = st.integers(-LARGEST, LARGEST) | st.sampled_from([LARGEST, -LARGEST, 2**24 + 1])


def wide(features: Sequence[Feature]) -> FeatureCodec:
    """The codec of a bundle with these features in 64 bits."""
    return FeatureCodec(FeaturesInput(kind="features", datatype="FP64", features=[*features]))


PLAIN, MIXED_CODEC = wide(NUMBERS), wide(MIXED)


def rejection(codec: FeatureCodec, row: object) -> str:
    """The message about a row that is invalid."""
    with pytest.raises(InvalidInput) as caught:
        codec.decode_rows([row])
    return " ".join(
        f"{problem.text} {problem.hint or ''}" for problem in caught.value.problems
    ).strip()


@given(rows=st.lists(st.tuples(IN_64_BITS, IN_64_BITS), min_size=1, max_size=20))
def test_numbers_keep_their_bits_however_they_are_sent(rows: list[tuple[float, float]]) -> None:
    """As objects, as arrays, as text that is parsed at once, and as cells of a table."""
    expected = np.array(rows, np.float64)
    objects = [{"b": b, "a": a} for a, b in rows]
    text = orjson.dumps([list(row) for row in rows] * 40)
    cells = [
        CellReader(feature).numbers([repr(row[k]) for row in rows])
        for k, feature in enumerate(NUMBERS)
    ]

    parsed = parse_number_rows(text)
    assert parsed is not None
    for matrix in (
        PLAIN.decode_rows(objects),
        PLAIN.decode_rows([[*row] for row in rows]),
        PLAIN.decode_rows([*objects, {"a": 1}])[:-1],
        PLAIN.find_suspects(np.column_stack(cells))[0],
    ):
        assert matrix.dtype == np.float64
        assert matrix.tobytes() == expected.tobytes()
    at_once = PLAIN.decode_numbers(parsed)
    assert at_once is None or at_once.tobytes() == np.tile(expected, (40, 1)).tobytes()
    single = PLAIN.decode_row(objects[0])
    assert single is not None
    assert single.tobytes() == expected[:1].tobytes()


@given(identifier=IDENTIFIERS, share=st.floats(0.1, 1e300), word=st.sampled_from(["x", "y"]))
def test_rows_of_all_types_keep_their_bits(identifier: int, share: float, word: str) -> None:
    """A row that is decoded cell by cell, and its cells in a table."""
    row = {"id": identifier, "share": share, "word": word}
    expected = [float(identifier), share, float("xy".index(word))]

    assert MIXED_CODEC.decode_rows([row, row])[0].tolist() == expected
    cells = [str(identifier), repr(share), word]
    readers = [CellReader(feature) for feature in MIXED]
    sent = np.array(
        [[reader.numbers([cell])[0] for reader, cell in zip(readers, cells, strict=True)]]
    )
    matrix, suspects = MIXED_CODEC.find_suspects(sent)
    assert matrix[0].tolist() == expected
    assert not len(suspects)


@pytest.mark.parametrize("beyond", [LARGEST + 1, LARGEST + 2, -LARGEST - 1, 2**63, 1e300])
def test_integers_beyond_53_bits_are_rejected_in_rows_and_in_matrices(beyond: float) -> None:
    """The message has the largest integer, and the number as the client sent it."""
    message = rejection(MIXED_CODEC, [beyond, 1, "x"])
    with pytest.raises(InvalidInput) as caught:
        MIXED_CODEC.check(np.array([[beyond, 1, 0]], np.float64))

    assert "The largest whole number is 9,007,199,254,740,991." in message
    assert "9,007,199,254,740,991" in str(caught.value.problems[0].hint)


def test_fractions_are_no_integers_in_any_size() -> None:
    """Rounding to 32 bits would have made a whole number of the first."""
    for fraction in (2**24 + 0.5, LARGEST / 2, 0.1):
        assert "must be a whole number" in rejection(MIXED_CODEC, [fraction, 1, "x"])


def test_ranges_have_64_bits() -> None:
    """The next number below a minimum is below it; in 32 bits both are the same."""
    below = math.nextafter(0.1, 0)

    assert MIXED_CODEC.decode_rows([[1, 0.1, "x"]])[0, 1] == 0.1
    message = rejection(MIXED_CODEC, [1, below, "x"])
    assert "from 0.1 to 1e+300, got 0.09999999999999999." in message


def test_infinity_in_a_matrix_does_not_fit() -> None:
    """JSON has none, but binary tensors do."""
    with pytest.raises(InvalidInput) as caught:
        PLAIN.check(np.array([[np.inf, 1]]))

    assert caught.value.problems[0].hint == "It does not fit a 64-bit number."


def test_training_ranges_are_compared_and_shown_in_64_bits() -> None:
    """Values that differ from the end of the range in the last bit."""
    low, high = 1_764_500_000.25, 1_764_500_100.0
    codec = wide([number("time", trained=Range(minimum=low, maximum=high))])
    inside = [[low], [high]]
    outside = [[math.nextafter(low, 0)], [math.nextafter(high, math.inf)]]

    assert not codec.training_range.warnings(codec.decode_rows(inside))
    warnings = codec.training_range.warnings(codec.decode_rows(outside))
    assert sorted(warnings) == [0, 1]
    (sentence,) = warnings[1]
    assert sentence == (
        "Feature 'time' is 1764500100.0000002, outside the training range 1764500000.25 to "
        "1764500100; the prediction is unreliable."
    )


@given(value=IN_64_BITS, other=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_messages_identify_a_number_among_those_of_its_type(value: float, other: float) -> None:
    """A reader can tell it from its neighbors."""
    assert float(format_number(np.float64(value))) == value
    assert np.float32(format_number(np.float32(other))) == np.float32(other)


@given(data=st.lists(IN_64_BITS | IDENTIFIERS | st.none(), max_size=9))
def test_examples_keep_their_bits_in_the_file(data: list[float | None]) -> None:
    """The self-test replays what training computed with."""
    tensor = Tensor(name="features", datatype="FP64", shape=[len(data)], data=data)

    again = parse_document(Tensor, to_json(tensor), "examples.json")

    assert [None if x is None else float(x) for x in again.data] == [
        None if x is None else float(x) for x in data
    ]
