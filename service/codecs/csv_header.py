"""The beginning of a CSV file: its format, and the column of each feature."""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from service.bundle.features import Feature, TableFormat
from service.codecs.columns import TableCodec
from service.codecs.csv_cells import CellReader, create_number_format, find_number_formats
from service.codecs.csv_rows import CsvFormat, CsvReader
from service.codecs.messages import ProblemCollector, describe
from service.errors import InvalidInput, InvalidRequest, Problem
from service.filetypes import GZIP_SIGNATURE, describe_file_type, identify_table
from service.records import (
    MAX_COLUMNS,
    MAX_TITLES,
    Lines,
    Record,
    Records,
    count_titles,
    decode_again,
    may_be_title,
    too_many_columns,
)
from service.spelling import closest_name, join_names, number_repeated
from service.tabletext import (
    POINT,
    SEPARATORS,
    CsvDialect,
    Decimal,
    NumberFormat,
    begins_like_json,
    column_name,
    compose,
    count_quoted,
    find_codec,
    find_marked_codec,
    find_unmarked_codec,
    read_rows,
    sniff,
)
from service.values import format_value, join_values, resembles_number

SAMPLE_BYTES = 16 * 1024
"""The bytes of a table that decide its format, unless its first line is longer."""

_SAMPLE_ROWS = 200
# A column with a name this similar to an optional feature is a misspelling, not another column.
_VERY_SIMILAR = 0.85
# A search for a similar name takes time by the number of columns.
_MAX_SEARCHES, _MAX_SEARCHED = 20, 100
_MAX_SHOWN = 12
# Of `service.tablefiles`.
_TEXT_OF_FILES = CsvDialect("utf-8", ",", '"', "\n")
_SAVE = "Save the table as CSV, in UTF-8, and send that."
_SEND_FILE = "Send it as application/octet-stream, or save the table as CSV."
_EMPTY = "The table is empty; send a first line with the columns' names, and rows below it."
_JSON = (
    "The body is JSON and its Content-Type says text/csv; send it as application/json, "
    "or as application/x-ndjson where every line is an object."
)


@dataclass(frozen=True)
class _Header:
    """The names of a table's columns, the column of each feature, and rows read below them."""

    names: Sequence[str]
    columns: Mapping[int, int]
    rows: Sequence[Record]


def open_csv(  # noqa: PLR0913 - the facts of a table; grouping them would only rename them
    sample: bytes,
    codec: TableCodec,
    *,
    whole: bool,
    longest: int,
    charset: str | None = None,
    decimal: Decimal | None = None,
    typed: Collection[int] | None = None,
) -> tuple[CsvReader, CsvFormat]:
    """Read the header of a table, before anything is scored.

    Args:
        sample: the first bytes, including all of the header.
        codec: of the model.
        whole: whether the sample is the whole table.
        longest: bytes of a record.
        charset: of the table, if the client states it.
        decimal: the decimal mark, if the client states it.
        typed: the columns of numbers of a table file, of which the sample is the text; its first
            line is the header. None for a CSV file.

    Raises:
        InvalidRequest: the sample is not a table, or its header is not one for this model.
        RecordTooLarge: the header is longer than allowed.
    """
    # The same bytes decide, however many have arrived at once.
    head = sample[: _head_length(sample)]
    is_whole = whole and len(head) == len(sample)
    try:
        dialect, lines, header = _read_head(
            head, codec, charset, longest, whole=is_whole, typed=typed is not None
        )
    except InvalidRequest:
        if typed is None:
            _require_table(head)
        raise
    if not header.columns and typed is None:  # a model may have no required feature
        _require_table(head)
    rows = _sample_rows(lines, dialect)
    formats = _find_number_formats(rows, header.columns, codec.features, dialect, decimal, typed)
    lines.feed(sample[len(head) :])
    columns = [
        (position, column, CellReader(codec.features[position], formats[position]))
        for position, column in header.columns.items()
    ]
    width = len(header.names)
    reader = CsvReader(
        codec,
        dialect,
        columns,
        lines,
        width=width,
        least_width=_least_width(width, rows, header, codec),
        first=header.rows,
    )
    trained = (k for k, feature in enumerate(codec.features) if create_number_format(feature))
    table_decimal = formats[next(trained, 0)].decimal
    return reader, CsvFormat(dialect, header.names, table_decimal)


