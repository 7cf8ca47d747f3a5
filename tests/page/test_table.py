"""Tables that users give to the page: scored, sorted, filtered and downloaded."""

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import httpx
import polars as pl
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import OpenPage
from tests.conftest import ShippedClient
from tests.page.files import drop, find_barriers, post_file
from tests.page.views import card, open_model
from tests.table_files import arrow_file, parquet, workbook

CSV = "text/csv"
TABLE = """name,exam_2,exam_1,note
Ada,85,45,"a <b>bold</b> note, quoted"
Bob,60,sixty,"two
lines"
Eve,60,60,=1+1
Max,,50,<img src=x onerror=alert(1)>
Zoé,99,91,"says ""hi\"""
""".encode()
PARSE = """async ([text, sizes]) => {
    const { detectDialect, RecordSplitter, splitRecord } = await import("/static/page/js/csv.js");
    const dialect = detectDialect(text);
    const splitter = new RecordSplitter(dialect);
    const records = [];
    let start = 0;
    for (const size of sizes) {
        records.push(...splitter.feed(text.slice(start, start + size)));
        start += size;
    }
    records.push(...splitter.feed(text.slice(start), { end: true }));
    return records.map((record) => splitRecord(record, dialect));
}"""


def to_windows_1252(table: bytes) -> bytes:
    """The table in an encoding of older programs."""
    return table.decode().encode("cp1252")


def panel(page: Page) -> Locator:
    """The card of tables."""
    return card(page, "Score a table")


