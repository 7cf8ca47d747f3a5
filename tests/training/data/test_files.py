"""Table files in training: the same text as in the service, with the marks of the table."""

from pathlib import Path

import polars as pl
import pytest

from service.tabletext import NumberFormat
from tests.table_files import parquet
from tests.workbooks import write_workbook
from training.autorecipe.corrections import Corrections
from training.autorecipe.draft import draft
from training.autorecipe.quality import describe_format
from training.data.csv import UNKNOWN, Layout
from training.data.files import read_table
from training.data.sources import Folders, load
from training.data.table import recorded_format
from training.errors import DataError


def written(folder: Path, content: bytes) -> Path:
    """A file whose name says nothing of its format."""
    path = folder / "table.csv"
    path.write_bytes(content)
    return path


def test_numbers_get_the_decimal_mark_of_the_texts(tmp_path: Path) -> None:
    """A table has one; a typed 1.234 is never read as a thousand."""
    frame = pl.DataFrame({"typed": [1.234, 5.0], "written": ["1.234,5", "2,25"]})

    table = read_table(written(tmp_path, parquet(frame)), UNKNOWN)

    assert table.number_format == NumberFormat(",", ".")
    assert table.frame["typed"].to_list() == ["1,234", "5"]
    assert table.frame["written"].to_list() == ["1.234,5", "2,25"]


def test_missing_words_and_blanks_are_those_of_csv(tmp_path: Path) -> None:
    """A number may be a missing value too, and texts are stripped."""
    frame = pl.DataFrame({"number": [-200.0, None, 3.0], "word": [" a ", "NA", ""]})

    table = read_table(written(tmp_path, parquet(frame)), Layout(missing=("NA", "-200")))

    assert table.frame["number"].to_list() == [None, None, "3"]
    assert table.frame["word"].to_list() == ["a", None, None]


def test_a_recipe_reads_the_sheet_that_was_given(tmp_path: Path) -> None:
    """`--sheet` is a key of the recipe, and a remark names the sheets that are not read."""
    path = written(tmp_path, write_workbook())
    corrections = Corrections(sheet="Sales")

    table = read_table(path, corrections.layout)
    drafted = draft(table, str(path), "formula", "sales", "linear", corrections=corrections)
    again = load(drafted.recipe.data, Folders(None, tmp_path))

    assert drafted.recipe.data.sheet == "Sales"
    assert again.frame.equals(table.frame)
    assert again.sha256 == table.sha256
    assert table.frame.columns[2] == "share"
    remarks = describe_format(table)
    assert "Read as a workbook." in remarks
    assert any("Only the sheet 'Sales' is read; the others are 'Notes'" in one for one in remarks)


def test_the_manifest_says_nothing_of_the_file(tmp_path: Path) -> None:
    """The service reads every table of the same columns, except for names that are repeated."""
    plain = read_table(written(tmp_path, parquet(pl.DataFrame({"a": [1], "b": ["x"]}))), UNKNOWN)
    sheet = read_table(written(tmp_path, write_workbook()), UNKNOWN)
    recorded = recorded_format(sheet)

    assert recorded_format(plain) is None
    assert recorded is not None
    assert recorded.repeated == ["share"]


@pytest.mark.parametrize(
    ("content", "layout", "message"),
    [
        (parquet(pl.DataFrame({"a": [1]}).clear()), UNKNOWN, "has a header but no rows"),
        (parquet(pl.DataFrame({"a": [[1]]})), UNKNOWN, "Column 'a' has values of the type List"),
        (parquet(pl.DataFrame({"a": [1]}))[:-3], UNKNOWN, "The Parquet file cannot be read: "),
        (write_workbook(), Layout(sheet="May"), 'has no sheet "May"; its sheets are "Sales", "Not'),
        (b"a,b\n1,2\n", Layout(sheet="May"), "is not an Excel file, so it has no sheet 'May'"),
    ],
)
def test_a_file_that_cannot_be_read_is_reported(
    tmp_path: Path, content: bytes, layout: Layout, message: str
) -> None:
    """Each message begins with the path."""
    path = written(tmp_path, content)

    with pytest.raises(DataError, match=message) as error:
        read_table(path, layout)

    assert str(error.value).startswith(str(path))


def test_other_files_are_read_as_csv(tmp_path: Path) -> None:
    """So are a missing file and a folder, whose errors are those of CSV."""
    table = read_table(written(tmp_path, b"a;b\n1,5;2\n"), UNKNOWN)

    assert table.number_format.decimal == ","
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_table(tmp_path / "nowhere.parquet")
    with pytest.raises(DataError, match="is a folder; give the path of a CSV file"):
        read_table(tmp_path)
