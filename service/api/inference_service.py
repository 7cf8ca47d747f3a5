"""Predictions through ASGI: any body and any model, with a deadline and with shadow traffic.

The sequence of steps is that of `service.api.inference`; each step is awaited.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from fastapi import Request, Response
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.api.body import HEAD, RequestHead, is_quick_to_decode, read_body, require_media_type
from service.api.inference import (
    Context,
    Failure,
    Inference,
    InferenceProtocol,
    RawResponse,
    count_failure,
)
from service.api.middleware import RESPOND, get_quotas
from service.api.shadow import ShadowMirror
from service.bundle.manifest import ImageInput
from service.codecs.endpoint import EndpointCache
from service.engine.model import ServedModel
from service.engine.registry import TrafficSplitter
from service.engine.tensors import Arrays, Inputs
from service.errors import DeadlineExceeded, Draining
from service.limits import UNCOUNTED_BODY_BYTES, Limits, Reservation
from service.observability.metrics import Metrics
from service.settings import Settings
from service.workers.coordination import Worker

T = TypeVar("T")

# One is being decoded; the others keep the thread from waiting for the event loop.
_MAX_SMALL_JOBS = 8
# Outputs of more bytes are encoded in a thread. Formatting is slow: 16 KiB are 4096 numbers.
_MAX_BYTES_ENCODED_INLINE = 16 * 1024
_MAX_BYTES_SENT_AT_ONCE = 256 * 1024


class Deadline:
    """Context manager that cancels a request at its deadline, or when its client disconnects.

    A request that is processed within one turn of the event loop cannot be cancelled, so the timer
    is started only before the first wait.

    Args:
        receive: of the request, after its body has been read.
        seconds: from now on.
    """

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._seconds = seconds
        self._at = asyncio.get_running_loop().time() + seconds
        self._timeout: asyncio.Timeout | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._disconnected = False

    async def start(self) -> None:
        """Start the timer; to be called before anything that may wait."""
        if self._timeout is None:
            self._timeout = asyncio.timeout_at(self._at)
            await self._timeout.__aenter__()

    async def stop(self) -> None:
        """Stop the timer, for a response that may take any time."""
        if self._timeout is not None:
            await self._timeout.__aexit__(None, None, None)
            self._timeout = None

    async def watch_client(self) -> None:
        """Start the timer, and also cancel when the client disconnects."""
        await self.start()
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raise `DeadlineExceeded`, or `ClientDisconnect` if that was why it was cancelled."""
        if self._timeout is None:
            return
        if self._watcher is not None:
            self._watcher.cancel()
        if kind is TimeoutError:
            raise DeadlineExceeded(self._seconds) from None
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            if self._disconnected:
                raise ClientDisconnect from None
            raise DeadlineExceeded(self._seconds) from None

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._disconnected = True
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())


class HeldModel(NamedTuple):
    """The model of a request, and what is known when it has been found.

    ``version`` is that of the request, or the alias chosen for it. ``body`` is empty for a table.
    ``started`` is when the body had been read.
    """

    model: ServedModel
    version: str | None
    body: bytes
    deadline: Deadline
    started: float


