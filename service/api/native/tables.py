"""Tables over HTTP: bodies and responses of any length, with little of either in memory.

Most clients send a whole body before they read any of the response. `Spool` holds the part of the
response that is not read yet, or both sides would wait for each other forever.
"""

import asyncio
import logging
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service.api.body import (
    HEAD,
    TABLE_TYPES,
    RequestHead,
    StreamedBody,
    content_encoding,
    parse_media_type,
    parse_parameter,
    response_form,
)
from service.api.errors import error_response
from service.api.inference import InferenceProtocol, count_failure
from service.api.inference_service import HeldModel, InferenceService
from service.api.middleware import get_quotas
from service.api.native.uploads import TableUploads, Upload, may_hold_table
from service.codecs.parameters import DEFAULT_PARAMETERS, read_parameters
from service.decompression import decompress
from service.engine.model import ServedModel
from service.errors import OnwardError, RecordTooLarge, SpoolFull
from service.limits import UNCOUNTED_BODY_BYTES, Limits, Quota, Reservation
from service.observability.metrics import Metrics
from service.scoring import (
    PeekedStream,
    ScoringOptions,
    ScoringPipeline,
    TableForm,
    open_pipeline,
    peek,
)
from service.settings import Settings
from service.tablefiles.process import TableFileProcesses

T = TypeVar("T")

_MEMORY_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024
# Disk space is reserved in steps of this size.
_STEP_BYTES = 1024 * 1024
# A client that has read nothing for so long does not read while it sends.
_STALLED_SECONDS = 0.25

_log = logging.getLogger(__name__)


