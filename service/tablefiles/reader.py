"""Read table files as rows of text, batch by batch.

Training and the service both read them here. Nothing limits the memory of a file, so the service
reads those of clients in a process of its own: `service.tablefiles.process`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import InvalidRequest
from service.filetypes import FileType, identify_table
from service.records import MAX_COLUMNS, too_many_columns
from service.tablefiles.libraries import load_library
from service.tablefiles.start import identify_path
from service.tablefiles.texts import as_text, write_header, write_rows
from service.tablefiles.workbook import read_sheet

if TYPE_CHECKING:
    import polars as pl

# A batch has fewer rows if these have many columns.
_BATCH_ROWS, _BATCH_CELLS = 8192, 500_000
_LONGEST_REASON = 200


@dataclass(frozen=True)
class TableFile:
    """The columns of a file, and its rows."""

    names: Sequence[str]
    numbers: frozenset[int]
    """The positions of the columns of numbers, which have a decimal point."""
    frames: "Iterator[pl.DataFrame]"
    """Batches of rows as text, null for missing values. The file is read as they are taken, which
    may raise `InvalidRequest`. There is at least one, which may have no rows."""
    sheets: Sequence[str] = ()
    """The names of all sheets of a workbook."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the table as the text of a CSV file in UTF-8, with commas."""
        yield write_header(list(self.names))
        for frame in self.frames:
            if frame.height:
                yield write_rows(frame)


def open_table_file(
    source: bytes | Path,
    sheet: str | None = None,
    max_bytes: int | None = None,
    *,
    to_score: bool = False,
) -> TableFile:
    """Open a file, whose format is that of its signature.

    Args:
        source: its content, or its path.
        sheet: of a workbook; None is the first one.
        max_bytes: that a workbook may have when it is unpacked; None for no limit.
        to_score: whether the number of columns has the limit of a table to score.

    Raises:
        InvalidRequest: the file cannot be read, a column has no cells, or there are too many.
        ExpandsTooMuch: the workbook has more bytes than allowed.
    """
    kind = _identify(source)
    is_workbook = kind.table == "workbook"
    with _readable(kind):
        if is_workbook:
            found = read_sheet(source, sheet, max_bytes)
            names, sheets = found.names, found.sheets
            rows, schema = found.frame.lazy(), found.frame.schema
        else:
            rows, schema = _scan(source, kind)
            names, sheets = list(schema), ()
    if not names:
        raise InvalidRequest(f"The {name_kind(kind)} has no columns; a table needs some.")
    # Before the conversion, whose time grows with the columns.
    if to_score and len(schema) > MAX_COLUMNS:
        raise too_many_columns(f"The {name_kind(kind)} has", len(schema))
    columns = [as_text(name, dtype, has_times=is_workbook) for name, dtype in schema.items()]
    numbers = frozenset(k for k, dtype in enumerate(schema.values()) if dtype.is_numeric())
    return TableFile(names, numbers, _take_batches(rows.select(columns), kind), sheets)


def _identify(source: bytes | Path) -> FileType:
    found = identify_path(source) if isinstance(source, Path) else identify_table(source)
    if found is None:
        raise InvalidRequest(
            "The file is no Parquet, Arrow or Excel file by its first bytes; check its format."
        )
    return found


def _scan(source: bytes | Path, kind: FileType) -> "tuple[pl.LazyFrame, pl.Schema]":
    polars: Any = load_library("polars")
    if kind.table == "arrow_stream":
        stream = polars.read_ipc_stream(source)
        return stream.lazy(), stream.schema
    # In a path, Polars would expand patterns.
    scan = polars.scan_parquet if kind.table == "parquet" else polars.scan_ipc
    rows = scan(source, glob=False)
    return rows, rows.collect_schema()


def _take_batches(rows: "pl.LazyFrame", kind: FileType) -> "Iterator[pl.DataFrame]":
    """Yield the rows in batches, or one batch without rows."""
    with _readable(kind):
        empty = rows.clear().collect()
        most = max(1, min(_BATCH_ROWS, _BATCH_CELLS // empty.width))
        batches = rows.collect_batches(chunk_size=most, maintain_order=True, lazy=True)
    is_empty = True
    while True:
        with _readable(kind):
            batch = next(batches, None)
        if batch is None:
            break
        is_empty = False
        yield batch
    if is_empty:
        yield empty


@contextmanager
def _readable(kind: FileType) -> Iterator[None]:
    """Raise `InvalidRequest` for any error of the libraries.

    A panic of their Rust code is a `BaseException`, and each library has its own type of it.
    """
    try:
        yield
    except (InvalidRequest, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - see above
        reason = " ".join(str(error).split())[:_LONGEST_REASON].rstrip(".")
        raise InvalidRequest(
            f"The {name_kind(kind)} cannot be read: {reason or type(error).__name__}. "
            "Check that it is complete, or save the table as CSV."
        ) from None


def name_kind(kind: FileType) -> str:
    """Return the name of a type of table file for messages, without an article."""
    return "workbook" if kind.table == "workbook" else kind.description.partition(" ")[2]
