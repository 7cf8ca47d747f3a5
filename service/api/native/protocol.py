"""The native protocol: named features in, predictions with class labels or units out.

GET /models · GET /models/{name} · POST /models/{name}/predict, each also under
/models/{name}/versions/{version}.
"""

import asyncio
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from service.api.body import FORM, JSON, RequestHead, json_response, parse_media_type
from service.api.inference import DecodedRequest, EncodedBody
from service.api.native import model_info
from service.api.native.forms import IMAGE_TYPES, INSTANCES, read_posted, take_instances
from service.api.native.schemas import METRICS, MODEL, PREDICT
from service.api.native.tables import NativePredictions
from service.api.routing import add_model_routes
from service.api.schemas import ANY_MODEL, MODEL_ERRORS, refer, returns
from service.codecs.columns import ColumnCodec, TableCodec
from service.codecs.endpoint import Endpoint
from service.codecs.images import ImageCodec
from service.codecs.json_reader import may_hold_booleans, parse_json, parse_number_rows
from service.codecs.json_writer import NO_FIELDS, Fields
from service.codecs.parameters import (
    DEFAULT_PARAMETERS,
    Parameters,
    read_parameters,
)
from service.codecs.texts import TextCodec
from service.engine.tensors import Arrays
from service.errors import InvalidRequest, OnwardError
from service.limits import Limits
from service.workers.coordination import Worker

