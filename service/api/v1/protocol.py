"""Version 1: ``:predict`` of TensorFlow Serving and KServe, by rows or by columns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import orjson

from service.api.body import FORM, JSON, RequestHead
from service.api.inference import DecodedRequest, EncodedBody
from service.bundle.features import INPUT_NAME
from service.codecs.endpoint import Endpoint
from service.codecs.features import FeatureCodec
from service.codecs.images import KEY
from service.codecs.json_reader import Numbers, may_hold_booleans, parse_json, rows_of_numbers
from service.codecs.tensors import (
    cast,
    fitted,
    is_base64,
    read_natural,
    shape_fits,
    with_base64,
    without_base64,
)
from service.engine.tensors import ABSENT, DTYPES, Array, Arrays, Inputs, TensorSpec
from service.errors import InvalidRequest
from service.limits import Limits
from service.spelling import nearest
from service.values import listed, nearest_of, shown

_ROWS, _COLUMNS = "instances", "inputs"
# Of a document that has neither; names are compared by their first characters.
_MOST_KEYS_COMPARED = 10
_LONGEST_COMPARED = 100
# The documented examples of TensorFlow Serving use curl, which calls every body a form.
MEDIA_TYPES = (JSON, FORM)

Example = Callable[[], Mapping[str, object]]
_MATRIX_AXES = 2
# JSON's numbers in a request for one of integers may have a fraction, which is to be refused.
_REAL = {"FP32", "FP64"}
# The name's end by which TensorFlow Serving tells that strings go out in base64.
_BINARY = "_bytes"


class Form(NamedTuple):
    """How the values came, and so how the answer goes: the number of rows, or None for columns."""

    rows: int | None = None
    whole: bool = False


_ONE_ROW = Form(1)


class V1Protocol:
    """Exactly one of ``instances`` and ``inputs``."""

    name = "v1"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def media_types(self, _: Endpoint) -> tuple[str, ...]:
        """JSON, however it is called."""
        return MEDIA_TYPES

    def json_bytes(self, body: bytes, head: RequestHead) -> int:  # noqa: ARG002 - the protocol's own parameter
        """All of them."""
        return len(body)

    def decode(self, endpoint: Endpoint, body: bytes, head: RequestHead) -> DecodedRequest[Form]:  # noqa: ARG002 - the protocol's own parameter
        """Read rows or columns; values of named features must keep their rules."""
        numbers = rows_of_numbers(body) if body.startswith(b"{") else None
        if numbers is not None and (matrix := _from_numbers(endpoint, numbers)) is not None:
            self._limits.require_rows(len(matrix))
            return DecodedRequest((matrix,), Form(len(matrix)))
        document = parse_json(body, lambda: orjson.dumps(_example(endpoint)))
        require_document(document, lambda: _example(endpoint))
        if _form_of(document) == _COLUMNS:
            return DecodedRequest(self._columns(endpoint, document[_COLUMNS]), Form())
        rows = read_list(document, _ROWS)
        images, codec = endpoint.images, endpoint.features
        if len(rows) == 1 and codec is not None and (row := codec.decode_row(rows[0])) is not None:
            return DecodedRequest((row,), _ONE_ROW)
        self._limits.require_rows(len(rows))
        if images is not None:
            return DecodedRequest(images.decode(rows, instance), Form(len(rows)))
        if codec is not None:
            booleans = may_hold_booleans(body)
            decoded = feature_rows(codec, endpoint.inputs[0], rows, booleans=booleans)
            return DecodedRequest((decoded,), Form(len(rows)))
        read = stacked(endpoint.inputs, rows)
        return DecodedRequest(read.arrays, Form(read.count, read.whole))

    def encode(self, endpoint: Endpoint, outputs: Arrays, context: Form) -> EncodedBody:
        """``predictions`` for rows, ``outputs`` for columns."""
        if context.rows is None:
            body = {"outputs": by_column(endpoint.outputs, outputs)}
        else:
            body = {
                "predictions": by_row(endpoint.outputs, outputs, context.rows, whole=context.whole)
            }
        return EncodedBody(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))

    def _columns(self, endpoint: Endpoint, given: object) -> Inputs:
        if (images := endpoint.images) is not None:
            column = image_column(given)
            self._limits.require_rows(len(column))
            return images.decode(column, instance)
        self._limits.require_rows(longest_column(given))
        codec = endpoint.features
        if codec is None:
            return columns(endpoint.inputs, given)
        return (feature_columns(codec, endpoint.inputs[0], given),)


def _example(endpoint: Endpoint) -> Mapping[str, object]:
    """A request that the model takes."""
    if endpoint.images is not None:
        return {_ROWS: [{"b64": "the image's file in base64"}]}
    if endpoint.features is not None:
        return {_ROWS: [endpoint.features.example]}
    return {_ROWS: [{spec.name: ["…"] for spec in endpoint.inputs}]}


def _from_numbers(endpoint: Endpoint, numbers: Numbers) -> Array | None:
    """Rows of numbers as the model's input; None where each must be decoded by itself."""
    if endpoint.images is not None:
        return endpoint.images.decode_numbers(numbers)
    if endpoint.features is not None:
        return endpoint.features.decode_numbers(numbers)
    return matrix_of(endpoint.inputs, numbers)


