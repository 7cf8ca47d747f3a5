"""The lines and the records of a CSV file, as its bytes arrive.

`Lines` splits bytes into lines, and `Records` finds the rows among lines with quotes. Training and
the service both read records by these rules.
"""

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import InvalidInput, InvalidRequest, OnwardError, Problem, RecordTooLarge
from service.tabletext import read_rows
from service.values import resembles_number

# A record of more lines is a quotation mark that was never closed.
_MAX_LINES = 1000
_MIN_SWALLOWED = 3
MAX_TITLES = 10
MAX_COLUMNS = 16_384  # of a spreadsheet
_TITLED_WIDTH = 3
_NEVER_CLOSED = "a quote is opened here and never closed; close it, or write it twice."
_QUOTE_INSIDE = "a quote is inside a cell in quotes; write it twice there."
_NEW_LINE = "a carriage return is inside a cell; quote the cell."
SURROGATE = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, as `Lines` decodes them."""


def too_many_columns(start: str, columns: int) -> InvalidRequest:
    """Return the error of a table to score; ``start`` is the beginning of its sentence."""
    return InvalidRequest(
        f"{start} {columns:,} columns, and at most {MAX_COLUMNS:,} are read; send only those of "
        "features and the columns to return."
    )


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
    error: OnwardError | None = None


class Records:
    """Splits lines into records, by the rules of the csv module.

    Each line is scanned once to find where its record ends, however the bytes arrive. A broken
    record is only its first line. The other lines within its open quote are read again, each as a
    separate record, and only the last of them may continue in the next line. So no line is read
    more than three times. A record whose lines are like rows of the table is broken too.

    Args:
        lines: of the table.
        separator: of cells.
        quote: around cells.
        escape: what precedes a quote inside a cell, if that is not doubled.
        width: the number of columns; None if it is not known yet.
    """

    def __init__(
        self,
        lines: Lines,
        separator: str,
        quote: str = '"',
        escape: str | None = None,
        width: int | None = None,
    ) -> None:
        self._lines = lines
        self._separator = separator
        self._quote = quote
        self._escape = escape
        self._width = width
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
        cells = self._split(lines)
        if isinstance(cells, OnwardError) and len(lines) > 1:
            self._single_before = number + len(lines) - 1
            del lines[1:]
        self._lines.take(len(lines))
        self._scanned = self._size = 0
        self._in_quotes = False
        text = "\n".join(lines).removesuffix("\r")
        if isinstance(cells, OnwardError):
            return Record([], text, number, cells)
        return Record(cells, text, number) if cells else None

    def _split(self, lines: Sequence[str]) -> list[str] | OnwardError:
        if (excess := self._excess()) is not None:
            return excess
        if self._in_quotes or (
            self._width is not None and swallows_rows(lines, self._separator, self._width)
        ):
            return InvalidInput([Problem(_NEVER_CLOSED)])
        ended = [f"{line}\n" for line in lines]
        try:
            return next(
                read_rows(ended, self._separator, self._quote, strict=True, escape=self._escape)
            )
        except csv.Error as error:
            if len(lines) == 1 and self._width is not None and not self._escape:
                cells = split_leniently(lines[0].removesuffix("\r"), self._separator, self._quote)
                if len(cells) == self._width:
                    return cells
            reason = _NEW_LINE if "new-line" in str(error) else _QUOTE_INSIDE
            return InvalidInput([Problem(reason)])


def split_leniently(line: str, separator: str, quote: str) -> list[str]:
    """Split a line in which quotes inside quoted cells may not be doubled, as in ``"a "b" c"``.

    A cell in quotes ends at a quote before a separator or at the end of the line.
    """
    cells: list[str] = []
    quoted: list[str] = []
    for part in line.split(separator):
        if quoted or part.startswith(quote):
            quoted.append(part)
            if not part.endswith(quote) or (len(quoted) == 1 and part == quote):
                continue
            text = separator.join(quoted)
            cells.append(text[1:-1].replace(quote * 2, quote))
            quoted = []
        else:
            cells.append(part)
    return cells


def swallows_rows(lines: Sequence[str], separator: str, width: int) -> bool:
    """Return whether all lines of a record are like rows, so that a quote in it is not closed.

    Each has as many separators as a row, and numbers where the first one has numbers. A cell of
    several lines rarely has, since its first and last line share the separators of one row.

    Args:
        lines: of the record.
        separator: of cells.
        width: the number of columns.
    """
    if len(lines) < _MIN_SWALLOWED or width == 1:
        return False
    if any(line.count(separator) != width - 1 for line in lines):
        return False
    first, *others = [[cell.strip() for cell in line.split(separator)] for line in lines]
    return all(
        not cell or not other or resembles_number(cell) == resembles_number(other)
        for row in others
        for cell, other in zip(first, row, strict=True)
    )


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


def count_titles(rows: Sequence[Sequence[str | None]]) -> int:
    """Return the number of titles above the header, among the first ten rows of a table.

    A title is one cell in a table of three columns or more, with or without empty cells after it.
    """
    rows = rows[:MAX_TITLES]
    if max(map(len, rows), default=0) < _TITLED_WIDTH:
        return 0
    return next((k for k, row in enumerate(rows) if not may_be_title(row)), 0)


def may_be_title(row: Sequence[str | None]) -> bool:
    """Return whether at most one cell of a row is not empty."""
    # Stops at the second one, since a row may have hundreds of thousands of cells.
    filled = (True for cell in row if cell and cell.strip())
    return not (next(filled, False) and next(filled, False))
