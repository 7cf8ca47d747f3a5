"""Decode rows for a graph without a manifest that has one input for each column of a table.

The names and the types of the features are those of the graph's inputs. Rows are a structured
array, with a field of the input's own type for each feature, because one matrix cannot hold words
and integers of 64 bits.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.bundle.features import (
    WHOLE_MAX,
    BooleanFeature,
    CategoryFeature,
    Feature,
    IntegerFeature,
    NumberFeature,
    NumericalFeature,
    Range,
)
from service.codecs.csv_cells import CellReader
from service.codecs.features import FeatureCodec
from service.codecs.messages import ProblemCollector, describe, value_problem
from service.codecs.rows import FeatureSchema, RowDecoder, TypeProblem, create_converter
from service.codecs.texts import TextCodec
from service.engine.tensors import DTYPES, Array, Arrays, TensorSpec
from service.errors import Problem
from service.values import format_value, is_integer, not_a_number

Rows = npt.NDArray[Any]
"""A structured array ``[rows]`` with one field for each input of the graph."""

# Rows are decoded in blocks, so that their values are in memory twice only for one block.
_BLOCK_ROWS = 1024
_WORDS = {"true": 1, "false": 0}
_SHAPES = {(-1,), (-1, 1)}
# The ranges of wider integers are long numbers, which only a message about such a number needs.
_SMALL_BITS = 16


def is_column(spec: TensorSpec) -> bool:
    """Return whether an input of a graph takes one value for each row: ``[N]`` or ``[N, 1]``."""
    return spec.shape in _SHAPES and not spec.optional


def has_columns(specs: Sequence[TensorSpec]) -> bool:
    """Return whether a graph has one input for each column of a table, by whose name it goes."""
    return bool(specs) and all(map(is_column, specs))


class ColumnCodec:
    """Decodes rows into the inputs of a graph, by their names.

    JSON null and an empty cell are NaN for floating-point numbers, and errors for other types.
    """

    table = None
    training_range = None
    accepts_unseen = False

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = specs
        self.features = [_create_feature(spec) for spec in specs]
        self._schema = _ColumnSchema(self.features, specs)
        self.example = self._schema.example
        """A valid row."""
        self.names = frozenset(self._schema.names)
        self._dtype = np.dtype([(str(k), DTYPES[spec.datatype]) for k, spec in enumerate(specs)])
        self._by_name = {spec.name: spec for spec in specs}

    def reads(self, row: object) -> bool:
        """Return whether a row has the values of several features, and no tensors."""
        if len(self._specs) == 1:
            return False
        if isinstance(row, list) and len(row) == len(self._specs):
            values: Iterable[object] = row
        elif isinstance(row, dict):
            values = row.values()
        else:
            return False
        return not any(isinstance(value, list | dict) for value in values)

    def create_rows(self, count: int) -> Rows:
        """Return rows of zeros and empty strings."""
        rows = np.zeros(count, self._dtype)
        for k, spec in enumerate(self._specs):
            if spec.datatype == "BYTES":
                rows[str(k)] = ""
        return rows

    def decode_rows(self, rows: Sequence[object], describe_type: TypeProblem | None = None) -> Rows:
        """Decode rows: objects by feature name, or arrays in the order of the features.

        Raise `InvalidInput` with the first problems of all rows, and how many there are.
        """
        decoder = RowDecoder(self._schema, describe_type or self._describe_type)
        found = ProblemCollector()
        table = self.create_rows(len(rows))
        for start in range(0, len(rows), _BLOCK_ROWS):
            first = start if len(rows) > 1 else None
            block = decoder.decode(rows[start : start + _BLOCK_ROWS], first, found)
            if not found.count:
                for k, values in enumerate(zip(*block, strict=True)):
                    table[str(k)][start : start + len(block)] = values
        found.raise_any()
        return table

    def decode_columns(
        self, columns: Sequence[tuple[int, CellReader, Sequence[str]]], count: int
    ) -> tuple[Rows, npt.NDArray[np.intp]]:
        """Decode cells as `FeatureCodec.decode_columns` does; words remain as they are."""
        rows = self.create_rows(count)
        suspects: set[int] = set()
        for position, reader, cells in columns:
            rows[str(position)], wrong = self._decode_cells(position, reader, cells)
            suspects.update(wrong)
        return rows, np.array(sorted(suspects), np.intp)

    def _decode_cells(
        self, position: int, reader: CellReader, cells: Sequence[str]
    ) -> tuple[Array, Sequence[int]]:
        """Decode the cells of a feature; also return the rows of the invalid ones."""
        spec = self._specs[position]
        dtype = DTYPES[spec.datatype]
        if spec.datatype == "BYTES":
            return np.array(cells, np.object_), ()
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                numbers = reader.numbers(cells).astype(dtype)
            return _replace_words(numbers, np.flatnonzero(np.isinf(numbers)).tolist(), cells)
        if dtype.kind in "iu" and (integers := _read_integers(cells, dtype)) is not None:
            return integers, ()
        read = self._schema.converts[position]
        values = [read(reader.value(cell)) for cell in cells]
        wrong = [row for row, value in enumerate(values) if value is None]
        numbers = np.array([0 if value is None else value for value in values], dtype)
        return _replace_words(numbers, wrong, cells)

    def to_inputs(self, rows: Rows) -> Arrays:
        """Return the inputs of the graph in their order."""
        return tuple(
            np.ascontiguousarray(rows[str(k)]).reshape(len(rows), *spec.shape[1:])
            for k, spec in enumerate(self._specs)
        )

    def _describe_type(self, feature: Feature, value: object, row: int | None) -> Problem:
        hint = _hint(self._by_name[feature.name], value)
        return value_problem(feature, describe(feature), format_value(value), row, hint)


TableCodec = FeatureCodec | TextCodec | ColumnCodec
"""The codec of a model that takes the rows of a table."""


class _ColumnSchema(FeatureSchema):
    """The features of a graph, with converters to the types of its inputs."""

    def __init__(self, features: Sequence[NumericalFeature], specs: Sequence[TensorSpec]) -> None:
        super().__init__(features)
        self.converts: list[Callable[[object], Any]] = [
            _create_converter(feature, spec) for feature, spec in zip(features, specs, strict=True)
        ]


def _create_feature(spec: TensorSpec) -> NumericalFeature:
    """Return the feature of an input. A category without a list of words is any string."""
    kind, name = DTYPES[spec.datatype].kind, spec.name
    # The graph states no more than the type, so there is nothing to validate.
    if kind == "O":
        return CategoryFeature.model_construct(
            type="category", name=name, categories=[], unseen="other", example="text"
        )
    if kind == "b":
        return BooleanFeature.model_construct(type="boolean", name=name, example=True)
    if kind == "f":
        return NumberFeature.model_construct(type="number", name=name, example=1.5)
    limits = np.iinfo(DTYPES[spec.datatype])
    allowed = Range(minimum=limits.min, maximum=limits.max) if limits.bits <= _SMALL_BITS else None
    return IntegerFeature.model_construct(type="integer", name=name, example=1, allowed=allowed)


def _create_converter(feature: NumericalFeature, spec: TensorSpec) -> Callable[[object], Any]:
    """Return a function from JSON values to those of an input; None for values of other types."""
    dtype = DTYPES[spec.datatype]
    if dtype.kind == "O":
        return lambda value: value if isinstance(value, str) else None
    if dtype.kind == "b":
        return create_converter(feature)
    if dtype.kind == "f":
        return _float_converter(dtype)
    return _integer_converter(dtype)


def _float_converter(dtype: np.dtype[Any]) -> Callable[[object], float | None]:
    def convert(value: object) -> float | None:
        if value is None:
            return math.nan
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        with np.errstate(over="ignore"):
            fits = bool(np.isfinite(np.float64(value).astype(dtype)))
        return float(value) if fits else None

    return convert


def _integer_converter(dtype: np.dtype[Any]) -> Callable[[object], int | None]:
    limits = np.iinfo(dtype)

    def convert(value: object) -> int | None:
        # Larger numbers with a point may have been rounded.
        if isinstance(value, float) and is_integer(value) and abs(value) <= WHOLE_MAX:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        return value if limits.min <= value <= limits.max else None

    return convert


def _read_integers(cells: Sequence[str], dtype: np.dtype[Any]) -> Array | None:
    """Convert a column of plain integers; None if a cell is anything else, or does not fit."""
    text = "".join(cells)
    if not text.isascii() or "_" in text:  # Python reads 1_000, and digits of other scripts
        return None
    try:
        return np.array(list(map(int, cells)), dtype)
    except (ValueError, OverflowError):
        return None


def _replace_words(
    numbers: Array, wrong: Sequence[int], cells: Sequence[str]
) -> tuple[Array, Sequence[int]]:
    """Set 1 for true and 0 for false, as pandas writes booleans; return the other wrong rows."""
    others = []
    for row in wrong:
        number = _WORDS.get(cells[row].strip().lower())
        if number is None:
            others.append(row)
        else:
            numbers[row] = number
    return numbers, others


def _hint(spec: TensorSpec, value: object) -> str | None:
    """Say what to send instead of a value of the wrong type."""
    kind = DTYPES[spec.datatype].kind
    if value is None:
        return f"It is {spec.datatype} in the graph, which has no missing value."
    if kind == "O":
        return "Send it as a string."
    if kind == "b":
        return "Send true or false without quotes."
    if isinstance(value, int | float) and not isinstance(value, bool):
        if kind in "iu" and not (isinstance(value, int) or is_integer(value)):
            return None
        limits = (
            np.iinfo(spec.datatype.lower()) if kind in "iu" else np.finfo(DTYPES[spec.datatype])
        )
        low, high = limits.min, limits.max
        bounds = f"{low} to {high}" if kind in "iu" else f"{float(low):.8g} to {float(high):.8g}"
        return f"It does not fit {spec.datatype}; send a number from {bounds}."
    return not_a_number(value, whole=kind in "iu")