_IMAGE = "image/"
# A report is one file with its own style and images, without scripts and external resources.
_REPORT_HEADERS = {
    "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_PAGE: dict[str, Any] = {"response_class": HTMLResponse, "responses": MODEL_ERRORS}


class PredictResponseFormat(NamedTuple):
    """The format of a response.

    ``single`` says whether the request was one row without a list. ``fields`` are the warnings of
    rows, and the names of images that were sent as files of a form. ``rows`` is their number, which
    only a graph without a manifest needs.
    """

    single: bool
    parameters: Parameters
    fields: Fields = NO_FIELDS
    rows: int = 1


class NativeProtocol:
    """JSON objects by feature name, and images in any encoding."""

    name = "native"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def media_types(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return JSON, also declared as curl does, and the types of images if it takes these."""
        return (JSON, FORM) if endpoint.images is None else IMAGE_TYPES

    def json_bytes(self, body: bytes, head: RequestHead) -> int:
        """Return the length of the body, or zero if it is an image file."""
        media_type = parse_media_type(head.content_type or JSON)
        return len(body) if media_type in (JSON, FORM) else 0

    def decode(
        self, endpoint: Endpoint, body: bytes, head: RequestHead
    ) -> DecodedRequest[PredictResponseFormat]:
        """Decode one object, an array of rows, ``{"instances": [rows]}``, or images."""
        parameters = DEFAULT_PARAMETERS
        if head.query:
            parameters = self._read_parameters(endpoint, head.query)
        codec = endpoint.features
        if codec is None:
            if endpoint.columns is not None:
                return self._decode_columns(endpoint.columns, body, parameters)
            return self._decode_images(endpoint.require_images(), body, head, parameters)
        numbers = parse_number_rows(body) if codec.reads_numbers else None
        matrix = None if numbers is None else codec.decode_numbers(numbers)
        single = False
        if matrix is not None:
            self._limits.require_rows(len(matrix))
        else:
            document = parse_json(body, lambda: orjson.dumps(codec.example))
            single = isinstance(document, dict) and (
                INSTANCES not in document or INSTANCES in codec.names
            )
            rows = [document] if single else _read_instances(document, codec)
            if len(rows) == 1 and (row := codec.decode_row(rows[0])) is not None:
                return DecodedRequest((row,), PredictResponseFormat(single, parameters))
            self._limits.require_rows(len(rows))
            matrix = codec.decode_rows(rows, booleans=may_hold_booleans(body))
        fields: Fields = NO_FIELDS
        if parameters.warnings is not False:
            warnings = codec.training_range.warnings(matrix)
            fields = {row: {"warnings": messages} for row, messages in warnings.items()}
        return DecodedRequest((matrix,), PredictResponseFormat(single, parameters, fields))

    def _decode_columns(
        self, codec: ColumnCodec | TextCodec, body: bytes, parameters: Parameters
    ) -> DecodedRequest[PredictResponseFormat]:
        """Decode the rows of a bundle with free text, or of a graph without a manifest."""
        document = parse_json(body, lambda: orjson.dumps(codec.example))
        single = isinstance(document, dict) and (
            INSTANCES not in document or INSTANCES in codec.names
        )
        rows = [document] if single else _read_instances(document, codec)
        self._limits.require_rows(len(rows))
        decoded = codec.decode_rows(rows)
        fields: Fields = NO_FIELDS
        if codec.training_range is not None and parameters.warnings is not False:
            warnings = codec.training_range.warnings(decoded)
            fields = {row: {"warnings": messages} for row, messages in warnings.items()}
        response = PredictResponseFormat(single, parameters, fields, len(rows))
        return DecodedRequest(codec.to_inputs(decoded), response)

    def _read_parameters(self, endpoint: Endpoint, query: bytes) -> Parameters:
        """Return the parameters of a query, which this model must support."""
        self._limits.require_query(query)
        parameters = read_parameters(query)
        endpoint.require_supported(parameters)
        return parameters

    def _decode_images(
        self, codec: ImageCodec, body: bytes, head: RequestHead, parameters: Parameters
    ) -> DecodedRequest[PredictResponseFormat]:
        content_type = head.content_type or JSON
        if content_type.startswith(_IMAGE) and (pixels := codec.decode_file(body)) is not None:
            response = PredictResponseFormat(single=True, parameters=parameters)
            return DecodedRequest((pixels,), response)
        posted = read_posted(codec, body, content_type)
        self._limits.require_rows(len(posted.images))
        fields: Fields = {row: {"file": name} for row, name in enumerate(posted.files)}
        response = PredictResponseFormat(posted.single, parameters, fields, len(posted.images))
        return DecodedRequest(codec.decode(posted.images, posted.prefix), response)

    def encode(
        self, endpoint: Endpoint, outputs: Arrays, context: PredictResponseFormat
    ) -> EncodedBody:
        """Encode the prediction of a single row, or ``{"predictions": [...]}``."""
        single, parameters, fields, rows = context
        scores = outputs[0]
        if endpoint.graph_outputs is not None:
            scores = endpoint.graph_outputs.join(outputs, rows)
        return EncodedBody(endpoint.writer.write(scores, parameters, fields, single=single))


def native_router(worker: Worker, predictions: NativePredictions) -> APIRouter:
    """Create the routes of the native protocol."""
    router = APIRouter(tags=[ANY_MODEL])
    registry, reconciler = worker.registry, worker.reconciler

    @router.get(
        "/models",
        summary="Every model, and the device they run on",
        responses=returns(refer("ModelList")),
    )
    async def list_models() -> Response:
        device = registry.device
        info: dict[str, str] = {"requested": device.requested, "actual": device.actual}
        if device.reason:
            info["reason"] = device.reason
        listed = [model_info.summarize(registry.entry(name)) for name in registry.names]
        return json_response({"models": listed, "device": info})

    async def get_model(_: Request, name: str, version: str | None) -> Response:
        entry = registry.entry(name, version)
        if entry.serves and entry.info is None:
            # Only its graph describes a model without a manifest. The entry has any error.
            with suppress(OnwardError):
                await reconciler.model_info(name, version)
            entry = registry.entry(name, version)
        entries = await worker.index.entries(name)
        return json_response(model_info.describe(registry, entry, entries))

    async def get_metrics(_: Request, name: str, version: str | None) -> Response:
        return json_response(model_info.read_evaluation(await reconciler.model_info(name, version)))

    async def get_report(_: Request, name: str, version: str | None) -> Response:
        info = await reconciler.model_info(name, version)
        page = await asyncio.to_thread(model_info.read_report, info)
        return HTMLResponse(page, headers=_REPORT_HEADERS)

    for method, path, summary, handler, options in (
        ("GET", "", "The input, the output and the quality of a model", get_model, MODEL),
        ("GET", "/metrics", "The metrics of a model on its test set", get_metrics, METRICS),
        ("GET", "/report", "The report of a training run", get_report, _PAGE),
        ("POST", "/predict", "Predict one row or many", predictions.predict, PREDICT),
    ):
        add_model_routes(router, method, path, summary, handler, **options)
    return router


def _read_instances(document: Any, codec: TableCodec) -> list[Any]:  # noqa: ANN401 - JSON is any of its types
    """Return the rows of a body that is not a single object."""
    has_instances = isinstance(document, dict)
    if has_instances:
        document = take_instances(document)
    if isinstance(document, list) and document:
        return document
    example = orjson.dumps([codec.example]).decode()
    if not isinstance(document, list):
        if has_instances:
            raise InvalidRequest(f"'instances' must be an array of rows: {example}")
        raise InvalidRequest(f"Expected an object, an array of objects, or instances: {example}")
    raise InvalidRequest(f"There is no row to predict; send at least one: {example}")
