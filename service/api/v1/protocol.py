"""Version 1: ``:predict`` of TensorFlow Serving and KServe, in rows or in columns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import orjson

from service.api.body import FORM, JSON, RequestHead
from service.api.inference import DecodedRequest, EncodedBody
from service.bundle.features import INPUT_NAME
from service.codecs.columns import is_column
from service.codecs.endpoint import Endpoint
from service.codecs.features import FeatureCodec
from service.codecs.images import KEY, ImageCodec
from service.codecs.json_reader import Numbers, may_hold_booleans, parse_json, parse_number_rows
from service.codecs.tensors import (
    cast,
    convert_exactly,
    format_expected_shape,
    is_base64,
    read_natural,
    shape_fits,
    with_base64,
    without_base64,
)
from service.codecs.texts import TextCodec
from service.engine.tensors import ABSENT, DTYPES, Array, Arrays, Inputs, TensorSpec
from service.errors import InvalidRequest
from service.limits import Limits
from service.spelling import closest_name, format_count
from service.values import format_value, join_values, suggestion

_ROWS, _COLUMNS = "instances", "inputs"
# In a document with neither key, this many of its keys are compared with them.
_MAX_KEYS_COMPARED = 10

IMAGE = {"b64": "the image's file in base64"}
"""An image in an example of a request."""
INSTANCE_PREFIX = "Instance {}: ".format
"""Returns the start of a message about an instance."""
_MATRIX_AXES = 2
# Of other types, each number is checked, because fractions must be rejected.
_FLOAT_TYPES = {"FP32", "FP64"}
# TensorFlow Serving encodes the strings of outputs with this suffix in base64.
_BINARY_SUFFIX = "_bytes"


class RowFormat(NamedTuple):
    """The format of a request, which is that of its response.

    ``rows`` is the number of rows, or None for columns. ``whole`` is one row without an axis of
    rows.
    """

    rows: int | None = None
    whole: bool = False


_ONE_ROW = RowFormat(1)


class BaseV1Protocol:
    """The base of the two v1 protocols: their bodies are JSON."""

    name = "v1"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def media_types(self, _: Endpoint) -> tuple[str, ...]:
        """Return JSON, and what curl declares every body in TensorFlow Serving's examples."""
        return (JSON, FORM)

    def json_bytes(self, body: bytes, _: RequestHead) -> int:
        """Return the length of the body, which is JSON."""
        return len(body)


class V1Protocol(BaseV1Protocol):
    """Requests with either ``instances`` or ``inputs``."""

    def decode(self, endpoint: Endpoint, body: bytes, _: RequestHead) -> DecodedRequest[RowFormat]:
        """Decode rows or columns, and check the values of named features."""
        numbers = parse_number_rows(body) if body.startswith(b"{") else None
        if numbers is not None and (matrix := _decode_numbers(endpoint, numbers)) is not None:
            self._limits.require_rows(len(matrix))
            return DecodedRequest((matrix,), RowFormat(len(matrix)))
        document = read_document(body, lambda: example_request(endpoint, _ROWS, ["…"], IMAGE))
        if _choose_key(document) == _COLUMNS:
            return DecodedRequest(self._read_columns(endpoint, document[_COLUMNS]), RowFormat())
        rows = read_rows(document, _ROWS)
        images, codec = endpoint.images, endpoint.features
        if len(rows) == 1 and codec is not None and (row := codec.decode_row(rows[0])) is not None:
            return DecodedRequest((row,), _ONE_ROW)
        self._limits.require_rows(len(rows))
        if images is not None and images.takes(rows):
            return DecodedRequest(images.decode(rows, INSTANCE_PREFIX), RowFormat(len(rows)))
        if codec is not None:
            booleans = may_hold_booleans(body)
            decoded = decode_feature_rows(codec, endpoint.inputs[0], rows, booleans=booleans)
            return DecodedRequest((decoded,), RowFormat(len(rows)))
        columns, whole = endpoint.columns, False
        if columns is not None and columns.reads(rows[0]):
            arrays = columns.to_inputs(columns.decode_rows(rows))
        else:
            arrays, whole = stack_rows(endpoint.inputs, rows)
            if endpoint.texts is not None:
                arrays = endpoint.texts.check(arrays)
        return DecodedRequest(arrays, RowFormat(len(rows), whole))

    def encode(self, endpoint: Endpoint, outputs: Arrays, context: RowFormat) -> EncodedBody:
        """Encode ``predictions`` for rows, ``outputs`` for columns."""
        if context.rows is None:
            body = {"outputs": _write_columns(endpoint.outputs, outputs)}
        else:
            rows = _write_rows(endpoint.outputs, outputs, context.rows, whole=context.whole)
            body = {"predictions": rows}
        return EncodedBody(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))

    def _read_columns(self, endpoint: Endpoint, given: object) -> Inputs:
        columns = given.values() if isinstance(given, dict) else [given]
        lengths = (len(column) for column in columns if isinstance(column, list))
        self._limits.require_rows(max(lengths, default=0))
        if endpoint.images is not None:
            column = _find_image_column(given, endpoint.images)
            if endpoint.images.takes(column):
                return endpoint.images.decode(_require_images(column), INSTANCE_PREFIX)
        if endpoint.features is not None:
            return (_decode_feature_columns(endpoint.features, endpoint.inputs[0], given),)
        if endpoint.texts is not None:
            return _decode_text_columns(endpoint.texts, endpoint.inputs, given)
        return _read_bare_columns(endpoint.inputs, given)


