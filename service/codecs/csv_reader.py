"""Decode the rows of a CSV file in batches.

`Lines` splits bytes into lines, `Records` finds the rows among lines with quotes, and `CsvReader`
decodes the cells of a whole batch of rows.
"""

import codecs
import csv
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from service.bundle.features import Feature
from service.codecs.columns import TableCodec
from service.codecs.csv_cells import CellReader
from service.codecs.messages import (
    SURPLUS_SHOWN,
    SURROGATE,
    Matrix,
    RowBatch,
    RowError,
    replace_undecoded,
    width_error,
)
from service.errors import InvalidInput, Problem, RecordTooLarge
from service.tabletext import CsvDialect, quote_cell, read_rows

_INVALID = InvalidInput.code
# A record of more lines is a quotation mark that was never closed.
_MAX_LINES = 1000
MAX_SLOW_ROWS = 64
"""Rows of a batch that are decoded one by one, which takes a hundred times as long."""
_NEVER_CLOSED = "a quote is opened here and never closed; close it, or write it twice."
_QUOTE_INSIDE = "a quote is inside a cell in quotes; write it twice there."
_NEW_LINE = "a carriage return is inside a cell; quote the cell."


class Lines:
    """The lines of a stream that have arrived and are not taken yet.

    A carriage return before the end of a line stays, so that a cell of several lines is unchanged.

    Args:
        encoding: of the bytes. Bytes that are not UTF-8 become lone surrogates, by which their rows
            are recognized.
        longest: characters of a line, each of which takes at least one byte.
        line_end: the end of a line.
        fallback: the encoding of lines that are not UTF-8.
    """

    def __init__(
        self, encoding: str, longest: int, line_end: str = "\n", fallback: str | None = None
    ) -> None:
        errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
        self._decode = codecs.getincrementaldecoder(encoding)(errors).decode
        self.longest = longest
        self._line_end = line_end
        self._fallback = fallback
        self._rest: list[str] = []
        self._rest_length = 0
        self.waiting: list[str] = []
        self.taken = 0
        self.ended = False
        self._too_long = False

    @property
    def complete(self) -> bool:
        """Whether no further line will arrive."""
        return self.ended or self._too_long

    def feed(self, data: bytes) -> None:
        """Append bytes that have arrived; they are ignored after a line that is too long."""
        if self._too_long:
            return
        text = self._decode(data)
        self._rest.append(text)
        self._rest_length += len(text)
        if self._line_end in text:
            self._add("".join(self._rest).split(self._line_end))
        self._too_long = self._too_long or self._rest_length > self.longest

    def end(self) -> None:
        """Mark the end of the stream; what is left is the last line."""
        if self._too_long:
            return
        rest = "".join([*self._rest, self._decode(b"", final=True)])
        self._add([rest, ""] if rest else [""])
        self.ended = not self._too_long

    def take(self, most: int) -> list[str]:
        """Remove and return the next lines, at most ``most``."""
        lines = self.waiting[:most]
        del self.waiting[:most]
        self.taken += len(lines)
        return lines

    def require_next(self) -> None:
        """Raise `RecordTooLarge` if the next line is too long, and no other line is waiting."""
        if self._too_long and not self.waiting:
            raise RecordTooLarge(self.longest)

    def _add(self, lines: list[str]) -> None:
        *whole, rest = lines
        self._rest, self._rest_length = [rest], len(rest)
        if max(map(len, whole), default=0) > self.longest:
            first = next(number for number, line in enumerate(whole) if len(line) > self.longest)
            del whole[first:]
            self._too_long = True
        if self._fallback is not None:
            whole = [
                line if line.isascii() else decode_again(line, self._fallback) for line in whole
            ]
        self.waiting += whole


def decode_again(line: str, encoding: str) -> str:
    """Return a line decoded in another encoding if it has bytes that are not UTF-8."""
    if SURROGATE.search(line) is None:
        return line
    return line.encode("utf-8", "surrogateescape").decode(encoding, "replace")


@dataclass(frozen=True)
class Record:
    """One row: its cells, its text without the last line end, and the line where it begins.

    A record that cannot be split into cells has an ``error`` instead.
    """

    cells: Sequence[str]
    text: str
    line: int
    error: RowError | None = None


