"""The one way from a request to a model and back; each dialect brings only its codec."""

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import NamedTuple, TypeVar

from fastapi import Request, Response
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.api.asking import Answer, Asking, Context, Dialect
from service.api.body import is_quick_to_decode, read_body, require_media_type
from service.api.copies import Copies
from service.api.deadline import Deadline
from service.api.decoding import DecodeThreads
from service.api.head import Head
from service.api.quotas import quotas_of
from service.engine.batching import row_count
from service.engine.dtypes import Arrays
from service.engine.model import ServedModel
from service.engine.traffic import Traffic
from service.errors import (
    ModelNotReady,
    ModelUnservable,
    NotFound,
    OnwardError,
)
from service.limits import Limits
from service.observability.metrics import Metrics
from service.settings import Settings
from service.workers.worker import Worker

T = TypeVar("T")

# A larger response is encoded in a thread. A number takes some ten times its four bytes' share of
# work on its way to text.
_MOST_BYTES_ENCODED_AT_ONCE = 16 * 1024
_MOST_BYTES_SENT_AT_ONCE = 256 * 1024


class Received(NamedTuple):
    """A request whose body has arrived: the version or label that it goes to, and the body."""

    version: str | None
    body: bytes


class Predictor:
    """Answers predictions of every dialect, and measures each phase."""

    def __init__(
        self,
        worker: Worker,
        metrics: Metrics,
        copies: Copies,
        settings: Settings,
        limits: Limits,
    ) -> None:
        self._copies = copies
        self._decoding = DecodeThreads(limits)
        self._registry = worker.registry
        self._reconciler = worker.reconciler
        self._metrics = metrics
        self._max_body_bytes = settings.max_body_bytes
        self._deadline_seconds = settings.deadline_seconds
        self._traffic = Traffic(worker.registry, settings.split_seed)
        self._sticky_header = settings.sticky_header

    async def answer(
        self, dialect: Dialect[Context], request: Request, name: str, asked: str | None
    ) -> Response:
        """Predict what the request asks.

        Args:
            dialect: how request and answer are written.
            request: the request.
            name: the model.
            asked: a version or a label; None for whichever serves.

        Raises:
            Exception: whatever it was; it has been counted.
        """
        model = None
        started = perf_counter()
        try:
            received = await self.received(dialect, request, name, asked)
            started = perf_counter()
            async with Deadline(request, self._deadline_seconds) as deadline:
                model = await self.find(name, received.version)
                with model:
                    return await self._answer(dialect, request, received, model, deadline)
        except Exception as error:
            # Not bound to a name that outlives this block: with its traceback it would be a cycle,
            # which would keep the body until the next garbage collection.
            seconds = perf_counter() - started
            self.failed(error, dialect=dialect.name, name=name, model=model, seconds=seconds)
            raise

    async def received(
        self, dialect: Dialect[Context], request: Request, name: str, asked: str | None
    ) -> Received:
        """Read the body of a request to a model.

        The deadline begins afterwards: how fast a client sends is not this service's doing.

        Args:
            dialect: how the request is written.
            request: the request.
            name: the model.
            asked: a version or a label; None for whichever serves.

        Raises:
            OnwardError: no model answers, which is said before the body is read; or the body is
                not read here, or too much is being processed.
        """
        version = self.route(request, name, asked)
        model = (
            self._registry.find(name, version)
            or self._registry.entry(name, version, serving=True).model
        )
        if model is not None:  # one that is not loaded is loaded within the deadline
            require_media_type(request.headers.get("content-type"), dialect.media_types(model))
        quotas = quotas_of(request)
        body = await read_body(request, self._max_body_bytes, quotas)
        quotas.start()
        return Received(version, body)

    async def decoded(
        self,
        dialect: Dialect[Context],
        model: ServedModel,
        received: tuple[Head, bytes],
        decode: Callable[[], T],
        deadline: Deadline,
    ) -> T:
        """What ``decode`` makes of a body, in a thread where that takes long.

        Args:
            dialect: how the request is written.
            model: that it goes to.
            received: its head and its body.
            decode: decodes it.
            deadline: of the request.

        Raises:
            OnwardError: as `DecodeThreads.decode` has it.
        """
        head, body = received
        if is_quick_to_decode(body):
            return decode()
        deadline.watch_client()
        return await self._decoding.decode(
            body,
            decode,
            json_bytes=dialect.json_bytes(body, head),
            strings=any(spec.datatype == "BYTES" for spec in model.inputs),
        )

    def failed(
        self,
        error: Exception,
        *,
        dialect: str,
        name: str,
        model: ServedModel | None,
        seconds: float,
    ) -> None:
        """Count a prediction that came to nothing, as `count_failure` has it."""
        count_failure(
            self._metrics, error, dialect=dialect, name=name, model=model, seconds=seconds
        )

    def asking(self, dialect: Dialect[Context], model: ServedModel, head: Head) -> Asking[Context]:
        """A prediction under way."""
        return Asking(dialect, model, head, self._metrics)

    def route(self, request: Request, name: str, asked: str | None) -> str | None:
        """The version or label that the request goes to, as `answer` has its parameters."""
        if asked is None and self._registry.published(name).split:
            return self._traffic.alias(name, request.headers.get(self._sticky_header))
        return asked

    def at_hand(self, name: str, asked: str | None) -> ServedModel | None:
        """The model that answers, where nothing needs to be looked up, woken, split or copied."""
        if asked is None and name in self._registry.routed:
            return None
        return self._registry.find(name, asked)

    async def find(self, name: str, asked: str | None) -> ServedModel:
        """The model that answers to a version, a label, or neither; one that rests is woken.

        Raises:
            OnwardError: none answers; says why.
        """
        model = self._registry.find(name, asked)
        return await self._reconciler.ensure_loaded(name, asked) if model is None else model

    async def _answer(
        self,
        dialect: Dialect[Context],
        request: Request,
        received: Received,
        model: ServedModel,
        deadline: Deadline,
    ) -> Response:
        """Answer by this model; a request that names no version may be copied."""
        scope, quotas, body = request.scope, quotas_of(request), received.body
        head = Head(scope["headers"], scope["query_string"])
        require_media_type(head.get(b"content-type"), dialect.media_types(model))
        asking = self.asking(dialect, model, head)
        decode = partial(asking.decode, body)
        decoded = await self.decoded(dialect, model, (head, body), decode, deadline)
        if not isinstance(decoded, tuple):
            deadline.watch_client()
        inputs = await asking.made(decoded)
        quotas.hold_bytes(len(body) + _bytes_of(inputs))
        rows = row_count(inputs)
        if not model.joins(rows):
            deadline.watch_client()
        prediction = await model.predict(inputs)
        if _bytes_of(prediction.outputs) > _MOST_BYTES_ENCODED_AT_ONCE:
            deadline.watch_client()
            encoded = await asyncio.to_thread(asking.encode, prediction.outputs)
        else:
            encoded = asking.encode(prediction.outputs)
        answer = asking.answer(rows, prediction, encoded)
        quotas.hold_bytes(len(answer.content))
        live = received.version is None
        after = self._copies.after(model, inputs, prediction.outputs) if live else None
        return AnswerResponse(answer, after)


