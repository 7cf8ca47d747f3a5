"""Predictions as CSV: the rows of the table, followed by the columns of the predictions."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import orjson

from service.bundle.manifest import ClassesOutput, Output, ValueOutput
from service.codecs.csv_header import CsvFormat
from service.codecs.messages import RowBatch, RowError
from service.codecs.parameters import Parameters, finite_ends
from service.engine.tensors import Array
from service.predictions import Classification, classify, label_probabilities, most_probable
from service.tabletext import quote_cell


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