def example_request(endpoint: Endpoint, key: str, value: object, image: object) -> bytes:
    """Return a request for the model with one row, whose values or image these are."""
    row: object = {spec.name: value for spec in endpoint.inputs}
    if endpoint.images is not None:
        row = image
    elif (codec := endpoint.features or endpoint.texts) is not None:
        row = codec.example
    return orjson.dumps({key: [row]})


def _decode_numbers(endpoint: Endpoint, numbers: Numbers) -> Array | None:
    """Decode rows of numbers; None if each row must be decoded on its own."""
    if endpoint.images is not None:
        return endpoint.images.decode_numbers(numbers)
    if endpoint.features is not None:
        return endpoint.features.decode_numbers(numbers)
    return _convert_bare_matrix(endpoint.inputs, numbers)


def _choose_key(document: Mapping[str, Any]) -> str:
    given = [key for key in (_ROWS, _COLUMNS) if key in document]
    if len(given) == 1:
        return given[0]
    if given:
        raise InvalidRequest("The request has both 'instances' and 'inputs'; send one of them.")
    advice = ""
    for key in islice(document, _MAX_KEYS_COMPARED):
        if close := closest_name(key, (_ROWS, _COLUMNS)):
            advice = f" Did you mean {close!r} instead of {format_value(key)}?"
            break
    raise InvalidRequest(
        f"The request has neither 'instances', for rows, nor 'inputs', for columns.{advice}"
    )


def read_document(body: bytes, example: Callable[[], bytes]) -> Mapping[str, Any]:
    """Parse the JSON object of a request; unknown keys are ignored, as TensorFlow Serving does.

    ``example`` makes a valid request, for the message of an error. Raise `InvalidRequest` if the
    body is not an object, or its ``signature_name`` is not a string.
    """
    document = parse_json(body, example)
    if not isinstance(document, dict):
        raise InvalidRequest(
            f"Expected an object, got {format_value(document)}. Send {example().decode()}"
        )
    signature = document.get("signature_name")
    if signature is not None and not isinstance(signature, str):
        raise InvalidRequest(f"'signature_name' must be a string, got {format_value(signature)}.")
    return document


def read_rows(document: Mapping[str, Any], key: str) -> Sequence[Any]:
    """Return the rows under a key; raise `InvalidRequest` if they are no list or empty."""
    rows = document.get(key)
    if not isinstance(rows, list):
        raise InvalidRequest(
            f"{key!r} must be a list with one item per row, got {format_value(rows)}."
        )
    if not rows:
        raise InvalidRequest(f"{key!r} holds no row; send at least one.")
    return rows


def _require_names(given: Iterable[str], specs: Sequence[TensorSpec], subject: str) -> None:
    """Raise `InvalidRequest`, about this subject, if the names of inputs are not the graph's."""
    names, known = set(given), [spec.name for spec in specs]
    if unknown := names - set(known):
        first = min(unknown)
        raise InvalidRequest(
            f"{subject} has an unknown input {format_value(first)}; {suggestion(first, known)}"
        )
    if missing := [spec.name for spec in specs if spec.name not in names and not spec.optional]:
        raise InvalidRequest(f"{subject} is missing the input {missing[0]!r}; add it.")


def stack_rows(specs: Sequence[TensorSpec], rows: Sequence[Any]) -> tuple[Arrays, bool]:
    """Stack the rows of a bare model, each of them a value, or an object by the inputs' names.

    Returns:
        The arrays in the order of the graph's inputs, and whether they are one row for a graph
        whose inputs have no axis of rows. An optional input that all rows omit is `ABSENT`.

    Raises:
        InvalidRequest: a row does not fit the graph, or rows differ in shape.
    """
    values = _split_by_input(specs, rows)
    stacked = {spec.name: _stack(values[spec.name], spec) for spec in specs if spec.name in values}
    whole = len(rows) == 1 and all(is_whole for _, is_whole in stacked.values())
    arrays = tuple(stacked[spec.name][0] if spec.name in stacked else ABSENT for spec in specs)
    return arrays, whole


