"""One prediction, from the body of its request to its response: decode, run, encode, record.

Two drivers share this sequence. `FastInference` responds within one turn of the event loop, to
complete requests for models that are quick. `service.api.inference_service` awaits each step, for
everything else.
"""

import asyncio
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from starlette.requests import ClientDisconnect

from service.api.body import (
    JSON,
    MIN_COMPRESSED_BYTES,
    SMALL_BODY_BYTES,
    RequestHead,
    compressed,
    is_accepted,
    is_quick_to_decode,
)
from service.api.errors import error_response
from service.api.recorder import RequestRecorder
from service.codecs.endpoint import Endpoint, Endpoints
from service.engine.batching import Prediction
from service.engine.model import ServedModel
from service.engine.registry import Registry
from service.engine.tensors import Arrays, Inputs, row_count
from service.errors import InvalidRequest, ModelNotReady, ModelUnservable, NotFound, OnwardError
from service.limits import Limits
from service.observability.logs import request_id
from service.observability.metrics import Metrics, Phases

Context = TypeVar("Context")

# The phases are a Server-Timing header, in milliseconds.
_LINES = (
    b"content-type: %b\r\n"
    b"content-length: %d\r\n"
    b"server-timing: decode;dur=%.3f, queue;dur=%.3f, compute;dur=%.3f, encode;dur=%.3f\r\n"
    b"x-model-version: %b\r\n"
)
_NO_HEADERS: Mapping[str, str] = {}
_JSON_OR_UNSTATED = (JSON, None)
_VALID_ID = re.compile(r"[\x21-\x7e]{1,128}")
_ID_BYTES = 16
# Drawn at once: a system call takes several times as long as taking one from the list.
_IDS_DRAWN = 256

_log = logging.getLogger(__name__)

# Forked children must not reuse the ids that their parent has drawn.
_ids: list[str] = []
os.register_at_fork(after_in_child=_ids.clear)


class DecodedRequest(NamedTuple, Generic[Context]):
    """The inputs of a model, and what the form of the response depends on."""

    inputs: Inputs
    context: Context


class EncodedBody(NamedTuple):
    """The body of a response, its media type, and further headers."""

    content: bytes
    media_type: str = JSON
    headers: Mapping[str, str] = _NO_HEADERS


class InferenceProtocol(Protocol[Context]):
    """How requests and responses are written: the native protocol, version 1 or version 2."""

    @property
    def name(self) -> str:
        """The value of the label ``dialect`` of the metrics."""

    def media_types(self, endpoint: Endpoint) -> tuple[str, ...]:
        """The media types of bodies that this model reads."""

    def json_bytes(self, body: bytes, head: RequestHead) -> int:
        """How many of a body's first bytes are JSON."""

    def decode(self, endpoint: Endpoint, body: bytes, head: RequestHead) -> DecodedRequest[Context]:
        """Decode a body to the model's inputs.

        Args:
            endpoint: of the model.
            body: decompressed.
            head: of the request.

        Raises:
            InvalidRequest: the body is not what the protocol or the model takes.
        """

    def encode(self, endpoint: Endpoint, outputs: Arrays, context: Context) -> EncodedBody:
        """Encode the model's outputs."""


class RawResponse(NamedTuple):
    """A response as it is sent: status, header lines and body."""

    status: int
    lines: bytes
    content: bytes

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The lines as ASGI has them, by name and value."""
        pairs = [line.partition(b": ") for line in self.lines.split(b"\r\n")[:-1]]
        return [(name, value) for name, _, value in pairs]


OnResponse = Callable[[RawResponse, bytes], None]


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def request_id_from(sent: str | None) -> str:
    """The client's id where it is safe to repeat in a header and a log, else a new one."""
    if sent is not None and _VALID_ID.fullmatch(sent):
        return sent
    if not _ids:
        drawn = os.urandom(_IDS_DRAWN * _ID_BYTES).hex()
        width = 2 * _ID_BYTES
        _ids.extend(drawn[i : i + width] for i in range(0, len(drawn), width))
    return _ids.pop()


def decode_body(
    protocol: InferenceProtocol[Context], endpoint: Endpoint, body: bytes, head: RequestHead
) -> DecodedRequest[Context]:
    """Decode a body to a model's inputs, as `InferenceProtocol.decode` does.

    Raises:
        InvalidRequest: the body is not what the protocol or the model takes.
    """
    try:
        return protocol.decode(endpoint, body, head)
    except RecursionError:
        # The parser takes a thousand levels, more than Python functions may call themselves.
        raise InvalidRequest(
            "The body is nested too deeply; send arrays with no more levels than the model's "
            "inputs have axes."
        ) from None


async def materialize(inputs: Inputs) -> Arrays:
    """The arrays, once they are decoded."""
    return inputs if isinstance(inputs, tuple) else await inputs()


