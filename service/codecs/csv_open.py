"""The first bytes of a CSV file: how it is written, and which column is which feature."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from service.bundle.features import IntegerFeature, NumberFeature
from service.codecs.csv_header import Header, find_columns
from service.codecs.csv_lines import Lines
from service.codecs.csv_reader import CsvRows
from service.codecs.csv_records import Records
from service.codecs.features import FeatureCodec
from service.errors import InvalidRequest
from service.tabletext.layout import SAMPLE_BYTES, Layout, find_layout
from service.tabletext.numerals import Decimal, find_decimal

_SAMPLE_ROWS = 200


@dataclass(frozen=True)
class CsvForm:
    """How a table is written, for an answer that shall be written alike."""

    layout: Layout
    header: Header
    decimal: Decimal


def open_csv(  # noqa: PLR0913 - the facts of a table; grouping them would only rename them
    sample: bytes,
    codec: FeatureCodec,
    *,
    whole: bool,
    longest: int,
    charset: str | None = None,
    decimal: Decimal | None = None,
) -> tuple[CsvRows, CsvForm]:
    """Read the header, before anything is scored.

    Args:
        sample: the first bytes, at least as far as the header goes.
        codec: of the model.
        whole: whether nothing follows them.
        longest: bytes of a record.
        charset: what the caller says of the encoding.
        decimal: what the caller says of the decimal mark.

    Raises:
        InvalidRequest: it is no table, or its header is not one for this model.
        RecordTooLarge: its header is.
    """
    names = [feature.name for feature in codec.features]
    # Always the same bytes decide, however many have come at once.
    head = sample[: _head_length(sample)]
    layout = find_layout(head, charset, names)
    lines = Lines(layout.encoding, longest, "\r" if layout.line_end == "\r" else "\n")
    lines.feed(head)
    if whole and len(head) == len(sample):
        lines.end()
    records = Records(lines, layout.separator)
    first = records.take(1 + layout.declared)
    if not first:
        lines.require_next()
    if len(first) <= layout.declared or first[-1].fault is not None:
        raise InvalidRequest(
            "Line 1 opens a quote and never closes it; it must name the columns, such as "
            + layout.separator.join(names)
        )
    header = find_columns(first[-1].cells, codec.features, first[-1].line)
    if lines.ended and not any(line.strip() for line in lines.waiting):
        raise InvalidRequest(
            f"Line {first[-1].line} names the columns, and no row follows; send at least one."
        )
    if decimal is None:
        decimal = find_decimal(_numbers(lines, layout, header, codec), layout.separator)
    lines.feed(sample[len(head) :])
    form = CsvForm(layout, header, decimal)
    return CsvRows(codec, layout, header, decimal, lines), form


def _head_length(sample: bytes) -> int:
    """Bytes of the sample that decide: so many, or all of the first line where that is longer."""
    ends = [place for place in (sample.find(b"\n"), sample.find(b"\r")) if place >= 0]
    return max(SAMPLE_BYTES, min(ends, default=len(sample)) + 2)


def _numbers(
    lines: Lines, layout: Layout, header: Header, codec: FeatureCodec
) -> Iterator[tuple[int, str]]:
    """The first cells that should be numbers, each with its line."""
    columns = [
        column
        for place, column in header.columns.items()
        if isinstance(codec.features[place], NumberFeature | IntegerFeature)
    ]
    sample = [line + "\n" for line in lines.waiting[:_SAMPLE_ROWS]]
    reader = csv.reader(sample, delimiter=layout.separator)
    try:
        for row in reader:
            line = lines.taken + reader.line_num
            yield from ((line, row[column].strip()) for column in columns if column < len(row))
    except csv.Error:
        return  # the reader of rows tells what is wrong there