class DecodeThreads:
    """Threads that decode bodies, within the memory that all requests share.

    Large bodies are decoded one at a time: several threads would only take turns at the
    interpreter's lock, each with its parsed values in memory. Bodies that are not counted have a
    thread of their own, so that they do not wait for large ones. Few of them are submitted at once,
    so that a turn of the event loop has only so many decoded requests to run and encode. Without
    that bound, more requests would make a turn longer, and a longer turn would find more requests.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._large = ThreadPoolExecutor(1, "decode-large")
        self._small = ThreadPoolExecutor(1, "decode-small")
        self._small_turns = asyncio.Semaphore(_MAX_SMALL_JOBS)
        self._large_turn = asyncio.Lock()

    async def decode(self, inference: Inference[Any], body: bytes) -> Inputs:
        """Decode a body in a thread.

        Raises:
            LimitExceeded: the JSON has too many values, or takes more memory than the limit.
            TooManyBytesInFlight: all requests together would take too much memory.
            Exception: any error of `Inference.decode`.
        """
        decode = partial(inference.decode, body)
        if len(body) <= UNCOUNTED_BODY_BYTES:
            async with self._small_turns:
                return await _await_result(self._small.submit(decode))
        json_bytes = inference.protocol.json_bytes(body, inference.head)
        strings = any(spec.datatype == "BYTES" for spec in inference.model.info.inputs)
        measure = partial(self._limits.estimate_decoded_bytes, body, json_bytes, strings=strings)
        async with self._large_turn:
            needed = await _await_result(self._large.submit(measure))
            with Reservation(self._limits.body_bytes, needed) as memory:
                return await _await_result(self._large.submit(decode), memory)


async def _await_result(job: "Future[T]", memory: Reservation | None = None) -> T:
    """Wait for the result of a thread, whose memory stays reserved until it has finished."""
    try:
        return await asyncio.wrap_future(job)
    except asyncio.CancelledError:
        if memory is not None and not job.cancelled():
            loop, held = asyncio.get_running_loop(), memory.move()

            def release(_: object) -> None:
                with suppress(RuntimeError):  # the loop is closed: the process ends
                    loop.call_soon_threadsafe(held.release)

            job.add_done_callback(release)
        raise
    finally:
        # The job refers to its exception, and that to this frame: a cycle that retains the body.
        del job


class InferenceService:
    """Responds to predictions of every protocol, and finds the models of other requests."""

    def __init__(  # noqa: PLR0913, PLR0917 - each is used by a prediction
        self,
        worker: Worker,
        endpoints: EndpointCache,
        metrics: Metrics,
        mirror: ShadowMirror,
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
        """Respond to a prediction; any error has been counted.

        A ``version`` may be an alias; None is the one that serves.
        """
        run = partial(self._run, protocol, request)
        count = partial(count_failure, self._metrics, protocol.name)
        return await self.hold(request, name, version, run, count, protocol)

    async def hold(  # noqa: PLR0913, PLR0917 - the parts of a request, and what differs
        self,
        request: Request,
        name: str,
        version: str | None,
        respond: Callable[[HeldModel], Awaitable[T]],
        count: Callable[[Failure], None],
        protocol: InferenceProtocol[Any] | None = None,
    ) -> T:
        """Hold the model of a request while it is responded to, within a deadline.

        The deadline starts after the body has been read, since the speed of the client does not
        count. A context manager would make every request through ASGI slower by a twentieth.

        Args:
            request: whose body is read.
            name: of the model.
            version: or alias; None is the one that serves.
            respond: its result is returned.
            count: counts a failed request.
            protocol: of the body; None is a table, which ``respond`` reads.

        Raises:
            OnwardError: no model serves, which is reported before the body is read; the media type
                is not supported; or too many requests are being processed.
            Exception: any error of ``respond``.
        """
        model = checked = None
        body = b""
        started = perf_counter()
        try:
            version = self._route(request, name, version)
            if protocol is None:
                get_quotas(request.scope).acquire_table()
            else:
                checked, body = await self._receive(protocol, request, name, version)
            started = perf_counter()
            async with Deadline(request.receive, self._deadline_seconds) as deadline:
                model = self._registry.find(name, version)
                if model is None:
                    await deadline.start()
                    model = await self._reconciler.ensure_loaded(name, version)
                with model:
                    if protocol is not None and model is not checked:  # loaded or replaced since
                        self._require_media_type(protocol, request, model)
                    return await respond(HeldModel(model, version, body, deadline, started))
        except asyncio.CancelledError:
            # The grace period of a shutdown has ended; the client gets this error too.
            count(Failure(Draining(), name, model, perf_counter() - started))
            raise
        except Exception as error:
            # Not bound to a name that outlives this block: with its traceback it would form a cycle
            # that retains the body until the next garbage collection.
            count(Failure(error, name, model, perf_counter() - started))
            raise

    async def _receive(
        self,
        protocol: InferenceProtocol[Any],
        request: Request,
        name: str,
        version: str | None,
    ) -> tuple[ServedModel | None, bytes]:
        """Read the body of a request; return it after the model that takes its media type.

        The model is None if it is not loaded, since that is done within the deadline.
        """
        model = (
            self._registry.find(name, version)
            or self._registry.entry(name, version, serving=True).model
        )
        if model is not None:
            self._require_media_type(protocol, request, model)
        quotas = get_quotas(request.scope)
        body = await read_body(request, self._max_body_bytes, quotas)
        quotas.acquire_request()
        return model, body

    def _require_media_type(
        self, protocol: InferenceProtocol[Any], request: Request, model: ServedModel
    ) -> None:
        accepted = protocol.media_types(self.endpoints.get(model))
        require_media_type(request.scope[HEAD].content_type, accepted)

    async def decode(self, inference: Inference[Any], body: bytes, deadline: Deadline) -> Arrays:
        """Decode a body, in a thread if that takes long; raise as `DecodeThreads.decode` does."""
        if is_quick_to_decode(body):
            inputs = inference.decode(body)
        else:
            await deadline.watch_client()
            inputs = await self._decoding.decode(inference, body)
        if isinstance(inputs, tuple):
            return inputs
        await deadline.watch_client()
        return await inference.materialize(inputs)

    def takes_images(self, name: str, version: str | None) -> bool:
        """Return whether a model takes images, as far as that is known before it is loaded.

        Raise `OnwardError` if there is no such model.
        """
        entry = self._registry.entry(name, version, serving=True)
        if entry.model is not None:
            return self.endpoints.get(entry.model).images is not None
        manifest = None if entry.info is None else entry.info.manifest
        return manifest is None or isinstance(manifest.input, ImageInput)

    def _route(self, request: Request, name: str, version: str | None) -> str | None:
        """Return the version or alias for a request; traffic without a version may be split."""
        if version is None and self._registry.published(name).split:
            return self._traffic.choose_alias(name, request.headers.get(self._sticky_header))
        return version

    async def _run(
        self, protocol: InferenceProtocol[Any], request: Request, held: HeldModel
    ) -> Response:
        """Decode, run and encode; copy a request without a version to the shadows of the model."""
        model, version, body, deadline, _ = held
        head: RequestHead = request.scope[HEAD]
        inference = Inference(protocol, model, self.endpoints.get(model), head, self._metrics)
        quotas = get_quotas(request.scope)
        inputs = await self.decode(inference, body, deadline)
        quotas.hold_bytes(len(body) + _count_bytes(inputs))
        rows = model.count_rows(inputs)
        if not model.runs_inline(rows):
            await deadline.watch_client()
        prediction = await model.predict(inputs)
        if _count_bytes(prediction.outputs) > _MAX_BYTES_ENCODED_INLINE:
            await deadline.watch_client()
            encoded = await asyncio.to_thread(inference.encode, prediction.outputs)
        else:
            encoded = inference.encode(prediction.outputs)
        response = inference.record(rows, prediction, encoded)
        quotas.hold_bytes(len(response.content))
        task = self._mirror.task(model, inputs, prediction.outputs) if version is None else None
        return InferenceResponse(response, task)


def _count_bytes(arrays: Arrays) -> int:
    return arrays[0].nbytes if len(arrays) == 1 else sum([array.nbytes for array in arrays])


class InferenceResponse(Response):
    """An encoded response, sent without Starlette's own headers."""

    def __init__(self, response: RawResponse, background: BackgroundTask | None = None) -> None:
        self._response = response
        self.status_code = response.status
        self.body = response.content
        self.background = background

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's own parameters
        """Send the response; a large one in pieces, so that this waits until its client reads it.

        The server would buffer one large piece whole, and the quotas of the request would be
        released too early.
        """
        is_small = len(self.body) <= _MAX_BYTES_SENT_AT_ONCE
        respond = scope.get(RESPOND)
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