class Inference(Generic[Context]):
    """One request to one model.

    Args:
        protocol: of the request and its response.
        model: runs.
        endpoint: of the model.
        head: of the request.
        metrics: count the response.
    """

    __slots__ = (
        "_context",
        "_decode_seconds",
        "_encode_seconds",
        "_metrics",
        "endpoint",
        "head",
        "model",
        "protocol",
    )

    def __init__(
        self,
        protocol: InferenceProtocol[Context],
        model: ServedModel,
        endpoint: Endpoint,
        head: RequestHead,
        metrics: Metrics,
    ) -> None:
        self.protocol = protocol
        self.model = model
        self.endpoint = endpoint
        self.head = head
        self._metrics = metrics
        self._decode_seconds = self._encode_seconds = 0.0

    def decode(self, body: bytes) -> Inputs:
        """The model's inputs, or what decodes them in a thread.

        Raises:
            InvalidRequest: the body is not what the protocol or the model takes.
        """
        started = perf_counter()
        inputs, self._context = decode_body(self.protocol, self.endpoint, body, self.head)
        self._decode_seconds = perf_counter() - started
        return inputs

    async def materialize(self, inputs: Inputs) -> Arrays:
        """The arrays, once they are decoded."""
        started = perf_counter()
        arrays = await materialize(inputs)
        self._decode_seconds += perf_counter() - started
        return arrays

    def encode(self, outputs: Arrays) -> EncodedBody:
        """The body of the response, compressed where it is large and the client accepts that."""
        started = perf_counter()
        encoded = self.protocol.encode(self.endpoint, outputs, self._context)
        accepted = self.head.accept_encoding
        if accepted is not None and len(encoded.content) >= MIN_COMPRESSED_BYTES:
            content, headers = compressed(encoded.content, accepted)
            encoded = EncodedBody(content, encoded.media_type, {**encoded.headers, **headers})
        self._encode_seconds = perf_counter() - started
        return encoded

    def record(self, rows: int, prediction: Prediction, encoded: EncodedBody) -> RawResponse:
        """The response, counted; on the event loop."""
        model = self.model
        _, queue, compute = prediction
        phases = Phases(self._decode_seconds, queue, compute, self._encode_seconds)
        self._metrics.count_prediction(model.name, model.version, self.protocol.name, rows, phases)
        model.statistics.count_success(phases)
        content, media_type, headers = encoded
        lines = _LINES % (
            media_type.encode(),
            len(content),
            1e3 * self._decode_seconds,
            1e3 * queue,
            1e3 * compute,
            1e3 * self._encode_seconds,
            model.version.encode(),
        )
        if headers:
            lines += header_lines((k.encode(), value.encode()) for k, value in headers.items())
        return RawResponse(200, lines, content)


def count_failure(  # noqa: PLR0913 - the facts of a failure; grouping them would only rename them
    metrics: Metrics,
    error: Exception,
    *,
    protocol: str,
    name: str,
    model: ServedModel | None,
    seconds: float,
) -> None:
    """Count a prediction that failed.

    Args:
        metrics: where.
        error: why.
        protocol: its name.
        name: of the model in the request.
        model: that was found; None where none was.
        seconds: that it took.
    """
    if model is not None:
        found = (name, model.version)
        model.statistics.fail.add(seconds)
    elif isinstance(error, ModelNotReady | ModelUnservable):
        found = (name, error.version)
    else:  # a name that does not exist is the client's choice, and must not become a label
        found = ("", "") if isinstance(error, NotFound) else (name, "")
    metrics.count_failure(*found, protocol, outcome_of(error))


def outcome_of(error: Exception) -> str:
    """The outcome of a failed request, as the metrics name it."""
    if isinstance(error, OnwardError):
        return error.code
    return "client_left" if isinstance(error, ClientDisconnect) else "internal_error"


class PredictTarget(NamedTuple):
    """The protocol and the model that the URL of a prediction names.

    ``version`` is a version or an alias; None is the one that serves.
    """

    protocol: InferenceProtocol[Any]
    path: str
    name: str
    version: str | None
    query: bytes


