"""The first step of a graph shows the range of the pixels that it takes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.bundle.pixel_range import find_pixel_range_of
from tests.foreign import serialized
from tests.image_models import pixel_graph


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([("Div", 255)], "0-255"),
        ([("Mul", 1 / 255)], "0-255"),
        ([("Div", [58.4, 57.1, 57.4])], "0-255"),
        ([("Sub", [123.675, 116.28, 103.53])], "0-255"),
        ([("Add", -127.5)], "0-255"),
        ([("Sub", [0.485, 0.456, 0.406])], "0-1"),
        ([("Sub", 0.5)], "0-1"),
        ([("Mul", 2.0), ("Sub", 1.0)], None),
        ([("Sub", [0.1, 0.2, 0.3])], None),
        ([("Div", [255, 1, 255])], None),
        ([], None),
    ],
)
def test_constants_show_the_range(
    steps: Sequence[tuple[str, npt.ArrayLike]], found: str | None
) -> None:
    """A mean or a factor of pixels from 0 to 255 differs from one of pixels from 0 to 1."""
    assert find_pixel_range_of(pixel_graph(["n", 8, 8, 3], steps=steps), "x") == found


def test_reordered_colors_have_the_same_range() -> None:
    """As networks of Caffe do, the graph swaps red and blue before it subtracts the mean."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 8, 8])
    mean = np.array([103.939, 116.779, 123.68], np.float32).reshape(3, 1, 1)
    nodes = [
        helper.make_node("Split", ["x"], ["red", "green", "blue"], axis=1, num_outputs=3),
        helper.make_node("Concat", ["blue", "green", "red"], ["swapped"], axis=1),
        helper.make_node("Sub", ["swapped", "mean"], ["y"]),
    ]
    content = serialized(nodes, [x], [y], [numpy_helper.from_array(mean, "mean")])
    assert find_pixel_range_of(content, "x") == "0-255"


def test_another_input_and_damaged_files_show_nothing() -> None:
    """The file may have changed since it was loaded."""
    content = pixel_graph(["n", 8, 8, 3], steps=[("Div", 255)])
    assert find_pixel_range_of(content, "other") is None
    for length in range(0, len(content), 7):
        assert find_pixel_range_of(content[:length], "x") in (None, "0-255")
    random = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), 5):
            damaged[position] = random.integers(0, 256)
        find_pixel_range_of(bytes(damaged), "x")