def _read_head(  # noqa: PLR0913 - the facts of a table; grouping them would only rename them
    head: bytes,
    codec: TableCodec,
    charset: str | None,
    longest: int,
    *,
    whole: bool,
    typed: bool,
) -> tuple[CsvDialect, Lines, _Header]:
    """Return the dialect, the remaining lines, and the header."""
    dialect, fallback = (_TEXT_OF_FILES, None) if typed else _sniff_dialect(head, charset, codec)
    lines = Lines(dialect.encoding, longest, dialect.line_end[-1], fallback)
    lines.feed(head)
    if whole:
        lines.end()
    header = _read_header(lines, dialect, codec, typed=typed)
    if not header.rows and lines.ended and not any(line.strip() for line in lines.waiting):
        raise InvalidRequest(
            f"Line {lines.taken} names the columns, and no row follows; send at least one."
        )
    return dialect, lines, header


def _find_number_formats(  # noqa: PLR0913, PLR0917 - see above
    rows: Sequence[tuple[int, list[str]]],
    columns: Mapping[int, int],
    features: Sequence[Feature],
    dialect: CsvDialect,
    decimal: Decimal | None,
    typed: Collection[int] | None,
) -> Sequence[NumberFormat]:
    """Return the marks of each feature's numbers; those of a typed column have only a point."""
    if typed is None:
        return find_number_formats(rows, columns, features, dialect.separator, decimal)
    written = {k: column for k, column in columns.items() if column not in typed}
    # The commas of a table file are no hint on the marks in its texts.
    found = find_number_formats(rows, written, features, "\t", decimal)
    return [POINT if columns.get(k) in typed else one for k, one in enumerate(found)]


def _head_length(sample: bytes) -> int:
    """Return the number of bytes that decide: those of the first line, if it is longer."""
    ends = [end for end in (sample.find(b"\n"), sample.find(b"\r")) if end >= 0]
    return max(SAMPLE_BYTES, min(ends, default=len(sample)) + 2)


def _require_table(head: bytes) -> None:
    """Reject a file with the signature of another type; the message names it."""
    if head.startswith(GZIP_SIGNATURE):
        raise InvalidRequest(
            "The body is compressed with gzip; send the header Content-Encoding: gzip."
        )
    kind = None if find_marked_codec(head) else describe_file_type(head)
    if kind is not None:
        advice = _SAVE if identify_table(head) is None else _SEND_FILE
        raise InvalidRequest(f"The body is {kind}, not a table of text. {advice}")


def _sniff_dialect(
    head: bytes, charset: str | None, codec: TableCodec
) -> tuple[CsvDialect, str | None]:
    """Return the dialect of a table, and the encoding of its lines that are not UTF-8."""
    trained = codec.table or TableFormat()
    encoding, marked = _find_encoding(head, charset)
    fallback = None
    if charset is None and encoding == "utf-8" and trained.encoding is not None:
        fallback = find_codec(trained.encoding, head)
    text = _decode_head(head, encoding, fallback)
    if not text.strip():
        raise InvalidRequest(_EMPTY)
    if begins_like_json(text):
        raise InvalidRequest(_JSON)
    quote = trained.quote
    if quote is not None and count_quoted(text, '"') > count_quoted(text, quote):
        quote = None
    # A first line may be longer than the sample; its beginning is enough. A tab before it is an
    # empty cell.
    start = text.lstrip("\r\n")[:SAMPLE_BYTES]
    dialect = sniff(
        start if start.strip() else text.lstrip()[:SAMPLE_BYTES],
        encoding,
        marked=marked,
        names=trained.columns or [feature.name for feature in codec.features],
        quote=quote,
        separators=SEPARATORS + (trained.separator or ""),
        escape=trained.escape,
    )
    return dialect, fallback