def _form_of(document: Mapping[str, Any]) -> str:
    given = [key for key in (_ROWS, _COLUMNS) if key in document]
    if len(given) == 1:
        return given[0]
    if given:
        raise InvalidRequest("The request has both 'instances' and 'inputs'; send one of them.")
    advice = ""
    for key in islice(document, _MOST_KEYS_COMPARED):
        if close := nearest(key[:_LONGEST_COMPARED], (_ROWS, _COLUMNS)):
            advice = f" Did you mean {close!r} by {key[:_LONGEST_COMPARED]!r}?"
            break
    raise InvalidRequest(
        f"The request has neither 'instances', for rows, nor 'inputs', for columns.{advice}"
    )


def read_document(body: bytes, example: Example) -> Mapping[str, Any]:
    """The JSON object of a request.

    Keys that a call does not know are left alone, as both families of servers do.

    Args:
        body: what was sent.
        example: makes a request that this call takes.

    Raises:
        InvalidRequest: it is no object, or its ``signature_name`` is no string.
    """
    document: Any = parse_json(body, lambda: orjson.dumps(example()))
    require_document(document, example)
    read: Mapping[str, Any] = document
    return read


def require_document(document: object, example: Example) -> None:
    """Reject what is no request.

    Raises:
        InvalidRequest: it is no object, or its ``signature_name`` is no string.
    """
    if not isinstance(document, dict):
        text = orjson.dumps(example()).decode()
        raise InvalidRequest(f"Expected an object, got {shown(document)}. Send {text}")
    signature = document.get("signature_name")
    if signature is not None and not isinstance(signature, str):
        raise InvalidRequest(f"'signature_name' must be a string, got {shown(signature)}.")


def read_list(document: Mapping[str, Any], key: str) -> Sequence[Any]:
    """The rows under a key.

    Raises:
        InvalidRequest: they are no list, or there are none.
    """
    rows = document.get(key)
    if not isinstance(rows, list):
        raise InvalidRequest(f"{key!r} must be a list with one item a row, got {shown(rows)}.")
    if not rows:
        raise InvalidRequest(f"{key!r} holds no row; send at least one.")
    return rows


def require_names(given: Iterable[str], specs: Sequence[TensorSpec], place: str) -> None:
    """Refuse inputs that the model does not have, and the lack of one that it needs.

    Raises:
        InvalidRequest: names the first; ``place`` begins the sentence.
    """
    names, known = set(given), [spec.name for spec in specs]
    if unknown := names - set(known):
        first = min(unknown)
        advice = nearest_of(first[:_LONGEST_COMPARED], known)
        raise InvalidRequest(f"{place} has an unknown input {shown(first)}; {advice}")
    if missing := [spec.name for spec in specs if spec.name not in names and not spec.optional]:
        raise InvalidRequest(f"{place} lacks the input {missing[0]!r}.")


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


