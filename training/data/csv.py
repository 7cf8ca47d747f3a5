"""Read CSV files in any format as tables of text cells."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

import polars as pl

from service.filetypes import describe_file_type
from service.records import MAX_TITLES, Lines, Record, Records, count_titles
from service.spelling import format_count, format_subject, number_repeated
from service.tabletext import (
    MISSING,
    POINT,
    CsvDialect,
    Decimal,
    NumberFormat,
    begins_like_json,
    column_name,
    find_codec,
    find_marked_codec,
    find_unmarked_codec,
    sniff,
)
from service.values import resembles_number
from training.data.numbers import detect_number_format
from training.data.table import DetectedCsvFormat, Table, clean_cells
from training.errors import DataError
from training.recipe.table import Data

FALLBACK = "cp1252"
"""The encoding of a file that is not UTF-8 and has no mark."""

_FILE_URI = "file://"
_CHUNK = 1 << 20
_EMPTY_LINE = re.compile(rb"(?:\A|\n)\r?\n|\r\r")
_LONGEST_LINE = 1 << 24
_SAMPLE_CHARACTERS = 1 << 18
_HEADER_SAMPLE_ROWS = 200
_MIN_ROWS_BELOW = 8
_MAX_DISTINCT_SHARE = 0.25
# Of all rows, those that a quote may break; with more, the format is another one.
_MAX_BROKEN_SHARE = 0.1


@dataclass(frozen=True)
class Layout:
    """The format of a CSV file; None: detected from the file."""

    separator: str | None = None
    quote: str | None = None
    number_format: NumberFormat | None = POINT
    encoding: str | None = None
    missing: tuple[str, ...] = MISSING
    header: bool | None = None
    stripped: bool = True
    """Whether whitespace around cells is removed; otherwise words are read as they are."""
    decimal: Decimal | None = None
    """Of a number format that is detected; None: detected, too."""
    sheet: str | None = None
    """Of a workbook; None: the first."""


UNKNOWN = Layout(number_format=None, missing=("",))
"""Everything is detected; only empty cells are missing values."""

UNCHANGED = Layout(stripped=False)
"""Cells as the file has them, for a model that was not trained here."""


def format_path(path: Path) -> str:
    """Return the path of a file in a recipe, which is UTF-8: another name becomes a file: URI."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return path.absolute().as_uri()
    return str(path)


def parse_path(text: str) -> Path:
    """Return the path of a file in a recipe, the reverse of `format_path`."""
    encoded = text.removeprefix(_FILE_URI)
    return Path(text if encoded == text else os.fsdecode(unquote_to_bytes(encoded)))


def readable_name(path: Path) -> str:
    """Return the name of a file with a replacement for each byte that is not UTF-8."""
    return os.fsencode(path.name).decode("utf-8", "replace")


def create_layout(data: Data) -> Layout:
    """Return the format that a recipe specifies for its file."""
    number_format = NumberFormat(data.decimal, data.thousands)
    missing = tuple(data.missing)
    return Layout(
        data.separator,
        data.quote,
        number_format,
        data.encoding,
        missing,
        data.header,
        sheet=data.sheet,
    )


def read_csv(
    path: Path,
    layout: Layout | None = None,
    columns: Sequence[str] | None = None,
    *,
    name: str | None = None,
) -> Table:
    """Read a CSV file.

    Title lines are skipped. Without a header, the columns are named column_1, column_2 and so on.

    Args:
        path: the file.
        layout: its format; by default the usual one of recipes.
        columns: the names of the columns of a file without a header.
        name: the name of the table in messages; by default the name of the file.

    Raises:
        DataError: the file is missing, empty, not text or not a table, or two columns have the
            same name.
    """
    layout = layout or Layout()
    digest = _hash_file(path)
    csv_dialect = _detect_format(path, layout)
    frame, broken = _parse(path, csv_dialect)
    titles = count_titles(frame.head(MAX_TITLES).rows())
    frame = frame.slice(titles)
    header = columns is None and (has_header(frame) if layout.header is None else layout.header)
    if columns is None:
        columns = [column_name(k) for k in range(1, frame.width + 1)]
    renamed: dict[str, str] = {}
    if header:
        columns, renamed = name_columns(frame.row(0))
        frame = frame.slice(1)
    check_header(columns, frame, path)
    frame = frame.rename(dict(zip(frame.columns, columns, strict=True)))
    cleaned = clean_cells(frame, layout.missing)
    number_format, ambiguous = _find_number_format(cleaned, csv_dialect.separator, layout)
    csv_format = DetectedCsvFormat(
        csv_dialect.separator,
        csv_dialect.quote,
        csv_dialect.encoding,
        header,
        titles,
        ambiguous,
        csv_dialect.escape,
        renamed,
        broken,
    )
    return Table(
        name or readable_name(path),
        cleaned if layout.stripped else frame,
        digest,
        number_format,
        csv_format,
        missing=layout.missing,
        stripped=layout.stripped,
    )


