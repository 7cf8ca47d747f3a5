"""Rows of a CSV file as a model's numbers, a block at a time."""

import re
from collections.abc import Sequence

import numpy as np

from service.api.features import FeatureCodec
from service.api.parameters import Decimal
from service.api.tables.block import Block, Fault, Matrix
from service.api.tables.cells import cell_problem, converter, value_of
from service.api.tables.header import Header
from service.api.tables.layout import Layout
from service.api.tables.lines import Lines
from service.api.tables.quoting import quoted
from service.api.tables.records import Record, Records
from service.api.values import listed, shown
from service.bundle.features import Feature
from service.errors import InvalidInput, Problem

_QUOTE = '"'
_INVALID = InvalidInput.code
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
        self._columns = [
            (place, column, converter(codec.features[place], decimal))
            for place, column in header.columns.items()
        ]

    @property
    def line(self) -> int:
        """The line that is read next, from 1."""
        return self._lines.taken + 1

    def feed(self, data: bytes) -> None:
        """Take in what has arrived; raises `InvalidRequest` where a line does not end."""
        self._lines.feed(data)

    def end(self) -> None:
        """Nothing more will arrive."""
        self._lines.end()

    def take(self, most: int) -> Block | None:
        """The next rows that have arrived whole, at most so many; None where there is none."""
        if _QUOTE in "\n".join(self._lines.waiting[:most]):
            records = self._records.take(most)
            return self._of_records(records) if records else None
        if not self._lines.waiting:
            return None
        line = self._lines.taken + 1
        return self._of_lines(self._lines.take(most), line)

    def _of_lines(self, lines: list[str], first: int) -> Block:
        """Rows without a quote among them, where every separator separates."""
        numbers: Sequence[int] = range(first, first + len(lines))
        if "\r" in "\n".join(lines):
            lines = [line.removesuffix("\r") for line in lines]
        if "" in lines:
            numbers = [number for number, line in zip(numbers, lines, strict=True) if line]
            lines = [line for line in lines if line]
        counts = [line.count(self._separator) for line in lines]
        faults = {}
        if counts.count(self._width - 1) != len(lines):
            for row, line in enumerate(lines):
                if counts[row] != self._width - 1:
                    cells = line.split(self._separator)
                    faults[row] = self._uneven(cells, numbers[row])
                    lines[row] = self._fitted(cells)
        cells = self._separator.join(lines).split(self._separator)
        columns = [cells[column :: self._width] for _, column, _ in self._columns]
        return self._block(lines, numbers, columns, faults)

    def _of_records(self, records: Sequence[Record]) -> Block:
        texts = [record.text for record in records]
        table = [record.cells for record in records]
        faults = {}
        for row, record in enumerate(records):
            if record.fault is not None:
                faults[row] = Fault(f"Line {record.line}: {record.fault}", _INVALID)
            elif len(record.cells) != self._width:
                faults[row] = self._uneven(record.cells, record.line)
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
        """Rows of as many cells as there are columns; ``columns`` are those of features."""
        sent = np.full((len(texts), len(self._codec.features)), np.nan)
        for (place, _, convert), cells in zip(self._columns, columns, strict=True):
            sent[:, place] = convert(cells)
        numbers, doubtful = self._codec.sift(sent)
        if not all(map(str.isascii, texts)):
            for row, text in enumerate(texts):
                if _SURROGATE.search(text):
                    faults.setdefault(row, Fault(f"Line {lines[row]}: {_NOT_UTF8}", _INVALID))
                    texts[row] = _SURROGATE.sub("\ufffd", text)
        for row in doubtful.tolist():
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

    def _uneven(self, cells: Sequence[str], line: int) -> Fault:
        """A row of more or fewer cells than there are columns."""
        columns = f"{self._width} column{'' if self._width == 1 else 's'}"
        came = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}"
        sentence = f"Line {line}: {came} where the header has {columns};"
        if len(cells) < self._width:
            return Fault(f"{sentence} leave a cell empty rather than out.", _INVALID)
        surplus = listed(cells[self._width :], 3)
        advice = f"put a cell that holds {shown(self._separator)} into quotes"
        if self._separator == ",":
            advice += ", and mark decimals by a point"
        return Fault(f"{sentence} {advice}. Left over: {surplus}.", _INVALID)

    def _fitted(self, cells: Sequence[str]) -> str:
        """As many of the cells as there are columns, empty ones where there are fewer."""
        kept = [*cells[: self._width], *[""] * (self._width - len(cells))]
        return self._separator.join(quoted(cell, self._separator) for cell in kept)
