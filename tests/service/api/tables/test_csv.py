"""CSV tables: columns in any order, additional columns, detected formats, and errors of rows."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.models import (
    admission_probability,
    publish_admission,
    publish_iris,
    publish_mixed,
    publish_price,
)

Post = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def post(serve: Serve) -> Post:
    """Post a table to one of four models."""

    def publish(models: Path) -> None:
        for each in (publish_admission, publish_price, publish_iris, publish_mixed):
            each(models)

    client = serve(publish)

    def post(
        model: str, table: str | bytes, query: str = "", kind: str = "text/csv", **headers: str
    ) -> httpx.Response:
        content = table.encode() if isinstance(table, str) else table
        sent = {"content-type": kind} | headers
        return client.post(f"/models/{model}/predict{query}", content=content, headers=sent)

    return post


def rows_of(response: httpx.Response, separator: str = ",") -> list[dict[str, str]]:
    """The rows of a response."""
    assert response.status_code == 200, response.text
    text = response.content.decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))


def errors_of(response: httpx.Response, separator: str = ",") -> list[str]:
    return [row["error"] for row in rows_of(response, separator)]


def test_a_table_is_returned_with_its_predictions(post: Post) -> None:
    """Columns of features are found by name; all are returned, followed by the predictions."""
    response = post("admission", "id,exam_2,exam_1\nx 1,85,45\nx 2,40,30\n")

    lines = response.text.split("\n")
    first, second = rows_of(response)
    assert lines[0] == (
        "id,exam_2,exam_1,label,probability,probability_not admitted,probability_admitted,error"
    )
    assert lines[1].startswith("x 1,85,45,admitted,0.817")
    assert (first["label"], second["label"]) == ("admitted", "not admitted")
    assert float(first["probability"]) == pytest.approx(admission_probability(45, 85), abs=1e-6)
    assert float(second["probability_admitted"]) == pytest.approx(
        admission_probability(30, 40), abs=1e-6
    )
    assert response.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert response.headers["x-model-version"] == "1"


def test_a_value_has_its_unit(post: Post) -> None:
    """The columns have the names of the JSON fields."""
    response = post("price", "size\n3\n4.5\n")

    assert response.text == "size,value,unit,error\n3,6.0,euros,\n4.5,9.0,euros,\n"


def test_every_kind_of_feature_is_read_from_cells(post: Post) -> None:
    """Words, booleans, whole numbers and missing values; an optional column may be omitted."""
    table = (
        "size,rooms,garden,quarter,color\n"
        "7,2,true,south,violet\n"
        " 7 , 4.0 ,No, north ,\n"
        ",2,1,south,red\n"
        "NA,2,y,south,?\n"
    )

    predictions = rows_of(post("mixed", table))
    without = rows_of(post("mixed", "rooms,garden,quarter\n2,yes,south\n"))

    assert [row["value"] for row in predictions] == ["112.0", "4.0", "1112.0", "1112.0"]
    assert without[0]["value"] == "1112.0"


def test_cells_in_quotes_may_contain_anything(post: Post) -> None:
    """Separators, quotes and line ends within a cell are returned unchanged."""
    note = 'a "small", odd\r\nthing\nwith lines'
    quoted = '"' + note.replace('"', '""') + '"'

    predictions = rows_of(post("price", f'note,size\n{quoted},3\nplain,"4"\n,"5"'))

    assert [row["note"] for row in predictions] == [note, "plain", ""]
    assert [row["value"] for row in predictions] == ["6.0", "8.0", "10.0"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_are_detected(post: Post, separator: str, end: str) -> None:
    """The response has the format of the table."""
    rows = [["exam_1", "note", "exam_2"], ["45", "hello", "85"], ["30", "", "40"]]

    response = post("admission", end.join(separator.join(row) for row in rows) + end)

    labels = [row["label"] for row in rows_of(response, separator)]
    assert labels == ["admitted", "not admitted"]
    assert response.text.count(end) == 3


def test_decimal_commas_are_detected(post: Post) -> None:
    """With semicolons as separators a comma marks decimals, in the response too."""
    response = post("price", "size;note\n1,5;1.000\n2,25;x\n10;y\n")

    assert response.text == (
        "size;note;value;unit;error\n1,5;1.000;3,0;euros;\n2,25;x;4,5;euros;\n10;y;20,0;euros;\n"
    )


def test_the_decimal_mark_can_be_stated(post: Post) -> None:
    """A parameter decides if the table is ambiguous."""
    table = "size;note\n1.500;a\n2.250;b\n"

    doubtful = post("price", table)
    point = rows_of(post("price", table, "?decimal=point"), ";")

    assert doubtful.status_code == 400
    assert doubtful.json()["error"] == (
        'Line 2: "1.500" may be 1.500 or 1500. Say which mark the decimals have by the parameter '
        "decimal=point or decimal=comma; remove the thousands separators."
    )
    assert [row["value"] for row in point] == ["3.0", "4.5"]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_is_returned(post: Post, mark: bytes) -> None:
    """Spreadsheets need it; the name of the first column is found after it."""
    response = post("price", mark + b"size,caf\xc3\xa9\n3,\xe2\x82\xac\n")

    assert response.content == mark + "size,café,value,unit,error\n3,€,6.0,euros,\n".encode()


@pytest.mark.parametrize(
    ("encoding", "kind"),
    [
        ("utf-16", "text/csv"),
        ("cp1252", "text/csv; charset=windows-1252"),
        ("latin-1", 'text/csv;charset="ISO-8859-1"'),
        ("utf-16-le", "text/csv; charset=utf-16le"),
    ],
)
def test_a_stated_encoding_is_decoded(post: Post, encoding: str, kind: str) -> None:
    """A table in any supported encoding gets a response in UTF-8."""
    response = post("price", "size\tcafé\n3\tü\n".encode(encoding), kind=kind)

    assert [(row["café"], row["value"]) for row in rows_of(response, "\t")] == [("ü", "6.0")]


def test_columns_that_exist_already_get_a_prefix(post: Post) -> None:
    """A table with the true values, or one that was scored before, loses no column."""
    response = post("admission", "exam_1,exam_2,label,error,predicted_label\n45,85,yes,0,no\n")

    (row,) = rows_of(response)
    assert (row["label"], row["error"], row["predicted_label"]) == ("yes", "0", "no")
    assert row["predicted_predicted_label"] == "admitted"
    assert row["predicted_error"] == ""


def test_invalid_rows_have_an_error_and_the_others_are_scored(post: Post) -> None:
    """Each message names the line, the feature, the value and a remedy."""
    table = (
        "exam_1,exam_2,name\n"
        "45,85,a\n"
        "abc,85,b\n"
        '"45,5",85,c\n'
        "45 %,85,d\n"
        ",85,e\n"
        "45,850,f\n"
        "45,85\n"
        "45,85,g,h\n"
        '4"5,85,i\n'
        "\n"
        "x,y,j\n"
        "45,85,k\n"
    )

    predictions = rows_of(post("admission", table))

    wanted = "feature 'exam_1' must be a number (points) from 0 to 100, got"
    assert [row["name"] for row in predictions] == [
        "a",
        "b",
        "c",
        "d",
        "e",
        "f",
        "",
        "g",
        "i",
        "j",
        "k",
    ]
    assert [row["error"] for row in predictions] == [
        "",
        f'Line 3: {wanted} "abc". Write a number.',
        f'Line 4: {wanted} "45,5". Write 45.5: a point marks the decimals of this table.',
        f'Line 5: {wanted} "45 %". Write 45, without the percent sign.',
        f"Line 6: {wanted} an empty cell. Every row needs it.",
        (
            "Line 7: feature 'exam_2' must be a number (points) from 0 to 100, got 850. "
            "Check the unit: it is points."
        ),
        (
            "Line 8: 2 cells where the header has 3 columns; "
            "write an empty cell for each missing value."
        ),
        (
            'Line 9: 4 cells where the header has 3 columns; quote a cell that contains ",", '
            'and mark decimals by a point. Extra cells: "h".'
        ),
        f'Line 10: {wanted} "4\\"5". Write a number.',
        (
            f'Line 12: {wanted} "x". Write a number. '
            "Feature 'exam_2' must be a number (points) from 0 to 100, got \"y\". Write a number."
        ),
        "",
    ]
    assert [row["label"] for row in predictions if not row["error"]] == ["admitted", "admitted"]


def test_a_quote_that_is_never_closed_is_an_error_of_its_line(post: Post) -> None:
    """The lines within the quote are read again as rows; a quote between letters ends no cell."""
    table = 'note,size\n"open,1\nplain,2\n"fine",3\n"bro"ken",4\nlast,5\n'

    predictions = rows_of(post("price", table))

    assert [row["value"] for row in predictions] == ["", "4.0", "6.0", "8.0", "10.0"]
    assert errors_of(post("price", 'note,size\nplain,2\n"open,1\nlast,5\n')) == [
        "",
        "Line 3: a quote is opened here and never closed; close it, or write it twice.",
        "",
    ]


def test_values_that_the_model_cannot_compute_are_errors_of_their_rows(post: Post) -> None:
    """An output that is not finite affects only its own row."""
    predictions = rows_of(post("price", "size\n1\n3e38\n2\n"))

    assert [row["value"] for row in predictions] == ["2.0", "", "4.0"]
    assert predictions[1]["error"].startswith("Line 3: model 'price' cannot compute this input")
    assert "its prediction is not a finite number" in predictions[1]["error"]


def test_bytes_that_are_not_text_are_an_error_of_their_row(post: Post) -> None:
    """After the first lines the table cannot be rejected, but the row has an error."""
    table = b"size,note\n" + b"1,plain text\n" * 9000 + b"2,caf\xe9\n" + b"3,end\n"

    predictions = rows_of(post("price", table))

    assert len(predictions) == 9002
    assert predictions[9000]["error"].startswith(
        "Line 9002: the row holds bytes that are not UTF-8"
    )
    assert predictions[9000]["note"] == "caf\ufffd"
    assert predictions[9001]["value"] == "6.0"


@pytest.mark.parametrize(
    ("query", "header"),
    [
        ("?top=2", "label,probability,label_1,probability_1,label_2,probability_2,error"),
        ("?probabilities=none", "label,probability,error"),
        ("?warnings=true&probabilities=none", "label,probability,warnings,error"),
    ],
)
def test_parameters_choose_the_columns(post: Post, query: str, header: str) -> None:
    """The parameters are those for JSON responses."""
    response = post("iris", "a,b,c\n1,3,2\n", query)

    assert response.text.split("\n")[0] == f"a,b,c,{header}"
    (row,) = rows_of(response)
    assert row["label"] == "versicolor"
    if "top" in query:
        assert (row["label_1"], row["label_2"]) == ("versicolor", "virginica")
        assert row["probability_1"] == row["probability"] > row["probability_2"]


def test_the_response_to_a_table_may_be_json(post: Post) -> None:
    """The Accept header selects it; an invalid row has its error at its position."""
    response = post("price", "size\n3\nx\n4\n", accept="application/json")

    document = response.json()
    assert response.headers["content-type"] == "application/json"
    assert [document["predictions"][row] for row in (0, 2)] == [
        {"value": 6.0, "unit": "euros"},
        {"value": 8.0, "unit": "euros"},
    ]
    assert document["predictions"][1]["code"] == "invalid_input"
    assert document["predictions"][1]["error"].startswith("Line 3: feature 'size' must be a number")
    assert document["predictions"][1]["details"][0]["feature"] == "size"
    assert document["model_version"] == "1"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "text/csv; charset=utf-8; header=present"),
        ("application/json;q=0.5, text/csv", "text/csv; charset=utf-8; header=present"),
        ("text/html, application/x-ndjson;q=0.9, */*;q=0.1", "application/x-ndjson"),
        ("image/png", "text/csv; charset=utf-8; header=present"),
    ],
)
def test_the_weights_of_accept_are_applied(post: Post, accept: str, kind: str) -> None:
    """The format with the highest weight wins; without a supported one, that of the table."""
    assert post("price", "size\n3\n", accept=accept).headers["content-type"] == kind


@pytest.mark.parametrize("color", ["blue", "Red", "gren"])
def test_a_word_that_is_not_in_the_training_set_gets_a_warning(post: Post, color: str) -> None:
    """By default, where the model predicts from unknown words; the parameter overrides it."""
    table = f"rooms,garden,quarter,color\n2,yes,south,{color}\n2,yes,south,red\n"

    first, second = rows_of(post("mixed", table))
    hidden = rows_of(post("mixed", table, "?warnings=false"))

    assert first["warnings"].startswith("Feature 'color' has a category that is not in the")
    assert (first["error"], second["warnings"]) == ("", "")
    assert "warnings" not in hidden[0]
    assert "warnings" not in rows_of(post("price", "size\n3\n"))[0]
