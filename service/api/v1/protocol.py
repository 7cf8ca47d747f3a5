"""``:predict``: rows in, rows out; or columns in, columns out."""

from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

import orjson

from service.api.body import may_hold_booleans
from service.api.inference import DecodedRequest, EncodedBody, RequestHead
from service.api.v1.answers import by_column, by_row
from service.api.v1.inputs import (
    columns,
    feature_columns,
    feature_rows,
    longest_column,
    matrix_of,
    stacked,
)
from service.api.v1.pictures import instance, picture_column
from service.api.v1.request import MEDIA_TYPES, read_document, read_list
from service.codecs.endpoint import Endpoint
from service.codecs.json_numbers import rows_of_numbers
from service.engine.dtypes import Array, Arrays, Inputs
from service.errors import InvalidRequest
from service.limits import Limits
from service.spelling import nearest

_ROWS, _COLUMNS = "instances", "inputs"
# Of a document that has neither.
_MOST_KEYS_COMPARED = 10
_LONGEST_COMPARED = 100


class Form(NamedTuple):
    """How the values came, and so how the answer goes: the number of rows, or None for columns."""

    rows: int | None = None
    whole: bool = False


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
        """Read rows or columns; a bundle's are held against its features' rules."""
        pictures, codec = endpoint.images, endpoint.features
        if body.startswith(b"{") and (quick := _numbers(endpoint, body)) is not None:
            self._limits.require_rows(len(quick))
            return DecodedRequest((quick,), Form(len(quick)))
        document = read_document(body, lambda: _example(endpoint))
        if _form_of(document) == _COLUMNS:
            return DecodedRequest(self._columns(endpoint, document[_COLUMNS]), Form())
        rows = read_list(document, _ROWS)
        self._limits.require_rows(len(rows))
        if pictures is not None:
            return DecodedRequest(pictures.read(rows, instance), Form(len(rows)))
        if codec is not None:
            booleans = may_hold_booleans(body)
            matrix = feature_rows(codec, endpoint.inputs[0], rows, booleans=booleans)
            return DecodedRequest((matrix,), Form(len(rows)))
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
        if (pictures := endpoint.images) is not None:
            column = picture_column(given)
            self._limits.require_rows(len(column))
            return pictures.read(column, instance)
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


def _numbers(endpoint: Endpoint, body: bytes) -> Array | None:
    """Rows of nothing but numbers, read from the text at once; None for everything else."""
    if endpoint.images is not None:
        return endpoint.images.numbers(rows_of_numbers(body))
    if endpoint.features is not None:
        return endpoint.features.instances(body)
    return matrix_of(endpoint.inputs, body)


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
