"""CSV files: separators, quotes, encodings, headers, and files that are not CSV."""

import os
from pathlib import Path

import polars as pl
import pytest

from service.tabletext import NumberFormat, find_codec
from training.data.csv import Layout, format_path, parse_path, read_csv
from training.data.table import recorded_format
from training.errors import DataError


def _written(folder: Path, content: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "name", [b"sales[1].csv", b"star*.csv", b"{a,b}.csv", b"~x.csv", b"a%20b.csv", b"caf\xe9.csv"]
)
def test_the_named_file_is_read(
    tmp_path: Path, name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is no pattern, and may have bytes that are not UTF-8; a recipe can contain it."""
    monkeypatch.chdir(tmp_path)
    for other in ("sales1.csv", "starA.csv", "a.csv", "a b.csv"):
        Path(other).write_text("a\n2\n")
    path = Path(os.fsdecode(name))
    path.write_text("a\n1\n")

    table = read_csv(parse_path(format_path(path).encode().decode()))

    assert table.frame.rows() == [("1",)]
    assert table.name.encode()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_detected(tmp_path: Path, separator: str) -> None:
    """The same table with each separator gives the same cells."""
    text = "name,age\nAda,36\nAlan,41\n".replace(",", separator)

    table = read_csv(_written(tmp_path, text))

    assert table.frame.equals(pl.DataFrame({"name": ["Ada", "Alan"], "age": ["36", "41"]}))


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]
)
def test_the_encoding_is_detected(tmp_path: Path, encoding: str) -> None:
    """Umlauts are decoded, and a byte-order mark does not become part of a name."""
    table = read_csv(_written(tmp_path, "ort,größe\nKöln,1\n".encode(encoding)))

    assert table.frame.columns == ["ort", "größe"]
    assert table.frame.row(0) == ("Köln", "1")


@pytest.mark.parametrize(
    ("encoding", "codec"),
    [("Latin-1", "iso8859-1"), ("windows-1250", "cp1250"), ("MacRoman", "mac-roman")],
)
def test_a_specified_encoding_is_recorded_as_the_service_knows_it(
    tmp_path: Path, encoding: str, codec: str
) -> None:
    """Training and the service know the same names of encodings."""
    path = _written(tmp_path, "ort,größe\nKöln,1\n".encode(encoding))

    table = read_csv(path, Layout(encoding=encoding))
    recorded = recorded_format(table)

    assert table.frame.row(0) == ("Köln", "1")
    assert recorded is not None
    assert recorded.encoding == codec == find_codec(codec, b"")


def test_a_byte_order_mark_decides_the_encoding(tmp_path: Path) -> None:
    """As in the service, whatever the recipe specifies."""
    table = read_csv(_written(tmp_path, "größe\n1\n".encode("utf-16")), Layout(encoding="cp1252"))

    assert table.frame.columns == ["größe"]


@pytest.mark.parametrize("encoding", ["punycode", "rot13", "no such encoding"])
def test_an_encoding_that_the_service_does_not_know_is_rejected(
    tmp_path: Path, encoding: str
) -> None:
    """Python knows more encodings than the service reads."""
    with pytest.raises(DataError, match=f"the encoding '{encoding}' is not known here"):
        read_csv(_written(tmp_path, "a,b\n1,2\n"), Layout(encoding=encoding))


def test_quoted_cells_may_contain_separators_and_line_ends(tmp_path: Path) -> None:
    """Quoted names, separators and line ends are parts of cells."""
    table = read_csv(_written(tmp_path, '"a","b"\n"x, y","1"\n"p\nq","2"\n'))

    assert table.frame.rows() == [("x, y", "1"), ("p\nq", "2")]


def test_a_quote_inside_an_unquoted_cell_is_part_of_it(tmp_path: Path) -> None:
    """Also in a table with quoted cells; missing cells at the end of a row are null."""
    table = read_csv(_written(tmp_path, 'name,size\nTV 0",1\n"x, y",2\n"a ""b""",3\nTV 5"\n'))

    assert table.frame.rows() == [('TV 0"', "1"), ("x, y", "2"), ('a "b"', "3"), ('TV 5"', None)]


def test_a_column_name_has_one_line(tmp_path: Path) -> None:
    """A line break in a quoted header becomes a space."""
    assert read_csv(_written(tmp_path, '"age\n(years)",b\n1,2\n')).frame.columns[0] == "age (years)"


def test_single_quotes_are_detected(tmp_path: Path) -> None:
    """Apostrophes around cells are removed like quotation marks."""
    table = read_csv(_written(tmp_path, "0.5,1.5,'-1'\n0.25,1.0,'1'\n"))

    assert table.frame["column_3"].to_list() == ["-1", "1"]


def test_a_file_without_a_header_gets_names(tmp_path: Path) -> None:
    """A first row of numbers is data."""
    table = read_csv(_written(tmp_path, "1,2\n3,4\n"))

    assert table.frame.columns == ["column_1", "column_2"]
    assert table.frame.height == 2


def test_a_header_may_hold_years(tmp_path: Path) -> None:
    """If a column of numbers begins with a word, the first row is a header."""
    table = read_csv(_written(tmp_path, "2019,2020,y\n1,2,3\n4,5,6\n"))

    assert table.frame.columns == ["2019", "2020", "y"]


@pytest.mark.parametrize(
    ("first", "rows", "header"),
    [
        ("2019,2020,city,y", ["47,6.5,Rome,yes", "49,5.5,Oslo,no"], True),
        ("Rome,m,yes", ["Rome,m,yes", "Oslo,s,no"], False),
        ("17,Rome,yes", ["18,Rome,yes", "19,Oslo,no"], False),
        ("4.5,Bern,maybe", ["18,Rome,yes", "19,Oslo,no"], False),
        ("city,size", ["Rome,m", "Oslo,s"], True),
        (",x,y", ["1,2,3", "4,5,6"], True),
        ("?,1.5,red", ["3,2.5,red", "4,3.5,blue"], False),
    ],
)
def test_a_header_is_detected_among_words(
    tmp_path: Path, first: str, rows: list[str], *, header: bool
) -> None:
    """A first cell that is repeated below is data; one above other words is a name."""
    table = read_csv(_written(tmp_path, "\n".join([first, *rows * 10])))

    assert table.csv_format is not None
    assert table.csv_format.header is header
    assert table.frame.height == 20 + (not header)


def test_a_recipe_can_specify_whether_there_is_a_header(tmp_path: Path) -> None:
    """Properties that the layout specifies are not detected."""
    path = _written(tmp_path, "1,2\n3,4\n")

    assert read_csv(path, Layout(header=True)).frame.columns == ["1", "2"]
    assert read_csv(path, Layout(header=False)).frame.height == 2


def test_titles_above_the_header_are_skipped(tmp_path: Path) -> None:
    """Lines with one cell above a wider table are titles."""
    table = read_csv(_written(tmp_path, "Sales report;;\n\na;b;c\n1;2;3\n"))

    assert table.frame.columns == ["a", "b", "c"]
    assert table.frame.height == 1


@pytest.mark.parametrize("line_end", ["\r", "\r\n"])
def test_other_line_ends_are_detected(tmp_path: Path, line_end: str) -> None:
    """Old Mac and Windows line ends separate rows."""
    table = read_csv(_written(tmp_path, line_end.join(["a,b", "x,1", "y,2"]) + line_end))

    assert table.frame.rows() == [("x", "1"), ("y", "2")]


def test_a_declared_separator_is_not_a_row(tmp_path: Path) -> None:
    """A spreadsheet's first line `sep=;` defines the separator."""
    table = read_csv(_written(tmp_path, "sep=;\na;b\nx,y;1\n"))

    assert table.frame.rows() == [("x,y", "1")]


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    """A text of some hundred thousand letters is one cell."""
    table = read_csv(_written(tmp_path, f"a,b\n{'x' * 300_000},1\n"))

    assert len(table.frame["a"][0]) == 300_000


def test_blank_cells_and_words_for_missing_values_are_null(tmp_path: Path) -> None:
    """Spaces around cells are stripped; blank cells and NA are missing."""
    table = read_csv(_written(tmp_path, "a,b\n x , \nNA,2\n"))

    assert table.frame.rows() == [("x", None), (None, "2")]


def test_the_layout_can_specify_decimal_commas(tmp_path: Path) -> None:
    """The table has the decimal mark of the layout."""
    table = read_csv(
        _written(tmp_path, "a;b\n1,5;2\n"), Layout(number_format=NumberFormat(decimal=","))
    )

    assert table.number_format.decimal == ","


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,b\n", "has a header but no rows"),
        (b"a,b\n1,2\n1,2,3\n", "line 3: 3 cells where the first row has 2"),
        (b'a,b\n1,2\n"3,4\n5,6\n', "line 3: a quote is never closed"),
        (
            b"PK\x03\x04\x00\x00binary",
            r"is a zip archive or a spreadsheet \(.xlsx, .ods\), not a CSV file",
        ),
        (b"\x1f\x8b\x08\x00binary", "is compressed with gzip, not a CSV file"),
        (b"\x00\x01\x00\x00\x02\x00\x03\x00", "bytes are not text"),
        (b'[\n {"a": 1}\n]', "contains JSON"),
        (b'{"a": 1}\n{"a": 2}\n', "contains JSON"),
        (b"a" * (17 << 20), "a line of more than 16 MB"),
    ],
)
def test_a_file_that_is_not_a_table_is_rejected_with_its_reason(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    """Each kind of unusable file has its own message."""
    with pytest.raises(DataError, match=sentence):
        read_csv(_written(tmp_path, content))


def test_a_folder_and_a_missing_file_are_rejected(tmp_path: Path) -> None:
    """The message states that the path is a folder, or that it does not exist."""
    with pytest.raises(DataError, match="is a folder"):
        read_csv(tmp_path)
    with pytest.raises(DataError, match="No such file"):
        read_csv(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("a,a,b", ["a", "a_2", "b"]),
        ("a,a,a", ["a", "a_2", "a_3"]),
        ("a,a_2,a", ["a", "a_2", "a_3"]),
        ("a,a,a_2", ["a", "a_3", "a_2"]),
    ],
)
def test_columns_of_the_same_name_are_numbered(
    tmp_path: Path, header: str, names: list[str]
) -> None:
    """No column gets the name of another one."""
    assert read_csv(_written(tmp_path, f"{header}\n1,2,3\n")).frame.columns == names