class NativePredictions:
    """Responds to predictions by feature name: rows in JSON, or a table that streams."""

    def __init__(  # noqa: PLR0913, PLR0917 - each is used by a table
        self,
        service: InferenceService,
        protocol: InferenceProtocol[Any],
        metrics: Metrics,
        settings: Settings,
        limits: Limits,
        processes: TableFileProcesses,
    ) -> None:
        self._service = service
        self._uploads = TableUploads(settings, limits, processes)
        self._protocol = protocol
        self._metrics = metrics
        self._limits = limits
        self._settings = settings
        self._lock = asyncio.Lock()

    async def predict(self, request: Request, name: str, version: str | None) -> Response:
        """Respond to rows or to a table; the version may be an alias, None is the serving one."""
        form = self._find_form(request.scope[HEAD], name, version)
        if form is None:
            return await self._service.predict(self._protocol, request, name, version)
        self._limits.require_query(request.scope["query_string"])
        return TableResponse(partial(self._respond, request, name, version, form))

    def _find_form(self, head: RequestHead, name: str, version: str | None) -> TableForm | None:
        """Return the form of a table; None if the request is none.

        A form or bytes of an unknown type are a table unless the model takes images.
        """
        if head.table_form is not None or not may_hold_table(head.content_type):
            return head.table_form
        try:
            return None if self._service.takes_images(name, version) else "csv"
        except OnwardError:  # the error is raised again, and counted
            return None

    async def _respond(
        self, request: Request, name: str, version: str | None, form: TableForm, send: Send
    ) -> None:
        """Respond to one table, from its first byte to its last; any error has been counted."""
        score = partial(self._score_while_connected, request, form, send)
        count = partial(count_failure, self._metrics, form)
        try:
            await self._service.hold(request, name, version, score, count)
        except OnwardError as error:
            # Not bound to a name that outlives this block: the error refers to this frame by its
            # traceback, and both would stay until a garbage collection, with the whole body.
            self._count_record(error)
            get_quotas(request.scope).release_table()
            await error_response(error)(request.scope, request.receive, send)

    async def _score_while_connected(
        self, request: Request, form: TableForm, send: Send, held: HeldModel
    ) -> None:
        """Score the table; compute no more and raise `ClientDisconnect` if its client leaves."""
        await held.deadline.stop()
        incoming = StreamedBody(request.receive)
        scoring = asyncio.create_task(self._score(request, incoming, held.model, form, send))
        watching = asyncio.create_task(incoming.receive_until_disconnect())
        tasks = (scoring, watching)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not scoring.done():
                await watching
                raise ClientDisconnect
            await scoring
        finally:
            await _cancel(*tasks)
            # A task refers to its error, and that to this frame.
            del scoring, watching, tasks

    async def _score(
        self,
        request: Request,
        incoming: StreamedBody,
        model: ServedModel,
        form: TableForm,
        send: Send,
    ) -> None:
        pieces = incoming.pieces()
        if (encoding := content_encoding(request.scope[HEAD])) is not None:
            pieces = decompress(pieces, encoding, self._limits)
        # The condition keeps the usual table out of another file.
        is_text = parse_media_type(request.scope[HEAD].content_type or "") in TABLE_TYPES
        uploading = (
            nullcontext(Upload(pieces, form))
            if is_text
            else self._uploads.open(request, pieces, form)
        )
        async with uploading as upload:
            pipeline, stream = await self._open(request, upload, model)
            async with Spool(self._limits.spool_bytes, self._settings.spool_folder) as spool:
                if not stream.whole and not await spool.prepare():
                    raise self._limits.reject(SpoolFull())
                await send(_response_start(pipeline, model))
                await self._stream(pipeline, stream, spool, send)
        self._count_record(pipeline.error)
        stats = pipeline.stats
        phases = stats.phases
        self._metrics.count_prediction(model.name, model.version, form, stats.rows, phases)
        self._metrics.count_rejected_rows(model.name, model.version, stats.errors)
        model.statistics.count_success(phases)
        get_quotas(request.scope).release_table()
        await send({"type": "http.response.body", "body": b""})

    async def _open(
        self, request: Request, upload: Upload, model: ServedModel
    ) -> tuple[ScoringPipeline, PeekedStream]:
        """Find everything that is wrong with the whole table, before the response starts."""
        headers, query = request.headers, request.scope["query_string"]
        options = ScoringOptions(
            upload.form,
            response_form(headers.get("accept", "*/*"), upload.form),
            read_parameters(query) if query else DEFAULT_PARAMETERS,
            parse_parameter(headers.get("content-type", ""), "charset"),
            upload.numbers,
        )
        stream = await peek(upload.pieces, upload.form, self._settings.max_csv_record_bytes)
        is_small = stream.whole and len(stream.sample) <= UNCOUNTED_BODY_BYTES
        get_quotas(request.scope).was_large |= not is_small
        pipeline = open_pipeline(
            self._service.endpoints,
            self._settings,
            self._lock,
            model=model,
            options=options,
            stream=stream,
        )
        return pipeline, stream

    async def _stream(
        self, pipeline: ScoringPipeline, stream: PeekedStream, spool: "Spool", send: Send
    ) -> None:
        """Read, score and send at the same time."""
        filling = asyncio.create_task(self._fill(spool, pipeline.run(stream.rest)))
        try:
            while (piece := await spool.get()) is not None:
                await self._send(piece, send, filling)
            await filling
        finally:
            await _cancel(filling)
            del filling

    async def _fill(self, spool: "Spool", pieces: AsyncGenerator[bytes, None]) -> None:
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

    async def _send(self, piece: bytes, send: Send, filling: "asyncio.Task[None]") -> None:
        """Send a piece; a client must read it in time once it has sent its whole table."""
        message = {"type": "http.response.body", "body": piece, "more_body": True}
        loop, sending = asyncio.get_running_loop(), True
        try:
            async with asyncio.timeout(None) as limit:

                def start_timeout(_: object) -> None:
                    if sending:
                        limit.reschedule(loop.time() + self._settings.write_seconds)

                filling.add_done_callback(start_timeout)
                try:
                    await send(message)
                finally:
                    sending = False
                    filling.remove_done_callback(start_timeout)
        except TimeoutError:
            raise ClientDisconnect from None

    def _count_record(self, error: Exception | None) -> None:
        if isinstance(error, RecordTooLarge):
            self._limits.reject(error)


class TableResponse(Response):
    """The response to one table, computed while it is sent."""

    def __init__(self, respond: Callable[[Send], Awaitable[None]]) -> None:
        super().__init__()
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's own parameters
        """Read the body and send the response at the same time."""
        await self._respond(send)


