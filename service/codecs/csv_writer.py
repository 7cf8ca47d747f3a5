"""Responses as CSV: the rows as they came, followed by the columns of the predictions."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import orjson

from service.bundle.manifest import ClassesOutput, Output, ValueOutput
from service.codecs.csv_header import CsvFormat
from service.codecs.options import Parameters
from service.codecs.outputs import (
    chosen_labels,
    interval_ends,
    most_probable,
    scores_by_label,
    unsure,
)
from service.codecs.row_batch import Block, Fault
from service.engine.tensors import Array
from service.tabletext.dialect import quoted


class CsvAnswers:
    """Writes the answers to a table, in the manner of the table.

    Args:
        output: what the model answers.
        parameters: what the client requested.
        form: of the table; None where the rows were no cells, and only answers are written.
    """

    media_type = "text/csv; charset=utf-8; header=present"

    def __init__(self, output: Output, parameters: Parameters, form: CsvFormat | None) -> None:
        self._output = output
        self._parameters = parameters
        self._carried = [] if form is None else list(form.header.names)
        self._separator = "," if form is None else form.dialect.separator
        self._quote = '"' if form is None else form.dialect.quote
        self._end = "\r\n" if form is None else form.dialect.line_end
        self._mark = "\ufeff" if form is not None and form.dialect.marked else ""
        # Decimals by a comma, between commas, would each need quotes.
        comma = form is not None and form.decimal == "," != self._separator
        self._decimal = "," if comma else "."
        labels = output.labels if isinstance(output, ClassesOutput) else ()
        self._labels = [self._cell(label) for label in labels]
        self._names = list(column_names(output, parameters))
        # The separators of a row that has no answer, before its error.
        self._blank = self._separator * (len(self._names) - 1)

    def head(self) -> bytes:
        """The first line. A name that a column has already gets ``predicted_`` before it."""
        names = list(self._carried)
        taken = {name.strip() for name in names}
        for new in self._names:
            name = new
            while name in taken:
                name = f"predicted_{name}"
            taken.add(name)
            names.append(name)
        cells = map(self._cell, names)
        return f"{self._mark}{self._separator.join(cells)}{self._end}".encode()

    def write(self, block: Block, scores: Array, warnings: Mapping[int, Sequence[str]]) -> bytes:
        """The rows of a block.

        Args:
            block: of the table.
            scores: the graph's output for the rows without a fault, ``[rows, columns]``.
            warnings: by row of the block.
        """
        answers = iter(self._answers(scores))
        rows = range(len(block.lines))
        if not block.faults and not self._parameters.warnings:
            ends = [f"{answer}{self._separator}" for answer in answers]
        else:
            ends = [
                f"{self._blank}{self._cell(block.faults[row].sentence)}"
                if row in block.faults
                else f"{next(answers)}{self._warned(warnings.get(row, ()))}{self._separator}"
                for row in rows
            ]
        if block.cells is not None:
            pairs = zip(block.cells, ends, strict=True)
            ends = [f"{cells}{self._separator}{end}" for cells, end in pairs]
        return "".join([f"{end}{self._end}" for end in ends]).encode()

    def refuse(self, fault: Fault) -> bytes:
        """A last row that says why nothing follows."""
        before = self._separator * len(self._carried) + self._blank
        return f"{before}{self._cell(fault.sentence)}{self._end}".encode()

    def tail(self) -> bytes:
        """Nothing."""
        return b""

    def _answers(self, scores: Array) -> Sequence[str]:
        """The cells of each answer, before those of its warnings and its error."""
        if not len(scores):
            return []
        if isinstance(self._output, ValueOutput):
            return self._values(self._output, scores[:, :1])
        probabilities = scores_by_label(scores, self._labels)
        chosen = chosen_labels(self._output, probabilities)
        own = probabilities[np.arange(len(chosen)), np.array(chosen, np.intp)][:, np.newaxis]
        if self._parameters.top is not None:
            shares = self._top(probabilities, self._parameters.top)
            numbers = [
                f"{first}{self._separator}{rest}"
                for first, rest in zip(self._numbers(own), shares, strict=True)
            ]
        elif self._parameters.probabilities:
            numbers = self._numbers(np.concatenate([own, probabilities], axis=1))
        else:
            numbers = self._numbers(own)
        if (flags := unsure(self._output, probabilities, chosen)) is not None:
            pairs = zip(numbers, flags, strict=True)
            numbers = [f"{row}{self._separator}{str(flag).lower()}" for row, flag in pairs]
        labels = self._labels
        rows = zip(chosen, numbers, strict=True)
        return [f"{labels[position]}{self._separator}{shares}" for position, shares in rows]

    def _values(self, output: ValueOutput, values: Array) -> list[str]:
        """Each value with its unit and its interval, values being ``[rows, 1]``."""
        unit = "" if output.unit is None else f"{self._separator}{self._cell(output.unit)}"
        cells = [f"{value}{unit}" for value in self._numbers(values)]
        if self._parameters.interval is None:
            return cells
        ends = np.stack(interval_ends(output, self._parameters.interval, values[:, 0]), axis=1)
        pairs = zip(cells, self._numbers(ends), strict=True)
        return [f"{cell}{self._separator}{both}" for cell, both in pairs]

    def _top(self, probabilities: Array, top: int) -> Iterator[str]:
        """The most probable labels of each row, each with its probability."""
        order = most_probable(probabilities, top)
        numbers = self._numbers(np.take_along_axis(probabilities, order, axis=1))
        for positions, shares in zip(order.tolist(), numbers, strict=True):
            pairs = zip(positions, shares.split(self._separator), strict=True)
            yield self._separator.join(
                f"{self._labels[position]}{self._separator}{share}" for position, share in pairs
            )

    def _numbers(self, table: Array) -> list[str]:
        """The numbers of each row, as JSON answers write them but for the marks."""
        text = orjson.dumps(np.ascontiguousarray(table), option=orjson.OPT_SERIALIZE_NUMPY)
        rows = text[2:-2].decode().replace("],[", "\n")
        if self._separator != ",":
            rows = rows.replace(",", self._separator).replace(".", self._decimal)
        return rows.split("\n")

    def _warned(self, sentences: Sequence[str]) -> str:
        if not self._parameters.warnings:
            return ""
        return f"{self._separator}{self._cell(' '.join(sentences))}"

    def _cell(self, text: str) -> str:
        return quoted(text, self._separator, self._quote)


def column_names(output: Output, parameters: Parameters) -> Iterator[str]:
    """The columns that an answer adds, in their order."""
    if isinstance(output, ClassesOutput):
        yield from _label_names(output, parameters)
    else:
        yield "value"
        if output.unit is not None:
            yield "unit"
        if parameters.interval is not None:
            yield from ("interval_low", "interval_high")
    if parameters.warnings:
        yield "warnings"
    yield "error"


def _label_names(output: ClassesOutput, parameters: Parameters) -> Iterator[str]:
    yield from ("label", "probability")
    if parameters.top is not None:
        for rank in range(1, 1 + min(parameters.top, len(output.labels))):
            yield from (f"label_{rank}", f"probability_{rank}")
    elif parameters.probabilities:
        yield from (f"probability_{label}" for label in output.labels)
    if output.unsure_below is not None:
        yield "unsure"