def _convert_bare_matrix(specs: Sequence[TensorSpec], numbers: Numbers) -> Array | None:
    """Return the rows of a bare model as `stack_rows` does.

    None if the model's only input is not a matrix of floating-point numbers of this shape.
    """
    if len(specs) != 1 or len(specs[0].shape) != _MATRIX_AXES:
        return None
    if not shape_fits(numbers.shape, specs[0].shape):
        return None
    datatype = specs[0].datatype
    return convert_exactly(numbers, datatype) if datatype in _FLOAT_TYPES else None


def _read_bare_columns(specs: Sequence[TensorSpec], given: object) -> Arrays:
    """Read the inputs of a bare model: the array of its only input, or all of them by name.

    Raise `InvalidRequest` if a name, a value or a shape does not fit the graph.
    """
    if not isinstance(given, dict) or is_base64(given):
        given = {_require_one_input(specs, "'inputs' is an array").name: given}
    _require_names(given, specs, "'inputs'")
    return tuple(
        _fit(_read_values(given[spec.name], spec), spec) if spec.name in given else ABSENT
        for spec in specs
    )


def decode_feature_rows(
    codec: FeatureCodec, spec: TensorSpec, rows: Sequence[Any], *, booleans: bool = True
) -> Array:
    """Decode rows of named features, as in the native protocol or as ``{"features": [row]}``.

    Raises:
        InvalidInput: values are invalid for their features.
        InvalidRequest: a row does not have the width of the graph's input.
    """
    if isinstance(rows[0], dict) and all(_is_tensor(row, codec) for row in rows):
        return _decode_feature_matrix(codec, spec, [row[INPUT_NAME] for row in rows])
    return codec.decode_rows(rows, booleans=booleans)


def _decode_feature_columns(codec: FeatureCodec, spec: TensorSpec, given: object) -> Array:
    """Decode the columns of a bundle: the matrix of the graph, or a list for each feature."""
    if not isinstance(given, dict):
        return _decode_feature_matrix(codec, spec, given)
    if _is_tensor(given, codec):
        return _decode_feature_matrix(codec, spec, given[INPUT_NAME])
    return codec.decode_rows(_to_rows(given, codec))


def _decode_text_columns(codec: TextCodec, specs: Sequence[TensorSpec], given: object) -> Arrays:
    """Decode the columns of a bundle with free text: the tensors of the graph, or of features."""
    if isinstance(given, dict) and codec.reads(given):
        return codec.to_inputs(codec.decode_rows(_to_rows(given, codec)))
    return codec.check(_read_bare_columns(specs, given))


