"""The client for programs without asyncio."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeVar, Unpack, overload

import httpx

from service.sdk import operations
from service.sdk.connection import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT,
    DEFAULT_URL,
    LIMITS,
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


class Client(Connection):
    """A client of one service.

    It can be used by several threads, and should be used for many requests, because it reuses its
    connections. Use it as a context manager, or call `close` at the end.

    Args:
        url: the address of the service, with the prefix of its path behind a proxy if there is one.
        timeout: seconds for a request with all its repetitions; for a table, seconds without
            progress; None is no limit.
        retries: how often a request is repeated if the service is busy (429, 503) or there is no
            connection. The pauses are those of ``Retry-After``, or double each time.
        headers: for every request, such as ``{"authorization": "Bearer …"}``.
        transport: of httpx, for example for a Unix socket.
        http_client: an `httpx.Client` to use, with its own certificates and proxies; `close` leaves
            it open.

    Every method raises `OnwardClientError`.
    """

    def __init__(  # noqa: PLR0913 - all but the address have defaults
        self,
        url: str | httpx.URL = DEFAULT_URL,
        *,
        timeout: float | None = DEFAULT_TIMEOUT,
        retries: int = DEFAULT_RETRIES,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
        http_client: httpx.Client | None = None,
    ) -> None:
        super().__init__(url, timeout, retries, headers)
        self._http = http_client or httpx.Client(transport=transport, limits=LIMITS)
        self._owns_http = http_client is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._owns_http:
            self._http.close()

    def models(self) -> list[Model]:
        """Return all models, those that do not serve with the reason."""
        return self._run(operations.list_models())

    def model(self, name: str, *, version: str | int | None = None) -> Model:
        """Return a model with its features; `Model.example` is a row that it accepts."""
        return self._run(operations.get_model(name, version))

    @overload
    def predict(
        self, model: str, data: Row | Image, **options: Unpack[PredictOptions]
    ) -> Prediction: ...
    @overload
    def predict(
        self, model: str, data: list[Any] | tuple[Any, ...], **options: Unpack[PredictOptions]
    ) -> list[Prediction]: ...
    @overload
    def predict(self, model: str, data: Frame, **options: Unpack[PredictOptions]) -> Frame: ...
    @overload
    def predict(self, model: str, data: Any, **options: Unpack[PredictOptions]) -> Any: ...  # noqa: ANN401
    def predict(self, model: str, data: Any, **options: Unpack[PredictOptions]) -> Any:
        """Predict rows or images.

        Args:
            model: its name.
            data: decides what is returned.

                * a dict or a Series of pandas: a row; returns a `Prediction`.
                * a list of dicts, of lists of values, or an array: rows; a list of `Prediction`.
                * a DataFrame of pandas or polars: a DataFrame of the same rows with the columns
                  ``label``, ``probability`` and ``probability_…``, or ``value``; with
                  ``interval_low``, ``interval_high``, ``unsure`` and ``warnings`` if there are any.
                  Columns that the model does not know are dropped.
                * a path, bytes, an open file, an image of Pillow or an array: an image.
                * a list of these: a list of `Prediction`.

                NaN, NaT, None and pandas' NA are missing values.
            **options: see `PredictOptions`.

        Many rows are sent in several requests.
        """
        return self._run(operations.run(PREDICT, model, data, options))

    @overload
    def explain(
        self, model: str, data: Row | Image, **options: Unpack[ExplainOptions]
    ) -> Explanation: ...
    @overload
    def explain(
        self, model: str, data: list[Any] | tuple[Any, ...], **options: Unpack[ExplainOptions]
    ) -> list[Explanation]: ...
    @overload
    def explain(self, model: str, data: Frame, **options: Unpack[ExplainOptions]) -> Frame: ...
    @overload
    def explain(self, model: str, data: Any, **options: Unpack[ExplainOptions]) -> Any: ...  # noqa: ANN401
    def explain(self, model: str, data: Any, **options: Unpack[ExplainOptions]) -> Any:
        """Explain predictions; the data is that of `predict`.

        A DataFrame has further columns: ``of``, ``base``, a ``contribution_…`` of each feature, and
        ``score``, their sum. Images have `Explanation.drops`. ``of`` says what is explained: the
        value, or the probability of the predicted class label, but in every row of a DataFrame that
        of the second one if a model has two.
        """
        return self._run(operations.run(EXPLAIN, model, data, options))

    def score(
        self,
        model: str,
        source: Any,  # noqa: ANN401 - many types, which the docstring lists
        target: Target,
        **options: Unpack[ScoreOptions],
    ) -> ScoredTable:
        """Score a table of any length from file to file, with little memory.

        The columns of the source are in the target, with those of the predictions; a row that is
        invalid has its reason in ``error``.

        Args:
            model: its name.
            source: a path, bytes, an open file, or an iterable of bytes, of text or of rows (dicts
                or lists). The end of a path is its format: .csv, .tsv, .ndjson, .jsonl,
                .parquet, .arrow, .feather, .xlsx, .xls or .ods, also with .gz. Bytes and pieces are
                CSV unless ``format`` is given.
            target: a path, which is replaced when the table is complete, or a file open in binary
                mode. The end of a path selects the format: .csv, .ndjson or .json.
            **options: see `ScoreOptions`.
        """
        written = 0
        call = operations.score(model, source, target, options)
        with open_target(target) as file, self._open(call) as response:
            self._require_table(response)
            for piece in response.iter_bytes():
                file.write(piece)
                written += len(piece)
            return read_scored(response, written)

    def stream(
        self,
        model: str,
        source: Any,  # noqa: ANN401 - see `score`
        **options: Unpack[ScoreOptions],
    ) -> Iterator[bytes]:
        """Score a table as `score` does, and yield the response in pieces of bytes."""
        with self._open(operations.score(model, source, None, options)) as response:
            self._require_table(response)
            yield from response.iter_bytes()

    def _run(self, operation: Operation[T]) -> T:
        """Send the requests of an operation and return its result."""
        try:
            call = next(operation)
            while True:
                call = operation.send(self._send(call))
        except StopIteration as finished:
            result: T = finished.value
            return result

    def _send(self, call: Call) -> Reply:
        with self._open(call) as response:
            response.read()
            return Reply.of(response)

    def _require_table(self, response: httpx.Response) -> None:
        if not is_table(response):
            response.read()
            Reply.of(response).require_table()

    @contextmanager
    def _open(self, call: Call) -> Iterator[httpx.Response]:
        """Send a request, repeatedly if it must be, and give the response to read."""
        require_open(is_closed=self._http.is_closed)
        attempts = self.attempts(call)
        while True:
            options = self.request_options(call, attempts.seconds_left)
            body = call.body if isinstance(call.body, bytes) else call.body.pieces()
            try:
                with self._http.stream(**options, content=body or None) as response:
                    if response.status_code in RETRIED:
                        response.read()
                    pause = attempts.pause_after_response(response)
                    if pause is None:
                        yield response
                        return
            except httpx.TransportError as error:
                pause = attempts.pause_after_failure(error, options["url"])
            time.sleep(pause)
