"""Rows and columns of values to the arrays of a graph's inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.api.v1.request import require_names
from service.bundle.features import INPUT_NAME
from service.codecs.features import FeatureCodec
from service.codecs.json_numbers import rows_of_numbers
from service.codecs.tensors import cast, fitted, is_base64, read_natural, shape_fits, without_base64
from service.engine.dtypes import ABSENT, Array, Arrays
from service.engine.session import TensorSpec
from service.errors import InvalidRequest
from service.values import listed, shown

_MATRIX_AXES = 2
# JSON's numbers in a request for one of integers may have a fraction, which is to be refused.
_REAL = {"FP32", "FP64"}


@dataclass(frozen=True)
class Rows:
    """Arrays made of rows, in the order of the graph's inputs.

    ``whole`` is one row that the graph takes as it is, because its inputs have no axis of rows.
    """

    arrays: Arrays
    count: int
    whole: bool = False


def stacked(specs: Sequence[TensorSpec], rows: Sequence[Any]) -> Rows:
    """The rows of a model without a manifest, each a value, or an object by the inputs' names.

    An optional input that all rows leave out is `ABSENT`.

    Raises:
        InvalidRequest: a row is not what the graph takes, or rows differ in shape.
    """
    values = _by_input(specs, rows)
    read = {spec.name: _stack(values[spec.name], spec) for spec in specs if spec.name in values}
    whole = len(rows) == 1 and all(alone for _, alone in read.values())
    arrays = tuple(read[spec.name][0] if spec.name in read else ABSENT for spec in specs)
    return Rows(arrays, len(rows), whole)


def matrix_of(specs: Sequence[TensorSpec], body: bytes) -> Array | None:
    """The rows of a model without a manifest, as `stacked` reads them, from the body's text.

    None where they or the model's one input are anything else than rows of floating point.
    """
    if len(specs) != 1 or len(specs[0].shape) != _MATRIX_AXES:
        return None
    numbers = rows_of_numbers(body)
    if numbers is None or not shape_fits(numbers.shape, specs[0].shape):
        return None
    return fitted(numbers, specs[0].datatype) if specs[0].datatype in _REAL else None


def columns(specs: Sequence[TensorSpec], given: object) -> Arrays:
    """The inputs of a model without a manifest: the array of its only one, or all by name.

    Raises:
        InvalidRequest: a name, a value or a shape is not one that the graph takes.
    """
    if not isinstance(given, dict) or is_base64(given):
        given = {_only_input(specs, "'inputs' is an array").name: given}
    require_names(given, specs, "'inputs'")
    return tuple(
        _shaped(_natural(given[spec.name], spec), spec) if spec.name in given else ABSENT
        for spec in specs
    )


def longest_column(given: object) -> int:
    """The number of rows in ``inputs``: the length of its array, or of the longest by name."""
    values = given.values() if isinstance(given, dict) else [given]
    return max((len(column) for column in values if isinstance(column, list)), default=0)


def feature_rows(
    codec: FeatureCodec, spec: TensorSpec, rows: Sequence[Any], *, booleans: bool = True
) -> Array:
    """The rows of a bundle: as the plain dialect has them, or ``{"features": [the graph's row]}``.

    Args:
        codec: of the bundle.
        spec: its graph's input.
        rows: what was sent.
        booleans: whether there may be some in the rows.

    Raises:
        InvalidInput: values break the rules of their features.
        InvalidRequest: a row of the graph is not as wide as the graph's.
    """
    if isinstance(rows[0], dict) and all(_is_tensor(row, codec) for row in rows):
        return feature_matrix(codec, spec, [row[INPUT_NAME] for row in rows])
    if len(rows) == 1 and (usual := codec.usual_row(rows[0])) is not None:
        return usual
    return codec.rows(rows, booleans=booleans)


def feature_columns(codec: FeatureCodec, spec: TensorSpec, given: object) -> Array:
    """The columns of a bundle: the graph's own matrix, or a list of values for each feature.

    Raises:
        InvalidInput: values break the rules of their features.
        InvalidRequest: it is no matrix of the graph's width, or the lists differ in length.
    """
    if not isinstance(given, dict):
        return feature_matrix(codec, spec, given)
    if _is_tensor(given, codec):
        return feature_matrix(codec, spec, given[INPUT_NAME])
    lengths = {len(values) if isinstance(values, list) else 0 for values in given.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise InvalidRequest(
            "'inputs' by feature needs a list of values for each, all of the same length; "
            f"the features are {listed([feature.name for feature in codec.features])}."
        )
    return codec.rows(
        [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]
    )


def feature_matrix(codec: FeatureCodec, spec: TensorSpec, data: object) -> Array:
    """The graph's own matrix, its values held against their features' rules.

    Raises:
        InvalidInput: values break the rules of their features.
        InvalidRequest: it is no matrix of the graph's width, or has no row.
    """
    natural = read_natural(data, spec, nulls=True)
    if not shape_fits(natural.shape, spec.shape) or not len(natural):
        raise _misshapen(natural, spec)
    matrix = cast(natural, spec)
    codec.check(matrix)
    return matrix


def _is_tensor(row: object, codec: FeatureCodec) -> bool:
    if not isinstance(row, dict) or set(row) != {INPUT_NAME}:
        return False
    return INPUT_NAME not in codec.names


def _by_input(specs: Sequence[TensorSpec], rows: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
    """The values of each input that is given, one a row."""
    if not isinstance(rows[0], dict) or is_base64(rows[0]):
        return {_only_input(specs, "an instance is a bare value").name: rows}
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidRequest(f"Instance {place} is {shown(row)}, and those before are objects.")
        require_names(row, specs, f"Instance {place}")
        if row.keys() != rows[0].keys():
            raise InvalidRequest(
                f"Instance {place} has other inputs than those before; send alike."
            )
    return {name: [row[name] for row in rows] for name in rows[0]}


def _stack(values: Sequence[Any], spec: TensorSpec) -> tuple[Array, bool]:
    """One array of an input's values, and whether it is a single value without an axis of rows."""
    natural = _natural(values, spec)
    if len(values) == 1 and shape_fits(natural.shape[1:], spec.shape):
        return cast(natural, spec).reshape(natural.shape[1:]), True
    return _shaped(natural, spec), False


def _shaped(natural: Array, spec: TensorSpec) -> Array:
    if not natural.size and shape_fits(natural.shape, spec.shape[: natural.ndim]):
        # Of an array without values JSON tells only the axes up to the first empty one.
        return cast(natural, spec).reshape(*natural.shape, *_shortest(spec.shape[natural.ndim :]))
    # An empty shape may also be the graph's way of not telling the rank; the runtime knows.
    if spec.shape and not shape_fits(natural.shape, spec.shape):
        raise _misshapen(natural, spec)
    return cast(natural, spec)


def _shortest(axes: Sequence[int]) -> list[int]:
    return [max(axis, 0) for axis in axes]


def _natural(data: object, spec: TensorSpec) -> Array:
    if spec.datatype == "BYTES":
        data = without_base64(data, spec)
    return read_natural(data, spec)


def _only_input(specs: Sequence[TensorSpec], what: str) -> TensorSpec:
    if len(specs) != 1:
        names = listed([spec.name for spec in specs]) or "none"
        raise InvalidRequest(
            f"The model has {len(specs)} inputs, and {what}; send an object with {names}."
        )
    return specs[0]


def _misshapen(natural: Array, spec: TensorSpec) -> InvalidRequest:
    return InvalidRequest(
        f"Input {spec.name!r}: the values make an array of shape {list(natural.shape)}; the model "
        f"expects {list(spec.shape)}, where -1 is any length."
    )