def _find_number_format(
    frame: pl.DataFrame, separator: str, layout: Layout
) -> tuple[NumberFormat, str]:
    """Return the specified or detected marks, and an ambiguous cell, or an empty string."""
    if layout.number_format is not None:
        return layout.number_format, ""
    return detect_number_format(frame, separator, layout.decimal)


def name_columns(cells: Sequence[str | None]) -> tuple[list[str], dict[str, str]]:
    """Return the names of the columns, and those in the file of columns that got a number."""
    named = [column_name(k, cell) for k, cell in enumerate(cells, 1)]
    columns = number_repeated(named)
    return columns, {new: old for new, old in zip(columns, named, strict=True) if new != old}


def has_header(frame: pl.DataFrame) -> bool:
    """Return whether the first row contains the names of the columns.

    A word above numbers is a name. A word that is repeated below is a cell, and one that is not,
    above few repeated words, is a name. If no column decides, a first row with a number is data.
    """
    columns = [_classify_first_cell(cells) for cells in frame.head(1 + _HEADER_SAMPLE_ROWS)]
    if "name above numbers" in columns:
        return True
    if columns.count("repeated") > columns.count("distinct"):
        return False
    if "distinct" in columns and "fraction" not in columns:
        return True
    return not {"fraction", "whole number"} & set(columns)


def _classify_first_cell(cells: pl.Series) -> str:
    """Classify the first cell of a column by the cells below it."""
    cells = cells.str.strip_chars()
    first, below = str(cells[0] or ""), cells[1:].drop_nulls()
    if first in MISSING:
        return "unknown"
    if resembles_number(first):
        return "whole number" if first.isdecimal() else "fraction"
    if first in below:
        return "repeated"
    if sum(map(resembles_number, below)) > len(below) / 2:
        return "name above numbers"
    few = len(below) >= _MIN_ROWS_BELOW and below.n_unique() <= _MAX_DISTINCT_SHARE * len(below)
    return "distinct" if few else "unknown"


def _detect_format(path: Path, layout: Layout) -> CsvDialect:
    """Return the format of the file, as the layout specifies it or as its first lines show.

    Raises:
        DataError: the file is empty or not text, or its encoding is not known.
    """
    encoding = _find_encoding(path, layout.encoding)
    text = _read_sample(path, encoding)
    return sniff(text, encoding, separator=layout.separator, quote=layout.quote)


def _find_encoding(path: Path, specified: str | None) -> str:
    """Return the codec of the file's byte-order mark, of the specified encoding, or of its bytes.

    Without any, it is `FALLBACK` if the file is not valid UTF-8.

    Raises:
        DataError: the encoding is not known, or the file has another type or is not text.
    """
    with path.open("rb") as file:
        start = file.read(_CHUNK)
    if (marked := find_marked_codec(start)) is not None:
        return marked
    if specified is not None:
        codec = find_codec(specified, start)
        if codec is None:
            raise DataError(
                f"{path}: the encoding {specified!r} is not known here. "
                "Save the table in UTF-8, or correct data.encoding."
            )
        return codec
    if (other := describe_file_type(start)) is not None:
        raise DataError(
            f"{path} is {other}, not a CSV file. Save the table as CSV, without compression."
        )
    codec = find_unmarked_codec(start)
    if codec is None:
        raise DataError(f"{path} is not a CSV file: its bytes are not text. Save the table as CSV.")
    return codec if codec != "utf-8" or _is_utf8(path) else FALLBACK


