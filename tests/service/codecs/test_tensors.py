"""JSON values as tensors: types, ranges, shapes and memory."""

import re
import tracemalloc

import numpy as np
import pytest

from service.codecs.tensors import cast, read_natural, with_base64, without_base64
from service.engine.tensors import TensorSpec
from service.errors import InvalidRequest


def spec(datatype: str) -> TensorSpec:
    return TensorSpec("x", datatype, (-1,))


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("BOOL", [[True], [False]]),
        ("UINT8", [0, 255]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT64", [0, 2**64 - 1]),
        ("FP16", [1, 65504.0]),
        ("FP32", [[[1, 0.1]]]),
        ("FP64", 2**60),
        ("BYTES", ["", "é"]),
    ],
)
def test_values_become_the_numbers_that_numpy_makes(datatype: str, data: object) -> None:
    """Extremes of each type arrive exactly, in the shape of their nesting."""
    array = cast(read_natural(data, spec(datatype)), spec(datatype))

    expected = np.array(data, array.dtype)
    assert array.shape == expected.shape
    assert array.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("datatype", "data", "sentence"),
    [
        ("INT64", [1, True], "not all INT64 values"),
        ("FP32", [1.5, False], "not all FP32 values"),
        ("INT32", [1.0], "not all INT32 values"),
        ("BOOL", [0, 1], "not all BOOL values"),
        ("BYTES", ["a", 1], "not all strings"),
        ("FP32", [None], "For NaN and infinity"),
        ("FP32", {"b64": "AA=="}, "not all FP32 values"),
        ("FP32", [[1, 2], [3]], "ragged"),
        ("FP32", [1, [2]], "ragged"),
    ],
)
def test_values_of_another_type_are_reported(datatype: str, data: object, sentence: str) -> None:
    """A boolean is not a number, a whole number not a boolean, and a list not a value."""
    with pytest.raises(InvalidRequest, match=sentence):
        read_natural(data, spec(datatype))


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("UINT8", 256), ("UINT8", -1), ("INT64", 2**63), ("FP16", 65520.0), ("FP32", 1e39)],
)
def test_a_value_out_of_range_is_rejected(datatype: str, value: float) -> None:
    """Numbers neither wrap around nor become infinite."""
    natural = read_natural([value], spec(datatype))

    with pytest.raises(
        InvalidRequest, match=re.escape(f"{value} does not fit {datatype}; send numbers")
    ):
        cast(natural, spec(datatype))


def test_one_long_string_among_numbers_takes_little_memory() -> None:
    """Numpy would convert these to a thousand strings of a million characters, four gigabytes."""
    data = ["x" * 1_000_000, *range(1000)]

    tracemalloc.start()
    with pytest.raises(InvalidRequest, match="not all FP32"):
        read_natural(data, spec("FP32"))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert most < 1_000_000


@pytest.mark.parametrize("depth", [33, 65, 900])
def test_deep_nesting_is_rejected_at_any_depth(depth: int) -> None:
    """Data with more axes than numpy supports is rejected too."""
    data: object = None
    for _ in range(depth):
        data = [data]

    with pytest.raises(InvalidRequest, match=r"ragged|not all"):
        read_natural(data, spec("FP32"))


def test_base64_and_plain_strings_are_the_same_strings() -> None:
    """Any string of an array may be ``b64``, and is decoded exactly."""
    data = [["é", with_base64("é")], [with_base64(""), ""]]

    natural = read_natural(without_base64(data, spec("BYTES")), spec("BYTES"))

    assert natural.tolist() == [["é", "é"], ["", ""]]


@pytest.mark.parametrize("content", ["é", "=", "a", 7, None, [], "/w=="])
def test_invalid_base64_of_text_is_rejected(content: object) -> None:
    """Invalid characters, lengths and types, and bytes that are not UTF-8, are rejected."""
    with pytest.raises(InvalidRequest, match="'b64' holds a UTF-8 string in base64"):
        without_base64([{"b64": content}], spec("BYTES"))
