"""Reading anybody's CSV file as a table of text cells."""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from training.data.csv_header import has_header, titles_above
from training.data.csv_layout import LONGEST_LINE, FoundLayout, Layout, find_layout
from training.data.numerals import find_numerals
from training.data.table import Reading, Table, tidied
from training.errors import DataError

_CHUNK = 1 << 20


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
    found = find_layout(path, layout)
    frame = _parse(path, found)
    titles = titles_above(frame)
    frame = frame.slice(titles)
    header = columns is None and (has_header(frame) if layout.header is None else layout.header)
    if columns is None:
        columns = [f"column_{k}" for k in range(1, frame.width + 1)]
    if header:
        first = zip(frame.row(0), columns, strict=True)
        columns = [_name(cell or "") or number for cell, number in first]
        frame = frame.slice(1)
    _check_header(columns, frame, path)
    frame = frame.rename(dict(zip(frame.columns, columns, strict=True)))
    frame = tidied(frame, layout.missing)
    numerals, doubtful = layout.numerals, ""
    if numerals is None:
        numerals, doubtful = find_numerals(frame, found.separator)
    reading = Reading(found.separator, found.quote, found.encoding, header, titles, doubtful)
    return Table(name or path.name, frame, digest, numerals, reading)


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
                if line > LONGEST_LINE:
                    raise DataError(
                        f"{path} has a line of more than {LONGEST_LINE >> 20} MB; a CSV file has "
                        "one line for each row. Check that it is one and that its lines end."
                    )
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    return digest.hexdigest()


def _parse(path: Path, layout: FoundLayout) -> pl.DataFrame:
    source: Path | bytes = path
    if layout.encoding not in ("utf-8", "utf-8-sig"):
        source = path.read_bytes().decode(layout.encoding, errors="replace").encode()
    try:
        return pl.read_csv(
            source,
            has_header=False,
            infer_schema=False,
            separator=layout.separator,
            quote_char=layout.quote,
            eol_char=layout.line_end,
            skip_lines=int(layout.declared),
        )
    except pl.exceptions.NoDataError:
        raise DataError(f"{path} is empty; a table needs a header and rows.") from None
    except pl.exceptions.PolarsError:
        return _parse_row_by_row(path, layout)


def _parse_row_by_row(path: Path, layout: FoundLayout) -> pl.DataFrame:
    """The same by Python's own reader: slow, but it leaves a quote inside an unquoted cell alone.

    Raises:
        DataError: with the line where the file stops being a table.
    """
    lines: list[list[str]] = []
    with path.open(encoding=layout.encoding, newline="", errors="replace") as file:
        if layout.declared:
            file.readline()
        rows = csv.reader(file, delimiter=layout.separator, quotechar=layout.quote, strict=True)
        start = 1 + layout.declared
        try:
            for row in rows:
                if lines and len(row) > len(lines[0]):
                    raise DataError(
                        f"{path}, line {start}: {len(row)} cells where the first row has "
                        f"{len(lines[0])}; a cell that holds {layout.separator!r} must stand in "
                        "quotes, and a title above the header must go."
                    )
                start = 1 + layout.declared + rows.line_num
                lines.append(row)
        except csv.Error:
            raise DataError(
                f"{path}, line {start}: a quote that is opened and never closed, or one inside a "
                f"quoted cell; there it is written twice ({layout.quote * 2})."
            ) from None
    names = [f"column_{k}" for k in range(1, len(lines[0]) + 1)]
    padded = [[*row, *[None] * (len(names) - len(row))] for row in lines]
    return pl.DataFrame(padded, schema=dict.fromkeys(names, pl.String), orient="row")


def _name(cell: str) -> str:
    """A column's name on one line."""
    return re.sub(r"\s*[\r\n]\s*", " ", cell.strip())


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
