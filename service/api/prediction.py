"""The one way from a request to a model and back; each dialect brings only its codec."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Generic, Protocol, TypeVar

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from service.api.bodies import JSON, compressed, read_body, require_media_type
from service.api.copies import Copies
from service.engine.batcher import row_count
from service.engine.datatypes import Arrays
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
from service.metrics import Metrics, Phases
from service.settings import Settings

Context = TypeVar("Context")

# A larger body is decoded, and a larger answer encoded, in a thread, so that it does not hold up
# everybody else's. A number takes some ten times its four bytes' share of work on its way to text.
_MOST_BYTES_AT_ONCE = 1024 * 1024
_MOST_NUMBERS_AT_ONCE = 64 * 1024


# Checked arrays in the order of the model's inputs, or what will have made them.
Inputs = Arrays | Callable[[], Awaitable[Arrays]]


@dataclass(frozen=True)
class Decoded(Generic[Context]):
    """What the model shall be asked, and what the answer's form depends on."""

    inputs: Inputs
    context: Context


@dataclass(frozen=True)
class Encoded:
    """A body, what it is, and what else its headers say."""

    content: bytes
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class Dialect(Protocol[Context]):
    """How one protocol writes requests and answers."""

    @property
    def name(self) -> str:
        """As the metrics call it."""

    def media_types(self, model: ServedModel) -> Sequence[str]:
        """What it reads for this model."""

    def decode(self, model: ServedModel, body: bytes, request: Request) -> Decoded[Context]:
        """Turn a body into arrays the model can take; raises `InvalidRequest` where it cannot.

        Args:
            model: that shall answer.
            body: what was sent, unpacked.
            request: for its headers and its query; its body has been read.
        """

    def encode(self, model: ServedModel, outputs: Arrays, context: Context) -> Encoded:
        """Turn the model's outputs into a body."""


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
        count_failure(
            self._metrics, error, dialect=dialect.name, name=name, model=model, seconds=seconds
        )
        raise error

    def route(self, request: Request, name: str, asked: str | None) -> str | None:
        """The version or label that the request goes to, as `answer` has its parameters."""
        if asked is None and self._registry.split(name):
            return self._traffic.label(name, request.headers.get(self._sticky_header))
        return asked

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
        require_media_type(request, dialect.media_types(model))
        body = await read_body(request, self._max_body_bytes)
        started = perf_counter()
        if len(body) > _MOST_BYTES_AT_ONCE:
            decoded = await asyncio.to_thread(dialect.decode, model, body, request)
        else:
            decoded = dialect.decode(model, body, request)
        inputs = await made(decoded.inputs)
        decode_seconds = perf_counter() - started
        prediction = await model.predict(inputs)
        started = perf_counter()
        accepted = request.headers.get("accept-encoding", "")
        pack = partial(_packed, dialect, model, prediction.outputs, decoded.context, accepted)
        if sum(output.nbytes for output in prediction.outputs) > _MOST_NUMBERS_AT_ONCE:
            encoded = await asyncio.to_thread(pack)
        else:
            encoded = pack()
        phases = Phases(
            decode_seconds,
            prediction.queue_seconds,
            prediction.compute_seconds,
            perf_counter() - started,
        )
        rows = row_count(inputs)
        self._metrics.predicted(model.name, model.version, dialect.name, rows, phases)
        model.statistics.answered(phases.decode, phases.queue, phases.compute, phases.encode)
        headers = {
            "server-timing": _timing(phases),
            "x-model-version": model.version,
            **encoded.headers,
        }
        after = self._copies.after(model, inputs, prediction.outputs) if live else None
        return Response(encoded.content, 200, headers, encoded.media_type, after)


async def made(inputs: Inputs) -> Arrays:
    """The arrays, once they are there."""
    return inputs if isinstance(inputs, tuple) else await inputs()


def _packed(
    dialect: Dialect[Context], model: ServedModel, outputs: Arrays, context: Context, accepted: str
) -> Encoded:
    """The answer's body, compressed where it is large and the caller accepts that."""
    encoded = dialect.encode(model, outputs, context)
    content, headers = compressed(encoded.content, accepted)
    return Encoded(content, encoded.media_type, {**encoded.headers, **headers})


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


def _timing(phases: Phases) -> str:
    """The phases as a Server-Timing header, in milliseconds."""
    return (
        f"decode;dur={phases.decode * 1e3:.3f}, queue;dur={phases.queue * 1e3:.3f}, "
        f"compute;dur={phases.compute * 1e3:.3f}, encode;dur={phases.encode * 1e3:.3f}"
    )
