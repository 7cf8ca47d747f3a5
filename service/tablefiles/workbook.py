"""Read one sheet of a workbook: .xlsx, .xlsm, .xlsb, .xls or .ods."""

import io
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import InvalidRequest
from service.records import MAX_TITLES, count_titles
from service.spelling import join_names
from service.tablefiles.libraries import load_library
from service.values import format_value

if TYPE_CHECKING:
    import polars as pl

_ZIP_START = b"PK"
# Of an .xlsx, .xlsm or .xlsb, and of an .ods.
_PARTS = ("xl/", "content.xml")
_NAMES_SHOWN = 20

# It reports columns without values, which are columns of missing values here.
logging.getLogger("fastexcel").setLevel(logging.CRITICAL)


class ExpandsTooMuch(InvalidRequest):
    """A workbook has more bytes than allowed when it is unpacked."""


@dataclass(frozen=True)
class Sheet:
    """The names in the header of a sheet, the typed rows below it, and all sheets."""

    names: Sequence[str]
    frame: "pl.DataFrame"
    sheets: Sequence[str]


def read_sheet(source: bytes | Path, sheet: str | None, max_bytes: int | None) -> Sheet:
    """Read a sheet, without the title rows above its header.

    A formula has the value that was saved with it. A cell with an error, such as #N/A, is missing.
    A column with different types of values is text.

    Args:
        source: the content or the path of the workbook.
        sheet: its name; None is the first one.
        max_bytes: of the unpacked workbook.

    Raises:
        InvalidRequest: the file is no workbook, or there is no such sheet, or it is empty.
        ExpandsTooMuch: the workbook has more bytes than allowed.
    """
    _require_workbook(source, max_bytes)
    reader = load_library("fastexcel").read_excel(
        source if isinstance(source, bytes) else str(source)
    )
    names = list(reader.sheet_names)
    if sheet is not None and sheet not in names:
        raise InvalidRequest(
            f"The workbook has no sheet {format_value(sheet)}; its sheets are "
            f"{join_names([format_value(name) for name in names], _NAMES_SHOWN)}."
        )
    if not names:
        raise InvalidRequest("The workbook has no sheet; save the table as CSV.")
    position = 0 if sheet is None else names.index(sheet)
    rows = reader.load_sheet(
        position, header_row=None, skip_rows=0, n_rows=MAX_TITLES, dtypes="string"
    ).to_polars()
    cells = rows.rows()
    if not cells:
        raise InvalidRequest(
            f"Sheet {format_value(names[position])} is empty; a table needs a first row with the "
            "columns' names, and rows below it."
        )
    titles = min(count_titles(cells), len(cells) - 1)
    frame = reader.load_sheet(
        position,
        header_row=None,
        skip_rows=titles + 1,
        schema_sample_rows=None,
        skip_whitespace_tail_rows=True,
        whitespace_as_null=True,
    ).to_polars()
    header = [cell or "" for cell in cells[titles]]
    return Sheet(*_without_empty_columns(header, frame), names)


def _without_empty_columns(
    names: Sequence[str], frame: "pl.DataFrame"
) -> "tuple[Sequence[str], pl.DataFrame]":
    """Leave out columns that have neither a name nor a value, which a format may have added."""
    polars: Any = load_library("polars")
    columns = [
        k for k, name in enumerate(names) if name.strip() or frame[:, k].null_count() < len(frame)
    ]
    return [names[k] for k in columns], frame.select(polars.nth(columns))


def _require_workbook(source: bytes | Path, max_bytes: int | None) -> None:
    """Check the directory of a zip archive, before anything of it is unpacked.

    Old workbooks (.xls) are not compressed.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        if file.read(len(_ZIP_START)) != _ZIP_START:
            return
        try:
            parts = zipfile.ZipFile(file).infolist()
        except zipfile.BadZipFile:
            raise InvalidRequest(
                "The workbook is damaged or incomplete: it has no directory of its parts; save it "
                "again, or save the table as CSV."
            ) from None
    if not any(part.filename.startswith(_PARTS) for part in parts):
        raise InvalidRequest(
            "The file is a zip archive without a workbook; unpack it, and send the table in it."
        )
    if max_bytes is not None and sum(part.file_size for part in parts) > max_bytes:
        raise ExpandsTooMuch(
            f"The workbook has more than {max_bytes:,} bytes when it is unpacked; send fewer rows."
        )