class Spool:
    """A queue of bytes from one writer to one reader: in memory, then in a temporary file.

    The writer waits for a slow reader; a reader that reads nothing gets a file.
    Leaving the context removes the file and releases its reservation.

    Args:
        quota: bytes of the files of all spools. The writer waits while it is used up.
        folder: of the file; None is the system's temporary folder.
    """

    def __init__(self, quota: Quota, folder: Path | None = None) -> None:
        self._reservation = Reservation(quota)
        self._quota = quota
        self._folder = folder
        self._pieces: deque[bytes] = deque()
        self._memory_used = 0
        self._file: IO[bytes] | None = None
        self._working: asyncio.Future[Any] | None = None
        self._read = self._written = 0
        self._is_full = False
        self._has_ended = False
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._working is not None and not self._working.done():
            # A cancelled task does not stop its thread; if the file were closed now, the thread
            # might write to another file that has the same descriptor.
            await asyncio.wait([self._working])
        if self._file is not None:
            self._file.close()
        self._reservation.release()

    async def prepare(self) -> bool:
        """Create the file and allocate its first bytes; return whether there is room for them."""
        if not self._quota.limit:
            return True
        if not self._grow():
            return False
        empty = bytes(self._reservation.amount)
        return await self._in_thread(partial(self._write_file, empty, at=0))

    async def put(self, piece: bytes) -> None:
        """Append a piece; waits while there is no room for it."""
        async with self._changed:
            while not self._store_in_memory(piece):
                if not self._in_file and await self._is_read():
                    continue
                if await self._store_in_file(piece):
                    break
                await self._changed.wait()
            self._changed.notify_all()

    async def get(self) -> bytes | None:
        """Return the next bytes, or None after the last ones."""
        async with self._changed:
            while not self._pieces and not self._in_file and not self._has_ended:
                await self._changed.wait()
            if self._pieces:
                data = self._pieces.popleft()
                self._memory_used -= len(data)
            elif self._in_file:
                data = await self._in_thread(self._read_file)
                self._read += len(data)
                if self._read == self._written:
                    self._read = self._written = 0
                    # An empty file needs no more than one step.
                    self._reservation.subtract(max(0, self._reservation.amount - _STEP_BYTES))
            else:
                return None
            self._changed.notify_all()
            return data

    async def end(self) -> None:
        """Mark the end of the bytes."""
        async with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    @property
    def _in_file(self) -> bool:
        return self._read < self._written

    def _store_in_memory(self, piece: bytes) -> bool:
        """Append the piece in memory if it fits and no bytes before it are in the file."""
        if self._in_file or (self._memory_used and self._memory_used + len(piece) > _MEMORY_BYTES):
            return False
        self._pieces.append(piece)
        self._memory_used += len(piece)
        return True

    async def _store_in_file(self, piece: bytes) -> bool:
        while self._written + len(piece) > self._reservation.amount:
            if not self._grow():
                return False
        if not await self._in_thread(partial(self._write_file, piece, self._written)):
            return False
        self._written += len(piece)
        return True

    def _grow(self) -> bool:
        """Reserve more of the quota; return whether there was any."""
        step = min(_STEP_BYTES, self._quota.limit - self._quota.used)
        if step <= 0 or self._is_full:
            return False
        self._reservation.add(step)
        return True

    async def _is_read(self) -> bool:
        """Return whether the reader takes something before it counts as stalled."""
        try:
            async with asyncio.timeout(_STALLED_SECONDS):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _in_thread(self, work: Callable[[], T]) -> T:
        working = asyncio.ensure_future(asyncio.to_thread(work))
        self._working = working
        return await asyncio.shield(working)

    def _write_file(self, piece: bytes, at: int) -> bool:
        """Write a piece; return whether the disk had room for it."""
        try:
            file = self._open_file(at)
            done = 0
            while done < len(piece):
                done += file.write(piece[done:])
        except OSError as error:
            _log.warning("a response cannot be stored", extra={"reason": str(error)})
            self._is_full = True
            return False
        return True

    def _read_file(self) -> bytes:
        file = self._open_file(self._read)
        data = file.read(min(_PIECE_BYTES, self._written - self._read))
        if self._read + len(data) == self._written:
            file.truncate(_STEP_BYTES)
        return data

    def _open_file(self, position: int) -> IO[bytes]:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 - `__aexit__` closes it
        self._file.seek(position)
        return self._file


def _response_start(pipeline: ScoringPipeline, model: ServedModel) -> dict[str, Any]:
    """Return the ASGI message with status and headers."""
    headers = {"x-model-version": model.version, "vary": "accept"}
    response = Response(headers=headers, media_type=pipeline.media_type)
    del response.headers["content-length"]
    return {
        "type": "http.response.start",
        "status": response.status_code,
        "headers": response.raw_headers,
    }


async def _cancel(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