def _is_utf8(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            while file.read(_CHUNK):
                pass
    except UnicodeDecodeError:
        return False
    return True


def _read_sample(path: Path, encoding: str) -> str:
    """Read the beginning of the file.

    Raises:
        DataError: it has another encoding, is JSON, or is blank.
    """
    try:
        with path.open(encoding=encoding, newline="") as file:
            text = file.read(_SAMPLE_CHARACTERS)
    except UnicodeError as error:
        raise DataError(f"{path} cannot be read as {encoding}: {error}.") from None
    if begins_like_json(text):
        raise DataError(
            f"{path} contains JSON, not separated cells. Save the table as CSV, "
            "with one line per row and the names of the columns in the first line."
        )
    if not text.strip():
        raise DataError(f"{path} is empty; a table needs a header and rows.")
    return text


def _hash_file(path: Path) -> str:
    """Return the file's sha256, read in chunks.

    Raises:
        DataError: it is a folder, cannot be read, or has a line that is too long for a table.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the path of a CSV file.")
    if path.exists() and not path.is_file():
        raise DataError(
            f"{path} is a stream, which can only be read once; save it to a file, and give the "
            "path of that."
        )
    digest, line = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                rest = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
                line = line + len(chunk) if rest < 0 else len(chunk) - rest
                if line > _LONGEST_LINE:
                    raise DataError(
                        f"{path} has a line of more than {_LONGEST_LINE >> 20} MB; a CSV file has "
                        "one line per row. Check its format and its line ends."
                    )
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    return digest.hexdigest()


def _parse(path: Path, csv_dialect: CsvDialect) -> tuple[pl.DataFrame, list[int]]:
    """Return the cells of all rows, and the lines of the broken ones, whose cells are null."""
    if csv_dialect.escape:
        return _parse_row_by_row(path, csv_dialect)
    # Not the path, in which Polars expands patterns, and which it requires to be valid UTF-8.
    source = path.read_bytes()
    if csv_dialect.encoding not in ("utf-8", "utf-8-sig"):
        source = source.decode(csv_dialect.encoding, errors="replace").encode()
    source = source.rstrip(b"\r\n")
    # Polars reads an empty line as a row.
    if _EMPTY_LINE.search(source):
        return _parse_row_by_row(path, csv_dialect)
    try:
        frame = pl.read_csv(
            source,
            has_header=False,
            infer_schema=False,
            separator=csv_dialect.separator,
            quote_char=csv_dialect.quote,
            eol_char=csv_dialect.line_end[-1],
            skip_lines=int(csv_dialect.declared),
        )
    except pl.exceptions.NoDataError:
        raise DataError(f"{path} is empty; a table needs a header and rows.") from None
    except pl.exceptions.PolarsError:
        return _parse_row_by_row(path, csv_dialect)
    if _has_quotes_inside(source, csv_dialect) or _has_lines_inside(frame, csv_dialect):
        return _parse_row_by_row(path, csv_dialect)
    return frame, []


def _has_quotes_inside(source: bytes, csv_dialect: CsvDialect) -> bool:
    """Return whether there is a quote between letters, which Polars may drop."""
    letter = rf"[^{re.escape(csv_dialect.separator + csv_dialect.quote)}\r\n]"
    inside = f"{letter}{re.escape(csv_dialect.quote)}{letter}"
    return re.search(inside.encode(), source) is not None


def _has_lines_inside(frame: pl.DataFrame, csv_dialect: CsvDialect) -> bool:
    """Return whether a line within a cell has a separator, as after a quote that is not closed."""
    pattern = rf"\n[^\n]*{re.escape(csv_dialect.separator)}"
    return any(frame.select(pl.all().str.contains(pattern).any()).row(0))


def _parse_row_by_row(path: Path, csv_dialect: CsvDialect) -> tuple[pl.DataFrame, list[int]]:
    """Parse by the records of the service, which is slow but reads rows of different lengths.

    Short titles and rows get empty cells, and empty cells beyond the header are dropped. A broken
    record is a row of nulls; the lines after it are read as the service reads them.

    Raises:
        DataError: a row has too many cells, or too many records are broken; the message has its
            line.
    """
    text = path.read_bytes().decode(csv_dialect.encoding, errors="replace")
    first = _read_records(text, csv_dialect, None, MAX_TITLES)
    titles = count_titles([row.cells for row in first])
    width = len(first[titles].cells)
    rows = _read_records(text, csv_dialect, width, len(text))
    broken = [row.line for row in rows if row.error is not None]
    if len(broken) > _MAX_BROKEN_SHARE * len(rows):
        raise DataError(
            f"{path}, line {broken[0]}: a quote is never closed, or a quote inside a quoted cell "
            f"is not doubled ({csv_dialect.quote * 2})."
        )
    for row in rows[titles:]:
        if any(map(str.strip, row.cells[width:])):
            raise DataError(
                f"{path}, line {row.line}: {format_count(len(row.cells), 'cell')} where the first "
                f"row has {width}. Quote cells that contain {csv_dialect.separator!r}, and remove "
                "title lines above the header."
            )
    names = [column_name(k) for k in range(1, width + 1)]
    padded = [[*row.cells[:width], *[None] * (width - len(row.cells))] for row in rows]
    return pl.DataFrame(padded, schema=dict.fromkeys(names, pl.String), orient="row"), broken


def _read_records(
    text: str, csv_dialect: CsvDialect, width: int | None, most: int
) -> Sequence[Record]:
    """Return the first records of a table, whose rows have this many columns."""
    lines = Lines("utf-8", _LONGEST_LINE, csv_dialect.line_end[-1])
    lines.feed(text.encode())
    lines.end()
    lines.take(int(csv_dialect.declared))
    separator, quote, escape = csv_dialect.separator, csv_dialect.quote, csv_dialect.escape
    return Records(lines, separator, quote, escape, width).take(most)


def check_header(columns: Sequence[str], frame: pl.DataFrame, path: Path) -> None:
    """Raise `DataError` if the names do not fit the columns, or there are no rows."""
    if len(columns) != frame.width:
        raise DataError(
            f"{path} has {format_count(frame.width, 'column')}, but "
            f"{format_subject(len(columns), 'column name')} given."
        )
    repeated = sorted(name for name, times in Counter(columns).items() if times > 1)
    if repeated:
        raise DataError(
            f"{path} has two columns named {repeated[0]!r}; "
            "rename one of them in the first line of the file."
        )
    if frame.height == 0:
        raise DataError(f"{path} has a header but no rows.")