def score(page: Page, file: bytes, name: str = "table.csv") -> None:
    """Choose a file with the button, and wait for its rows."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files({"name": name, "mimeType": CSV, "buffer": file})
    expect(panel(page)).to_contain_text("Rows 1 to")


def rows(page: Page) -> list[list[str]]:
    """The cells of the shown rows, the number of each row first."""
    expect(panel(page)).not_to_contain_text("Sorting…")
    found: list[list[str]] = page.evaluate(
        """() => [...document.querySelectorAll(".rows tbody tr")].map(
            (row) => [...row.children].map((cell) => cell.textContent))"""
    )
    return found


def sort_by(page: Page, column: str) -> None:
    """Press the header of a column."""
    page.get_by_role("columnheader", name=column, exact=True).get_by_role("button").click()


def predict_table(client: httpx.Client, model: str, table: bytes) -> list[list[str]]:
    """The records of the response to a table, without the page."""
    text = post_file(client, f"{model}/predict", table, CSV).text
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("way", ["chosen", "dropped"])
def test_a_table_is_scored_with_its_errors_first(
    shipped_client: ShippedClient, open_page: OpenPage, way: str
) -> None:
    """Each cell is that of the response, as text; invalid rows come before the others."""
    page = open_model(open_page, shipped_client, "admission", "table")

    if way == "chosen":
        score(page, TABLE)
    else:
        drop(page, {"table.csv": TABLE}, CSV)
    header, *scored = predict_table(shipped_client, "admission", TABLE)

    expect(panel(page)).to_contain_text("5 rows, 2 errors")
    shown = rows(page)
    order = ["error", "label", "probability", "name", "exam_2", "exam_1", "note"]
    positions = [header.index(column) for column in [*order, *header[6:8]]]
    assert [int(row[0]) for row in shown] == [2, 4, 1, 3, 5]
    assert [row[1:] for row in shown] == [
        [scored[int(row[0]) - 1][position] for position in positions] for row in shown
    ]
    expect(panel(page).locator(".rows b, .rows img")).to_have_count(0)


@pytest.mark.parametrize(
    ("suffix", "write"), [("parquet", parquet), ("arrow", arrow_file), ("xlsx", workbook)]
)
def test_a_table_file_has_the_predictions_of_its_rows(
    shipped_client: ShippedClient,
    open_page: OpenPage,
    suffix: str,
    write: Callable[[pl.DataFrame], bytes],
) -> None:
    """Parquet, Arrow and Excel files are shown as the CSV table with the same rows."""
    page = open_model(open_page, shipped_client, "admission", "table")
    frame = pl.DataFrame({"name": ["Ada", "Zoé"], "exam_1": [45.5, 91.25], "exam_2": [85, 99]})
    table = frame.write_csv().encode()

    score(page, write(frame), f"exams.{suffix}")

    _, *scored = predict_table(shipped_client, "admission", table)
    shown = [sorted(row[1:]) for row in rows(page)]
    assert shown == [sorted(cell for cell in row if cell) for row in scored]


def test_several_tables_are_not_scored(shipped_client: ShippedClient, open_page: OpenPage) -> None:
    """The page says so, instead of choosing one of them."""
    page = open_model(open_page, shipped_client, "admission", "table")
    expect(panel(page)).to_be_visible()

    drop(page, {"first.csv": TABLE, "second.csv": TABLE}, CSV)

    expect(panel(page)).to_contain_text("One table at a time, please: 2 files were dropped.")
    expect(page.get_by_role("region", name="Scored rows")).to_have_count(0)


def test_the_download_is_the_response(shipped_client: ShippedClient, open_page: OpenPage) -> None:
    """Its bytes are those that any other client gets."""
    page = open_model(open_page, shipped_client, "admission", "table")
    table = b"\xef\xbb\xbf" + TABLE.replace(b"\n", b"\r\n")

    score(page, table, "my exams.csv")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()

    assert download.value.suggested_filename == "my exams-scored.csv"
    response = post_file(shipped_client, "admission/predict", table, CSV)
    assert Path(download.value.path()).read_bytes() == response.content


def test_rows_are_sorted_and_filtered(shipped_client: ShippedClient, open_page: OpenPage) -> None:
    """By any column, in both directions, with empty cells last; or by a text in them."""
    page = open_model(open_page, shipped_client, "admission", "table")
    score(page, TABLE)

    page.get_by_label("Errors first").uncheck()
    sort_by(page, "probability")
    ascending = [row[0] for row in rows(page)]
    sort_by(page, "probability")
    descending = [row[0] for row in rows(page)]
    header = page.get_by_role("columnheader", name="probability", exact=True)
    expect(header).to_have_attribute("aria-sort", "descending")
    sort_by(page, "probability")
    restored = [row[0] for row in rows(page)]
    sort_by(page, "name")
    by_name = [row[4] for row in rows(page)]

    assert ascending == ["3", "1", "5", "2", "4"]
    assert descending == ["5", "1", "3", "2", "4"]
    assert restored == ["1", "2", "3", "4", "5"]
    assert by_name == ["Ada", "Bob", "Eve", "Max", "Zoé"]

    page.get_by_label("Rows that contain").fill("HI")
    expect(panel(page)).to_contain_text("Rows 1 to 1 of 1")
    assert [row[4] for row in rows(page)] == ["Zoé"]
    page.get_by_label("Rows that contain").fill("nobody")
    expect(panel(page)).to_contain_text("No row contains this text.")


def test_a_table_with_semicolons_and_decimal_commas_is_read(
    shipped_client: ShippedClient, open_page: OpenPage
) -> None:
    """Its numbers are sorted as numbers."""
    page = open_model(open_page, shipped_client, "admission", "table")

    score(page, b"exam_1;exam_2\r\n9,5;60\r\n80,25;75\r\n45;85,5\r\n")
    sort_by(page, "exam_1")

    assert [row[3] for row in rows(page)] == ["9,5", "45", "80,25"]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (b"name,exam_2\nAda,85\n", "Line 1 has no column 'exam_1'"),
        (b"%PDF-1.7 ...", "The body is a PDF document"),
        (b"", "The table is empty"),
    ],
)
def test_an_invalid_table_is_reported_in_the_services_words(
    shipped_client: ShippedClient, open_page: OpenPage, table: bytes, sentence: str
) -> None:
    """The page shows the sentence of the service, and no rows."""
    page = open_model(open_page, shipped_client, "admission", "table")
    expect(panel(page)).to_be_visible()

    drop(page, {"table.csv": table}, CSV)

    expect(panel(page)).to_contain_text(sentence)
    expect(page.get_by_role("region", name="Scored rows")).to_have_count(0)


@pytest.mark.parametrize("model", ["churn", "king_county", "xor"])
def test_the_example_table_is_valid(
    shipped_client: ShippedClient, open_page: OpenPage, model: str
) -> None:
    """It has usual values of each feature of any model."""
    page = open_model(open_page, shipped_client, model, "table")

    page.get_by_role("button", name="Score an example table").click()

    expect(panel(page)).to_contain_text("5 rows, no errors")
    expect(panel(page).locator(".rows tbody tr")).to_have_count(5)
    expect(card(page, "The request")).to_contain_text("--data-raw")


@pytest.mark.parametrize(
    ("name", "encode", "note"),
    [
        ("table.csv.gz", gzip.compress, ""),
        ("table.csv", gzip.compress, ""),
        ("table.csv", to_windows_1252, "it was read as Windows-1252"),
        ("table.dat", to_windows_1252, "it was read as Windows-1252"),
        ("table.csv.gz", lambda table: gzip.compress(to_windows_1252(table)), "Windows-1252"),
        ("table.dat", bytes, ""),
        ("table", bytes, ""),
    ],
)
def test_a_table_is_read_as_its_bytes_require(
    shipped_client: ShippedClient,
    open_page: OpenPage,
    name: str,
    encode: Callable[[bytes], bytes],
    note: str,
) -> None:
    """Compressed tables, other encodings and other names give the rows of the plain table."""
    page = open_model(open_page, shipped_client, "admission", "table")
    table = "name,exam_1,exam_2\nZoé,91,99\nAda,45.5,85\n".encode()

    score(page, encode(table), name)

    _, *scored = predict_table(shipped_client, "admission", table)
    assert [sorted(row[1:]) for row in rows(page)] == [sorted(row[:-1]) for row in scored]
    shown = panel(page).locator(".note")
    if note:
        expect(shown).to_contain_text(note)
    else:
        expect(shown).to_be_hidden()
    header = "content-encoding: gzip"
    request = card(page, "The request")
    assert (header in (request.text_content() or "")) == (encode(table)[:2] == b"\x1f\x8b")
    expect(request).to_contain_text(f"Run it in the folder of {name}.")
    request.get_by_role("tab", name="Python").click()
    expect(request).to_contain_text("print(response.text)")


def test_a_workbook_with_macros_is_recognized(
    shipped_client: ShippedClient, open_page: OpenPage
) -> None:
    """The service reads it by its first bytes."""
    page = open_model(open_page, shipped_client, "admission", "table")
    frame = pl.DataFrame({"exam_1": [45.5], "exam_2": [85]})

    score(page, workbook(frame), "exams.xlsm")

    expect(panel(page)).to_contain_text("1 row, no errors")


def test_a_long_table_has_pages(shipped_client: ShippedClient, open_page: OpenPage) -> None:
    """A page shows a hundred rows, and sorting regards them all."""
    page = open_model(open_page, shipped_client, "ice_cream", "table")
    temperatures = [10 + 16 * (number * 7919 % 20_011) / 20_011 for number in range(20_011)]

    score(page, "".join(["temperature\n", *(f"{t}\n" for t in temperatures)]).encode())
    expect(panel(page)).to_contain_text("Rows 1 to 100 of 20,011")
    sort_by(page, "temperature")
    first = [float(row[-1]) for row in rows(page)]
    page.get_by_role("button", name="Last rows").click()
    expect(panel(page)).to_contain_text("Rows 20,001 to 20,011 of 20,011")
    last = [float(row[-1]) for row in rows(page)]

    assert first == sorted(temperatures)[:100]
    assert last == sorted(temperatures)[-11:]


def test_newline_delimited_json_is_scored(
    shipped_client: ShippedClient, open_page: OpenPage
) -> None:
    """Each line is shown with its prediction, and the download has a prediction for each line."""
    page = open_model(open_page, shipped_client, "admission", "table")
    file = b'{"exam_1": 45, "exam_2": 85}\n\n[60, 60]\n{"exam_1": "<b>"}\nno JSON\n'

    score(page, file, "rows.ndjson")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()

    response = post_file(shipped_client, "admission/predict", file, "application/x-ndjson")
    predictions = [json.loads(line) for line in response.text.splitlines()]
    expect(panel(page)).to_contain_text("4 rows, 2 errors")
    shown = rows(page)
    assert [row[:2] for row in shown[:2]] == [[k, predictions[int(k) - 1]["error"]] for k in "34"]
    assert [row[0] for row in shown] == ["3", "4", "1", "2"]
    assert [row[2] for row in shown[2:]] == [one["label"] for one in predictions[:2]]
    sort_by(page, "exam_1")
    assert [row[4:6] for row in rows(page)[2:]] == [["45", "85"], ["60", "60"]]
    assert download.value.suggested_filename == "rows-scored.ndjson"
    assert Path(download.value.path()).read_bytes() == response.content


def test_a_column_may_have_the_name_of_a_method(
    shipped_client: ShippedClient, open_page: OpenPage
) -> None:
    """Rows without it have an empty cell there."""
    page = open_model(open_page, shipped_client, "admission", "table")

    score(page, b'{"exam_1": 45, "exam_2": 85}\n{"constructor": 1}\n', "rows.ndjson")

    expect(panel(page)).to_contain_text("2 rows, 1 error")
    header = page.locator(".rows thead tr:last-child th").all_inner_texts()
    position = next(k for k, name in enumerate(header) if "constructor" in name.lower())
    assert [row[position] for row in rows(page)] == ["1", ""]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_records_are_split_as_python_does(
    shipped_client: ShippedClient, open_page: OpenPage, separator: str
) -> None:
    """However a table arrives: quotes, separators and line ends in cells, and any line ends."""
    page = open_model(open_page, shipped_client, "xor", "table")
    expect(panel(page)).to_be_visible()
    draw = random.Random(separator)  # noqa: S311 - no secret
    pieces = ["x", '"', separator, "\n", " ", "é", "'", "1.5", '""']
    for line_end in ("\n", "\r\n"):
        cells = ["".join(draw.choices(pieces, k=draw.randrange(5))) for _ in range(900)]
        table = [["a", "b", "error"], *(cells[k : k + 3] for k in range(0, len(cells), 3))]
        file = io.StringIO(newline="")
        csv.writer(file, delimiter=separator, lineterminator=line_end).writerows(table)
        text = file.getvalue()
        sizes = [draw.randrange(40) for _ in range(len(text) // 25)]

        assert page.evaluate(PARSE, [text, sizes]) == table


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_the_view_of_tables_has_no_barriers(
    shipped_client: ShippedClient, open_page: OpenPage, width: int, scheme: str
) -> None:
    """axe-core finds no serious violation, and only the rows scroll sideways."""
    size = {"width": width, "height": 844}
    page = open_model(
        open_page, shipped_client, "admission", "table", viewport=size, color_scheme=scheme
    )

    score(page, TABLE)

    assert find_barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
