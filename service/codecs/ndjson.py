"""Tables of newline-delimited JSON: rows read in batches, and predictions written as JSON."""

from collections.abc import Mapping, Sequence
from itertools import count

import orjson

from service.codecs.columns import TableCodec
from service.codecs.csv_rows import MAX_SLOW_ROWS, TableReader
from service.codecs.json_writer import Fields, PredictionWriter
from service.codecs.messages import Matrix, RowBatch, RowError, error_document
from service.codecs.parameters import Parameters
from service.engine.tensors import Array
from service.errors import InvalidRequest
from service.filetypes import describe_file_type
from service.records import Lines


def open_ndjson(sample: bytes, codec: TableCodec, *, whole: bool, longest: int) -> "NdjsonReader":
    """Check the beginning of a table before anything is scored, and return its reader.

    Args:
        sample: the first bytes.
        codec: of the model.
        whole: whether the sample is the whole table.
        longest: characters of a line.

    Raises:
        InvalidRequest: the table is empty, or a file of another type.
        RecordTooLarge: the first line is longer than allowed.
    """
    example = orjson.dumps(codec.example).decode()
    kind = "empty" if whole and not sample.strip() else describe_file_type(sample)
    if kind is not None:
        raise InvalidRequest(f"The body is {kind}. Send one object per line, for example {example}")
    lines = Lines("utf-8-sig", longest)
    lines.feed(sample)
    lines.require_next()
    return NdjsonReader(codec, lines)


class NdjsonReader(TableReader):
    """Reads one row per line: an object by feature name, or an array in the features' order."""

    def __init__(self, codec: TableCodec, lines: Lines) -> None:
        super().__init__(codec, lines)
        # Smaller after invalid rows, because the valid rows of their batch are decoded twice.
        self._most_rows = MAX_SLOW_ROWS
        self._example = orjson.dumps(codec.example).decode()

    def take(self, most: int) -> RowBatch | None:
        """Return the next complete rows, as `TableReader.take` does."""
        if not self._lines.waiting:
            self._lines.require_next()
            return None
        most = min(most, self._most_rows)
        line_numbers, texts = self._waiting(most)
        try:
            batch = RowBatch(self._decode(texts), {}, line_numbers)
            self._most_rows = 2 * most
        except InvalidRequest:
            most = self._most_rows = min(most, MAX_SLOW_ROWS)
            batch = self._decode_singly(*self._waiting(most))
        self._lines.take(most)
        return batch

    def _waiting(self, most: int) -> tuple[Sequence[int], Sequence[str]]:
        """Return numbers and texts of the next lines that are not empty, of at most ``most``."""
        waiting = zip(count(self.next_line), self._lines.waiting[:most])
        numbered = [(number, text) for number, text in waiting if text.strip()]
        return [number for number, _ in numbered], [text for _, text in numbered]

    def _decode_singly(self, line_numbers: Sequence[int], texts: Sequence[str]) -> RowBatch:
        matrix = self._codec.create_rows(len(texts))
        errors = {}
        for row, text in enumerate(texts):
            try:
                matrix[row] = self._decode([text])[0]
            except InvalidRequest as error:
                errors[row] = RowError.from_error(error, f"Line {line_numbers[row]}")
        return RowBatch(matrix, errors, line_numbers)

    def _decode(self, texts: Sequence[str]) -> Matrix:
        """Return the rows of complete lines as ``[rows, columns]``, or raise `InvalidRequest`."""
        try:
            rows = list(map(orjson.loads, texts))
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(
                f"The line is not JSON: {error}. Send one object per line, for example "
                f"{self._example}"
            ) from None
        if not rows:
            return self._codec.create_rows(0)
        return self._codec.decode_rows(rows)


class NdjsonWriter:
    """Writes one prediction per line, or the error of the row."""

    media_type = "application/x-ndjson"

    def __init__(self, writer: PredictionWriter, parameters: Parameters) -> None:
        self._writer = writer
        self._parameters = parameters

    def start(self) -> bytes:
        """Return nothing: the first line is a row."""
        return b""

    def write(self, batch: RowBatch, scores: Array, warnings: Mapping[int, Sequence[str]]) -> bytes:
        """Return the rows of a batch; the arguments are those of `CsvWriter.write`."""
        return b"".join([row + b"\n" for row in self._rows(batch, scores, warnings)])

    def write_error(self, error: RowError) -> bytes:
        """Return a last line with the reason why no further row was scored."""
        return _encode_error(error) + b"\n"

    def end(self) -> bytes:
        """Return nothing: the last line is a row."""
        return b""

    def _rows(
        self, batch: RowBatch, scores: Array, warnings: Mapping[int, Sequence[str]]
    ) -> list[bytes]:
        valid = [row for row in range(len(batch.line_numbers)) if row not in batch.errors]
        fields: Fields = {
            position: {"warnings": warnings[row]}
            for position, row in enumerate(valid)
            if row in warnings
        }
        predictions = self._writer.write_rows(scores, self._parameters, fields)
        if not batch.errors:
            return predictions
        rows = {row: _encode_error(error) for row, error in batch.errors.items()}
        rows.update(zip(valid, predictions, strict=True))
        return [rows[row] for row in range(len(batch.line_numbers))]


class JsonDocumentWriter(NdjsonWriter):
    """Writes ``{"predictions": [...]}``, the response to rows that are posted as JSON."""

    media_type = "application/json"

    def __init__(self, writer: PredictionWriter, parameters: Parameters) -> None:
        super().__init__(writer, parameters)
        self._separator = b""

    def start(self) -> bytes:
        """Return the document up to the first prediction."""
        return b'{"predictions":['

    def write(self, batch: RowBatch, scores: Array, warnings: Mapping[int, Sequence[str]]) -> bytes:
        """Return the rows of a batch; the arguments are those of `CsvWriter.write`."""
        return self._join(self._rows(batch, scores, warnings))

    def write_error(self, error: RowError) -> bytes:
        """Return a last item with the reason why no further row was scored."""
        return self._join([_encode_error(error)])

    def end(self) -> bytes:
        """Return the rest of the document."""
        return b"]" + self._writer.end

    def _join(self, items: Sequence[bytes]) -> bytes:
        if not items:
            return b""
        text = self._separator + b",".join(items)
        self._separator = b","
        return text


def _encode_error(error: RowError) -> bytes:
    return orjson.dumps(error_document(error.message, error.code, error.problems))
