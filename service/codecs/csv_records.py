"""Records of a CSV file that hold quotes: a cell may have the separator, and line ends, in it."""

import csv
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from service.codecs.csv_lines import Lines
from service.codecs.row_batch import Fault
from service.errors import InvalidInput, RecordTooLarge

# Records are bounded before the csv module sees them.
csv.field_size_limit(sys.maxsize)

_QUOTE = '"'
_NEVER_CLOSED = "a quote is opened here and never closed; close it, or write it twice."
_QUOTE_INSIDE = "a quote stands inside a cell in quotes; write it twice there."
_NEW_LINE = "a carriage return stands inside a cell; put the cell into quotes."
# A record of more lines is a quotation mark that was never closed.
_MOST_LINES = 1000


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

    def __init__(self, lines: Lines, separator: str) -> None:
        self._lines = lines
        self._separator = separator
        self._opens, self._stays_open = quote_patterns(separator)
        # Of the record that is read next: its lines that were scanned, their characters, and
        # whether a quote is open behind them.
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
                self._in_quotes = _QUOTE not in line or self._stays_open.match(line) is not None
            else:
                self._in_quotes = _QUOTE in line and self._opens.match(line) is not None
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
            return Fault(f"{place}: {_NEVER_CLOSED}", InvalidInput.code)
        ended = [f"{line}\n" for line in lines]
        try:
            return next(csv.reader(ended, delimiter=self._separator, strict=True))
        except csv.Error as error:
            reason = _NEW_LINE if "new-line" in str(error) else _QUOTE_INSIDE
            return Fault(f"{place}: {reason}", InvalidInput.code)


def quote_patterns(separator: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What matches a line that opens a quote and does not close it, and one that leaves it open."""
    mark = re.escape(separator)
    rest = r'[^"]*+(?:""[^"]*+)*+'  # of a cell in quotes, up to the quote that closes it
    cells = rf'(?:(?:"{rest}"|[^"{mark}][^{mark}]*+)?+{mark})*+'
    opened = rf'"{rest}\Z'
    return re.compile(cells + opened), re.compile(rf'{rest}(?:\Z|"{mark}{cells}{opened})')
