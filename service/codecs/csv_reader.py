"""Rows of a CSV file as a model's numbers, a block at a time.

`Lines` cuts bytes into lines, `Records` finds the rows among lines with quotes, and `CsvRows` reads
the cells of whole blocks of rows.
"""

import codecs
import csv
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.bundle.features import Feature
from service.codecs.csv_cells import CellReader
from service.codecs.features import FeatureCodec
from service.codecs.row_batch import Block, Fault, Matrix
from service.errors import InvalidInput, Problem, RecordTooLarge
from service.tabletext.dialect import CsvDialect, quoted
from service.values import shown

# Records are bounded before the csv module sees them.
csv.field_size_limit(sys.maxsize)

_INVALID = InvalidInput.code
# A record of more lines is a quotation mark that was never closed.
_MOST_LINES = 1000
# Rows that are wrong take a hundred times as long as others, so that a block ends after so many.
_MOST_SLOW_ROWS = 64
# Surplus cells that an error message quotes.
_MOST_SHOWN = 3
_SURROGATE = re.compile("[\udc80-\udcff]")
_NOT_UTF8 = (
    "the row holds bytes that are not UTF-8; save the table in UTF-8, or name its encoding, for "
    "example Content-Type: text/csv; charset=windows-1252."
)
_NEVER_CLOSED = "a quote is opened here and never closed; close it, or write it twice."
_QUOTE_INSIDE = "a quote stands inside a cell in quotes; write it twice there."
_NEW_LINE = "a carriage return stands inside a cell; put the cell into quotes."


class Lines:
    """The lines of a stream that have arrived and are not yet taken.

    Lines keep a carriage return before their end, so that a cell of several lines stays as it was.

    Args:
        encoding: of the bytes. What is not UTF-8 becomes lone surrogates, which nothing else makes,
            so that a row that holds them can be recognized.
        longest: characters of a line; each takes at least one of the bytes that are the limit.
        line_end: what ends a line.
        otherwise: the encoding of lines that are not UTF-8.
    """

    def __init__(
        self, encoding: str, longest: int, line_end: str = "\n", otherwise: str | None = None
    ) -> None:
        errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
        self._decode = codecs.getincrementaldecoder(encoding)(errors).decode
        self.longest = longest
        self._line_end = line_end
        self._otherwise = otherwise
        self._rest: list[str] = []
        self._rest_length = 0
        self.waiting: list[str] = []
        self.taken = 0
        self.ended = False
        self._too_long = False

    @property
    def complete(self) -> bool:
        """Whether no line will follow those that wait."""
        return self.ended or self._too_long

    def feed(self, data: bytes) -> None:
        """Take in what has arrived; nothing more after a line that is too long."""
        if self._too_long:
            return
        text = self._decode(data)
        self._rest.append(text)
        self._rest_length += len(text)
        if self._line_end in text:
            self._add("".join(self._rest).split(self._line_end))
        self._too_long = self._too_long or self._rest_length > self.longest

    def end(self) -> None:
        """Nothing more will arrive; what is left is the last line."""
        if self._too_long:
            return
        rest = "".join([*self._rest, self._decode(b"", final=True)])
        self._add([rest, ""] if rest else [""])
        self.ended = not self._too_long

    def take(self, most: int) -> list[str]:
        """Remove the next lines, at most so many."""
        lines = self.waiting[:most]
        del self.waiting[:most]
        self.taken += len(lines)
        return lines

    def require_next(self) -> None:
        """Raise an error if no line waits because the next one is too long.

        Raises:
            RecordTooLarge: it is.
        """
        if self._too_long and not self.waiting:
            raise RecordTooLarge(self.longest)

    def _add(self, lines: list[str]) -> None:
        """Take in whole lines, and the beginning of another."""
        *whole, rest = lines
        self._rest, self._rest_length = [rest], len(rest)
        if max(map(len, whole), default=0) > self.longest:
            first = next(number for number, line in enumerate(whole) if len(line) > self.longest)
            del whole[first:]
            self._too_long = True
        if self._otherwise is not None:
            whole = [
                line if line.isascii() else decoded_again(line, self._otherwise) for line in whole
            ]
        self.waiting += whole


