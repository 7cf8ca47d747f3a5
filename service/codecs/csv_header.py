"""The first bytes of a CSV file: how it is written, and which column is which feature."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from service.bundle.features import Feature, IntegerFeature, NumberFeature, TableFormat
from service.codecs.csv_cells import CellReader, marks_of
from service.codecs.csv_reader import CsvRows, Lines, Record, Records, decoded_again
from service.codecs.features import FeatureCodec
from service.codecs.messages import Findings, describe
from service.errors import InvalidRequest, Problem
from service.filetypes import recognised
from service.spelling import nearest
from service.tabletext.cells import (
    POINT,
    AmbiguousMark,
    Decimal,
    MixedDecimals,
    Numerals,
    find_decimal,
    plain_number,
)
from service.tabletext.dialect import (
    MOST_TITLES,
    SEPARATORS,
    CsvDialect,
    begins_like_json,
    codec_of,
    column_name,
    decoded,
    is_title,
    marked_codec,
    sniff,
    titles_above,
    unmarked_codec,
)
from service.values import listed, shown

SAMPLE_BYTES = 16 * 1024
"""Bytes of a table that decide how it is written, unless its first line is longer."""

_SAMPLE_ROWS = 200
# A column so near to an optional feature is taken for a misspelling of it, not for one to carry.
_VERY_NEAR = 0.85
# A search for a near name takes time by the number of columns.
_MOST_SEARCHES, _MOST_SEARCHED = 20, 100
_MOST_COLUMNS = 16_384  # of a spreadsheet
_MOST_SHOWN = 12
_NUMBER = re.compile(r"[+-]?(?:\d++(?:[.,]\d++)?|[.,]\d++)(?:[eE][+-]?\d++)?")
_SAVE = "Save the table as CSV, in UTF-8, and send that."
_EMPTY = "The table is empty; send a first line with the columns' names, and rows below it."
_JSON = (
    "The body is JSON and its Content-Type says text/csv; send it as application/json, "
    "or as application/x-ndjson where every line is an object."
)


@dataclass(frozen=True)
class Header:
    """The names of a table's columns, and the column of each feature that it has."""

    names: Sequence[str]
    columns: Mapping[int, int]


@dataclass(frozen=True)
class CsvFormat:
    """How a table is written, for an answer that shall be written alike."""

    dialect: CsvDialect
    header: Header
    decimal: Decimal


@dataclass(frozen=True)
class _Cell:
    """A cell that should be a number, without its affix, and how training read its column."""

    line: int
    text: str
    numerals: Numerals | None


def open_csv(  # noqa: PLR0913 - the facts of a table; grouping them would only rename them
    sample: bytes,
    codec: FeatureCodec,
    *,
    whole: bool,
    longest: int,
    charset: str | None = None,
    decimal: Decimal | None = None,
) -> tuple[CsvRows, CsvFormat]:
    """Read the header, before anything is scored.

    Args:
        sample: the first bytes, including all of the header.
        codec: of the model.
        whole: whether nothing follows them.
        longest: bytes of a record.
        charset: of the table, where the client names it.
        decimal: the decimal mark, where the client names it.

    Raises:
        InvalidRequest: it is no table, or its header is not one for this model.
        RecordTooLarge: its header is.
    """
    # Always the same bytes decide, however many have arrived at once.
    head = sample[: _head_length(sample)]
    trained = codec.table or TableFormat()
    dialect, otherwise = _dialect(head, charset, codec, trained)
    line_end = "\r" if dialect.line_end == "\r" else "\n"
    lines = Lines(dialect.encoding, longest, line_end, otherwise)
    lines.feed(head)
    if whole and len(head) == len(sample):
        lines.end()
    header, first = _header(lines, dialect, codec, trained)
    if not first and lines.ended and not any(line.strip() for line in lines.waiting):
        raise InvalidRequest(
            f"Line {lines.taken} names the columns, and no row follows; send at least one."
        )
    sample_rows = list(_sample_rows(lines, dialect))
    cells = list(_number_cells(sample_rows, header, codec))
    marks = _marks(cells, codec, dialect.separator, decimal)
    lines.feed(sample[len(head) :])
    columns = {
        column: (position, CellReader(codec.features[position], marks[position]))
        for position, column in header.columns.items()
    }
    width = len(header.names)
    rows = CsvRows(
        codec,
        dialect,
        columns,
        lines,
        width=width,
        least_width=_least_width(width, sample_rows, header, codec),
        first=first,
    )
    numeric = [position for position, feature in enumerate(codec.features) if marks_of(feature)]
    written = marks[numeric[0] if numeric else 0].decimal
    return rows, CsvFormat(dialect, header, written)