def _to_rows(given: Mapping[str, Any], codec: FeatureCodec | TextCodec) -> list[object]:
    """Return rows by feature name; ``given`` has a list of values for each feature."""
    lengths = {len(values) if isinstance(values, list) else 0 for values in given.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise InvalidRequest(
            "'inputs' by feature needs a list of values for each, all of the same length; "
            f"the features are {join_values([feature.name for feature in codec.features])}."
        )
    return [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]


def _decode_feature_matrix(codec: FeatureCodec, spec: TensorSpec, data: object) -> Array:
    """Decode the matrix of the graph's input, and check its values.

    Raise `InvalidRequest` if it does not have the graph's width or has no row, `InvalidInput` if
    values are invalid for their features.
    """
    natural = read_natural(data, spec, nulls=True)
    if not shape_fits(natural.shape, spec.shape) or not len(natural):
        raise _shape_error(natural, spec)
    matrix = cast(natural, spec)
    codec.check(matrix)
    return matrix


def _is_tensor(row: object, codec: FeatureCodec) -> bool:
    return isinstance(row, dict) and set(row) == {INPUT_NAME} and INPUT_NAME not in codec.names


def _split_by_input(
    specs: Sequence[TensorSpec], rows: Sequence[Any]
) -> Mapping[str, Sequence[Any]]:
    """Return the values of each input, one for each row."""
    if not isinstance(rows[0], dict) or is_base64(rows[0]):
        return {_require_one_input(specs, "an instance is a bare value").name: rows}
    for position, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidRequest(
                f"Instance {position} must be an object like those before it, got "
                f"{format_value(row)}."
            )
        _require_names(row, specs, f"Instance {position}")
        if row.keys() != rows[0].keys():
            raise InvalidRequest(
                f"Instance {position} has other inputs than the first one; "
                "give every instance the same inputs."
            )
    return {name: [row[name] for row in rows] for name in rows[0]}


def _stack(values: Sequence[Any], spec: TensorSpec) -> tuple[Array, bool]:
    """Stack the values of an input; also return whether it is one value without an axis of rows."""
    natural = _read_values(values, spec)
    if len(values) == 1 and shape_fits(natural.shape[1:], spec.shape):
        return cast(natural, spec).reshape(natural.shape[1:]), True
    return _fit(natural, spec), False


def _fit(natural: Array, spec: TensorSpec) -> Array:
    """Convert values to the type and the shape of an input."""
    shape = natural.shape
    if is_column(spec) and natural.size and shape[1:] in ((), (1,)):
        # One value for each row, bare or in a list; a scalar is one row.
        shape = natural.size, *spec.shape[1:]
        return cast(natural, spec).reshape(shape)
    if not natural.size and shape_fits(shape, spec.shape[: natural.ndim]):
        # JSON has the axes of an empty array only up to the first empty one.
        shape += tuple(max(axis, 0) for axis in spec.shape[natural.ndim :])
    # An empty shape may also mean an unknown rank, which only the runtime checks.
    elif spec.shape and not shape_fits(shape, spec.shape):
        raise _shape_error(natural, spec)
    return cast(natural, spec).reshape(shape)


def _read_values(data: object, spec: TensorSpec) -> Array:
    if spec.datatype == "BYTES":
        data = without_base64(data, spec)
    return read_natural(data, spec, nulls=is_column(spec) and spec.datatype != "BYTES")


def _require_one_input(specs: Sequence[TensorSpec], what: str) -> TensorSpec:
    if len(specs) != 1:
        names = join_values([spec.name for spec in specs]) or "none"
        raise InvalidRequest(
            f"The model has {len(specs)} inputs, and {what}; send an object with {names}."
        )
    return specs[0]


def _shape_error(natural: Array, spec: TensorSpec) -> InvalidRequest:
    return InvalidRequest(
        f"Input {spec.name!r}: the values make an array of shape {list(natural.shape)}; "
        f"{format_expected_shape(spec)}"
    )


def _find_image_column(given: Any, codec: ImageCodec) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Return the value of ``inputs``, bare or by name."""
    if isinstance(given, dict) and len(given) == 1 and given.keys() <= codec.names:
        (given,) = given.values()
    return given


def _require_images(column: Any) -> Sequence[Any]:  # noqa: ANN401 - as above
    """Return the images of ``inputs``; raise `InvalidRequest` if they are no list or empty."""
    if not isinstance(column, list) or not column:
        raise InvalidRequest(
            f"'inputs' must be a list of images, bare or under {KEY!r}, got {format_value(column)}."
        )
    return column


def _write_rows(specs: Sequence[TensorSpec], outputs: Arrays, count: int, *, whole: bool) -> object:
    """Return a value for each row if there is one output, else an object by the outputs' names.

    ``whole`` says whether the request was one row without an axis of rows. Raise `InvalidRequest`
    if an output does not have one value for each of several rows.
    """
    columns = {
        spec.name: _split_rows(array, spec, count, whole=whole)
        for spec, array in zip(specs, outputs, strict=True)
        if array is not ABSENT
    }
    if len(specs) == 1:
        return next(iter(columns.values()), [None] * count)
    rows = zip(*columns.values(), strict=True) if columns else [()] * count
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _write_columns(specs: Sequence[TensorSpec], outputs: Arrays) -> object:
    """Return the values of the only output, or of all outputs by name."""
    columns = {
        spec.name: _to_json(array, spec)
        for spec, array in zip(specs, outputs, strict=True)
        if array is not ABSENT
    }
    return columns if len(specs) != 1 else next(iter(columns.values()), None)


def _split_rows(array: Array, spec: TensorSpec, count: int, *, whole: bool) -> Iterable[object]:
    has_rows = array.ndim > 0 and len(array) == count
    if whole or (count == 1 and not has_rows):
        return [_to_json(array, spec)]
    if not has_rows:
        raise InvalidRequest(
            f"Output {spec.name!r} has the shape {list(array.shape)}, not one value for each of "
            f"{format_count(count, 'instance')}; send 'inputs' instead of 'instances'."
        )
    rows: Iterable[object] = _to_json(array, spec)
    return rows


def _to_json(array: Array, spec: TensorSpec) -> Any:  # noqa: ANN401 - an array, a list or a scalar
    """Convert an array to what orjson can write; one without an axis to its scalar."""
    if spec.datatype == "BYTES":
        if spec.name.endswith(_BINARY_SUFFIX):
            encoded = np.empty(array.size, np.object_)
            encoded[:] = [with_base64(str(text)) for text in array.ravel()]
            array = encoded.reshape(array.shape)
        return array.tolist()
    # Of two equivalent integer types of numpy, orjson supports only one.
    array = np.asarray(array, DTYPES[spec.datatype], order="C")
    return array if array.ndim else array[()]
