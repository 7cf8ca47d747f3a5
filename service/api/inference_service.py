"""Predictions through ASGI: bodies that arrive slowly, models that take long, and shadow traffic.

The sequence is that of `service.api.inference`; each step is awaited.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import NamedTuple, TypeVar

from fastapi import Request, Response
from starlette.background import BackgroundTask
from starlette.types import Receive, Scope, Send

from service.api.body import HEAD, RequestHead, is_quick_to_decode, read_body, require_media_type
from service.api.deadline import Deadline
from service.api.decoding import DecodeThreads
from service.api.inference import Context, Inference, InferenceProtocol, RawResponse, count_failure
from service.api.middleware import RESPOND, quotas_of
from service.bundle.policy import Shadow
from service.codecs.endpoint import Endpoints
from service.engine.model import ServedModel
from service.engine.registry import Registry, TrafficSplitter
from service.engine.tensors import Arrays, row_count
from service.limits import Limits
from service.observability.logs import request_id
from service.observability.metrics import Metrics
from service.settings import Settings
from service.shadow.runner import ShadowRunner
from service.workers.coordination import Worker

T = TypeVar("T")

# A larger response is encoded in a thread. A number takes some ten times its four bytes' share of
# work on its way to text.
_MAX_BYTES_ENCODED_INLINE = 16 * 1024
_MAX_BYTES_SENT_AT_ONCE = 256 * 1024


class ReceivedRequest(NamedTuple):
    """A request whose body has arrived: the version or alias that it goes to, and the body."""

    version: str | None
    body: bytes


class InferenceService:
    """Finds the models of requests, and responds to predictions of every protocol.

    Args:
        worker: has the models.
        endpoints: of the models.
        metrics: count the predictions.
        mirror: copies requests to shadow versions.
        settings: the operator's values.
        limits: shared by all requests.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of the service that a prediction meets
        self,
        worker: Worker,
        endpoints: Endpoints,
        metrics: Metrics,
        mirror: "ShadowMirror",
        settings: Settings,
        limits: Limits,
    ) -> None:
        self.endpoints = endpoints
        self._mirror = mirror
        self._decoding = DecodeThreads(limits)
        self._registry = worker.registry
        self._reconciler = worker.reconciler
        self._metrics = metrics
        self._max_body_bytes = settings.max_body_bytes
        self._deadline_seconds = settings.deadline_seconds
        self._traffic = TrafficSplitter(worker.registry, settings.split_seed)
        self._sticky_header = settings.sticky_header

    async def predict(
        self,
        protocol: InferenceProtocol[Context],
        request: Request,
        name: str,
        version: str | None,
    ) -> Response:
        """Respond to a prediction.

        Args:
            protocol: of the request and its response.
            request: the request.
            name: the model.
            version: a version or an alias; None is the one that serves.

        Raises:
            Exception: any; it has been counted.
        """
        model = None
        started = perf_counter()
        try:
            received = await self.receive(protocol, request, name, version)
            started = perf_counter()
            async with Deadline(request.receive, self._deadline_seconds) as deadline:
                model = await self.find(name, received.version, deadline)
                with model:
                    return await self._run(protocol, request, received, model, deadline)
        except Exception as error:
            # Not bound to a name that outlives this block: with its traceback it would be a cycle,
            # which would keep the body until the next garbage collection.
            count_failure(
                self._metrics,
                error,
                protocol=protocol.name,
                name=name,
                model=model,
                seconds=perf_counter() - started,
            )
            raise

    async def receive(
        self,
        protocol: InferenceProtocol[Context],
        request: Request,
        name: str,
        version: str | None,
    ) -> ReceivedRequest:
        """Read the body of a request to a model.

        The deadline begins afterwards, since this service does not set how fast a client sends.

        Args:
            protocol: of the request.
            request: the request.
            name: the model.
            version: a version or an alias; None is the one that serves.

        Raises:
            OnwardError: no model serves, which is reported before the body is read; or the body is
                of another media type, or too much is being processed.
        """
        version = self.route(request, name, version)
        model = (
            self._registry.find(name, version)
            or self._registry.entry(name, version, serving=True).model
        )
        if model is not None:  # one that is not loaded is loaded within the deadline
            accepted = protocol.media_types(self.endpoints.of(model))
            require_media_type(request.scope[HEAD].content_type, accepted)
        quotas = quotas_of(request.scope)
        body = await read_body(request, self._max_body_bytes, quotas)
        quotas.start()
        return ReceivedRequest(version, body)

    async def decode(
        self,
        inference: tuple[InferenceProtocol[Context], ServedModel, RequestHead],
        body: bytes,
        decode: Callable[[], T],
        deadline: Deadline,
    ) -> T:
        """Decode a body, in a thread where that takes long.

        Args:
            inference: the protocol, the model and the head.
            body: of the request.
            decode: decodes it.
            deadline: of the request.

        Raises:
            OnwardError: as `DecodeThreads.decode` has it.
        """
        if is_quick_to_decode(body):
            return decode()
        protocol, model, head = inference
        await deadline.watch_client()
        return await self._decoding.decode(
            body,
            decode,
            json_bytes=protocol.json_bytes(body, head),
            strings=any(spec.datatype == "BYTES" for spec in model.inputs),
        )

    def route(self, request: Request, name: str, version: str | None) -> str | None:
        """The version or alias that a request goes to; one without either may be split."""
        if version is None and self._registry.published(name).split:
            return self._traffic.choose_alias(name, request.headers.get(self._sticky_header))
        return version

    async def find(self, name: str, version: str | None, deadline: Deadline) -> ServedModel:
        """The model of a version or an alias, loaded if it is not in memory.

        Args:
            name: the model.
            version: a version or an alias; None is the one that serves.
            deadline: of the request.

        Raises:
            OnwardError: none serves; says why.
        """
        model = self._registry.find(name, version)
        if model is None:
            await deadline.start()
            model = await self._reconciler.ensure_loaded(name, version)
        return model

    async def _run(
        self,
        protocol: InferenceProtocol[Context],
        request: Request,
        received: ReceivedRequest,
        model: ServedModel,
        deadline: Deadline,
    ) -> Response:
        """Decode, run and encode; a request that names no version may be mirrored."""
        scope, quotas, body = request.scope, quotas_of(request.scope), received.body
        head: RequestHead = scope[HEAD]
        inference = Inference(protocol, model, self.endpoints.of(model), head, self._metrics)
        require_media_type(head.content_type, protocol.media_types(inference.endpoint))
        work = partial(inference.decode, body)
        decoded = await self.decode((protocol, model, head), body, work, deadline)
        if isinstance(decoded, tuple):
            inputs = decoded
        else:
            await deadline.watch_client()
            inputs = await inference.materialize(decoded)
        quotas.hold_bytes(len(body) + _bytes_of(inputs))
        rows = row_count(inputs)
        if not model.runs_inline(rows):
            await deadline.watch_client()
        prediction = await model.predict(inputs)
        if _bytes_of(prediction.outputs) > _MAX_BYTES_ENCODED_INLINE:
            await deadline.watch_client()
            encoded = await asyncio.to_thread(inference.encode, prediction.outputs)
        else:
            encoded = inference.encode(prediction.outputs)
        response = inference.record(rows, prediction, encoded)
        quotas.hold_bytes(len(response.content))
        is_mirrored = received.version is None
        task = self._mirror.task(model, inputs, prediction.outputs) if is_mirrored else None
        return InferenceResponse(response, task)