class FastInference:
    """Responds to complete requests for models that are loaded and quick.

    Args:
        registry: of the models.
        endpoints: of the models.
        metrics: count the predictions.
        recorder: counts and logs the responses.
        limits: shared by all requests.
    """

    def __init__(
        self,
        registry: Registry,
        endpoints: Endpoints,
        metrics: Metrics,
        recorder: RequestRecorder,
        limits: Limits,
    ) -> None:
        self._registry = registry
        self.endpoints = endpoints
        self.endpoint_by_model = endpoints.by_model
        self.metrics = metrics
        self.recorder = recorder
        self._readiness = recorder.readiness
        self._limits = limits
        self._entering = 0

    def _ready_model(self, target: PredictTarget) -> ServedModel | None:
        """The model of a target; None where it must be loaded, or requests are split or copied."""
        if target.version is None and target.name in self._registry.routed:
            return None
        return self._registry.find(target.name, target.version)

    def submit(  # noqa: PLR0913 - the parts of a request
        self,
        target: PredictTarget,
        head: RequestHead,
        body: bytes,
        on_response: OnResponse,
        *,
        request_id: str | None = None,
        exclusive: bool = False,
    ) -> bool:
        """Respond to a request within this turn of the event loop, or soon after.

        Args:
            target: of the request.
            head: of the request.
            body: complete.
            on_response: called with the response, and with the id for its header.
            request_id: as the client sent it.
            exclusive: whether this is the only connection, so that no other request can share a
                run.

        Returns:
            Whether it will respond; if not, nothing has been done, and the request must go
            through ASGI.
        """
        model = self._ready_model(target)
        if model is None or self._readiness.draining:
            return False
        is_small = len(body) <= SMALL_BODY_BYTES or is_quick_to_decode(body)
        if model.execution != "inline" or not is_small:
            return self._is_rejected(target, model, head, on_response, request_id)
        # Every protocol reads JSON.
        if head.content_type not in _JSON_OR_UNSTATED and not is_accepted(
            head.content_type or "", target.protocol.media_types(self.endpoints.of(model))
        ):
            return False
        call = _FastCall(self, target, model, head, on_response, request_id)
        return call.begin(body, exclusive=exclusive)

    def _is_rejected(
        self,
        target: PredictTarget,
        model: ServedModel,
        head: RequestHead,
        on_response: OnResponse,
        request_id: str | None,
    ) -> bool:
        """Reject a request that would take long where too many are in progress; else False.

        ASGI would reject it too, but in an overload that costs ten times as much.
        """
        requests = self._limits.requests
        if requests.used + self._entering < requests.limit:
            self._let_in()
            return False
        call = _FastCall(self, target, model, head, on_response, request_id)
        call.finish(requests.rejection())
        return True

    def _let_in(self) -> None:
        """Count a request until ASGI does so, which is in this turn of the event loop or the next.

        Else all that arrive in one turn would pass where there is room for one.
        """
        if not self._entering:
            asyncio.get_running_loop().call_soon(self._have_entered)
        self._entering += 1

    def _have_entered(self) -> None:
        self._entering = 0


class _FastCall(Inference[Any]):
    """A request that is responded to within a turn of the event loop."""

    __slots__ = (
        "_fast",
        "_is_queued",
        "_on_response",
        "_request_id",
        "_rows",
        "_started",
        "_target",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a request
        self,
        fast: FastInference,
        target: PredictTarget,
        model: ServedModel,
        head: RequestHead,
        on_response: OnResponse,
        request_id: str | None,
    ) -> None:
        try:
            endpoint = fast.endpoint_by_model[model]
        except KeyError:
            endpoint = fast.endpoints.of(model)
        super().__init__(target.protocol, model, endpoint, head, fast.metrics)
        self._fast = fast
        self._target = target
        self._on_response = on_response
        self._request_id = request_id_from(request_id)
        self._is_queued = False
        self._started = perf_counter()

    def begin(self, body: bytes, *, exclusive: bool) -> bool:
        """Decode and queue; False where ASGI must do it, and nothing has been done."""
        try:
            inputs = self.decode(body)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets it
            self.finish(error)
            return True
        if not isinstance(inputs, tuple):
            return False
        # The inputs of a model with a manifest have rows.
        rows = len(inputs[0]) if self.endpoint.manifest is not None else row_count(inputs)
        if not self.model.runs_inline(rows):
            return False
        self._rows = rows
        self._is_queued = True
        self.model.__enter__()
        try:
            self.model.predict_inline(inputs, rows, self.finish, exclusive=exclusive)
        except OnwardError as error:
            self.finish(error)
        return True

    def finish(self, result: Prediction | Exception) -> None:
        """Respond with a prediction or an error, and release the model."""
        if isinstance(result, Exception):
            response = self._failure(result)
        else:
            try:
                response = self.record(self._rows, result, self.encode(result.outputs))
            except Exception as error:  # noqa: BLE001 - as above
                response = self._failure(error)
        if self._is_queued:
            self.model.__exit__()
        recorder, status = self._fast.recorder, response.status
        self._metrics.count_response(status)
        if status >= recorder.log_from:
            with _logged_as(self._request_id):
                recorder.log("POST", self._target.path, status, perf_counter() - self._started)
        self._on_response(response, self._request_id.encode())

    def _failure(self, error: Exception) -> RawResponse:
        """The response to an error, counted."""
        count_failure(
            self._metrics,
            error,
            protocol=self.protocol.name,
            name=self._target.name,
            model=self.model,
            seconds=perf_counter() - self._started,
        )
        if not isinstance(error, OnwardError):
            with _logged_as(self._request_id):
                _log.error("request failed", exc_info=error)
        response = error_response(error)
        lines = header_lines(response.raw_headers)
        return RawResponse(response.status_code, lines, bytes(response.body))


@contextmanager
def _logged_as(identity: str) -> Iterator[None]:
    """Put the request's id on what is logged in this context."""
    token = request_id.set(identity)
    try:
        yield
    finally:
        request_id.reset(token)
