"""Rows of a CSV file as a model's numbers, a block at a time."""

import re
from collections.abc import Sequence

import numpy as np

from service.bundle.features import Feature
from service.codecs.csv_cells import cell_problem, converter, value_of
from service.codecs.csv_header import Header
from service.codecs.csv_lines import Lines
from service.codecs.csv_records import Record, Records
from service.codecs.features import FeatureCodec
from service.codecs.row_batch import Block, Fault, Matrix
from service.errors import InvalidInput, Problem
from service.tabletext.layout import Layout
from service.tabletext.numerals import Decimal
from service.tabletext.quoting import quoted
from service.values import shown

_QUOTE = '"'
_INVALID = InvalidInput.code
# Rows that are wrong take a hundred times as long as others, so that a block ends after so many.
_MOST_SLOW_ROWS = 64
# Cells behind the last column that are told.
_MOST_TOLD = 3
_SURROGATE = re.compile("[\udc80-\udcff]")
_NOT_UTF8 = (
    "the row holds bytes that are not UTF-8; save the table in UTF-8, or name its encoding, for "
    "example Content-Type: text/csv; charset=windows-1252."
)


class CsvRows:
    """Reads the rows below a header.

    Args:
        codec: of the model.
        layout: how the table is written.
        header: its columns.
        decimal: the mark of its decimals.
        lines: behind the header.
    """

    def __init__(
        self, codec: FeatureCodec, layout: Layout, header: Header, decimal: Decimal, lines: Lines
    ) -> None:
        self._codec = codec
        self._separator = layout.separator
        self._width = len(header.names)
        self._decimal: Decimal = decimal
        self._lines = lines
        self._records = Records(lines, layout.separator)
        self._left: list[Record] = []
        # Fewer where rows are wrong, so that not all that wait are read in vain.
        self._most_lines = _MOST_SLOW_ROWS
        self._columns = [
            (place, column, converter(codec.features[place], decimal))
            for place, column in header.columns.items()
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
        return _QUOTE in "\n".join(self._lines.waiting[:most])

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
            uneven = [row for row, count in enumerate(counts) if count != self._width - 1]
            if len(uneven) > _MOST_SLOW_ROWS:
                rows = uneven[_MOST_SLOW_ROWS]
                del lines[rows:]
            for row in uneven[:_MOST_SLOW_ROWS]:
                # Of what is too much only the first cells are told.
                cells = lines[row].split(self._separator, self._width + _MOST_TOLD)
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

    def _of_records(self, records: Sequence[Record]) -> Block:
        records = records[:_MOST_SLOW_ROWS] if any(record.fault for record in records) else records
        texts = [record.text for record in records]
        table = [record.cells for record in records]
        faults = {}
        for row, record in enumerate(records):
            if record.fault is not None:
                faults[row] = record.fault
            elif len(record.cells) != self._width:
                faults[row] = self._uneven(record.cells, len(record.cells), record.line)
            else:
                continue
            texts[row] = self._fitted(record.cells)
            table[row] = [""] * self._width
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
        for (place, _, convert), cells in zip(self._columns, columns, strict=True):
            sent[:, place] = convert(cells)
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
        features = [self._codec.features[place] for place, _, _ in self._columns]
        texts = {feature.name: cell for feature, cell in zip(features, cells, strict=True)}
        values = {
            feature.name: value_of(feature, texts[feature.name], self._decimal)
            for feature in features
        }

        def misfit(feature: Feature, _: object, __: int | None) -> Problem:
            return cell_problem(feature, texts[feature.name], self._decimal)

        row: Matrix = self._codec.rows([values], misfit)[0]
        return row

    def _uneven(self, cells: Sequence[str], count: int, line: int) -> Fault:
        """A row of more or fewer cells than there are columns.

        Args:
            cells: at least those up to the last one that the sentence tells.
            count: of all cells.
            line: where the row begins.
        """
        columns = f"{self._width} column{'' if self._width == 1 else 's'}"
        came = f"{count} cell{'' if count == 1 else 's'}"
        sentence = f"Line {line}: {came} where the header has {columns};"
        if count < self._width:
            return Fault(f"{sentence} leave a cell empty rather than out.", _INVALID)
        surplus = ", ".join(map(shown, cells[self._width : self._width + _MOST_TOLD]))
        if count > self._width + _MOST_TOLD:
            surplus += f" and {count - self._width - _MOST_TOLD} more"
        advice = f"put a cell that holds {shown(self._separator)} into quotes"
        if self._separator == ",":
            advice += ", and mark decimals by a point"
        return Fault(f"{sentence} {advice}. Left over: {surplus}.", _INVALID)

    def _fitted(self, cells: Sequence[str]) -> str:
        """As many of the cells as there are columns, empty ones where there are fewer."""
        text = self._separator.join(quoted(cell, self._separator) for cell in cells[: self._width])
        return text + self._separator * (self._width - max(len(cells), 1))


def _replace_undecoded(texts: list[str], lines: Sequence[int], faults: dict[int, Fault]) -> None:
    """Make an error of each row that holds bytes which are not UTF-8, and text of its bytes."""
    for row, text in enumerate(texts):
        if _SURROGATE.search(text):
            faults.setdefault(row, Fault(f"Line {lines[row]}: {_NOT_UTF8}", _INVALID))
            texts[row] = _SURROGATE.sub("\ufffd", text)
