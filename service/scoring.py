"""From a stream of rows to a stream of predictions, one batch of rows at a time.

HTTP and the command line both score tables here, so that their output is the same to the bit.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Literal

import numpy as np

from service.codecs.columns import TableCodec
from service.codecs.csv_header import SAMPLE_BYTES, open_csv
from service.codecs.csv_rows import CsvFormat, CsvWriter, TableReader, TableWriter
from service.codecs.endpoint import Endpoint, EndpointCache
from service.codecs.features import NO_WARNINGS, TrainingRange, Warnings
from service.codecs.messages import Matrix, RowBatch, RowError
from service.codecs.ndjson import JsonDocumentWriter, NdjsonWriter, open_ndjson
from service.codecs.parameters import DEFAULT_PARAMETERS, Parameters
from service.codecs.texts import NumbersRange
from service.engine.model import ServedModel
from service.engine.tensors import Array
from service.errors import DeadlineExceeded, InferenceFailed, InputRejected, OnwardError, Overloaded
from service.observability.metrics import Phases
from service.settings import Settings

TableForm = Literal["csv", "ndjson"]
Form = TableForm | Literal["json"]
ResponseWriter = TableWriter | NdjsonWriter

# Decoding or encoding one batch takes about this long, so that small requests which arrive
# meanwhile are served between two batches.
_SHORTEST_SECONDS = 0.001
_LONGEST_SECONDS = 0.002_5
_FEWEST_ROWS, _FIRST_ROWS, _MAX_ROWS = 1, 256, 4096
_PAUSE_SECONDS = 0.02
_NOT_SCORED = "This row and all later rows were not scored."


@dataclass(frozen=True)
class PeekedStream:
    """A stream whose first bytes have been read: ``sample``, followed by ``rest``.

    ``whole`` says whether the sample is the whole stream.
    """

    sample: bytes
    whole: bool
    rest: AsyncIterator[bytes]


async def peek(
    pieces: AsyncIterator[bytes], form: TableForm, max_record_bytes: int
) -> PeekedStream:
    """Read the first bytes of a table: enough to detect its format, and at least its first line.

    Args:
        pieces: of the table.
        form: the format; only CSV needs a sample.
        max_record_bytes: stop after this many bytes even within the first line.
    """
    enough = SAMPLE_BYTES if form == "csv" else 1
    sample = bytearray()
    has_end = has_text = False
    async for piece in pieces:
        sample += piece
        has_end = has_end or b"\n" in piece or b"\r" in piece
        has_text = has_text or bool(piece.strip())
        is_enough = len(sample) >= enough and has_end and has_text
        if is_enough or len(sample) > max_record_bytes:
            return PeekedStream(bytes(sample), whole=False, rest=pieces)
    return PeekedStream(bytes(sample), whole=True, rest=pieces)


@dataclass(frozen=True)
class ScoringOptions:
    """The formats of a table and of its response, and the parameters of the request.

    ``charset`` is the encoding of a CSV file as the client states it. ``typed`` are the columns of
    numbers of a table file, whose text is scored as CSV; None for any other table.
    """

    form: TableForm
    response_form: Form
    parameters: Parameters
    charset: str | None = None
    typed: Collection[int] | None = None


def open_pipeline(  # noqa: PLR0913 - what all tables share, and what is known of this one
    endpoints: EndpointCache,
    settings: Settings,
    lock: asyncio.Lock,
    *,
    model: ServedModel,
    options: ScoringOptions,
    stream: PeekedStream,
) -> "ScoringPipeline":
    """Detect the format of a table, and find the columns of the model's features.

    Args:
        endpoints: of the loaded models.
        settings: how long a batch of rows may take, including waiting, and how large a record may
            be.
        lock: shared by all tables of a process; held while a batch is decoded or encoded.
        model: that predicts.
        options: of the request.
        stream: the table.

    Raises:
        InvalidRequest: the stream is not a table, or not one for this model; nothing has been
            scored.
        RecordTooLarge: its first record is longer than allowed.
    """
    # Each condition keeps the usual table out of another file.
    endpoint = endpoints.by_model.get(model)
    if endpoint is None:
        endpoint = endpoints.get(model)
    codec = endpoint.features or endpoint.require_table()
    if options.parameters is not DEFAULT_PARAMETERS:
        endpoint.require_supported(options.parameters)
    reader, table = _open_reader(codec, options, stream, settings.max_csv_record_bytes)
    has_warnings = options.parameters.warnings
    if has_warnings is None:
        # A table gets a column of warnings only from models that predict from unknown words.
        has_warnings = options.response_form != "csv" or codec.accepts_unseen
        if has_warnings and options.response_form == "csv":
            options = replace(options, parameters=replace(options.parameters, warnings=True))
    return ScoringPipeline(
        model,
        reader,
        _create_writer(endpoint, options, table),
        endpoint=endpoint,
        training_range=codec.training_range if has_warnings else None,
        lock=lock,
        timeout_seconds=settings.deadline_seconds,
    )


def _open_reader(
    codec: TableCodec, options: ScoringOptions, stream: PeekedStream, longest: int
) -> tuple[TableReader, CsvFormat | None]:
    if options.form == "ndjson":
        return open_ndjson(stream.sample, codec, whole=stream.whole, longest=longest), None
    return open_csv(
        stream.sample,
        codec,
        whole=stream.whole,
        longest=longest,
        charset=options.charset,
        decimal=options.parameters.decimal,
        typed=options.typed,
    )


def _create_writer(
    endpoint: Endpoint, options: ScoringOptions, table: CsvFormat | None
) -> ResponseWriter:
    if options.response_form == "csv":
        # The condition keeps the usual table out of another file.
        manifest = endpoint.manifest
        if manifest is None:
            return endpoint.create_csv_writer(options.parameters, table)
        return CsvWriter(manifest.output, options.parameters, table)
    if options.response_form == "ndjson":
        return NdjsonWriter(endpoint.writer, options.parameters)
    return JsonDocumentWriter(endpoint.writer, options.parameters)


@dataclass
class ScoringStats:
    """Rows scored so far, and the seconds that the phases took.

    ``rows`` have a prediction, ``errors`` an error.
    """

    rows: int = 0
    errors: int = 0
    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0
    encode: float = 0.0

    @property
    def total(self) -> int:
        """Rows with a prediction or an error."""
        return self.rows + self.errors

    @property
    def phases(self) -> Phases:
        """The seconds as metrics."""
        return Phases(self.decode, self.queue, self.compute, self.encode)


class ScoringPipeline:
    """Scores one table with one model: reader, model, writer.

    Args:
        model: that predicts.
        reader: of the rows.
        writer: of the predictions.
        endpoint: of the model.
        training_range: values outside it are reported.
        lock: shared by all tables of a process; held while a batch is decoded or encoded.
        timeout_seconds: of one batch, including its time in the queue.
    """

    def __init__(  # noqa: PLR0913 - the parts of a pipeline; grouping them would only rename them
        self,
        model: ServedModel,
        reader: TableReader,
        writer: ResponseWriter,
        *,
        endpoint: Endpoint,
        training_range: TrainingRange | NumbersRange | None,
        lock: asyncio.Lock,
        timeout_seconds: float,
    ) -> None:
        self._model = model
        self._columns = endpoint.columns
        self._graph_outputs = endpoint.graph_outputs
        self._training_range = training_range
        self._reader = reader
        self._writer = writer
        self._lock = lock
        self._timeout_seconds = timeout_seconds
        self._most_rows = _FIRST_ROWS
        self.media_type = writer.media_type
        self.stats = ScoringStats()
        self.error: OnwardError | None = None
        """Why scoring stopped before the end of the table."""

    async def run(self, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the response as soon as they are encoded; ``rest`` follows the sample.

        An error that makes it impossible to continue is written as a last row.
        """
        yield self._writer.start()
        try:
            async for piece in self._score_available():
                yield piece
            async for data in rest:
                self._reader.feed(data)
                async for piece in self._score_available():
                    yield piece
            self._reader.end()
            async for piece in self._score_available():
                yield piece
        except OnwardError as error:
            # Its traceback refers to this frame, and so to all that has been read.
            self.error = error.with_traceback(None)
            message = f"Line {self._reader.next_line}: {error} {_NOT_SCORED}"
            yield self._writer.write_error(RowError(message, error.code))
        yield self._writer.end()

    async def _score_available(self) -> AsyncIterator[bytes]:
        while True:
            async with self._lock:
                await asyncio.sleep(0)  # small requests first
                started = perf_counter()
                batch = self._reader.take(self._most_rows)
                decode = perf_counter() - started
            if batch is None:
                return
            compute = self.stats.compute
            batch, scores = await self._predict(batch)
            compute = self.stats.compute - compute
            async with self._lock:
                started = perf_counter()
                piece = self._writer.write(batch, scores, self._warnings(batch))
                encode = perf_counter() - started
            self.stats.rows += len(batch.line_numbers) - len(batch.errors)
            self.stats.errors += len(batch.errors)
            self.stats.decode += decode
            self.stats.encode += encode
            self._adjust_batch_size(max(decode + encode, compute))
            if piece:
                yield piece

    async def _predict(self, batch: RowBatch) -> tuple[RowBatch, Array]:
        """Return the batch with the errors that the model found, and the scores of other rows."""
        all_rows = range(len(batch.line_numbers))
        valid = [row for row in all_rows if row not in batch.errors] if batch.errors else all_rows
        found: dict[int, OnwardError] = {}
        scores = await self._predict_rows(batch.matrix, valid, found)
        if not found:
            return batch, scores
        errors = {
            row: RowError.from_error(error, f"Line {batch.line_numbers[row]}")
            for row, error in found.items()
        }
        return replace(batch, errors={**batch.errors, **errors}), scores

    async def _predict_rows(
        self, matrix: Matrix, rows: Sequence[int], found: dict[int, OnwardError]
    ) -> Array:
        """Return the scores of these rows, and add the errors of rows that the model rejects."""
        if not rows:
            return np.empty((0, max(self._model.info.outputs[0].shape[-1], 1)), np.float32)
        try:
            return await self._run_model(matrix if len(rows) == len(matrix) else matrix[rows])
        except (InputRejected, InferenceFailed) as error:
            if len(rows) == 1:
                found[rows[0]] = error
                return await self._predict_rows(matrix, (), found)
        half = len(rows) // 2
        parts = [
            await self._predict_rows(matrix, part, found) for part in (rows[:half], rows[half:])
        ]
        # The fields of no rows are unknown if a graph without a manifest names its outputs.
        return np.concatenate([part for part in parts if len(part)] or parts[:1])

    async def _run_model(self, matrix: Matrix) -> Array:
        """Return the graph's output; try again while the queue of the model is full."""
        inputs = (matrix,) if self._columns is None else self._columns.to_inputs(matrix)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                while True:
                    try:
                        prediction = await self._model.predict(inputs)
                    except Overloaded:
                        await asyncio.sleep(_PAUSE_SECONDS)
                    else:
                        break
        except TimeoutError:
            raise DeadlineExceeded(self._timeout_seconds) from None
        self.stats.queue += prediction.queue_seconds
        self.stats.compute += prediction.compute_seconds
        if self._graph_outputs is not None:
            return self._graph_outputs.join(prediction.outputs, len(matrix))
        return prediction.outputs[0]

    def _warnings(self, batch: RowBatch) -> Warnings:
        if self._training_range is None:
            return NO_WARNINGS
        return self._training_range.warnings(batch.matrix)

    def _adjust_batch_size(self, seconds: float) -> None:
        if seconds > _LONGEST_SECONDS:
            self._most_rows = max(_FEWEST_ROWS, self._most_rows // 2)
        elif seconds < _SHORTEST_SECONDS:
            self._most_rows = min(_MAX_ROWS, self._most_rows * 2)
