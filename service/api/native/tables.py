"""Tables over HTTP: a body of any length in, an answer of any length out, and little in memory."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter

import orjson
from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.api.body import (
    HEAD,
    Arrival,
    Form,
    Incoming,
    TableForm,
    answer_form,
    begun,
    charset_of,
    content_encoding,
    unpacked,
)
from service.api.errors import error_response
from service.api.inference import count_failure
from service.api.inference_service import Deadline, InferenceService
from service.api.middleware import quotas_of
from service.api.native.spool import Spool
from service.bundle.manifest import Manifest
from service.codecs.csv_header import SAMPLE_BYTES, CsvFormat, open_csv
from service.codecs.csv_writer import CsvAnswers
from service.codecs.endpoint import Endpoints
from service.codecs.features import FeatureCodec
from service.codecs.ndjson_reader import JsonRows
from service.codecs.ndjson_writer import JsonDocument, JsonLines
from service.codecs.options import Parameters, read_parameters
from service.codecs.outputs import require_offered
from service.codecs.row_batch import Reader
from service.engine.model import ServedModel
from service.errors import InvalidRequest, OnwardError, RecordTooLarge, SpoolFull
from service.filetypes import recognised
from service.limits import Limits
from service.observability.metrics import Metrics
from service.scoring import Answers, Scoring
from service.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringOptions:
    """The formats of a table and of its response, and what the client chose.

    ``charset`` is the encoding of a CSV file as the client states it.
    """

    form: TableForm
    answer: Form
    parameters: Parameters
    charset: str | None = None


class Tables:
    """Opens the tables of one app.

    Args:
        endpoints: of its models.
        settings: how long a block of rows may take, waiting included, and how large a record
            may be.
    """

    def __init__(self, endpoints: Endpoints, settings: Settings) -> None:
        self._endpoints = endpoints
        self._patience_seconds = settings.deadline_seconds
        self._max_record_bytes = settings.max_csv_record_bytes
        self._turns = asyncio.Lock()

    def open(
        self, model: ServedModel, scoring_options: ScoringOptions, arrival: Arrival
    ) -> Scoring:
        """Read how the table is written and what its columns are.

        Raises:
            InvalidRequest: it is no table, or none for this model; nothing has been scored.
            RecordTooLarge: its first record is.
        """
        endpoint = self._endpoints.of(model)
        manifest = endpoint.require_manifest()
        require_offered(manifest.output, scoring_options.parameters)
        codec = endpoint.require_features()
        reader, form = self._reader(codec, scoring_options, arrival)
        warnings = scoring_options.parameters.warnings
        return Scoring(
            model,
            codec,
            reader,
            _answers(manifest, model, scoring_options, form),
            warn=scoring_options.answer != "csv" if warnings is None else warnings,
            turns=self._turns,
            patience_seconds=self._patience_seconds,
        )

    def _reader(
        self, codec: FeatureCodec, scoring_options: ScoringOptions, arrival: Arrival
    ) -> tuple[Reader, CsvFormat | None]:
        if scoring_options.form == "ndjson":
            return _json_rows(arrival, codec, self._max_record_bytes), None
        return open_csv(
            arrival.sample,
            codec,
            whole=arrival.whole,
            longest=self._max_record_bytes,
            charset=scoring_options.charset,
            decimal=scoring_options.parameters.decimal,
        )


def _json_rows(arrival: Arrival, codec: FeatureCodec, longest: int) -> JsonRows:
    example = orjson.dumps(codec.example).decode()
    if arrival.whole and not arrival.sample.strip():
        raise InvalidRequest(f"The body is empty. Send one object a line, for example {example}")
    if (kind := recognised(arrival.sample)) is not None:
        raise InvalidRequest(f"The body is {kind}. Send one object a line, for example {example}")
    reader = JsonRows(codec, longest)
    reader.feed(arrival.sample)
    reader.require_first()
    return reader


def _answers(
    manifest: Manifest, model: ServedModel, scoring_options: ScoringOptions, form: CsvFormat | None
) -> Answers:
    if scoring_options.answer == "csv":
        return CsvAnswers(manifest.output, scoring_options.parameters, form)
    if scoring_options.answer == "ndjson":
        return JsonLines(manifest.output, scoring_options.parameters)
    return JsonDocument(manifest.output, scoring_options.parameters, model.version)


class TableExchange:
    """Answers the tables of one app, and measures each.

    Args:
        service: finds their models as it does for other requests.
        limits: what they share with all requests.
    """

    def __init__(
        self,
        service: InferenceService,
        metrics: Metrics,
        settings: Settings,
        limits: Limits,
    ) -> None:
        self._service = service
        self._metrics = metrics
        self._limits = limits
        self._settings = settings
        self._tables = Tables(service.endpoints, settings)

    async def answer(
        self, request: Request, name: str, version: str | None, form: TableForm, send: Send
    ) -> None:
        """Answer one table, from its first byte to its last.

        Raises:
            Exception: whatever it was that broke an answer which had begun; it has been counted.
        """
        model = None
        started = perf_counter()
        try:
            quotas_of(request.scope).start_table()
            async with Deadline(request.receive, self._settings.deadline_seconds) as deadline:
                version = self._service.route(request, name, version)
                model = await self._service.find(name, version, deadline)
            with model:
                await self._watched(request, model, form, send)
                return
        except Exception as error:
            # Not bound to a name that outlives this block: the error refers to this frame by its
            # traceback, and both would stay until a garbage collection, with the whole body.
            self._count_record(error)
            seconds = perf_counter() - started
            count_failure(
                self._metrics, error, protocol=form, name=name, model=model, seconds=seconds
            )
            if not isinstance(error, OnwardError):
                raise
            await error_response(error)(request.scope, request.receive, send)

    async def _watched(
        self, request: Request, model: ServedModel, form: TableForm, send: Send
    ) -> None:
        """Answer while the client is there.

        Raises:
            ClientDisconnect: it has left; nothing more is computed for it.
        """
        incoming = Incoming(request.receive)
        answering = asyncio.create_task(self._answered(request, incoming, model, form, send))
        watching = asyncio.create_task(incoming.until_disconnect())
        tasks = (answering, watching)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                await watching
                raise ClientDisconnect
            await answering
        finally:
            await _ended(*tasks)
            # A task refers to its error, and that to this frame.
            del answering, watching, tasks

    async def _answered(
        self, request: Request, incoming: Incoming, model: ServedModel, form: TableForm, send: Send
    ) -> None:
        scoring, arrival = await self._begun(request, incoming, model, form)
        async with Spool(self._limits.spool_bytes, self._settings.spool_folder) as spool:
            if not arrival.whole and not await spool.prepare():
                raise self._limits.rejected(SpoolFull())
            await self._start(scoring, model, send)
            await self._stream(scoring, arrival, spool, send)
        self._count_record(scoring.broken)
        self._count(model, scoring, form)
        await send({"type": "http.response.body", "body": b""})

    async def _begun(
        self, request: Request, incoming: Incoming, model: ServedModel, form: TableForm
    ) -> tuple[Scoring, Arrival]:
        """Everything that can be wrong with a whole table is found here, before it is answered."""
        headers = request.headers
        scoring_options = ScoringOptions(
            form,
            answer_form(headers.get("accept", "*/*"), form),
            read_parameters(request.scope["query_string"]),
            charset_of(headers.get("content-type", "")),
        )
        pieces = unpacked(incoming.pieces(), content_encoding(request.scope[HEAD]), self._limits)
        enough = SAMPLE_BYTES if form == "csv" else 1
        arrival = await begun(pieces, self._settings.max_csv_record_bytes, enough)
        return self._tables.open(model, scoring_options, arrival), arrival

    async def _start(self, scoring: Scoring, model: ServedModel, send: Send) -> None:
        headers = {"x-model-version": model.version, "vary": "accept"}
        head = Response(headers=headers, media_type=scoring.media_type)
        del head.headers["content-length"]
        status = head.status_code
        await send({"type": "http.response.start", "status": status, "headers": head.raw_headers})

    async def _stream(self, scoring: Scoring, arrival: Arrival, spool: Spool, send: Send) -> None:
        """Read, score and send, all at once."""
        filling = asyncio.create_task(self._filled(spool, scoring.run(arrival.rest)))
        try:
            while (piece := await spool.get()) is not None:
                await self._sent(piece, send, filling)
            await filling
        finally:
            await _ended(filling)
            del filling

    async def _filled(self, spool: Spool, pieces: AsyncGenerator[bytes, None]) -> None:
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    async with asyncio.timeout(self._settings.write_seconds):
                        await spool.put(piece)
        except TimeoutError:
            _log.warning("a response is not read, and there is no room left to store it")
            raise ClientDisconnect from None
        finally:
            await spool.end()

    async def _sent(self, piece: bytes, send: Send, filling: "asyncio.Task[None]") -> None:
        """Send a piece; who has sent everything and reads nothing has left.

        Raises:
            ClientDisconnect: so it is.
        """
        message = {"type": "http.response.body", "body": piece, "more_body": True}
        loop, sending = asyncio.get_running_loop(), True
        try:
            async with asyncio.timeout(None) as limit:

                def hurry(_: object) -> None:
                    if sending:
                        limit.reschedule(loop.time() + self._settings.write_seconds)

                filling.add_done_callback(hurry)
                try:
                    await send(message)
                finally:
                    sending = False
                    filling.remove_done_callback(hurry)
        except TimeoutError:
            raise ClientDisconnect from None

    def _count_record(self, error: Exception | None) -> None:
        if isinstance(error, RecordTooLarge):
            self._limits.rejected(error)

    def _count(self, model: ServedModel, scoring: Scoring, form: TableForm) -> None:
        tally = scoring.tally
        phases = tally.phases
        self._metrics.predicted(model.name, model.version, form, tally.rows, phases)
        self._metrics.refused_rows(model.name, model.version, tally.faults)
        model.statistics.answered(phases)


async def _ended(*tasks: "asyncio.Task[None]") -> None:
    """Cancel tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class TableResponse(Response):
    """The answer to one table, made while it is sent."""

    def __init__(
        self,
        exchange: TableExchange,
        request: Request,
        name: str,
        version: str | None,
        form: TableForm,
    ) -> None:
        super().__init__()
        self._exchange = exchange
        self._arguments = request, name, version, form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's own parameters
        """Read the body and send the answer, both at once."""
        await self._exchange.answer(*self._arguments, send)