def _find_encoding(head: bytes, charset: str | None) -> tuple[str, bool]:
    """Return the encoding of a table, and whether it begins with a byte-order mark."""
    marked = find_marked_codec(head)
    found = marked or (find_unmarked_codec(head) if charset is None else find_codec(charset, head))
    if found is None and charset is not None:
        raise InvalidRequest(
            f"Content-Type names the charset {format_value(charset)}, which is not known here. "
            f"{_SAVE}"
        )
    if found is None or (found.startswith("utf-8") and b"\0" in head):
        raise InvalidRequest(f"The body is not text: byte {head.index(0)} is 0x00. {_SAVE}")
    return found, marked is not None


def _decode_head(head: bytes, encoding: str, fallback: str | None) -> str:
    """Return the first bytes as text, without an incomplete character at their end."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError as error:
        if fallback is not None:
            lines = head.decode(encoding, "surrogateescape").split("\n")
            return "\n".join(decode_again(line, fallback) for line in lines)
        line = 1 + head.count(b"\n", 0, error.start)
        raise InvalidRequest(
            f"Line {line} holds the byte 0x{head[error.start]:02X}, which is not {encoding}. "
            "Save the table in UTF-8, or name its encoding, for example "
            "Content-Type: text/csv; charset=windows-1252."
        ) from None


def _read_header(lines: Lines, dialect: CsvDialect, codec: TableCodec, *, typed: bool) -> _Header:
    """Read the header below any titles; that of a table file is the first line."""
    trained = codec.table or TableFormat()
    names = [feature.name for feature in codec.features]
    records = Records(lines, dialect.separator, dialect.quote, dialect.escape)
    first = records.take(1 + dialect.declared)
    if not first:
        lines.require_next()
    if len(first) <= dialect.declared or first[-1].error is not None:
        raise InvalidRequest(
            "Line 1 opens a quote and never closes it; it must name the columns, such as "
            + dialect.separator.join(names)
        )
    known, rows = {*map(compose, names), *(trained.columns or ())}, first[-1:]
    while (
        not typed
        and len(rows) < MAX_TITLES
        and may_be_title(rows[-1].cells)
        and not _names_any(rows[-1], known)
    ):
        following = records.take(1)
        if not following or following[0].error is not None:
            break
        rows += following
    titles = count_titles([row.cells for row in rows])
    record = rows[titles]
    cells, rows = record.cells, rows[titles + 1 :]
    if len(cells) == len(trained.columns or ()) and not _names_any(record, known):
        cells, rows = trained.columns or (), rows if typed else [record, *rows]
    columns = find_columns(cells, codec.features, record.line, trained.repeated or ())
    return _Header(cells, columns, rows)


def _names_any(record: Record, known: set[str]) -> bool:
    return any(
        column_name(k, cell) in known for k, cell in enumerate(record.cells, 1) if cell.strip()
    )


def _sample_rows(lines: Lines, dialect: CsvDialect) -> Sequence[tuple[int, list[str]]]:
    """Return the cells of the first rows below the header, each with its line."""
    sample = [line + "\n" for line in lines.waiting[:_SAMPLE_ROWS]]
    reader = read_rows(sample, dialect.separator, dialect.quote, escape=dialect.escape)
    rows: list[tuple[int, list[str]]] = []
    with suppress(csv.Error):  # the reader of rows reports it
        rows.extend((lines.taken + reader.line_num, row) for row in reader if row)
    return rows


def _least_width(
    width: int, rows: Sequence[tuple[int, list[str]]], header: _Header, codec: TableCodec
) -> int:
    """Return the number of cells that a row must have; a header may have more names than cells."""
    needed = [column for k, column in header.columns.items() if _needs_column(codec.features[k])]
    first = next((len(row) for _, row in rows), width)
    return min(width, max([first, *(column + 1 for column in needed)]))


def find_columns(
    cells: Sequence[str], features: Sequence[Feature], line: int, repeated: Sequence[str] = ()
) -> Mapping[int, int]:
    """Find the column of each feature, by the feature's position.

    Args:
        cells: of the header.
        features: of the model.
        line: of the header, from 1.
        repeated: names that several columns of the training table have.

    Raises:
        InvalidInput: the column of a feature is missing, misspelled, or repeated.
        InvalidRequest: there are too many columns.
    """
    if len(cells) > MAX_COLUMNS:
        raise too_many_columns(f"Line {line} names", len(cells))
    # A model of another library may have names that are not composed.
    composed = {compose(feature.name): feature.name for feature in features}
    names = [column_name(k, cell) for k, cell in enumerate(cells, 1)]
    names = [composed.get(name, name) for name in names]
    if repeated:
        numbered = zip(names, number_repeated(names), strict=True)
        names = [unique if name in repeated else name for name, unique in numbered]
    counts = Counter(names)
    lacking = [feature for feature in features if feature.name not in counts]
    duplicates = [feature for feature in features if counts[feature.name] > 1]
    if lacking or duplicates:
        _require_columns(names, features, lacking, duplicates, line)
    positions = {feature.name: position for position, feature in enumerate(features)}
    return {positions[name]: k for k, name in enumerate(names) if name in positions}


def _require_columns(
    names: Sequence[str],
    features: Sequence[Feature],
    lacking: Sequence[Feature],
    repeated: Sequence[Feature],
    line: int,
) -> None:
    """Reject a header unless all features that it lacks are optional, and none is repeated.

    A feature that is complete in the training set may have missing cells, but needs its column.
    """
    if len(lacking) == len(features) and any(map(resembles_number, names)):
        wanted = ",".join(feature.name for feature in features)
        problem = Problem(
            f"Line {line} holds values ({join_values(names, 4)}) where the columns must be named.",
            hint=f"Put a line with the names above it, such as {wanted}",
        )
        raise InvalidInput([problem])
    if len(names) == 1 and len(lacking) == len(features) > 1:
        problem = Problem(
            f"Line {line} is a single cell, {format_value(names[0])}.",
            hint="Cells are separated by a comma, a semicolon, a tab or |; write the table so.",
        )
        raise InvalidInput([problem])
    found = ProblemCollector()
    found.add(len(repeated), (_repeated_problem(feature, names, line) for feature in repeated))
    known = {feature.name for feature in features}
    free = [name for name in dict.fromkeys(names) if name not in known][:_MAX_SEARCHED]
    for number, feature in enumerate(lacking):
        close = _find_misspelled(feature, free) if number < _MAX_SEARCHES else None
        if close is not None:
            free.remove(close)
            found.add(1, [_misspelling_problem(feature, close, line)])
        elif _needs_column(feature):
            found.add(1, [_missing_problem(feature, names, line)])
    found.raise_any()


def _repeated_problem(feature: Feature, names: Sequence[str], line: int) -> Problem:
    columns = [str(column) for column, name in enumerate(names, 1) if name == feature.name]
    return Problem(
        f"Line {line} names {feature.name!r} in columns {join_names(columns, _MAX_SHOWN)}.",
        feature=feature.name,
        hint="Rename or remove all but one of them.",
    )


def _misspelling_problem(feature: Feature, name: str, line: int) -> Problem:
    return Problem(
        f"Line {line} has no column {feature.name!r}; is column {format_value(name)} a "
        "misspelling of it?",
        feature=feature.name,
        got=format_value(name),
        hint=f"Rename that column to {feature.name}.",
    )


def _missing_problem(feature: Feature, names: Sequence[str], line: int) -> Problem:
    return Problem(
        f"Line {line} has no column {feature.name!r}; its columns are {join_values(names)}.",
        feature=feature.name,
        expected=describe(feature),
        hint=f"Add a column of that name: {describe(feature)} in each row.",
    )


def _find_misspelled(feature: Feature, free: Sequence[str]) -> str | None:
    """Return the column that is probably a misspelling of the feature."""
    if _needs_column(feature):
        return closest_name(feature.name, free)
    simple = {_simplify(name): name for name in free}
    similar = closest_name(_simplify(feature.name), simple, _VERY_SIMILAR)
    return None if similar is None else simple[similar]


def _simplify(name: str) -> str:
    """Return the name without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _needs_column(feature: Feature) -> bool:
    """Return whether a table must have its column; cells may be empty if it is optional."""
    return not feature.optional or feature.complete
