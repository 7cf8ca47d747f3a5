"""A prediction, from the body of its request to its response: decode, run, encode, record.

Two drivers share this sequence of steps. `FastInference` responds to complete requests for quick
models within one turn of the event loop. `service.api.inference_service` responds to all other
requests, and awaits each step.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from starlette.requests import ClientDisconnect

from service.api.body import (
    JSON,
    MIN_COMPRESSED_BYTES,
    NO_HEADERS,
    SMALL_BODY_BYTES,
    RequestHead,
    compress,
    is_accepted,
    is_quick_to_decode,
)
from service.api.errors import error_response, read_error_code
from service.codecs.endpoint import Endpoint, EndpointCache
from service.engine.batching import Prediction
from service.engine.model import ServedModel
from service.engine.registry import Readiness, Registry
from service.engine.tensors import Arrays, Inputs
from service.errors import ModelNotReady, ModelUnservable, NotFound, OnwardError
from service.limits import Limits
from service.observability.logs import request_id
from service.observability.metrics import Metrics, Phases, RequestRecorder

Context = TypeVar("Context")

# The phases are in milliseconds, as the Server-Timing header requires.
_HEADER_LINES = (
    b"content-type: %b\r\n"
    b"content-length: %d\r\n"
    b"server-timing: decode;dur=%.3f, queue;dur=%.3f, compute;dur=%.3f, encode;dur=%.3f\r\n"
    b"x-model-version: %b\r\n"
)
_JSON_TYPES = (JSON, None)

_log = logging.getLogger(__name__)


class DecodedRequest(NamedTuple, Generic[Context]):
    """The inputs of a model, and the context that the protocol needs to encode the response."""

    inputs: Inputs
    context: Context


class EncodedBody(NamedTuple):
    """The body of a response, its media type, and additional headers."""

    content: bytes
    media_type: str = JSON
    headers: Mapping[str, str] = NO_HEADERS


class InferenceProtocol(Protocol[Context]):
    """The interface of the native protocol, v1 and v2: decoding and encoding."""

    @property
    def name(self) -> str:
        """The value of the metrics' label ``protocol``."""

    def media_types(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Return the media types of bodies that the model accepts."""

    def json_bytes(self, body: bytes, head: RequestHead) -> int:
        """Return the number of a body's first bytes that are JSON."""

    def decode(self, endpoint: Endpoint, body: bytes, head: RequestHead) -> DecodedRequest[Context]:
        """Decode a decompressed body to inputs of the model; raise `InvalidRequest` if invalid."""

    def encode(self, endpoint: Endpoint, outputs: Arrays, context: Context) -> EncodedBody:
        """Encode the model's outputs."""


class RawResponse(NamedTuple):
    """A complete response: status, header lines as bytes, and body."""

    status: int
    lines: bytes
    content: bytes

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The header lines as the pairs of names and values that ASGI expects."""
        pairs = [line.partition(b": ") for line in self.lines.split(b"\r\n")[:-1]]
        return [(name, value) for name, _, value in pairs]


OnResponse = Callable[[RawResponse, bytes], None]


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Format headers as lines of HTTP/1.1."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


class Inference(Generic[Context]):
    """A prediction request to a model."""

    __slots__ = (
        "_decode_seconds",
        "_encode_seconds",
        "_metrics",
        "context",
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
        """Decode the model's inputs, or return a coroutine function that decodes them in a thread.

        Raise `InvalidRequest` if the body is invalid for the protocol or the model.
        """
        started = perf_counter()
        inputs, self.context = self.protocol.decode(self.endpoint, body, self.head)
        self._decode_seconds = perf_counter() - started
        return inputs

    async def materialize(self, decode: Callable[[], Awaitable[Arrays]]) -> Arrays:
        """Return arrays that are decoded in a thread, and add the time to that of decoding."""
        started = perf_counter()
        arrays = await decode()
        self._decode_seconds += perf_counter() - started
        return arrays

    def encode(self, outputs: Arrays) -> EncodedBody:
        """Encode the response; compress a large body if the client accepts that."""
        started = perf_counter()
        encoded = self.protocol.encode(self.endpoint, outputs, self.context)
        accepted = self.head.accept_encoding
        if accepted is not None and len(encoded.content) >= MIN_COMPRESSED_BYTES:
            content, headers = compress(encoded.content, accepted)
            encoded = EncodedBody(content, encoded.media_type, {**encoded.headers, **headers})
        self._encode_seconds = perf_counter() - started
        return encoded

    def record(self, rows: int, prediction: Prediction, encoded: EncodedBody) -> RawResponse:
        """Count a prediction, and return its response; on the event loop."""
        model = self.model
        _, queue, compute = prediction
        phases = Phases(self._decode_seconds, queue, compute, self._encode_seconds)
        self._metrics.count_prediction(model.name, model.version, self.protocol.name, rows, phases)
        model.statistics.count_success(phases)
        content, media_type, headers = encoded
        lines = _HEADER_LINES % (
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


class Failure(NamedTuple):
    """A request to a model that failed, and after how many seconds.

    ``name`` is that of the model in the request; ``model`` is None if none was found.
    """

    error: Exception
    name: str
    model: ServedModel | None
    seconds: float

    @property
    def labels(self) -> tuple[str, str]:
        """The name and the version of the model for the metrics."""
        if self.model is not None:
            return self.name, self.model.version
        if isinstance(self.error, ModelNotReady | ModelUnservable):
            return self.name, self.error.version
        # Clients choose unknown names, so these must not become labels.
        return ("", "") if isinstance(self.error, NotFound) else (self.name, "")

    @property
    def outcome(self) -> str:
        """The outcome for the metrics."""
        if isinstance(self.error, OnwardError):
            return self.error.code
        is_disconnected = isinstance(self.error, ClientDisconnect)
        return "client_disconnected" if is_disconnected else "internal_error"


def count_failure(metrics: Metrics, protocol: str, failure: Failure) -> None:
    """Count a prediction that failed."""
    if failure.model is not None:
        failure.model.statistics.fail.add(failure.seconds)
    metrics.count_failure(*failure.labels, protocol, failure.outcome)


class PredictTarget(NamedTuple):
    """The protocol and the model of a prediction path.

    ``version`` is a version or an alias; None is the one that serves.
    """

    protocol: InferenceProtocol[Any]
    path: str
    name: str
    version: str | None


class FastInference:
    """Responds to complete requests for models that are loaded and quick."""

    def __init__(
        self,
        registry: Registry,
        readiness: Readiness,
        endpoints: EndpointCache,
        recorder: RequestRecorder,
        limits: Limits,
    ) -> None:
        self._registry = registry
        self._readiness = readiness
        self.endpoints = endpoints
        self.metrics = recorder.metrics
        self.recorder = recorder
        self._limits = limits
        self._admitted = 0

    def submit(  # noqa: PLR0913 - the parts of a request
        self,
        target: PredictTarget,
        head: RequestHead,
        body: bytes,
        on_response: OnResponse,
        *,
        request_id: str,
        exclusive: bool = False,
    ) -> bool:
        """Respond to a complete request in this or the next turn of the event loop.

        ``on_response`` is called with the response and the request's id. ``exclusive`` says whether
        this is the only connection, so that no request can share a run.

        Returns:
            Whether it will respond; otherwise the request is unchanged and must go through ASGI.
        """
        if target.version is None and target.name in self._registry.routed:
            return False  # it may be sent to another version, or copied
        model = self._registry.find(target.name, target.version)
        if model is None or self._readiness.is_draining:
            return False
        is_small = len(body) <= SMALL_BODY_BYTES or is_quick_to_decode(body)
        if model.execution != "inline" or not is_small:
            if self._try_admit():
                return False
            # ASGI would take longer to reject it.
            call = _FastCall(self, target, model, head, on_response, request_id)
            call.finish(self._limits.requests.reject())
            return True
        # Every protocol accepts JSON.
        if head.content_type not in _JSON_TYPES and not is_accepted(
            head.content_type or "", target.protocol.media_types(self.endpoints.get(model))
        ):
            return False
        call = _FastCall(self, target, model, head, on_response, request_id)
        return call.begin(body, exclusive=exclusive)

    def _try_admit(self) -> bool:
        """Count one more request through ASGI if there is room for it; return whether there was.

        An admitted request is counted until ASGI does so, in this or the next turn of the event
        loop. Otherwise all requests of one turn would be admitted while there is room for one.
        """
        requests = self._limits.requests
        if requests.used + self._admitted >= requests.limit:
            return False
        if not self._admitted:
            asyncio.get_running_loop().call_soon(self._reset_admitted)
        self._admitted += 1
        return True

    def _reset_admitted(self) -> None:
        self._admitted = 0


class _FastCall(Inference[Any]):
    """A request to which the fast path responds."""

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
        request_id: str,
    ) -> None:
        endpoint = fast.endpoints.by_model.get(model) or fast.endpoints.get(model)
        super().__init__(target.protocol, model, endpoint, head, fast.metrics)
        self._fast = fast
        self._target = target
        self._on_response = on_response
        self._request_id = request_id
        self._is_queued = False
        self._started = perf_counter()

    def begin(self, body: bytes, *, exclusive: bool) -> bool:
        """Decode and queue the request; False if it must go through ASGI."""
        try:
            inputs = self.decode(body)
        except Exception as error:  # noqa: BLE001 - reported to the client
            self.finish(error)
            return True
        if not isinstance(inputs, tuple):
            return False
        rows = self.model.count_rows(inputs)
        if not self.model.runs_inline(rows):
            return False
        self._rows = rows
        self._is_queued = True
        self.model.acquire()
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
            except Exception as error:  # noqa: BLE001 - reported to the client
                response = self._failure(error)
        if self._is_queued:
            self.model.release()
        recorder, status = self._fast.recorder, response.status
        self._metrics.count_response(status)
        if status >= recorder.log_from:
            seconds, code = (
                perf_counter() - self._started,
                read_error_code(status, response.content),
            )
            with _log_context(self._request_id):
                recorder.log("POST", self._target.path, status, seconds, code=code)
        self._on_response(response, self._request_id.encode())

    def _failure(self, error: Exception) -> RawResponse:
        """Count an error, and return its response."""
        seconds = perf_counter() - self._started
        failure = Failure(error, self._target.name, self.model, seconds)
        count_failure(self._metrics, self.protocol.name, failure)
        if not isinstance(error, OnwardError):
            with _log_context(self._request_id):
                _log.error("request failed", exc_info=error)
        response = error_response(error)
        lines = header_lines(response.raw_headers)
        return RawResponse(response.status_code, lines, bytes(response.body))


@contextmanager
def _log_context(identity: str) -> Iterator[None]:
    """Add the request's id to the log records of this context."""
    token = request_id.set(identity)
    try:
        yield
    finally:
        request_id.reset(token)
