"""The client for programs with asyncio."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar, Unpack, overload

import httpx

from service.sdk import operations
from service.sdk.connection import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT,
    DEFAULT_URL,
    LIMITS,
    MOST_IN_FLIGHT,
    Connection,
    require_open,
)
from service.sdk.operations import EXPLAIN, PREDICT
from service.sdk.options import (
    ExplainOptions,
    Frame,
    Image,
    PredictOptions,
    Row,
    ScoreOptions,
    Target,
)
from service.sdk.results import Explanation, Model, Prediction, ScoredTable
from service.sdk.tables import open_target
from service.sdk.transfer import RETRIED, Call, Operation, Reply, is_table, read_scored

T = TypeVar("T")


class AsyncClient(Connection):
    """The client for asyncio: the methods, arguments and errors of `Client`, to be awaited.

        async with AsyncClient("http://localhost:8000") as client:
            prediction = await client.predict("ice_cream", {"temperature": 24.5})

    Args:
        url, timeout, retries, headers: as for `Client`.
        transport: of httpx, an asynchronous one.
        http_client: an `httpx.AsyncClient` to use; `aclose` leaves it open.
    """

    def __init__(  # noqa: PLR0913 - all but the address have defaults
        self,
        url: str | httpx.URL = DEFAULT_URL,
        *,
        timeout: float | None = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        super().__init__(url, timeout, retries, headers)
        self._http = http_client or httpx.AsyncClient(transport=transport, limits=LIMITS)
        self._owns_http = http_client is None
        # Requests wait here and not for a connection, so that a timeout counts from the request's
        # start, and the connections stay open.
        self._in_flight = asyncio.Semaphore(MOST_IN_FLIGHT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owns_http:
            await self._http.aclose()

    async def models(self) -> list[Model]:
        """Return all models; see `Client.models`."""
        return await self._run(operations.list_models())

    async def model(self, name: str, *, version: str | int | None = None) -> Model:
        """Return a model with its features; see `Client.model`."""
        return await self._run(operations.get_model(name, version))

    @overload
    async def predict(
        self, model: str, data: Row | Image, **options: Unpack[PredictOptions]
    ) -> Prediction: ...
    @overload
    async def predict(
        self, model: str, data: list[Any] | tuple[Any, ...], **options: Unpack[PredictOptions]
    ) -> list[Prediction]: ...
    @overload
    async def predict(
        self, model: str, data: Frame, **options: Unpack[PredictOptions]
    ) -> Frame: ...
    @overload
    async def predict(self, model: str, data: Any, **options: Unpack[PredictOptions]) -> Any: ...  # noqa: ANN401
    async def predict(self, model: str, data: Any, **options: Unpack[PredictOptions]) -> Any:
        """Predict rows or images; see `Client.predict`."""
        return await self._run(operations.run(PREDICT, model, data, options))

    @overload
    async def explain(
        self, model: str, data: Row | Image, **options: Unpack[ExplainOptions]
    ) -> Explanation: ...
    @overload
    async def explain(
        self, model: str, data: list[Any] | tuple[Any, ...], **options: Unpack[ExplainOptions]
    ) -> list[Explanation]: ...
    @overload
    async def explain(
        self, model: str, data: Frame, **options: Unpack[ExplainOptions]
    ) -> Frame: ...
    @overload
    async def explain(self, model: str, data: Any, **options: Unpack[ExplainOptions]) -> Any: ...  # noqa: ANN401
    async def explain(self, model: str, data: Any, **options: Unpack[ExplainOptions]) -> Any:
        """Explain predictions; see `Client.explain`."""
        return await self._run(operations.run(EXPLAIN, model, data, options))

    async def score(
        self,
        model: str,
        source: Any,  # noqa: ANN401 - many types, which the docstring of the client lists
        target: Target,
        **options: Unpack[ScoreOptions],
    ) -> ScoredTable:
        """Score a table from file to file; see `Client.score`.

        The source may also be an asynchronous iterable.
        """
        written = 0
        call = operations.score(model, source, target, options)
        with open_target(target) as file:
            async with self._in_flight, self._open(call) as response:
                await self._require_table(response)
                async for piece in response.aiter_bytes():
                    await asyncio.to_thread(file.write, piece)
                    written += len(piece)
                return read_scored(response, written)

    async def stream(
        self,
        model: str,
        source: Any,  # noqa: ANN401 - see `score`
        **options: Unpack[ScoreOptions],
    ) -> AsyncIterator[bytes]:
        """Score a table as `score` does, and yield the response in pieces of bytes."""
        # It does not count as a request in flight: the program may send others between pieces.
        async with self._open(operations.score(model, source, None, options)) as response:
            await self._require_table(response)
            async for piece in response.aiter_bytes():
                yield piece

    async def _run(self, operation: Operation[T]) -> T:
        """Send the requests of an operation and return its result."""
        try:
            call = next(operation)
            while True:
                call = operation.send(await self._send(call))
        except StopIteration as finished:
            result: T = finished.value
            return result

    async def _send(self, call: Call) -> Reply:
        async with self._in_flight, self._open(call) as response:
            await response.aread()
            return Reply.of(response)

    async def _require_table(self, response: httpx.Response) -> None:
        if not is_table(response):
            await response.aread()
            Reply.of(response).require_table()

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[httpx.Response]:
        """Send a request, repeatedly if it must be, and give the response to read."""
        require_open(is_closed=self._http.is_closed)
        attempts = self.attempts(call)
        while True:
            options = self.request_options(call, attempts.seconds_left)
            body = call.body if isinstance(call.body, bytes) else call.body.async_pieces()
            try:
                async with self._http.stream(**options, content=body or None) as response:
                    if response.status_code in RETRIED:
                        await response.aread()
                    pause = attempts.pause_after_response(response)
                    if pause is None:
                        yield response
                        return
            except httpx.TransportError as error:
                pause = attempts.pause_after_failure(error, options["url"])
            await asyncio.sleep(pause)
