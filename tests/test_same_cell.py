"""One cell, one prediction, in every protocol and for every kind of column."""

import csv
import io
from pathlib import Path

import httpx
import orjson
import pytest

from service.bundle.features import (
    BooleanFeature,
    CategoryFeature,
    DatetimeFeature,
    Feature,
    FeaturesInput,
    IntegerFeature,
    NumberFeature,
)
from service.tabletext import MISSING, TRUTHS, lower_words, missing_words, plain_number
from tests.conftest import Serve
from training.autorecipe.draft import draft
from training.data.csv import UNKNOWN, read_csv
from training.data.sources import Folders
from training.evaluation.published import open_model
from training.run import run

ROWS = 60
# By column: cells of the training table, and further cells to send.
CELLS = {
    "number": (["1.5", "2.25", "-3", "NA"], ["7", "1e2", "-0.5", "abc"]),
    "integer": (["1", "20", "300", ""], ["5", "2.5", "1,000"]),
    "money": (["$1.50", "$2", "-$3.25", "-"], ["$7", "5", "7 kg"]),
    "truth": (["true", "false", "true", "?"], ["TRUE", "yes", "0", "maybe"]),
    "word": (["red", "New York", "Jos\u00e9", ""], ["blue", " red ", "RED", "none"]),
    "region": (["NA", "EUR", "APAC", "LATAM"], ["AU", "na", "n/a"]),
    "code": (["00501", "01002", "02003", "null"], ["501", "00501 "]),
    "day": (["2024-01-05", "2024-02-29", "2023-12-31", ""], ["2030-01-01", "1.2.2024", "soon"]),
    "hour": (["07:30", "12:00", "23:59", ""], ["00:00", "25:00", "7"]),
}
SENT = sorted({*MISSING, " ", "-", *(cell for both in CELLS.values() for c in both for cell in c)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose table has a column of every kind, most with gaps."""
    folder = tmp_path_factory.mktemp("kinds")
    path = folder / "kinds.csv"
    rows = [
        [known[(row * 7 + k) % 11 % len(known)] for k, (known, _) in enumerate(CELLS.values())]
        for row in range(ROWS)
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*CELLS, "y"])
        writer.writerows([*row, f"{k * 13 % 17}.5"] for k, row in enumerate(rows))
    recipe = draft(read_csv(path, UNKNOWN), str(path), "y", "kinds", "linear").recipe
    few = recipe.split.model_copy(update={"folds": 0, "interval_folds": 0})
    run(recipe.model_copy(update={"split": few}), folder / "models", Folders(None, folder))
    return folder


@pytest.fixture(scope="module")
def client(serve: Serve, folder: Path) -> httpx.Client:
    """A client of a service with the model."""
    return serve(lambda _: None, models=folder / "models")


def by_table(client: httpx.Client, row: dict[str, str]) -> float | None:
    """The prediction for a row as CSV; None if it has an error."""
    text = io.StringIO()
    csv.writer(text).writerows([[*row], [*row.values()]])
    response = client.post(
        "/models/kinds/predict",
        content=text.getvalue().encode(),
        headers={"content-type": "text/csv"},
    )
    assert response.status_code == 200, response.text
    (scored,) = csv.DictReader(io.StringIO(response.text))
    return None if scored["error"] else float(scored["value"])


def by_json(client: httpx.Client, row: dict[str, object]) -> list[float | None]:
    """The predictions for a row as JSON, in three forms; None for an error."""
    document, path = orjson.dumps(row), "/models/kinds/predict"
    one = client.post(path, content=document)
    line = client.post(path, content=document, headers={"content-type": "application/x-ndjson"})
    v1 = client.post("/v1/models/kinds:predict", content=orjson.dumps({"instances": [row]}))
    assert {one.status_code, v1.status_code} <= {200, 400}
    return [
        one.json().get("value"),
        orjson.loads(line.content).get("value"),
        v1.json()["predictions"][0][0] if v1.status_code == 200 else None,
    ]


def to_json(feature: Feature, cell: str) -> object:
    """The JSON value of a cell: words and dates are sent as they are.

    JSON has its own numbers, booleans and null, so a cell of a number or boolean is sent as one. A
    cell that is neither is sent as it is.
    """
    text = cell.strip()
    if isinstance(feature, CategoryFeature | DatetimeFeature):
        return cell
    if text.lower() in lower_words(missing_words(feature.missing)):
        return None
    if isinstance(feature, BooleanFeature):
        return TRUTHS.get(text.lower(), text)
    affix = feature.affix if isinstance(feature, NumberFeature | IntegerFeature) else None
    plain = plain_number(text, affix=affix)
    return text if plain is None else float(plain)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_has_the_same_prediction_in_every_protocol(
    client: httpx.Client, folder: Path, name: str
) -> None:
    """It is read by all of them, or by none."""
    described = open_model(folder / "models", "kinds").manifest.input
    assert isinstance(described, FeaturesInput)
    features = {feature.name: feature for feature in described.features}
    typical = {column: known[0] for column, (known, _) in CELLS.items()}

    read = 0
    for cell in SENT:
        row = typical | {name: cell}
        values = {column: to_json(features[column], text) for column, text in row.items()}
        predicted = by_table(client, row)
        expected = None if predicted is None else pytest.approx(predicted, rel=1e-6)
        assert by_json(client, values) == [expected] * 3, cell
        read += predicted is not None

    assert read > 0
    assert name in ("word", "region", "code") or read < len(SENT)


def test_the_kinds_are_those_of_the_columns(folder: Path) -> None:
    """Otherwise the test above compares less than it says."""
    described = open_model(folder / "models", "kinds").manifest.input
    assert isinstance(described, FeaturesInput)

    assert [feature.type for feature in described.features] == [
        *["number", "integer", "number", "boolean"],
        *["category"] * 3,
        *["datetime"] * 2,
    ]