def decoded_again(line: str, encoding: str) -> str:
    """A line as text in another encoding, where it holds bytes that are not UTF-8."""
    if _SURROGATE.search(line) is None:
        return line
    return line.encode("utf-8", "surrogateescape").decode(encoding, "replace")


@dataclass(frozen=True)
class Record:
    """One row: its cells, its text without the last line end, and the line where it begins.

    A record that cannot be cut into cells has a ``fault`` instead.
    """

    cells: Sequence[str]
    text: str
    line: int
    fault: Fault | None = None


class Records:
    """Takes records from lines, as the csv module reads them.

    Each line is scanned once to find where its record ends, however the bytes arrive. A broken
    record is its first line alone; the lines that its quote swallowed are read again, each as a
    record of its own, and only the last of them may go on in the next. So no line is read more
    than three times.
    """

    def __init__(self, lines: Lines, separator: str, quote: str = '"') -> None:
        self._lines = lines
        self._separator = separator
        self._quote = quote
        self._opens, self._stays_open = quote_patterns(separator, quote)
        # Of the record that is read next: its lines that were scanned, their characters, and
        # whether a quote is open after them.
        self._scanned = self._size = 0
        self._in_quotes = False
        # Records that begin before this line have one line.
        self._single_before = 0

    @property
    def begun(self) -> bool:
        """Whether a record has arrived in part."""
        return self._scanned > 0

    def take(self, most: int) -> list[Record]:
        """The next records that have arrived whole, at most so many; empty lines are none."""
        taken: list[Record] = []
        while len(taken) < most and self._ends():
            record = self._record()
            if record is not None:
                taken.append(record)
        return taken

    def _ends(self) -> bool:
        """Scan the next record's lines; whether it has arrived whole, or must not go on."""
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
        return RecordTooLarge(_MOST_LINES, "lines") if self._scanned > _MOST_LINES else None

    def _record(self) -> Record | None:
        """Take the lines of a record, or only the first of a broken one; None if it is empty."""
        number = self._lines.taken + 1
        lines = self._lines.waiting[: self._scanned]
        read = self._read(lines, f"Line {number}")
        if isinstance(read, Fault) and len(lines) > 1:
            self._single_before = number + len(lines) - 1
            del lines[1:]
        self._lines.take(len(lines))
        self._scanned = self._size = 0
        self._in_quotes = False
        text = "\n".join(lines).removesuffix("\r")
        if isinstance(read, Fault):
            return Record([], text, number, read)
        return Record(read, text, number) if read else None

    def _read(self, lines: Sequence[str], place: str) -> list[str] | Fault:
        """The cells of one record, or why there are none."""
        if (excess := self._excess()) is not None:
            return Fault.of(excess, place)
        if self._in_quotes:
            return Fault(f"{place}: {_NEVER_CLOSED}", _INVALID)
        ended = [f"{line}\n" for line in lines]
        try:
            return next(
                csv.reader(ended, delimiter=self._separator, quotechar=self._quote, strict=True)
            )
        except csv.Error as error:
            reason = _NEW_LINE if "new-line" in str(error) else _QUOTE_INSIDE
            return Fault(f"{place}: {reason}", _INVALID)


