"""Read tables of any format: CSV, Parquet, Arrow and workbooks."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from service.errors import InvalidRequest
from service.tablefiles.reader import name_kind, open_table_file
from service.tablefiles.start import identify_path
from service.tabletext import NumberFormat
from training.data.csv import Layout, check_header, name_columns, read_csv, readable_name
from training.data.numbers import detect_number_format
from training.data.table import DetectedCsvFormat, Table, clean_cells
from training.errors import DataError

# The commas of CSV are no hint on the marks in the texts of a table file.
_NO_SEPARATOR = "\t"


@dataclass(frozen=True)
class DetectedFileFormat(DetectedCsvFormat):
    """The format of a table file, and of the CSV text that the service makes of it."""

    kind: str = ""
    """Such as "Parquet file"."""
    sheets: Sequence[str] = ()
    """All sheets of a workbook."""
    sheet: str = ""
    """The sheet that was read."""


def read_table(
    path: Path,
    layout: Layout | None = None,
    columns: Sequence[str] | None = None,
    *,
    name: str | None = None,
) -> Table:
    """Read a table file, or else a CSV file, as tables of text cells.

    The columns of a table file have the text that the service reads, so its types decide as little
    as in CSV: a text of digits may be a number.

    Args:
        path: the file.
        layout: its format; by default the usual one of recipes.
        columns: names for the columns: of a CSV file without a header.
        name: the name of the table in messages; by default the name of the file.

    Raises:
        DataError: the file is missing, empty or no table, or two columns have the same name.
    """
    layout = layout or Layout()
    kind = None
    # Reading anything else as CSV says why that fails; to open a pipe would wait for a writer.
    if path.is_file():
        with suppress(OSError):
            kind = identify_path(path)
    if kind is None:
        if layout.sheet is not None:
            raise DataError(f"{path} is not an Excel file, so it has no sheet {layout.sheet!r}.")
        return read_csv(path, layout, columns, name=name)
    return _read_table_file(path, name_kind(kind), layout, columns, name or readable_name(path))


def _read_table_file(
    path: Path, kind: str, layout: Layout, given: Sequence[str] | None, name: str
) -> Table:
    """Read a table file of a kind; the names of its columns may be given."""
    try:
        file = open_table_file(path, layout.sheet)
        frame = pl.concat(list(file.frames))
    except InvalidRequest as error:
        raise DataError(f"{path}: {error}") from None
    names, renamed = name_columns(file.names)
    columns = names if given is None else list(given)
    check_header(columns, frame, path)
    frame.columns = columns
    number_format, ambiguous = _find_number_format(frame, file.numbers, layout)
    frame = _with_decimal(frame, file.numbers, number_format)
    file_format = DetectedFileFormat(
        ",",
        '"',
        "utf-8",
        header=given is None,
        ambiguous=ambiguous,
        renamed=renamed,
        kind=kind,
        sheets=file.sheets,
        sheet=layout.sheet or "".join(file.sheets[:1]),
    )
    return Table(
        name,
        clean_cells(frame, layout.missing) if layout.stripped else frame,
        _hash(path),
        number_format,
        file_format,
        missing=layout.missing,
        stripped=layout.stripped,
    )


def _find_number_format(
    frame: pl.DataFrame, numbers: frozenset[int], layout: Layout
) -> tuple[NumberFormat, str]:
    """Return the marks in columns of text, and an ambiguous cell, or an empty string."""
    if layout.number_format is not None:
        return layout.number_format, ""
    texts = frame.select(pl.nth([k for k in range(frame.width) if k not in numbers]))
    return detect_number_format(texts, _NO_SEPARATOR, layout.decimal)


def _with_decimal(
    frame: pl.DataFrame, numbers: frozenset[int], number_format: NumberFormat
) -> pl.DataFrame:
    """Write the numbers of a table file with the decimal mark of its texts: a table has one."""
    if number_format.decimal == "." or not numbers:
        return frame
    cells = pl.nth(sorted(numbers)).str.replace(".", number_format.decimal, literal=True)
    return frame.with_columns(cells)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
