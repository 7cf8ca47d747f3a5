"""Reading anybody's CSV file: separator, quotes, encoding and header found out, cells as text."""

import codecs
import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from training.errors import DataError
from training.recipe import Data
from training.tabular import MISSING, Table, as_number, tidied

_SEPARATORS = ",;\t|"
_SAMPLE_BYTES = 1 << 18
_LONGEST_LINE = 1 << 24
_CHUNK = 1 << 20
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class Layout:
    """How a file writes its cells; None is found out."""

    separator: str | None = None
    quote: str | None = None
    decimal: str = "."
    encoding: str | None = None
    missing: tuple[str, ...] = MISSING


def layout_of(data: Data) -> Layout:
    """How a recipe says that its file writes cells."""
    return Layout(data.separator, data.quote, data.decimal, data.encoding, tuple(data.missing))


def read_csv(
    path: Path,
    layout: Layout | None = None,
    columns: Sequence[str] | None = None,
    *,
    name: str | None = None,
) -> Table:
    """Read a CSV file; `columns` names the columns of a file without a header.

    A file without a header is known by a first row of nothing but numbers (or numbers in quotes);
    unless `columns` says otherwise its columns are called column_1, column_2 and so on.

    Raises:
        DataError: it is missing, empty, no text, no table, or two columns have the same name.
    """
    layout = layout or Layout()
    digest = _digest(path)
    encoding = layout.encoding or _encoding(path)
    sample = _sample(path, encoding)
    quote = layout.quote or _quote(sample)
    separator = layout.separator or _separator(sample, quote)
    frame = _parse(path, encoding, separator, quote)
    first = [cell or "" for cell in frame.row(0)]
    if columns is None and any(as_number(cell, layout.decimal) is not None for cell in first):
        columns = [f"column_{k}" for k in range(1, frame.width + 1)]
    if columns is None:
        columns = [cell.strip() or f"column_{k}" for k, cell in enumerate(first, start=1)]
        frame = frame.slice(1)
    _check_header(columns, frame, path)
    frame = frame.rename(dict(zip(frame.columns, columns, strict=True)))
    return Table(name or path.name, tidied(frame, layout.missing), digest, layout.decimal)


def _digest(path: Path) -> str:
    """The file's sha256, read in pieces; also notices what can be no CSV file."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the path of a CSV file.")
    digest, line = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                line = line + len(chunk) if b"\n" not in chunk else len(chunk.rpartition(b"\n")[2])
                if line > _LONGEST_LINE:
                    raise DataError(
                        f"{path} has a line of more than {_LONGEST_LINE >> 20} MB; a CSV file has "
                        "one line for each row. Check that it is one and that its lines end."
                    )
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    return digest.hexdigest()


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(_CHUNK)
        for mark, encoding in _MARKS.items():
            if start.startswith(mark):
                return encoding
        if b"\0" in start:
            raise DataError(
                f"{path} holds bytes that are no text, so it is no CSV file. "
                "Save the table as CSV (a spreadsheet's own format is not read)."
            )
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(start)
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8"


def _sample(path: Path, encoding: str) -> list[str]:
    try:
        with path.open(encoding=encoding, newline="") as file:
            text = file.read(_SAMPLE_BYTES)
    except (LookupError, UnicodeError) as error:
        raise DataError(f"{path} cannot be read as {encoding}: {error}.") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty; a table needs a header and rows.")
    return lines[:50]


def _quote(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    single = sum(text.count(f"{mark}'") + text.count(f"'{mark}") for mark in _SEPARATORS)
    return "'" if '"' not in text and single >= len(lines) else '"'


def _separator(lines: Sequence[str], quote: str) -> str:
    """The one that divides most lines into the same number of cells, and into the most."""

    def evenness(separator: str) -> tuple[int, int]:
        widths = Counter(map(len, csv.reader(lines, delimiter=separator, quotechar=quote)))
        width, times = widths.most_common(1)[0]
        return (times if width > 1 else 0, width)

    return max(_SEPARATORS, key=evenness)


def _parse(path: Path, encoding: str, separator: str, quote: str) -> pl.DataFrame:
    source: Path | bytes = path
    if encoding not in ("utf-8", "utf-8-sig"):
        source = path.read_bytes().decode(encoding, errors="replace").encode()
    try:
        return pl.read_csv(
            source,
            has_header=False,
            infer_schema=False,
            separator=separator,
            quote_char=quote,
        )
    except pl.exceptions.NoDataError:
        raise DataError(f"{path} is empty; a table needs a header and rows.") from None
    except pl.exceptions.PolarsError as error:
        raise DataError(_ragged(path, encoding, separator, quote) or f"{path}: {error}") from None


def _ragged(path: Path, encoding: str, separator: str, quote: str) -> str | None:
    """The first row whose cells are not as many as the first row's."""
    with path.open(encoding=encoding, newline="", errors="replace") as file:
        rows = csv.reader(file, delimiter=separator, quotechar=quote)
        width = len(next(rows))
        for row in rows:
            if len(row) > width:
                return (
                    f"{path}, line {rows.line_num}: {len(row)} cells where the first row has "
                    f"{width}; a cell that holds {separator!r} must stand in quotes."
                )
    return None


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
