"""CSV files of any dialect as tables of text cells."""

import codecs
import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from service.tabletext.cells import MISSING, POINT, Numerals
from service.tabletext.dialect import (
    MOST_TITLES,
    CsvDialect,
    begins_like_json,
    column_name,
    marked_codec,
    sniff,
    titles_above,
    unmarked_codec,
)
from training.data.numerals import find_numerals, like_numbers
from training.data.table import Reading, Table, tidied
from training.errors import DataError
from training.recipe.table import Data

_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 24
_SAMPLE_CHARACTERS = 1 << 18
_OTHER_FORMATS = {
    b"\x1f\x8b": "packed by gzip; unpack it first",
    b"PK\x03\x04": "a spreadsheet or a zip archive; save the table as CSV, or unpack it first",
    b"\xd0\xcf\x11\xe0": "a spreadsheet; save the table as CSV",
    b"PAR1": "a Parquet file; save the table as CSV",
}
_ROWS_BELOW = 200
_LEAST_BELOW = 8
_SELDOM = 0.25


@dataclass(frozen=True)
class Layout:
    """How a file writes its cells; None is found out."""

    separator: str | None = None
    quote: str | None = None
    numerals: Numerals | None = POINT
    encoding: str | None = None
    missing: tuple[str, ...] = MISSING
    header: bool | None = None


UNKNOWN = Layout(numerals=None, missing=("",))
"""Nothing is known of the file, not even its words for missing values."""


def layout_of(data: Data) -> Layout:
    """How a recipe says that its file writes cells."""
    numerals = Numerals(data.decimal, data.thousands)
    missing = tuple(data.missing)
    return Layout(data.separator, data.quote, numerals, data.encoding, missing, data.header)


def read_csv(
    path: Path,
    layout: Layout | None = None,
    columns: Sequence[str] | None = None,
    *,
    name: str | None = None,
) -> Table:
    """Read a CSV file; `columns` names the columns of a file without a header.

    Unless the layout says so, `has_header` tells whether there is one; a file without has the
    columns column_1, column_2 and on. Titles above the header are left out.

    Raises:
        DataError: it is missing, empty, no text, no table, or two columns have the same name.
    """
    layout = layout or Layout()
    digest = _digest(path)
    dialect = _dialect(path, layout)
    frame = _parse(path, dialect)
    titles = titles_above(frame.head(MOST_TITLES).rows())
    frame = frame.slice(titles)
    header = columns is None and (has_header(frame) if layout.header is None else layout.header)
    if columns is None:
        columns = [column_name(k) for k in range(1, frame.width + 1)]
    if header:
        columns = [column_name(k, cell) for k, cell in enumerate(frame.row(0), 1)]
        frame = frame.slice(1)
    _check_header(columns, frame, path)
    frame = frame.rename(dict(zip(frame.columns, columns, strict=True)))
    frame = tidied(frame, layout.missing)
    numerals, doubtful = layout.numerals, ""
    if numerals is None:
        numerals, doubtful = find_numerals(frame, dialect.separator)
    reading = Reading(dialect.separator, dialect.quote, dialect.encoding, header, titles, doubtful)
    return Table(name or path.name, frame, digest, numerals, reading, missing=layout.missing)


def has_header(frame: pl.DataFrame) -> bool:
    """Whether the first row names the columns.

    A word above numbers is a name. A word that comes again below it is a cell, and one that does
    not, above words that keep coming again, is a name. Where no column shows anything, a first row
    with a number is one of cells.
    """
    columns = [_evidence(cells) for cells in frame.head(1 + _ROWS_BELOW)]
    if "name above numbers" in columns:
        return True
    if columns.count("comes again") > columns.count("stands apart"):
        return False
    if "stands apart" in columns and "fraction" not in columns:
        return True
    return not {"fraction", "whole number"} & set(columns)


def _evidence(cells: pl.Series) -> str:
    """What the first cell of a column shows."""
    cells = cells.str.strip_chars()
    first, below = str(cells[0] or ""), cells[1:].drop_nulls()
    if first in MISSING:
        return "nothing"
    if like_numbers(cells[:1]).item():
        return "whole number" if first.isdecimal() else "fraction"
    if first in below:
        return "comes again"
    if like_numbers(below).sum() > len(below) / 2:
        return "name above numbers"
    seldom = len(below) >= _LEAST_BELOW and below.n_unique() <= _SELDOM * len(below)
    return "stands apart" if seldom else "nothing"


