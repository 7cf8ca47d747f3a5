"""Table files as the source of a command: Parquet, Arrow and Excel."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

from service.errors import InvalidRequest
from service.tablefiles.reader import TableFile, open_table_file
from service.tablefiles.start import identify_stream


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
    kind, pieces = await identify_stream(pieces)
    if sheet is not None and (kind is None or kind.table != "workbook"):
        raise InvalidRequest("Only an Excel or OpenDocument file has sheets; leave out --sheet.")
    if kind is None:
        return Source(pieces, None)
    table = open_table_file(
        path or b"".join([piece async for piece in pieces]), sheet, to_score=True
    )
    return Source(_as_stream(table), table.numbers)


async def _as_stream(table: TableFile) -> AsyncIterator[bytes]:
    pieces: Iterator[bytes] = table.pieces()
    for piece in pieces:
        yield piece
