"""Rows of CSV files: decoded in batches, and written with the columns of their predictions."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from service.bundle.features import Feature
from service.bundle.manifest import ClassesOutput, Output, ValueOutput
from service.codecs.columns import TableCodec
from service.codecs.csv_cells import CellReader
from service.codecs.messages import (
    SURPLUS_SHOWN,
    Matrix,
    RowBatch,
    RowError,
    replace_undecoded,
    width_error,
)
from service.codecs.parameters import Parameters, finite_ends
from service.engine.tensors import Array
from service.errors import InvalidInput, Problem
from service.predictions import Classification, classify, label_probabilities, most_probable
from service.records import Lines, Record, Records
from service.tabletext import CsvDialect, Decimal, quote_cell

MAX_SLOW_ROWS = 64
"""Rows of a batch that are decoded one by one, which takes a hundred times as long."""


class TableReader(ABC):
    """Decodes the rows of one format from bytes as they arrive."""

    def __init__(self, codec: TableCodec, lines: Lines) -> None:
        self._codec = codec
        self._lines = lines

    @property
    def next_line(self) -> int:
        """The number of the next line to read, from 1."""
        return self._lines.taken + 1

    def feed(self, data: bytes) -> None:
        """Append bytes that have arrived."""
        self._lines.feed(data)

    def end(self) -> None:
        """Mark the end of the table."""
        self._lines.end()

    @abstractmethod
    def take(self, most: int) -> RowBatch | None:
        """Return the next complete rows, at most ``most``; None if there is none yet.

        Raises:
            RecordTooLarge: the next row is longer than allowed.
        """


class CsvReader(TableReader):
    """Decodes the rows below a header.

    Args:
        codec: of the model.
        dialect: of the table.
        columns: of each feature, its position, its column of the table and the reader of its cells.
        lines: after the header.
        width: the number of columns of the table.
        least_width: the number of cells that a row must have; the others are missing.
        first: records that were taken from the lines already.
    """

    def __init__(  # noqa: PLR0913 - the facts of a table; grouping them would only rename them
        self,
        codec: TableCodec,
        dialect: CsvDialect,
        columns: Sequence[tuple[int, int, CellReader]],
        lines: Lines,
        *,
        width: int,
        least_width: int,
        first: Sequence[Record],
    ) -> None:
        super().__init__(codec, lines)
        self._separator, self._quote = dialect.separator, dialect.quote
        # Of the lines in which a separator may not separate cells.
        self._special = dialect.escape or dialect.quote
        self._width = width
        self._least_width = least_width
        self._records = Records(lines, dialect.separator, dialect.quote, dialect.escape, width)
        self._pending = list(first)
        # Smaller after invalid rows, because such a batch ends early.
        self._most_lines = MAX_SLOW_ROWS
        self._columns = columns

    def take(self, most: int) -> RowBatch | None:
        """Return the next complete rows, as `TableReader.take` does."""
        text = "\n".join(self._lines.waiting[:most])
        has_quote = self._quote in text or self._special in text
        if self._pending or self._records.is_partial or has_quote:
            records = self._pending or self._records.take(most)
            if records:
                batch = self._decode_records(records)
                self._pending = records[len(batch.line_numbers) :]
                return batch
        elif self._lines.waiting:
            return self._decode_lines(self._lines.waiting[: min(most, self._most_lines)])
        self._lines.require_next()
        return None

    def _decode_lines(self, lines: list[str]) -> RowBatch:
        """Decode and take lines without quotes, where every separator separates cells."""
        first, arrived = self.next_line, len(lines)
        numbers: Sequence[int] = range(first, first + arrived)
        if "\r" in "\n".join(lines):
            lines = [line.removesuffix("\r") for line in lines]
        if "" in lines:
            numbers = [number for number, line in zip(numbers, lines, strict=True) if line]
            lines = [line for line in lines if line]
        counts = [line.count(self._separator) for line in lines]
        errors = {}
        rows = len(lines)
        if counts.count(self._width - 1) != rows:
            uneven = self._pad(lines, counts)
            if len(uneven) > MAX_SLOW_ROWS:
                rows = uneven[MAX_SLOW_ROWS]
                del lines[rows:]
            for row in uneven[:MAX_SLOW_ROWS]:
                # The message shows only the first surplus cells.
                cells = lines[row].split(self._separator, self._width + SURPLUS_SHOWN)
                errors[row] = width_error(
                    numbers[row], cells, counts[row] + 1, self._width, self._separator
                )
                lines[row] = self._fit(cells)
        cells = self._separator.join(lines).split(self._separator)
        columns = [cells[column :: self._width] for _, column, _ in self._columns]
        batch = self._decode(lines, numbers[:rows], columns, errors)
        read = len(batch.line_numbers)
        taken = arrived if read == len(numbers) else numbers[read] - first
        self._lines.take(taken)
        self._most_lines = 2 * max(taken, MAX_SLOW_ROWS)
        return batch

    def _pad(self, lines: list[str], counts: Sequence[int]) -> Sequence[int]:
        """Add or remove empty cells at the ends of rows; return those of another width."""
        uneven = []
        for row, count in enumerate(counts):
            surplus = self._separator * (count + 1 - self._width)
            if self._least_width <= count + 1 < self._width:
                lines[row] += self._separator * (self._width - 1 - count)
            elif surplus and lines[row].endswith(surplus):
                lines[row] = lines[row].removesuffix(surplus)
            elif count + 1 != self._width:
                uneven.append(row)
        return uneven

    def _decode_records(self, records: Sequence[Record]) -> RowBatch:
        records = records[:MAX_SLOW_ROWS] if any(record.error for record in records) else records
        texts = [record.text for record in records]
        table = [record.cells for record in records]
        errors = {}
        for row, record in enumerate(records):
            count = len(record.cells)
            if record.error is None and count == self._width:
                continue
            surplus = self._separator * (count - self._width)
            if record.error is None and surplus and record.text.endswith(surplus):
                texts[row] = record.text.removesuffix(surplus)
                table[row] = record.cells[: self._width]
                continue
            blank = [""] * self._width
            texts[row], table[row] = self._fit(record.cells), blank
            if record.error is not None:
                errors[row] = RowError.from_error(record.error, f"Line {record.line}")
            elif self._least_width <= count < self._width:
                table[row] = [*record.cells, *blank[count:]]
            else:
                errors[row] = width_error(
                    record.line, record.cells, count, self._width, self._separator
                )
        columns = [[cells[column] for cells in table] for _, column, _ in self._columns]
        return self._decode(texts, [record.line for record in records], columns, errors)

    def _decode(
        self,
        texts: list[str],
        lines: Sequence[int],
        columns: Sequence[Sequence[str]],
        errors: dict[int, RowError],
    ) -> RowBatch:
        """Decode the cells of each feature; the batch ends early if many rows are invalid."""
        read = [
            (position, reader, cells)
            for (position, _, reader), cells in zip(self._columns, columns, strict=True)
        ]
        matrix, suspects = self._codec.decode_columns(read, len(texts))
        slow = [row for row in suspects.tolist() if row not in errors]
        if len(slow) > MAX_SLOW_ROWS:
            rows = slow[MAX_SLOW_ROWS]
            del slow[MAX_SLOW_ROWS:]
            texts, lines, matrix = texts[:rows], lines[:rows], matrix[:rows]
            errors = {row: error for row, error in errors.items() if row < rows}
        if not all(map(str.isascii, texts)):
            replace_undecoded(texts, lines, errors)
        for row in slow:
            if row in errors:
                continue
            try:
                matrix[row] = self._decode_row([cells[row] for cells in columns])
            except InvalidInput as error:
                errors[row] = RowError.from_error(error, f"Line {lines[row]}")
        return RowBatch(matrix, errors, lines, texts)

    def _decode_row(self, cells: Sequence[str]) -> Matrix:
        """Decode one row cell by cell, by the rules of JSON values."""
        features = self._codec.features
        sent = {
            features[position].name: (reader, cell)
            for (position, _, reader), cell in zip(self._columns, cells, strict=True)
        }
        values = {name: reader.value(cell) for name, (reader, cell) in sent.items()}

        def describe_cell(feature: Feature, _: object, __: int | None) -> Problem:
            reader, cell = sent[feature.name]
            return reader.problem(cell)

        row: Matrix = self._codec.decode_rows([values], describe_cell)[0]
        return row

    def _fit(self, cells: Sequence[str]) -> str:
        """Return a row with the first cells, and empty ones up to the width of the table."""
        quoted = [quote_cell(cell, self._separator, self._quote) for cell in cells[: self._width]]
        text = self._separator.join(quoted)
        return text + self._separator * (self._width - max(len(cells), 1))


@dataclass(frozen=True)
class CsvFormat:
    """The format of a table, which its response gets too."""

    dialect: CsvDialect
    names: Sequence[str]
    decimal: Decimal


class TableWriter(ABC):
    """Writes predictions with the separator, quotes, marks and line ends of the table.

    Args:
        columns: of a prediction, in their order.
        parameters: of the request.
        table: its format; without one, None, only predictions are written.
    """

    media_type = "text/csv; charset=utf-8; header=present"

    def __init__(
        self, columns: Iterable[str], parameters: Parameters, table: CsvFormat | None
    ) -> None:
        self._parameters = parameters
        self._table_columns = [] if table is None else list(table.names)
        self._separator = "," if table is None else table.dialect.separator
        self._quote = '"' if table is None else table.dialect.quote
        self._line_end = "\r\n" if table is None else table.dialect.line_end
        self._byte_order_mark = "\ufeff" if table is not None and table.dialect.marked else ""
        # Between commas, each number with a decimal comma would need quotes.
        has_comma = table is not None and table.decimal == "," != self._separator
        self._decimal = "," if has_comma else "."
        self._columns = list(columns)
        # The separators of a row without a prediction, before its error.
        self._blank = self._separator * (len(self._columns) - 1)

    def start(self) -> bytes:
        """Return the header; a column that the table has already gets the prefix ``predicted_``."""
        names = list(self._table_columns)
        used = {name.strip() for name in names}
        for column in self._columns:
            name = column
            while name in used:
                name = f"predicted_{name}"
            used.add(name)
            names.append(name)
        cells = map(self._cell, names)
        return f"{self._byte_order_mark}{self._separator.join(cells)}{self._line_end}".encode()

    def write(self, batch: RowBatch, scores: Array, warnings: Mapping[int, Sequence[str]]) -> bytes:
        """Return the rows of a batch.

        Args:
            batch: rows of the table.
            scores: the graph's output for the rows without an error, ``[rows, columns]``.
            warnings: by row of the batch.
        """
        predicted = iter(self._predictions(scores))
        if not batch.errors and not self._parameters.warnings:
            rows = [f"{cells}{self._separator}" for cells in predicted]
        else:
            rows = [
                f"{self._blank}{self._cell(batch.errors[row].message)}"
                if row in batch.errors
                else f"{next(predicted)}{self._warnings(warnings.get(row, ()))}{self._separator}"
                for row in range(len(batch.line_numbers))
            ]
        if batch.texts is not None:
            pairs = zip(batch.texts, rows, strict=True)
            rows = [f"{text}{self._separator}{row}" for text, row in pairs]
        return "".join([f"{row}{self._line_end}" for row in rows]).encode()

    def write_error(self, error: RowError) -> bytes:
        """Return a last row with the reason why no further row was scored."""
        before = self._separator * len(self._table_columns) + self._blank
        return f"{before}{self._cell(error.message)}{self._line_end}".encode()

    def end(self) -> bytes:
        """Return nothing: the last line is a row."""
        return b""

    @abstractmethod
    def _predictions(self, scores: Array) -> Sequence[str]:
        """Return the cells of each prediction, without those of warnings and error."""

    def _numbers(self, table: Array) -> list[str]:
        """Return the numbers of each row as JSON writes them, with the marks of the table."""
        text = orjson.dumps(np.ascontiguousarray(table), option=orjson.OPT_SERIALIZE_NUMPY)
        rows = text[2:-2].decode().replace("],[", "\n")
        if self._separator != ",":
            rows = rows.replace(",", self._separator).replace(".", self._decimal)
        return rows.split("\n")

    def _warnings(self, messages: Sequence[str]) -> str:
        if not self._parameters.warnings:
            return ""
        return f"{self._separator}{self._cell(' '.join(messages))}"

    def _cell(self, text: str) -> str:
        return quote_cell(text, self._separator, self._quote)


class CsvWriter(TableWriter):
    """Writes values with units, or class labels with probabilities."""

    def __init__(self, output: Output, parameters: Parameters, table: CsvFormat | None) -> None:
        super().__init__(column_names(output, parameters), parameters, table)
        self._output = output
        labels = output.labels if isinstance(output, ClassesOutput) else ()
        self._labels = [self._cell(label) for label in labels]

    def _predictions(self, scores: Array) -> Sequence[str]:
        if not len(scores):
            return []
        if isinstance(self._output, ValueOutput):
            return self._values(self._output, scores[:, :1])
        probabilities, chosen, unsure = self._classify(self._output, scores)
        own = label_probabilities(probabilities, chosen)[:, np.newaxis]
        if self._parameters.top is not None:
            ranked = self._top(probabilities, self._parameters.top)
            numbers = [
                f"{first}{self._separator}{rest}"
                for first, rest in zip(self._numbers(own), ranked, strict=True)
            ]
        elif self._parameters.probabilities:
            numbers = self._numbers(np.concatenate([own, probabilities], axis=1))
        else:
            numbers = self._numbers(own)
        if unsure is not None:
            pairs = zip(numbers, unsure, strict=True)
            numbers = [f"{row}{self._separator}{str(flag).lower()}" for row, flag in pairs]
        rows = zip(chosen, numbers, strict=True)
        return [f"{self._labels[position]}{self._separator}{row}" for position, row in rows]

    def _classify(self, output: ClassesOutput, scores: Array) -> Classification:
        return classify(output, scores)

    def _values(self, output: ValueOutput, values: Array) -> list[str]:
        """Return each of the values ``[rows, 1]`` with its unit and its interval."""
        unit = "" if output.unit is None else f"{self._separator}{self._cell(output.unit)}"
        cells = [f"{value}{unit}" for value in self._numbers(values)]
        if self._parameters.interval is None:
            return cells
        ends = np.stack(finite_ends(output, self._parameters.interval, values[:, 0]), axis=1)
        pairs = zip(cells, self._numbers(ends), strict=True)
        return [f"{cell}{self._separator}{both}" for cell, both in pairs]

    def _top(self, probabilities: Array, top: int) -> Iterator[str]:
        """Yield the most probable labels of each row, each with its probability."""
        order = most_probable(probabilities, top)
        numbers = self._numbers(np.take_along_axis(probabilities, order, axis=1))
        for positions, row in zip(order.tolist(), numbers, strict=True):
            pairs = zip(positions, row.split(self._separator), strict=True)
            yield self._separator.join(
                f"{self._labels[position]}{self._separator}{number}" for position, number in pairs
            )


def column_names(output: Output, parameters: Parameters) -> Iterator[str]:
    """Yield the columns of a prediction, in their order."""
    if isinstance(output, ClassesOutput):
        yield from _label_columns(output, parameters)
    else:
        yield "value"
        if output.unit is not None:
            yield "unit"
        if parameters.interval is not None:
            yield from ("interval_low", "interval_high")
    if parameters.warnings:
        yield "warnings"
    yield "error"


def _label_columns(output: ClassesOutput, parameters: Parameters) -> Iterator[str]:
    yield from ("label", "probability")
    if parameters.top is not None:
        for rank in range(1, 1 + min(parameters.top, len(output.labels))):
            yield from (f"label_{rank}", f"probability_{rank}")
    elif parameters.probabilities:
        yield from (f"probability_{label}" for label in output.labels)
    if output.unsure_below is not None:
        yield "unsure"
