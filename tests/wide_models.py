"""Bundles whose input is float64, of large numbers or of dates, and bundles with unusual words."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from service.bundle.features import (
    CategoryFeature,
    DatetimeFeature,
    Feature,
    FeaturesInput,
    IntegerFeature,
    Range,
)
from service.bundle.manifest import Examples, Manifest, Tensor, Tolerance, ValueOutput
from tests.models import assembled, manifest, number, publish

LARGEST = 2**53 - 1
RECENT = 1_764_500_000.25
"""A time in seconds, of which float32 keeps minutes."""
WIDE_FEATURES: list[Feature] = [
    IntegerFeature(
        name="id",
        type="integer",
        example=LARGEST,
        trained=Range(minimum=LARGEST - 2**30, maximum=LARGEST - 1),
    ),
    number("time", example=RECENT, unit="s", optional=True),
]
DATES: list[Feature] = [
    DatetimeFeature(name="day", type="datetime", format="DD.MM.YYYY", example="01.05.2013"),
    DatetimeFeature(name="opens", type="datetime", format="HH:MM", example="7:30", optional=True),
]
WORDS = [" Private", "Private", "None", "NA", "", "1"]
"""Categories that begin with a blank, or are words for missing values elsewhere."""


def lost_bits(rows: Sequence[Sequence[float]]) -> npt.NDArray[np.float32]:
    """The sum of what 32 bits lose of twice each number of a row, ``[rows, 1]``.

    A missing number counts as zero.
    """
    doubled = 2 * np.nan_to_num(np.array(rows, np.float64))
    lost = (doubled - doubled.astype(np.float32)).astype(np.float32)
    return lost @ np.array([[1], [1]], np.float32)


def wide_manifest(name: str = "wide") -> Manifest:
    """The manifest of a regression of an identifier and a time in 64 bits."""
    described = manifest(name, WIDE_FEATURES, ValueOutput(kind="value", name="loss"))
    wide = FeaturesInput(kind="features", datatype="FP64", features=WIDE_FEATURES)
    return described.model_copy(update={"input": wide})


def wide_examples() -> Examples:
    """Rows that are others in 32 bits, and their outputs."""
    rows = [[LARGEST, RECENT], [LARGEST - 1, 0.1], [2**24 + 1, np.nan]]
    return Examples(
        input=Tensor(
            name="features",
            datatype="FP64",
            shape=[3, 2],
            data=[None if np.isnan(x) else x for row in rows for x in row],
        ),
        output=Tensor(name="value", shape=[3, 1], data=lost_bits(rows).ravel().tolist()),
        tolerance=Tolerance(absolute=0, relative=0),
    )


def wide_graph(kind: int = TensorProto.DOUBLE) -> bytes:
    """A graph of `lost_bits` with an input of this type."""
    nodes = [
        helper.make_node("Cast", ["features"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("IsNaN", ["wide"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "wide"], ["filled"]),
        helper.make_node("Add", ["filled", "filled"], ["doubled"]),
        helper.make_node("Cast", ["doubled"], ["narrow"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["narrow"], ["rounded"], to=TensorProto.DOUBLE),
        helper.make_node("Sub", ["doubled", "rounded"], ["lost"]),
        helper.make_node("Cast", ["lost"], ["losses"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["losses", "ones"], ["value"]),
    ]
    return assembled(
        nodes,
        [helper.make_tensor_value_info("features", kind, ["batch", 2])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])],
        [
            numpy_helper.from_array(np.array(0, np.float64), "zero"),
            numpy_helper.from_array(np.ones((2, 1), np.float32), "ones"),
        ],
    )


def publish_wide(models: Path, name: str = "wide") -> Path:
    """Publish a model that returns `lost_bits` of an identifier and an optional time."""
    return publish(models, wide_manifest(name), wide_graph(), wide_examples())


def publish_dates(models: Path, name: str = "dates") -> Path:
    """Publish a model that returns `lost_bits` of a date and an optional time of day."""
    dated = FeaturesInput(kind="features", datatype="FP64", features=DATES)
    described = wide_manifest(name).model_copy(update={"input": dated})
    return publish(models, described, wide_graph(), wide_examples())


def publish_words(models: Path, name: str = "words") -> Path:
    """Publish a model that returns the position of a word among `WORDS`."""
    feature = CategoryFeature(name="word", type="category", categories=WORDS, example="")
    described = manifest(name, [feature, number("x")], ValueOutput(kind="value", name="position"))
    nodes = [helper.make_node("Slice", ["features", "zero", "one", "one"], ["value"])]
    model = assembled(
        nodes,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])],
        [
            numpy_helper.from_array(np.array([0], np.int64), "zero"),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
        ],
    )
    examples = Examples(
        input=Tensor(name="features", shape=[1, 2], data=[3, 1]),
        output=Tensor(name="value", shape=[1, 1], data=[3]),
        tolerance=Tolerance(absolute=0, relative=0),
    )
    return publish(models, described, model, examples)
