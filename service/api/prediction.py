"""The one way from a request to a model and back; each dialect brings only its codec."""

import asyncio
from time import perf_counter

from fastapi import Request, Response
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect

from service.api.asking import Answer, Asking, Context, Dialect
from service.api.bodies import read_body, require_media_type
from service.api.copies import Copies
from service.api.head import Head
from service.engine.batcher import row_count
from service.engine.model import ServedModel
from service.engine.reconciler import Reconciler
from service.engine.registry import Registry
from service.engine.traffic import Traffic
from service.errors import (
    DeadlineExceeded,
    ModelNotReady,
    ModelUnservable,
    NotFound,
    OnwardError,
)
from service.metrics import Metrics
from service.settings import Settings

# A larger body is decoded, and a larger answer encoded, in a thread, so that it does not hold up
# everybody else's. A number takes some ten times its four bytes' share of work on its way to text.
_MOST_BYTES_AT_ONCE = 1024 * 1024
_MOST_NUMBERS_AT_ONCE = 64 * 1024


class Predictor:
    """Answers predictions of every dialect, and measures each phase."""

    def __init__(
        self,
        registry: Registry,
        reconciler: Reconciler,
        metrics: Metrics,
        copies: Copies,
        settings: Settings,
    ) -> None:
        self._copies = copies
        self._registry = registry
        self._reconciler = reconciler
        self._metrics = metrics
        self._max_body_bytes = settings.max_body_bytes
        self._deadline_seconds = settings.deadline_seconds
        self._traffic = Traffic(registry, settings.split_seed)
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
        error: Exception
        started = perf_counter()
        try:
            async with asyncio.timeout(self._deadline_seconds):
                asked = self.route(request, name, asked)
                model = await self.find(name, asked)
                with model:
                    return await self._answer(dialect, request, model, live=asked is None)
        except TimeoutError:
            error = DeadlineExceeded(self._deadline_seconds)
        except Exception as raised:  # noqa: BLE001 - it is counted, and raised again
            error = raised
        seconds = perf_counter() - started
        self.failed(error, dialect=dialect.name, name=name, model=model, seconds=seconds)
        raise error

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
        if asked is None and self._registry.split(name):
            return self._traffic.label(name, request.headers.get(self._sticky_header))
        return asked

    def at_hand(self, name: str, asked: str | None) -> ServedModel | None:
        """The model that answers, where nothing needs to be looked up, woken, split or copied."""
        return self._registry.at_hand(name, asked)

    async def find(self, name: str, asked: str | None) -> ServedModel:
        """The model that answers to a version, a label, or neither; one that rests is woken.

        Raises:
            OnwardError: none answers; says why.
        """
        model = self._registry.find(name, asked)
        return await self._reconciler.wake(name, asked) if model is None else model

    async def _answer(
        self, dialect: Dialect[Context], request: Request, model: ServedModel, *, live: bool
    ) -> Response:
        """Answer by this model; a ``live`` request, which named no version, may be copied."""
        scope = request.scope
        head = Head(scope["headers"], scope["query_string"])
        require_media_type(head.get(b"content-type"), dialect.media_types(model))
        body = await read_body(request, self._max_body_bytes)
        asking = self.asking(dialect, model, head)
        if len(body) > _MOST_BYTES_AT_ONCE:
            decoded = await asyncio.to_thread(asking.decode, body)
        else:
            decoded = asking.decode(body)
        inputs = await asking.made(decoded)
        prediction = await model.predict(inputs)
        if sum(output.nbytes for output in prediction.outputs) > _MOST_NUMBERS_AT_ONCE:
            encoded = await asyncio.to_thread(asking.encode, prediction.outputs)
        else:
            encoded = asking.encode(prediction.outputs)
        answer = asking.answer(row_count(inputs), prediction, encoded)
        after = self._copies.after(model, inputs, prediction.outputs) if live else None
        return AnswerResponse(answer, after)


class AnswerResponse(Response):
    """An answer whose headers are written already."""

    def __init__(self, answer: Answer, after: BackgroundTask | None = None) -> None:
        self.status_code = answer.status
        self.raw_headers = answer.headers
        self.body = answer.content
        self.background = after


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
