"""Table files as the source of a command: Parquet, Arrow and Excel."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

from service.errors import InvalidRequest
from service.filetypes import identify_table
from service.tablefiles.reader import TableFile, open_table_file

SUFFIXES = {
    ".parquet": "a Parquet file",
    ".pq": "a Parquet file",
    ".arrow": "an Arrow file",
    ".arrows": "an Arrow stream",
    ".feather": "an Arrow file",
    ".ipc": "an Arrow file",
    ".xlsx": "an Excel file",
    ".xls": "an Excel file",
    ".ods": "a spreadsheet",
}
"""What a file is by the extension of its name."""
_START_BYTES = 64


class Source(NamedTuple):
    """The text of a table, and the columns of numbers if it is a table file."""

    pieces: AsyncIterator[bytes]
    numbers: frozenset[int] | None


async def open_source(pieces: AsyncIterator[bytes], path: Path | None, sheet: str | None) -> Source:
    """Recognize a table file by its signature, and return the text of a table.

    Args:
        pieces: of the content, decompressed.
        path: of a file that is not compressed, from which large files are read in parts.
        sheet: of a workbook.

    Raises:
        InvalidRequest: the table file cannot be read, or only a workbook has sheets.
    """
    start = b""
    async for piece in pieces:
        start += piece
        if len(start) >= _START_BYTES:
            break
    kind = identify_table(start)
    if sheet is not None and (kind is None or kind.table != "workbook"):
        raise InvalidRequest("Only an Excel or OpenDocument file has sheets; leave out --sheet.")
    if kind is None:
        return Source(_chain(start, pieces), None)
    table = open_table_file(path or await _join(start, pieces), sheet)
    return Source(_as_stream(table), table.numbers)


async def _chain(start: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield start
    async for piece in pieces:
        yield piece


async def _join(start: bytes, pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([start, *[piece async for piece in pieces]])


async def _as_stream(table: TableFile) -> AsyncIterator[bytes]:
    pieces: Iterator[bytes] = table.pieces()
    for piece in pieces:
        yield piece