def _head_length(sample: bytes) -> int:
    """Bytes of the sample that decide: so many, or all of the first line where that is longer."""
    ends = [end for end in (sample.find(b"\n"), sample.find(b"\r")) if end >= 0]
    return max(SAMPLE_BYTES, min(ends, default=len(sample)) + 2)


def _dialect(
    head: bytes, charset: str | None, codec: FeatureCodec, trained: TableFormat
) -> tuple[CsvDialect, str | None]:
    """How a table is written, and the encoding of those of its lines that are not UTF-8.

    Raises:
        InvalidRequest: it is empty, or no text, or not in the encoding that it should have.
    """
    encoding, marked = _encoding(head, charset)
    otherwise = None
    if charset is None and encoding == "utf-8" and trained.encoding is not None:
        otherwise = codec_of(trained.encoding, head)
    text = _text(head, encoding, otherwise)
    if not text.strip():
        raise InvalidRequest(_EMPTY)
    if begins_like_json(text):
        raise InvalidRequest(_JSON)
    quote = trained.quote if trained.quote is not None and '"' not in text else None
    dialect = sniff(
        # A first line may be longer than the sample; its beginning is enough.
        text[text.index(text.lstrip()[0]) :][:SAMPLE_BYTES],
        encoding,
        marked=marked,
        names=trained.columns or [feature.name for feature in codec.features],
        quote=quote,
        separators=SEPARATORS + (trained.separator or ""),
    )
    return dialect, otherwise


def _encoding(head: bytes, charset: str | None) -> tuple[str, bool]:
    """The encoding of a table, and whether it begins with a byte-order mark."""
    marked = marked_codec(head)
    if marked is not None:
        return marked, True
    kind = recognised(head)
    if kind == "packed by gzip":
        raise InvalidRequest(f"The body is {kind}; say so by the header Content-Encoding: gzip.")
    if kind is not None:
        raise InvalidRequest(f"The body is {kind}, not a table of text. {_SAVE}")
    found = unmarked_codec(head) if charset is None else codec_of(charset, head)
    if found is not None:
        return found, False
    if charset is None:
        raise InvalidRequest(_not_text(head))
    raise InvalidRequest(
        f"Content-Type names the charset {shown(charset)}, which is not known here. {_SAVE}"
    )


def _text(head: bytes, encoding: str, otherwise: str | None) -> str:
    """The first bytes as text; a character that they cut in two is left out."""
    if encoding.startswith("utf-8") and b"\0" in head:
        raise InvalidRequest(_not_text(head))
    try:
        return decoded(head, encoding)
    except UnicodeDecodeError as error:
        if otherwise is not None:
            lines = head.decode(encoding, "surrogateescape").split("\n")
            return "\n".join(decoded_again(line, otherwise) for line in lines)
        line = 1 + head.count(b"\n", 0, error.start)
        raise InvalidRequest(
            f"Line {line} holds the byte 0x{head[error.start]:02X}, which is not {encoding}. "
            "Save the table in UTF-8, or name its encoding, for example "
            "Content-Type: text/csv; charset=windows-1252."
        ) from None


def _not_text(head: bytes) -> str:
    return f"The body holds bytes that are no text, the first at {head.index(0)}. {_SAVE}"


