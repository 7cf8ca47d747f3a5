"""The text of table files: exact values, and rows that a CSV reader gets back."""

import csv
import datetime as dt
import io
import zipfile
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.filetypes import identify_table
from service.tablefiles.reader import open_table_file
from tests.table_files import FILES, arrow_file, parquet
from tests.workbooks import write_workbook

CELLS = st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=12))

MANIFEST = """<?xml version="1.0" encoding="UTF-8"?>
<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>
"""
OPENDOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<office:document-content
    xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
    xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
    xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" office:version="1.3">
<office:body><office:spreadsheet>
<table:table table:name="Sales">
<table:table-row>
<table:table-cell office:value-type="string"><text:p>word</text:p></table:table-cell>
<table:table-cell office:value-type="string"><text:p>share</text:p></table:table-cell>
<table:table-cell office:value-type="string"><text:p>garden</text:p></table:table-cell>
<table:table-cell office:value-type="string"><text:p>day</text:p></table:table-cell>
<table:table-cell table:number-columns-repeated="3"/>
</table:table-row>
<table:table-row>
<table:table-cell office:value-type="string"><text:p>a, b</text:p></table:table-cell>
<table:table-cell office:value-type="float" office:value="0.5"><text:p>1</text:p></table:table-cell>
<table:table-cell office:value-type="boolean" office:boolean-value="true"/>
<table:table-cell office:value-type="date" office:date-value="2024-05-01"/>
</table:table-row>
</table:table>
<table:table table:name="Notes">
<table:table-row>
<table:table-cell office:value-type="string"><text:p>x</text:p></table:table-cell>
</table:table-row>
<table:table-row>
<table:table-cell office:value-type="float" office:value="1"><text:p>1</text:p></table:table-cell>
</table:table-row>
</table:table>
</office:spreadsheet></office:body></office:document-content>
"""


def cells_of(content: bytes, sheet: str | None = None) -> list[list[str]]:
    """The rows of a file as the csv module reads its text, without the header."""
    text = b"".join(open_table_file(content, sheet).pieces()).decode()
    return list(csv.reader(io.StringIO(text, newline="")))[1:]


def texts_of(*values: object, dtype: pl.DataType | None = None) -> list[str]:
    """The cells of a column of values."""
    frame = pl.DataFrame({"column": pl.Series(values, dtype=dtype), "other": "x"})
    return [row[0] for row in cells_of(parquet(frame))]


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20))
def test_numbers_are_exact(numbers: list[float]) -> None:
    """Each text is the number again, and a whole number has no point."""
    texts = texts_of(*numbers, dtype=pl.Float64())

    assert [float(text) for text in texts] == numbers
    assert not any(text.endswith(".0") for text in texts)


@settings(
    max_examples=30, deadline=None
)  # of many cells each, as a file takes longer than its cells
@given(st.lists(st.tuples(CELLS, CELLS), min_size=10, max_size=40))
def test_texts_are_unchanged(rows: list[tuple[str | None, str | None]]) -> None:
    """With quotes, separators, line ends and blanks; a missing one is an empty cell."""
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.String}, orient="row")

    assert cells_of(parquet(frame)) == [[cell or "" for cell in row] for row in rows]


def test_every_row_of_a_single_column_is_a_row() -> None:
    """An empty line would be none."""
    frame = pl.DataFrame({"a": ["x", None, "", "y"]})

    assert cells_of(parquet(frame)) == [["x"], [""], [""], ["y"]]


def test_values_have_the_text_of_a_csv_file() -> None:
    """Integers of any size, decimals, booleans, dates, times, durations, categories and bytes."""
    moment = dt.datetime(2024, 5, 1, 7, 30, 1, 500_000)  # noqa: DTZ001 - without an offset

    assert texts_of(2**63 + 1, 0, dtype=pl.UInt64()) == ["9223372036854775809", "0"]
    assert texts_of(0.1, 3.0, 1e10, dtype=pl.Float32()) == ["0.1", "3", "10000000000"]
    assert texts_of(float("nan"), float("inf"), None) == ["", "inf", ""]
    assert texts_of(Decimal("1.50"), Decimal("-200.00")) == ["1.5", "-200"]
    assert texts_of(*[True, None, False]) == ["true", "", "false"]
    assert texts_of(dt.date(2024, 5, 1), None) == ["2024-05-01", ""]
    assert texts_of(moment, moment.replace(hour=0, minute=0, second=0, microsecond=0)) == [
        "2024-05-01T07:30:01.500",
        "2024-05-01",
    ]
    assert texts_of(moment, dtype=pl.Datetime("us", "Europe/Berlin"))[0].endswith("+02:00")
    assert texts_of(dt.time(7, 30), dt.time(7, 30, 1)) == ["07:30:00", "07:30:01"]
    assert texts_of(dt.timedelta(hours=30, seconds=1.5)) == ["30:00:01.5"]
    assert texts_of("b", "a", dtype=pl.Categorical()) == ["b", "a"]
    assert texts_of(b"caf\xc3\xa9") == ["café"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_recognized_by_its_first_bytes(tmp_path: Path, name: str) -> None:
    """A path is read like bytes, whatever the name of the file; there may be many batches."""
    _, write = FILES[name]
    frame = pl.DataFrame({"number": range(20_000), "word": "a"})
    path = tmp_path / "file[1]*.csv"
    path.write_bytes(write(frame))

    table = open_table_file(path)

    assert identify_table(path.read_bytes()[:64]) is not None
    assert list(table.names) == ["number", "word"]
    assert table.numbers == {0}
    assert sum(batch.height for batch in table.frames) == 20_000


def test_the_values_in_a_sheet_are_read_below_its_titles() -> None:
    """Dates, times, errors, formulas, numbers as text, an empty column, and rows without values."""
    content = write_workbook()

    table = open_table_file(content)
    rows = cells_of(content)

    assert list(table.names) == [
        "when",
        "at",
        "share",
        "error",
        "formula",
        "code",
        "mixed",
        "share",
    ]
    assert table.numbers == {2, 3, 4, 7}
    assert rows == [
        ["2024-05-01", "07:30:00", "0.1", "", "3.5", "007", "1.5", "1"],
        ["2024-05-02", "18:00:00", "2", "7", "4", "010", "x", "1"],
    ]
    assert table.sheets == ["Sales", "Notes"]
    assert cells_of(content, "Notes") == [["b"]]


def test_the_sheets_of_opendocument_are_read() -> None:
    """Typed cells and a second sheet; columns without any value are left out."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", MANIFEST)
        archive.writestr("content.xml", OPENDOCUMENT.replace(">\n<", "><"))

    table = open_table_file(content.getvalue())

    assert list(table.names) == ["word", "share", "garden", "day"]
    assert table.numbers == {1}
    assert table.sheets == ["Sales", "Notes"]
    assert cells_of(content.getvalue()) == [["a, b", "0.5", "true", "2024-05-01"]]
    assert cells_of(content.getvalue(), "Notes") == [["1"]]


def test_a_sheet_that_does_not_exist_is_reported() -> None:
    """The message names those that do, and an empty sheet says so."""
    empty = io.BytesIO()
    with xlsxwriter.Workbook(empty) as book:
        book.add_worksheet("Blank")

    with pytest.raises(InvalidRequest, match='no sheet "Nots"; its sheets are "Sales", "Notes"'):
        open_table_file(write_workbook(), "Nots")
    with pytest.raises(InvalidRequest, match='Sheet "Blank" is empty; a table needs a first row'):
        open_table_file(empty.getvalue())


def test_a_file_to_score_has_a_limited_number_of_columns() -> None:
    """As a CSV table has; a file to train from may have more."""
    content = arrow_file(pl.DataFrame({f"c{k}": [k] for k in range(16_385)}))

    with pytest.raises(InvalidRequest, match="16,385 columns, and at most 16,384 are read"):
        open_table_file(content, to_score=True)
    assert len(open_table_file(content).names) == 16_385