def quote_patterns(separator: str, quote: str = '"') -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What matches a line that opens a quote and does not close it, and one that leaves it open."""
    mark, q = re.escape(separator), re.escape(quote)
    rest = rf"[^{q}]*+(?:{q}{q}[^{q}]*+)*+"  # of a cell in quotes, up to the quote that closes it
    cells = rf"(?:(?:{q}{rest}{q}|[^{q}{mark}][^{mark}]*+)?+{mark})*+"
    opened = rf"{q}{rest}\Z"
    return re.compile(cells + opened), re.compile(rf"{rest}(?:\Z|{q}{mark}{cells}{opened})")


class CsvRows:
    """Reads the rows below a header.

    Args:
        codec: of the model.
        dialect: of the table.
        columns: those of features: the position of the feature, and what reads its cells.
        lines: after the header.
        width: how many columns the table has.
        least_width: how many cells a row must have; the others are missing.
        first: records that were taken from the lines already.
    """

    def __init__(  # noqa: PLR0913 - the facts of a table; grouping them would only rename them
        self,
        codec: FeatureCodec,
        dialect: CsvDialect,
        columns: Mapping[int, tuple[int, CellReader]],
        lines: Lines,
        *,
        width: int,
        least_width: int,
        first: Sequence[Record] = (),
    ) -> None:
        self._codec = codec
        self._separator, self._quote = dialect.separator, dialect.quote
        self._width = width
        self._least_width = least_width
        self._lines = lines
        self._records = Records(lines, dialect.separator, dialect.quote)
        self._left = list(first)
        # Fewer where rows are wrong, so that not all that wait are read in vain.
        self._most_lines = _MOST_SLOW_ROWS
        self._columns = [
            (position, column, reader) for column, (position, reader) in columns.items()
        ]

    @property
    def line(self) -> int:
        """The line that is read next, from 1."""
        return self._lines.taken + 1

    def feed(self, data: bytes) -> None:
        """Take in what has arrived."""
        self._lines.feed(data)

    def end(self) -> None:
        """Nothing more will arrive."""
        self._lines.end()

    def take(self, most: int) -> Block | None:
        """The next rows that have arrived whole, at most so many; None where there is none.

        Raises:
            RecordTooLarge: the next one is.
        """
        if self._left or self._records.begun or self._quote_waits(most):
            records = self._left or self._records.take(most)
            if records:
                block = self._of_records(records)
                self._left = records[len(block.lines) :]
                return block
        elif self._lines.waiting:
            return self._of_lines(self._lines.waiting[: min(most, self._most_lines)])
        self._lines.require_next()
        return None

    def _quote_waits(self, most: int) -> bool:
        return self._quote in "\n".join(self._lines.waiting[:most])

    def _of_lines(self, lines: list[str]) -> Block:
        """Rows without a quote among them, where every separator separates; takes their lines."""
        first, arrived = self.line, len(lines)
        numbers: Sequence[int] = range(first, first + arrived)
        if "\r" in "\n".join(lines):
            lines = [line.removesuffix("\r") for line in lines]
        if "" in lines:
            numbers = [number for number, line in zip(numbers, lines, strict=True) if line]
            lines = [line for line in lines if line]
        counts = [line.count(self._separator) for line in lines]
        faults = {}
        rows = len(lines)
        if counts.count(self._width - 1) != rows:
            uneven = self._pad(lines, counts)
            if len(uneven) > _MOST_SLOW_ROWS:
                rows = uneven[_MOST_SLOW_ROWS]
                del lines[rows:]
            for row in uneven[:_MOST_SLOW_ROWS]:
                # Of surplus cells only the first are shown.
                cells = lines[row].split(self._separator, self._width + _MOST_SHOWN)
                faults[row] = self._uneven(cells, counts[row] + 1, numbers[row])
                lines[row] = self._fitted(cells)
        cells = self._separator.join(lines).split(self._separator)
        columns = [cells[column :: self._width] for _, column, _ in self._columns]
        block = self._block(lines, numbers[:rows], columns, faults)
        read = len(block.lines)
        taken = arrived if read == len(numbers) else numbers[read] - first
        self._lines.take(taken)
        self._most_lines = 2 * max(taken, _MOST_SLOW_ROWS)
        return block

    def _pad(self, lines: list[str], counts: Sequence[int]) -> Sequence[int]:
        """Complete the rows that only lack cells that may be missing; returns other uneven ones.

        Args:
            lines: of the rows.
            counts: of each, its separators.
        """
        uneven = []
        for row, count in enumerate(counts):
            if self._least_width <= count + 1 < self._width:
                lines[row] += self._separator * (self._width - 1 - count)
            elif count + 1 != self._width:
                uneven.append(row)
        return uneven

    def _of_records(self, records: Sequence[Record]) -> Block:
        records = records[:_MOST_SLOW_ROWS] if any(record.fault for record in records) else records
        texts = [record.text for record in records]
        table = [record.cells for record in records]
        faults = {}
        for row, record in enumerate(records):
            count = len(record.cells)
            if record.fault is None and count == self._width:
                continue
            blank = [""] * self._width
            texts[row], table[row] = self._fitted(record.cells), blank
            if record.fault is not None:
                faults[row] = record.fault
            elif self._least_width <= count < self._width:
                table[row] = [*record.cells, *blank[count:]]
            else:
                faults[row] = self._uneven(record.cells, count, record.line)
        columns = [[cells[column] for cells in table] for _, column, _ in self._columns]
        return self._block(texts, [record.line for record in records], columns, faults)

    def _block(
        self,
        texts: list[str],
        lines: Sequence[int],
        columns: Sequence[Sequence[str]],
        faults: dict[int, Fault],
    ) -> Block:
        """Rows of as many cells as there are columns; ``columns`` are those of features.

        It ends early where many of them are wrong.
        """
        sent = np.full((len(texts), len(self._codec.features)), np.nan)
        for (position, _, reader), cells in zip(self._columns, columns, strict=True):
            sent[:, position] = reader.numbers(cells)
        numbers, doubtful = self._codec.sift(sent)
        slow = [row for row in doubtful.tolist() if row not in faults]
        if len(slow) > _MOST_SLOW_ROWS:
            rows = slow[_MOST_SLOW_ROWS]
            del slow[_MOST_SLOW_ROWS:]
            texts, lines, numbers = texts[:rows], lines[:rows], numbers[:rows]
            faults = {row: fault for row, fault in faults.items() if row < rows}
        if not all(map(str.isascii, texts)):
            _replace_undecoded(texts, lines, faults)
        for row in slow:
            if row in faults:
                continue
            try:
                numbers[row] = self._read([cells[row] for cells in columns])
            except InvalidInput as error:
                faults[row] = Fault.of(error, f"Line {lines[row]}")
        return Block(numbers, faults, lines, texts)

    def _read(self, cells: Sequence[str]) -> Matrix:
        """One row, cell by cell, as if it had been sent in JSON."""
        features = self._codec.features
        sent = {
            features[position].name: (reader, cell)
            for (position, _, reader), cell in zip(self._columns, cells, strict=True)
        }
        values = {name: reader.value(cell) for name, (reader, cell) in sent.items()}

        def misfit(feature: Feature, _: object, __: int | None) -> Problem:
            reader, cell = sent[feature.name]
            return reader.problem(cell)

        row: Matrix = self._codec.rows([values], misfit)[0]
        return row

    def _uneven(self, cells: Sequence[str], count: int, line: int) -> Fault:
        """A row of more or fewer cells than there are columns.

        Args:
            cells: at least those up to the last one that the sentence shows.
            count: of all cells.
            line: where the row begins.
        """
        columns = f"{self._width} column{'' if self._width == 1 else 's'}"
        came = f"{count} cell{'' if count == 1 else 's'}"
        sentence = f"Line {line}: {came} where the header has {columns};"
        if count < self._width:
            return Fault(f"{sentence} leave a cell empty rather than out.", _INVALID)
        surplus = ", ".join(map(shown, cells[self._width : self._width + _MOST_SHOWN]))
        if count > self._width + _MOST_SHOWN:
            surplus += f" and {count - self._width - _MOST_SHOWN} more"
        advice = f"put a cell that holds {shown(self._separator)} into quotes"
        if self._separator == ",":
            advice += ", and mark decimals by a point"
        return Fault(f"{sentence} {advice}. Left over: {surplus}.", _INVALID)

    def _fitted(self, cells: Sequence[str]) -> str:
        """As many of the cells as there are columns, empty ones where there are fewer."""
        fitting = cells[: self._width]
        text = self._separator.join(quoted(cell, self._separator, self._quote) for cell in fitting)
        return text + self._separator * (self._width - max(len(cells), 1))


def _replace_undecoded(texts: list[str], lines: Sequence[int], faults: dict[int, Fault]) -> None:
    """Make an error of each row that holds bytes which are not UTF-8, and text of its bytes."""
    for row, text in enumerate(texts):
        if _SURROGATE.search(text):
            faults.setdefault(row, Fault(f"Line {lines[row]}: {_NOT_UTF8}", _INVALID))
            texts[row] = _SURROGATE.sub("\ufffd", text)