def matrix_of(specs: Sequence[TensorSpec], numbers: Numbers) -> Array | None:
    """The rows of a model without a manifest, as `stacked` reads them.

    None where they or the model's one input are anything else than rows of floating point.
    """
    if len(specs) != 1 or len(specs[0].shape) != _MATRIX_AXES:
        return None
    if not shape_fits(numbers.shape, specs[0].shape):
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
    """Rows of named features, as the native protocol has them or as ``{"features": [row]}``.

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
    return codec.decode_rows(rows, booleans=booleans)


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
    return codec.decode_rows(
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


def instance(number: int) -> str:
    """How a sentence about an instance begins."""
    return f"Instance {number}: "


def image_column(given: Any) -> Sequence[Any]:  # noqa: ANN401 - JSON is any of its types
    """The images of ``inputs``, bare or under the name of the graph's input.

    Raises:
        InvalidRequest: they are no list, or there are none.
    """
    if isinstance(given, dict) and set(given) == {KEY}:
        given = given[KEY]
    if not isinstance(given, list) or not given:
        raise InvalidRequest(
            f"'inputs' must be a list of images, bare or under {KEY!r}, got {shown(given)}."
        )
    return given


def by_row(specs: Sequence[TensorSpec], outputs: Arrays, count: int, *, whole: bool) -> object:
    """A value for each row where there is one output, else an object by the outputs' names.

    Args:
        specs: the graph's outputs.
        outputs: what they are.
        count: how many rows were sent.
        whole: whether they are the answer to one row that had no axis of rows.

    Raises:
        InvalidRequest: an output does not have one value for each of several rows.
    """
    present = _present(specs, outputs)
    split = [_split(array, spec, count, whole=whole) for spec, array in present]
    if len(specs) == 1:
        return split[0] if split else [None] * count
    names = [spec.name for spec, _ in present]
    rows = zip(*split, strict=True) if split else [()] * count
    return [dict(zip(names, row, strict=True)) for row in rows]


def by_column(specs: Sequence[TensorSpec], outputs: Arrays) -> object:
    """The only output's values, or all of them by name."""
    written = {spec.name: _written(array, spec) for spec, array in _present(specs, outputs)}
    return written if len(specs) != 1 else next(iter(written.values()), None)


def _present(specs: Sequence[TensorSpec], outputs: Arrays) -> list[tuple[TensorSpec, Array]]:
    return [
        (spec, array) for spec, array in zip(specs, outputs, strict=True) if array is not ABSENT
    ]


def _split(array: Array, spec: TensorSpec, count: int, *, whole: bool) -> Iterable[object]:
    has_rows = array.ndim > 0 and len(array) == count
    if whole or (count == 1 and not has_rows):
        return [_written(array, spec)]
    if not has_rows:
        raise InvalidRequest(
            f"Output {spec.name!r} has the shape {list(array.shape)}, not one value for each of "
            f"{count} instances; send 'inputs' instead of 'instances'."
        )
    rows: Iterable[object] = _written(array, spec)
    return rows


def _written(array: Array, spec: TensorSpec) -> Any:  # noqa: ANN401 - an array, a list or a scalar
    """An array as orjson writes it; one without an axis as its scalar."""
    if spec.datatype == "BYTES":
        if spec.name.endswith(_BINARY):
            coded = np.empty(array.size, np.object_)
            coded[:] = [with_base64(str(text)) for text in array.ravel()]
            array = coded.reshape(array.shape)
        return array.tolist()
    # The runtime has two types for the same integer, and orjson knows one of them.
    array = np.asarray(array, DTYPES[spec.datatype], order="C")
    return array if array.ndim else array[()]