class Records:
    """Splits lines into records, by the rules of the csv module.

    Each line is scanned once to find where its record ends, however the bytes arrive. A broken
    record is only its first line. The other lines within its open quote are read again, each as a
    separate record, and only the last of them may continue in the next line. So no line is read
    more than three times.
    """

    def __init__(
        self, lines: Lines, separator: str, quote: str = '"', escape: str | None = None
    ) -> None:
        self._lines = lines
        self._separator = separator
        self._quote = quote
        self._escape = escape
        self._opens, self._stays_open = quote_patterns(separator, quote, escape)
        # Of the next record: the lines scanned so far, their characters, and whether a quote is
        # open after them.
        self._scanned = self._size = 0
        self._in_quotes = False
        # Records that begin before this line have only one line.
        self._single_before = 0

    @property
    def is_partial(self) -> bool:
        """Whether a part of a record has arrived."""
        return self._scanned > 0

    def take(self, most: int) -> list[Record]:
        """Return the next complete records, at most ``most``, without empty lines."""
        taken: list[Record] = []
        while len(taken) < most and self._scan():
            record = self._take_record()
            if record is not None:
                taken.append(record)
        return taken

    def _scan(self) -> bool:
        """Scan the lines of the next record; return whether it is complete, or must end here."""
        waiting = self._lines.waiting
        while self._scanned < len(waiting):
            line = waiting[self._scanned]
            self._scanned += 1
            self._size += len(line) + 1
            if self._in_quotes:
                self._in_quotes = (
                    self._quote not in line or self._stays_open.match(line) is not None
                )
            else:
                self._in_quotes = self._quote in line and self._opens.match(line) is not None
            single = self._lines.taken + 1 < self._single_before
            if single or not self._in_quotes or self._excess() is not None:
                return True
        return self._scanned > 0 and self._lines.complete

    def _excess(self) -> RecordTooLarge | None:
        if self._size > self._lines.longest + 1:
            return RecordTooLarge(self._lines.longest)
        return RecordTooLarge(_MAX_LINES, "lines") if self._scanned > _MAX_LINES else None

    def _take_record(self) -> Record | None:
        """Take the lines of a record, or the first line of a broken one; None if it is empty."""
        number = self._lines.taken + 1
        lines = self._lines.waiting[: self._scanned]
        cells = self._split(lines, f"Line {number}")
        if isinstance(cells, RowError) and len(lines) > 1:
            self._single_before = number + len(lines) - 1
            del lines[1:]
        self._lines.take(len(lines))
        self._scanned = self._size = 0
        self._in_quotes = False
        text = "\n".join(lines).removesuffix("\r")
        if isinstance(cells, RowError):
            return Record([], text, number, cells)
        return Record(cells, text, number) if cells else None

    def _split(self, lines: Sequence[str], position: str) -> list[str] | RowError:
        if (excess := self._excess()) is not None:
            return RowError.from_error(excess, position)
        if self._in_quotes:
            return RowError(f"{position}: {_NEVER_CLOSED}", _INVALID)
        ended = [f"{line}\n" for line in lines]
        try:
            return next(
                read_rows(ended, self._separator, self._quote, strict=True, escape=self._escape)
            )
        except csv.Error as error:
            reason = _NEW_LINE if "new-line" in str(error) else _QUOTE_INSIDE
            return RowError(f"{position}: {reason}", _INVALID)


def quote_patterns(
    separator: str, quote: str = '"', escape: str | None = None
) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return patterns of a line that opens a quote, and of one that leaves an open quote open.

    ``escape`` is what precedes a quote that neither opens nor closes a cell.
    """
    mark, q = re.escape(separator), re.escape(quote)
    e = re.escape(escape or "")
    pair = rf"|{e}.?" if escape else ""
    # Of a cell in quotes, up to the quote that closes it.
    rest = rf"[^{q}{e}]*+(?:(?:{q}{q}{pair})[^{q}{e}]*+)*+"
    unquoted = rf"(?:[^{q}{mark}{e}]{pair})(?:[^{mark}{e}]++{pair})*+"
    cells = rf"(?:(?:{q}{rest}{q}|{unquoted})?+{mark})*+"
    opened = rf"{q}{rest}\Z"
    return re.compile(cells + opened), re.compile(rf"{rest}(?:\Z|{q}{mark}{cells}{opened})")


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
        self._records = Records(lines, dialect.separator, dialect.quote, dialect.escape)
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
                errors[row] = record.error
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
