"""A model gives the same predictions for a table in every format, whichever it was trained on."""

from pathlib import Path

import httpx
import polars as pl
import pytest

from tests.conftest import Serve
from tests.processes import run_here
from tests.table_files import BINARY, FILES, arrow_file, houses, parquet, workbook
from training.autorecipe.draft import draft
from training.data.csv import UNKNOWN
from training.data.files import read_table
from training.data.sources import Folders
from training.run import run

PATH = "/models/houses/predict"


def features_of(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows to score, with a column that the model does not know."""
    return frame.drop("price").with_columns(remark=pl.lit('a, "b"'))


class Houses:
    """A model that was trained by the defaults from a Parquet file, and a client of its service."""

    def __init__(self, serve: Serve, folder: Path) -> None:
        self.frame = houses()
        path = folder / "houses.parquet"
        path.write_bytes(parquet(self.frame, rows=100))
        table = read_table(path, UNKNOWN)
        drafted = draft(table, str(path), "price", "houses", "linear")
        self.kinds = {feature.name: feature.type for feature in drafted.recipe.features}

        def publish(models: Path) -> None:
            self.models = models
            run(drafted.recipe, models, Folders(None, folder))

        self.client = serve(publish)
        self.rows = features_of(self.frame)
        # Polars would write nine digits of a second.
        written = self.rows.with_columns(pl.col("opens").dt.strftime("%H:%M"))
        self.csv = written.write_csv(separator=";", decimal_comma=True).encode()

    def post(self, content: bytes, kind: str) -> list[float]:
        """The predictions for a table, of which each row has one."""
        headers = {"content-type": kind, "accept": "application/json"}
        response = self.client.post(PATH, content=content, headers=headers)
        return values_of(response)


def values_of(response: httpx.Response) -> list[float]:
    """The predictions in a response of JSON, none of which is an error."""
    assert response.status_code == 200, response.text
    return [row["value"] for row in response.json()["predictions"]]


@pytest.fixture(scope="module")
def trained(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Houses:
    """A model of houses."""
    return Houses(serve, tmp_path_factory.mktemp("houses"))


def test_the_types_of_a_file_are_those_that_its_text_shows(trained: Houses) -> None:
    """A text of digits with a zero before them is a category, and one with marks is a number."""
    assert trained.kinds == {
        "built": "datetime",
        "seen": "datetime",
        "opens": "datetime",
        "area": "number",
        "rooms": "integer",
        "garden": "boolean",
        "quarter": "category",
        "fee": "number",
        "code": "category",
        "note": "text",
    }


def test_a_table_has_the_same_predictions_in_every_format(
    trained: Houses, subtests: pytest.Subtests
) -> None:
    """CSV, Parquet, Arrow, Excel, a form and JSON, for a model that was trained from Parquet."""
    expected = trained.post(trained.csv, "text/csv")

    assert len(set(expected)) > 100
    for name, (kind, write) in FILES.items():
        with subtests.test(name):
            content = write(trained.rows)
            assert trained.post(content, kind) == expected
            assert trained.post(content, BINARY) == expected
    with subtests.test("a form"):
        response = trained.client.post(
            PATH, files={"file": trained.csv}, headers={"accept": "application/json"}
        )
        assert values_of(response) == expected
    with subtests.test("JSON"):
        number = pl.col("fee").str.replace(".", "", literal=True).str.replace(",", ".")
        rows = trained.rows.drop("remark").with_columns(number.cast(pl.Float64))
        texts = pl.col("built", "seen", "opens").cast(pl.String)
        response = trained.client.post(PATH, json=rows.with_columns(texts).to_dicts())
        assert values_of(response) == expected


def test_a_model_is_the_same_from_each_file(tmp_path: Path) -> None:
    """The rows that training reads of Parquet, Arrow and Excel are equal."""
    frame = houses(60)
    tables = []
    for name, (_, write) in FILES.items():
        path = tmp_path / name
        path.write_bytes(write(frame))
        tables.append(read_table(path, UNKNOWN))

    for table in tables:
        assert table.frame.equals(tables[0].frame)
        assert table.number_format == tables[0].number_format


def test_commands_read_table_files(trained: Houses, tmp_path: Path) -> None:
    """`onward score` writes what HTTP returns, and `onward evaluate` reads rows with a target."""
    content = parquet(trained.rows)
    headers = {"content-type": BINARY}
    response = trained.client.post(PATH, content=content, headers=headers)
    sheets = tmp_path / "houses.xlsx"
    sheets.write_bytes(workbook(trained.frame))

    models = ["--models", str(trained.models)]
    for name, written in (("a.parquet", content), ("a.feather", arrow_file(trained.rows))):
        (tmp_path / name).write_bytes(written)
        done = run_here("score", *models, "houses", str(tmp_path / name), "--quiet")
        assert done.stdout == response.content
    piped = run_here("score", *models, "houses", "-", "--quiet", stdin=content)
    evaluated = run_here("evaluate", "houses", *models, "--csv", str(sheets))

    assert piped.stdout == response.content
    assert evaluated.returncode == 0, evaluated.stderr
    assert b"rmse" in evaluated.stdout