def _header(
    lines: Lines, dialect: CsvDialect, codec: FeatureCodec, trained: TableFormat
) -> tuple[Header, Sequence[Record]]:
    """The columns, and the first row where no line names them; titles above are passed over.

    Raises:
        InvalidRequest: there is no header, or none for this model.
        RecordTooLarge: it is too long.
    """
    names = [feature.name for feature in codec.features]
    records = Records(lines, dialect.separator, dialect.quote)
    first = records.take(1 + dialect.declared)
    if not first:
        lines.require_next()
    if len(first) <= dialect.declared or first[-1].fault is not None:
        raise InvalidRequest(
            "Line 1 opens a quote and never closes it; it must name the columns, such as "
            + dialect.separator.join(names)
        )
    known, rows = {*names, *(trained.columns or ())}, first[-1:]
    while len(rows) < MOST_TITLES and is_title(rows[-1].cells) and not _names(rows[-1], known):
        following = records.take(1)
        if not following or following[0].fault is not None:
            break
        rows += following
    titles = titles_above([row.cells for row in rows])
    record = rows[titles]
    columns = trained.columns or ()
    if len(record.cells) == len(columns) and not _names(record, known):
        return find_columns(columns, codec.features, record.line), rows[titles:]
    return find_columns(record.cells, codec.features, record.line), rows[titles + 1 :]


def _names(record: Record, known: set[str]) -> bool:
    """Whether a row names one of the columns."""
    return any(column_name(k, cell) in known for k, cell in enumerate(record.cells, 1) if cell)


def _sample_rows(lines: Lines, dialect: CsvDialect) -> Iterator[tuple[int, list[str]]]:
    """The first rows below the header, each with its line."""
    sample = [line + "\n" for line in lines.waiting[:_SAMPLE_ROWS]]
    rows = csv.reader(sample, delimiter=dialect.separator, quotechar=dialect.quote)
    try:
        yield from ((lines.taken + rows.line_num, row) for row in rows if row)
    except csv.Error:
        return  # the reader of rows says what is wrong there


def _least_width(
    width: int, rows: Sequence[tuple[int, list[str]]], header: Header, codec: FeatureCodec
) -> int:
    """How many cells a row must have: a header may have names that its rows have no cells for."""
    needed = [column for k, column in header.columns.items() if not codec.features[k].optional]
    first = next((len(row) for _, row in rows), width)
    return min(width, max([first, *(column + 1 for column in needed)]))


def _number_cells(
    rows: Sequence[tuple[int, list[str]]], header: Header, codec: FeatureCodec
) -> Iterator[_Cell]:
    """The first cells that should be numbers."""
    readers = [
        (column, CellReader(feature), marks_of(feature))
        for position, column in header.columns.items()
        if isinstance(feature := codec.features[position], NumberFeature | IntegerFeature)
    ]
    for line, row in rows:
        for column, reader, numerals in readers:
            text = reader.bare(row[column]) if column < len(row) else None
            if text is not None:
                yield _Cell(line, text, numerals)


def _marks(
    cells: Sequence[_Cell], codec: FeatureCodec, separator: str, decimal: Decimal | None
) -> Sequence[Numerals]:
    """The marks of each feature's numbers in this table.

    They are those that training read, unless the client says otherwise or the table shows it: other
    decimals read more of its cells.

    Raises:
        InvalidRequest: the table shows both decimal marks, or one that may be of thousands.
    """
    trained = [marks_of(feature) for feature in codec.features]
    if decimal is None and any(trained):
        counts = [
            sum(
                plain_number(cell.text, marks or cell.numerals or POINT) is not None
                for cell in cells
            )
            for marks in (None, Numerals("."), Numerals(","))
        ]
        if counts[0] == max(counts):
            return [marks or POINT for marks in trained]
    found = Numerals(decimal or _find_decimal(cells, separator))
    return [marks if marks and marks.decimal == found.decimal else found for marks in trained]


def _find_decimal(cells: Sequence[_Cell], separator: str) -> Decimal:
    try:
        return find_decimal(((cell.line, cell.text) for cell in cells), separator)
    except MixedDecimals as mixed:
        both = " and ".join(f"{shown(cell)} in line {line}" for line, cell in mixed.cells)
        raise InvalidRequest(
            f"The table writes decimals by a comma and by a point: {both}. Write them all alike."
        ) from None
    except AmbiguousMark as mark:
        raise InvalidRequest(
            f"Line {mark.line}: {shown(mark.cell)} may be {mark.cell.replace(',', '.')} or "
            f"{mark.cell.replace(mark.mark, '')}. Say which mark the decimals have by the "
            "parameter decimal=point or decimal=comma; nothing may part the thousands."
        ) from None


