"""Dates from a CSV file to a prediction: every protocol gives the same one for the same instant."""

import csv
import io
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import orjson
import pytest

from tests.conftest import Serve
from tests.processes import run_here
from tests.tensors import infer_in_binary, infer_in_json, outputs_in_binary, outputs_in_json
from training.autorecipe.draft import draft
from training.data.csv import UNKNOWN, read_csv
from training.data.sources import Folders
from training.run import run

_START = datetime(2019, 3, 1)  # noqa: DTZ001 - dates without an offset
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - as above
_MONTHS = [5, -3, 8, 1, 0, -6, 9, 12, -4, 2, 7, -9]
_WEEKDAYS = [0, 1, 2, 1, 5, 9, -7]
_ROWS = 700
Instant = tuple[datetime, datetime]


def write_table(path: Path) -> list[Instant]:
    """Write sales that depend on month, weekday and opening hour; return its instants."""
    generator = np.random.default_rng(2)
    lines, instants = ["bought,opens,shop,sales"], []
    for _ in range(_ROWS):
        bought = _START + timedelta(minutes=15 * int(generator.integers(0, 3 * 365 * 96)))
        opens = _EPOCH + timedelta(hours=7 + int(generator.integers(0, 4)))
        shop = generator.choice(["north", "south"])
        sales = _MONTHS[bought.month - 1] + _WEEKDAYS[bought.weekday()] + 2.5 * opens.hour
        sales += (3 if shop == "south" else 0) + generator.normal(0, 0.3)
        instants.append((bought, opens))
        cells = bought.strftime("%d.%m.%Y %H:%M"), opens.strftime("%H:%M"), shop, f"{sales:.2f}"
        lines.append(",".join(cells))
    path.write_text("\n".join(lines) + "\n")
    return instants


class Shop:
    """A model that was trained by the defaults, its table, and a client of its service."""

    def __init__(self, serve: Serve, folder: Path) -> None:
        self.table = folder / "orders.csv"
        self.instants = write_table(self.table)
        drafted = draft(read_csv(self.table, UNKNOWN), str(self.table), "sales", "orders", "linear")
        self.recipe = drafted.recipe

        def publish(models: Path) -> None:
            self.models = models
            self.published = run(self.recipe, models, Folders(None, folder))

        self.client = serve(publish)
        self.rows = [
            {"bought": row["bought"], "opens": row["opens"], "shop": row["shop"]}
            for row in csv.DictReader(io.StringIO(self.table.read_text()))
        ]
        shops = [row["shop"] == "south" for row in self.rows]
        days = [[(part - _EPOCH) / timedelta(days=1) for part in pair] for pair in self.instants]
        self.matrix = np.column_stack([np.array(days), np.array(shops, np.float64)])
        """The input of the graph, by datetime."""

    def post(self, path: str, document: object) -> Any:  # noqa: ANN401 - JSON
        """Send JSON and return the response's."""
        response = self.client.post(path, content=orjson.dumps(document))
        assert response.status_code == 200, response.text
        return response.json()

    def predict(self, document: object) -> list[float]:
        """Return the predictions of the native protocol."""
        body = self.post("/models/orders/predict", document)
        return [one["value"] for one in body.get("predictions", [body])]

    def reject(self, **changes: object) -> str:
        """Return the message for the first row with some changes."""
        row = self.rows[0] | changes
        response = self.client.post("/models/orders/predict", content=orjson.dumps(row))
        assert response.status_code == 400, response.text
        error: str = response.json()["error"]
        return error