def _dialect(path: Path, layout: Layout) -> CsvDialect:
    """How the file is written, as the layout says or as its first lines show.

    Raises:
        DataError: the file is empty, or no text.
    """
    csv.field_size_limit(_LONGEST_LINE)
    encoding = layout.encoding or _encoding(path)
    text = _sample(path, encoding)
    return sniff(text, encoding, separator=layout.separator, quote=layout.quote)


def _encoding(path: Path) -> str:
    """What the first bytes show; what is not UTF-8 further on is Windows's."""
    with path.open("rb") as file:
        start = file.read(_CHUNK)
        if (marked := marked_codec(start)) is not None:
            return marked
        for signature, remedy in _OTHER_FORMATS.items():
            if start.startswith(signature):
                raise DataError(f"{path} is no CSV file but {remedy}.")
        encoding = unmarked_codec(start)
        if encoding is None:
            raise DataError(
                f"{path} holds bytes that are no text, so it is no CSV file. "
                "Save the table as CSV (a spreadsheet's own format is not read)."
            )
        if encoding != "utf-8":
            return encoding
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(start)
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8"


def _sample(path: Path, encoding: str) -> str:
    """The beginning of the file."""
    try:
        with path.open(encoding=encoding, newline="") as file:
            text = file.read(_SAMPLE_CHARACTERS)
    except (LookupError, UnicodeError) as error:
        raise DataError(f"{path} cannot be read as {encoding}: {error}.") from None
    if begins_like_json(text):
        raise DataError(
            f"{path} holds JSON, not cells between separators. Save the table as CSV, "
            "with one line for each row and the names of the columns in the first."
        )
    if not text.strip():
        raise DataError(f"{path} is empty; a table needs a header and rows.")
    return text


def _digest(path: Path) -> str:
    """The file's sha256, read in pieces; also notices what can be no CSV file."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the path of a CSV file.")
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
                        "one line for each row. Check that it is one and that its lines end."
                    )
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    return digest.hexdigest()


def _parse(path: Path, dialect: CsvDialect) -> pl.DataFrame:
    source: Path | bytes = path
    if dialect.encoding not in ("utf-8", "utf-8-sig"):
        source = path.read_bytes().decode(dialect.encoding, errors="replace").encode()
    try:
        return pl.read_csv(
            source,
            has_header=False,
            infer_schema=False,
            separator=dialect.separator,
            quote_char=dialect.quote,
            eol_char=dialect.line_end[-1],
            skip_lines=int(dialect.declared),
            glob=False,
        )
    except pl.exceptions.NoDataError:
        raise DataError(f"{path} is empty; a table needs a header and rows.") from None
    except pl.exceptions.PolarsError:
        return _parse_row_by_row(path, dialect)


def _parse_row_by_row(path: Path, dialect: CsvDialect) -> pl.DataFrame:
    """The same by Python's own reader: slow, but it leaves a quote inside an unquoted cell alone.

    Raises:
        DataError: with the line where the file stops being a table.
    """
    lines: list[list[str]] = []
    with path.open(encoding=dialect.encoding, newline="", errors="replace") as file:
        if dialect.declared:
            file.readline()
        rows = csv.reader(file, delimiter=dialect.separator, quotechar=dialect.quote, strict=True)
        start = 1 + dialect.declared
        try:
            for row in rows:
                if lines and len(row) > len(lines[0]):
                    raise DataError(
                        f"{path}, line {start}: {len(row)} cells where the first row has "
                        f"{len(lines[0])}; a cell that holds {dialect.separator!r} must stand in "
                        "quotes, and a title above the header must go."
                    )
                start = 1 + dialect.declared + rows.line_num
                lines.append(row)
        except csv.Error:
            raise DataError(
                f"{path}, line {start}: a quote that is opened and never closed, or one inside a "
                f"quoted cell; there it is written twice ({dialect.quote * 2})."
            ) from None
    names = [column_name(k) for k in range(1, len(lines[0]) + 1)]
    padded = [[*row, *[None] * (len(names) - len(row))] for row in lines]
    return pl.DataFrame(padded, schema=dict.fromkeys(names, pl.String), orient="row")


def _check_header(columns: Sequence[str], frame: pl.DataFrame, path: Path) -> None:
    if len(columns) != frame.width:
        raise DataError(
            f"{path} has {frame.width} columns, but {len(columns)} names are given for them."
        )
    repeated = sorted(name for name, times in Counter(columns).items() if times > 1)
    if repeated:
        raise DataError(
            f"{path} has two columns of the name {repeated[0]!r}; "
            "rename one of them in the file's first line."
        )
    if frame.height == 0:
        raise DataError(f"{path} has a header and no rows; there is nothing to learn from.")