def find_columns(cells: Sequence[str], features: Sequence[Feature], line: int) -> Header:
    """The column of each feature, by name and in any order.

    Args:
        cells: of the first row.
        features: that the model takes.
        line: of the row, from 1.

    Raises:
        InvalidInput: a feature's column is missing, misspelt, or there twice.
        InvalidRequest: there are too many columns.
    """
    if len(cells) > _MOST_COLUMNS:
        raise InvalidRequest(
            f"Line {line} names {len(cells):,} columns, and at most {_MOST_COLUMNS:,} are read; "
            "send only those of features and the few that you want back."
        )
    names = [column_name(k, cell) for k, cell in enumerate(cells, 1)]
    counts = Counter(names)
    lacking = [feature for feature in features if feature.name not in counts]
    found = Findings()
    if len(lacking) == len(features) and _holds_values(names):
        found.add(1, [_headless(names, features, line)])
        found.raise_any()
    if len(names) == 1 and len(lacking) == len(features) > 1:
        found.add(1, [_undivided(names[0], line)])
        found.raise_any()
    repeated = [feature for feature in features if counts[feature.name] > 1]
    found.add(len(repeated), (_twice(feature, names, line) for feature in repeated))
    positions = {feature.name: position for position, feature in enumerate(features)}
    free = [name for name in counts if name not in positions][:_MOST_SEARCHED]
    for number, feature in enumerate(lacking):
        close = _misspelt(feature, free) if number < _MOST_SEARCHES else None
        if close is not None:
            free.remove(close)
            found.add(1, [_misspelling(feature, close, line)])
        elif not feature.optional:
            found.add(1, [_missing(feature, names, line)])
    found.raise_any()
    columns = {positions[name]: k for k, name in enumerate(names) if name in positions}
    return Header(list(cells), columns)


def _holds_values(names: Sequence[str]) -> bool:
    return any(_NUMBER.fullmatch(name) for name in names)


def _headless(names: Sequence[str], features: Sequence[Feature], line: int) -> Problem:
    wanted = ",".join(feature.name for feature in features)
    return Problem(
        f"Line {line} holds values ({listed(names, 4)}) where the columns must be named.",
        hint=f"Put a line with the names above it, such as {wanted}",
    )


def _undivided(name: str, line: int) -> Problem:
    return Problem(
        f"Line {line} is a single cell, {shown(name)}.",
        hint="Cells are separated by a comma, a semicolon, a tab or |; write the table so.",
    )


def _twice(feature: Feature, names: Sequence[str], line: int) -> Problem:
    columns = [str(column) for column, name in enumerate(names, 1) if name == feature.name]
    shown_columns = " and ".join(columns[:_MOST_SHOWN])
    more = f" and {len(columns) - _MOST_SHOWN} more" if len(columns) > _MOST_SHOWN else ""
    return Problem(
        f"Line {line} names {feature.name!r} in columns {shown_columns}{more}.",
        feature=feature.name,
        hint="Rename or remove all but one, so that it is clear which is meant.",
    )


def _misspelling(feature: Feature, name: str, line: int) -> Problem:
    return Problem(
        f"Line {line} has no column {feature.name!r}; did you mean it by {shown(name)}?",
        feature=feature.name,
        got=shown(name),
        hint=f"Rename that column to {feature.name}.",
    )


def _missing(feature: Feature, names: Sequence[str], line: int) -> Problem:
    return Problem(
        f"Line {line} has no column {feature.name!r}; its columns are {listed(names)}.",
        feature=feature.name,
        expected=describe(feature),
        hint=f"Add a column of that name: {describe(feature)} in each row.",
    )


def _misspelt(feature: Feature, free: Sequence[str]) -> str | None:
    """The column that is probably a misspelling of the feature."""
    if not feature.optional:
        return nearest(feature.name, free)
    folded = {_folded(name): name for name in free}
    near = nearest(_folded(feature.name), folded, _VERY_NEAR)
    return None if near is None else folded[near]


def _folded(name: str) -> str:
    """The name without what people write differently without meaning anything by it."""
    return re.sub(r"[\W_]+", "", name.casefold())