@pytest.fixture(scope="module")
def shop(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Trained once for the tests of this file."""
    return Shop(serve, tmp_path_factory.mktemp("shop"))


def test_a_model_of_dates_learns_months_weekdays_and_hours(shop: Shop) -> None:
    """The defaults explain nearly all of the variance of the test set."""
    formats = {feature.name: feature.format for feature in shop.recipe.features}
    assert formats == {"bought": "DD.MM.YYYY", "opens": "HH:MM", "shop": None}
    evaluation = shop.client.get("/models/orders").json()["evaluation"]
    assert evaluation["metrics"]["r2"] > 0.98


def test_every_protocol_predicts_the_same(shop: Shop) -> None:
    """Text in two formats, numbers, columns, tensors and tables."""
    expected = shop.predict(shop.rows)
    iso = [
        row | {"bought": bought.isoformat(), "opens": opens.strftime("%H:%M:%S")}
        for row, (bought, opens) in zip(shop.rows, shop.instants, strict=True)
    ]
    numbers = [
        row | {"bought": days, "opens": hours}
        for row, (days, hours, _) in zip(shop.rows, shop.matrix.tolist(), strict=True)
    ]
    arrays = [list(row.values()) for row in shop.rows]
    columns = {name: [row[name] for row in shop.rows] for name in shop.rows[0]}
    for document in (iso, numbers, arrays, {"instances": iso}):
        assert shop.predict(document) == expected
    assert shop.predict(iso[0]) == expected[:1]

    path = "/v1/models/orders:predict"
    for rows in (shop.rows, iso, numbers, [{"features": row} for row in shop.matrix.tolist()]):
        found = shop.post(path, {"instances": rows})["predictions"]
        assert np.ravel(found) == pytest.approx(expected, rel=1e-6)
    found = shop.post(path, {"inputs": columns})["outputs"]
    assert np.ravel(found) == pytest.approx(expected, rel=1e-6)

    for send, read in ((infer_in_json, outputs_in_json), (infer_in_binary, outputs_in_binary)):
        response = send(shop.client, "orders", {"features": shop.matrix})
        array = read(response, ["value"])[0]
        assert array is not None
        assert array.ravel() == pytest.approx(expected, rel=1e-6)

    lines = b"\n".join(map(orjson.dumps, iso))
    response = shop.client.post(
        "/models/orders/predict", content=lines, headers={"content-type": "application/x-ndjson"}
    )
    assert [orjson.loads(line)["value"] for line in response.text.splitlines()] == expected


def test_the_training_table_is_scored_without_an_error(shop: Shop, tmp_path: Path) -> None:
    """By HTTP, and by the command, which writes the same bytes."""
    expected = shop.predict(shop.rows)

    response = shop.client.post(
        "/models/orders/predict",
        content=shop.table.read_bytes(),
        headers={"content-type": "text/csv"},
    )
    output = tmp_path / "out.csv"
    done = run_here(
        "score", "--models", str(shop.models), "orders", str(shop.table), "-o", str(output)
    )

    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == response.content
    found = [float(row["value"]) for row in csv.DictReader(io.StringIO(response.text))]
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_leap_day_is_a_date_of_leap_years_only(shop: Shop) -> None:
    """Thursday 2024-02-29 has the effects of February and Thursday, and 2023 has no such day."""
    leap_day, week_before, next_week = shop.predict(
        [shop.rows[0] | {"bought": day} for day in ("29.02.2020", "22.02.2020", "07.03.2020")]
    )

    assert leap_day == pytest.approx(week_before, abs=1)
    assert next_week - leap_day == pytest.approx(_MONTHS[2] - _MONTHS[1], abs=1.5)
    assert "must be a date DD.MM.YYYY" in shop.reject(bought="29.02.2023")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2020-02-30", "must be a date DD.MM.YYYY or YYYY-MM-DD, with or without a time HH:MM:SS"),
        ("01/02/2020", "must be a date DD.MM.YYYY"),
        ("soon", "must be a date DD.MM.YYYY"),
        (True, "must be a date DD.MM.YYYY"),
        (1e9, "must be a date DD.MM.YYYY"),
        ([], "must be a date DD.MM.YYYY"),
    ],
)
def test_a_value_that_is_no_date_is_described(shop: Shop, value: object, expected: str) -> None:
    """The message names the feature and its format."""
    message = shop.reject(bought=value)

    assert "'bought'" in message
    assert expected in message


def test_a_time_of_day_ends_before_24_hours(shop: Shop) -> None:
    """As text and as a number."""
    for value in ("24:00", 1.0, -0.1, "2020-01-01"):
        assert "'opens' must be a time of day HH:MM" in shop.reject(opens=value)


def test_cells_of_a_table_that_are_no_dates_are_reported_by_line(shop: Shop) -> None:
    """The other rows have their predictions."""
    table = "bought;opens;shop\n1.5.2020;7:00;north\n31.04.2020;7:00;north\n1.5.2020;25:00;south\n"

    response = shop.client.post(
        "/models/orders/predict", content=table, headers={"content-type": "text/csv"}
    )

    rows = list(csv.DictReader(io.StringIO(response.text), delimiter=";"))
    assert not rows[0]["error"]
    assert rows[1]["error"].startswith("Line 3: feature 'bought' must be a date DD.MM.YYYY")
    assert rows[2]["error"].startswith("Line 4: feature 'opens' must be a time of day HH:MM")


def test_a_tensor_with_numbers_that_are_no_dates_is_rejected(shop: Shop) -> None:
    """The message describes the numbers of dates."""
    response = infer_in_json(
        shop.client, "orders", {"features": np.array([[1e9, 0.3, 0]], np.float64)}
    )

    assert response.status_code == 400
    assert "a number of days since 1970-01-01" in response.text


def test_dates_outside_the_training_range_have_a_warning(shop: Shop) -> None:
    """It shows dates, not numbers; the trend ends with the training range."""
    later = shop.post(
        "/models/orders/predict?warnings=true", shop.rows[0] | {"bought": "1.6.2031 12:00"}
    )
    inside = shop.post("/models/orders/predict?warnings=true", shop.rows[0])

    (warning,) = later["warnings"]
    assert warning.startswith("Feature 'bought' is 01.06.2031 12:00, outside the training range ")
    assert re.search(r" \d\d\.03\.2019 \d\d:\d\d to \d\d\.02\.2022 ", warning)
    assert "warnings" not in inside or inside["warnings"] == []


def test_an_explanation_has_a_contribution_for_each_date(shop: Shop) -> None:
    """Shapley values add up, and the reference is shown as text."""
    body = shop.post("/models/orders/explain", shop.rows[0])

    explanation = body["explanation"]
    assert set(explanation["contributions"]) == {"bought", "opens", "shop"}
    total = explanation["base"] + sum(explanation["contributions"].values())
    assert total == pytest.approx(explanation["score"])
    datetime.strptime(body["reference"]["bought"][:10], "%d.%m.%Y")  # noqa: DTZ007 - no offset
    datetime.strptime(body["reference"]["opens"][:5], "%H:%M")  # noqa: DTZ007 - no offset


def test_the_openapi_document_describes_dates(shop: Shop) -> None:
    """Its schema has the format and an example, and accepts exactly what the service accepts."""
    document = shop.client.get("/openapi.json").json()
    date = document["components"]["schemas"]["OrdersRow"]["properties"]["bought"]

    assert date["anyOf"][0]["x-format"] == "DD.MM.YYYY"
    assert date["examples"] == [shop.client.get("/models/orders").json()["features"][0]["example"]]
    assert re.fullmatch(r"\d\d\.03\.2019( \d\d:\d\d)?", date["x-trained-minimum"])
    validator = jsonschema.Draft202012Validator(date)
    texts = ["29.02.2020", "2020-02-29T12:00:00Z", "31.12.2020 07:30", *date["examples"]]
    for value in (*texts, 18000.5):
        assert validator.is_valid(value)
        shop.predict(shop.rows[0] | {"bought": value})
    for value in ("29.02.2021", "31.04.2020", "02/29/2020", 1e9, True):
        assert not validator.is_valid(value)
        shop.reject(bought=value)


def test_another_client_may_send_an_example(shop: Shop) -> None:
    """The example of the model's page is a valid row."""
    features = shop.client.get("/models/orders").json()["features"]

    assert len(shop.predict({feature["name"]: feature["example"] for feature in features})) == 1


def test_a_missing_date_has_a_warning(shop: Shop) -> None:
    """The training set has one in each row; a drafted feature may be missing all the same."""
    row = {name: value for name, value in shop.rows[0].items() if name != "bought"}
    response = shop.client.post("/models/orders/predict", content=orjson.dumps(row))

    assert response.status_code == 200
    assert "'bought'" in response.json()["warnings"][0]