def _bytes_of(arrays: Arrays) -> int:
    return arrays[0].nbytes if len(arrays) == 1 else sum([array.nbytes for array in arrays])


class InferenceResponse(Response):
    """A response whose headers are complete."""

    def __init__(self, response: RawResponse, background: BackgroundTask | None = None) -> None:
        self._response = response
        self.status_code = response.status
        self.body = response.content
        self.background = background

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's own parameters
        """Send the response; a large one in pieces, so that this ends when its client has read it.

        A server waits between two pieces until the connection takes more. One large piece it would
        buffer whole, and what the request holds would be given back too early.
        """
        is_small = len(self.body) <= _MAX_BYTES_SENT_AT_ONCE
        respond: Callable[[RawResponse], bool] | None = scope.get(RESPOND)
        if not (is_small and respond is not None and respond(self._response)):
            await self._send_messages(send)
        if self.background is not None:
            await self.background()

    async def _send_messages(self, send: Send) -> None:
        headers = self._response.headers
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        if len(self.body) <= _MAX_BYTES_SENT_AT_ONCE:
            await send({"type": "http.response.body", "body": self.body})
            return
        for start in range(0, len(self.body), _MAX_BYTES_SENT_AT_ONCE):
            piece = self.body[start : start + _MAX_BYTES_SENT_AT_ONCE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class ShadowMirror:
    """Copies requests to the versions that shadow the serving one, after the response.

    Args:
        registry: knows which versions shadow which.
        shadows: run the copies.
    """

    def __init__(self, registry: Registry, shadows: ShadowRunner) -> None:
        self._registry = registry
        self._shadows = shadows

    def task(self, model: ServedModel, inputs: Arrays, outputs: Arrays) -> BackgroundTask | None:
        """What copies a request after its response; mostly None.

        Args:
            model: that responded, without being named by version.
            inputs: of the request.
            outputs: of the model.
        """
        candidates = self._registry.shadows(model.name)
        if not candidates:
            return None
        chosen = [it for it in candidates if it[1].share == 1 or random.random() < it[1].share]  # noqa: S311 - nothing secret depends on it
        return _MirrorTask(self._shadows, model, chosen, (inputs, outputs)) if chosen else None


class _MirrorTask(BackgroundTask):
    """Unlike Starlette's own, it need not find out for each request what it was given."""

    def __init__(
        self,
        shadows: ShadowRunner,
        serving: ServedModel,
        candidates: Sequence[tuple[ServedModel, Shadow]],
        arrays: tuple[Arrays, Arrays],
    ) -> None:
        self._shadows = shadows
        self._serving = serving
        self._candidates = candidates
        self._arrays = arrays

    async def __call__(self) -> None:
        identity = request_id.get() or ""
        for candidate, policy in self._candidates:
            self._shadows.offer((self._serving, candidate), policy, self._arrays, identity)