def _bytes_of(arrays: Arrays) -> int:
    return sum([array.nbytes for array in arrays])


class AnswerResponse(Response):
    """An answer whose headers are written already."""

    def __init__(self, answer: Answer, after: BackgroundTask | None = None) -> None:
        self.status_code = answer.status
        self.raw_headers = answer.headers
        self.body = answer.content
        self.background = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; a large one in pieces, so that this ends when its client has read it.

        A server waits between two pieces until the connection takes more. One large piece it would
        buffer whole, and what the request holds would be given back too early.
        """
        if len(self.body) <= _MOST_BYTES_SENT_AT_ONCE:
            await super().__call__(scope, receive, send)
            return
        headers = self.raw_headers
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        for start in range(0, len(self.body), _MOST_BYTES_SENT_AT_ONCE):
            piece = self.body[start : start + _MOST_BYTES_SENT_AT_ONCE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        if self.background is not None:
            await self.background()


def count_failure(  # noqa: PLR0913 - the facts of a failure; grouping them would only rename them
    metrics: Metrics,
    error: Exception,
    *,
    dialect: str,
    name: str,
    model: ServedModel | None,
    seconds: float,
) -> None:
    """Count a prediction that came to nothing.

    Args:
        metrics: where.
        error: why.
        dialect: as the metrics call it.
        name: of the model that was asked for.
        model: that answered; None where none did.
        seconds: that it took.
    """
    if model is not None:
        told = (name, model.version)
        model.statistics.fail.add(seconds)
    elif isinstance(error, ModelNotReady | ModelUnservable):
        told = (name, error.version)
    else:  # a name that is not there is the caller's invention, and must not become a label
        told = ("", "") if isinstance(error, NotFound) else (name, "")
    metrics.failed(*told, dialect, outcome_of(error))


def outcome_of(error: Exception) -> str:
    """What came of a request, as the metrics call it."""
    if isinstance(error, OnwardError):
        return error.code
    return "client_left" if isinstance(error, ClientDisconnect) else "internal_error"
