"""Free text from a CSV file to a prediction, which is the same by every protocol."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from service.freetext import MAX_CHARACTERS
from tests.conftest import Serve
from tests.processes import run_here
from tests.tensors import infer_in_binary, infer_in_json, outputs_in_binary, outputs_in_json
from training.autorecipe.draft import draft
from training.data.csv import UNKNOWN, read_csv
from training.data.sources import Folders
from training.run import run

_GOOD = ["great", "lovely", "schön", "perfect 😀", "tasty!"]
_BAD = ["awful", "cold", "über-slow", "broken 😡", "never again..."]
_PARTS = ["the soup", "Our waiter", "the room", "THE VIEW", "my order, sadly late,", "das Brot"]
_ROWS = 300


def write_table(path: Path) -> None:
    """Write reviews whose words decide between good and bad, with a few cells that are missing."""
    generator = np.random.default_rng(3)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "visits", "city", "verdict"])
        for row in range(_ROWS):
            is_good = bool(generator.random() < 0.5)
            words = _GOOD if is_good else _BAD
            first, second = generator.choice(_PARTS, 2, replace=False)
            text = f"{first} was {generator.choice(words)} and {second} {generator.choice(words)}"
            text += f" ({row})"
            city = generator.choice(["Ulm", "Köln"])
            cells = ["" if row % 50 == 7 else text, int(generator.integers(1, 9)), city]
            writer.writerow([*cells, "good" if is_good else "bad"])


class Reviews:
    """A logistic model that was drafted for reviews, its table, and a client of its service."""

    def __init__(self, serve: Serve, folder: Path) -> None:
        self.table = folder / "reviews.csv"
        write_table(self.table)
        table = read_csv(self.table, UNKNOWN)
        self.recipe = draft(table, str(self.table), "verdict", "reviews", "logistic").recipe

        def publish(models: Path) -> None:
            self.models = models
            run(self.recipe, models, Folders(None, folder))

        self.client = serve(publish)
        with self.table.open(encoding="utf-8") as file:
            self.rows = [
                {"review": row["review"], "visits": int(row["visits"]), "city": row["city"]}
                for row in csv.DictReader(file)
            ]
        cities = [float(row["city"] == "Ulm") for row in self.rows]
        visits = [float(str(row["visits"])) for row in self.rows]
        self.inputs = {
            "features": np.column_stack([visits, cities]).astype(np.float32),
            "text": np.array([[str(row["review"])] for row in self.rows], np.object_),
        }
        """The inputs of the graph, as clients of tensors send them."""

    def post(self, path: str, document: object) -> Any:  # noqa: ANN401 - JSON
        """Send JSON and return the response's."""
        response = self.client.post(path, content=orjson.dumps(document))
        assert response.status_code == 200, response.text
        return response.json()

    def predict(self, document: object) -> list[float]:
        """Return the probabilities of good of the native protocol."""
        body = self.post("/models/reviews/predict", document)
        return [one["probabilities"]["good"] for one in body.get("predictions", [body])]


@pytest.fixture(scope="module")
def reviews(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Reviews:
    """Trained once for the tests of this file."""
    return Reviews(serve, tmp_path_factory.mktemp("reviews"))


def test_a_model_learns_from_the_words_of_a_text(reviews: Reviews) -> None:
    """A column of sentences is drafted as text, and decides nearly every row."""
    kinds = {feature.name: feature.type for feature in reviews.recipe.features}
    assert kinds == {"review": "text", "visits": "integer", "city": "category"}
    evaluation = reviews.client.get("/models/reviews").json()["evaluation"]
    assert evaluation["metrics"]["accuracy"] > 0.95

    good, bad, unknown = reviews.predict(
        [
            {"review": text, "visits": 4, "city": "Ulm"}
            for text in ("LOVELY, the Brot was schön!", "an awful, broken room", "xyz qqq")
        ]
    )
    assert good > 0.7
    assert bad < 0.3
    assert bad < unknown < good


def test_every_protocol_predicts_the_same(reviews: Reviews) -> None:
    """Objects, arrays, columns, tensors, lines and tables."""
    expected = reviews.predict(reviews.rows)
    arrays = [list(row.values()) for row in reviews.rows]
    for document in (arrays, {"instances": reviews.rows}):
        assert reviews.predict(document) == expected
    assert reviews.predict(reviews.rows[0]) == pytest.approx(expected[:1], abs=1e-6)

    path = "/v1/models/reviews:predict"
    columns = {name: [row[name] for row in reviews.rows] for name in reviews.rows[0]}
    tensors = {name: array.tolist() for name, array in reviews.inputs.items()}
    by_tensor = [
        {name: array[row] for name, array in tensors.items()} for row in range(len(expected))
    ]
    for rows in (reviews.rows, by_tensor):
        found = reviews.post(path, {"instances": rows})["predictions"]
        assert np.ravel(found) == pytest.approx(expected, abs=1e-6)
    for given in (columns, tensors):
        found = reviews.post(path, {"inputs": given})["outputs"]
        assert np.ravel(found) == pytest.approx(expected, abs=1e-6)
    found = reviews.post("/v1/models/reviews:classify", {"examples": reviews.rows})["results"]
    assert [dict(one)["good"] for one in found] == pytest.approx(expected, abs=1e-6)

    for send, read in ((infer_in_json, outputs_in_json), (infer_in_binary, outputs_in_binary)):
        array = read(send(reviews.client, "reviews", reviews.inputs), ["probability"])[0]
        assert array is not None
        assert array.ravel() == pytest.approx(expected, abs=1e-6)

    lines = b"\n".join(map(orjson.dumps, reviews.rows))
    response = reviews.client.post(
        "/models/reviews/predict", content=lines, headers={"content-type": "application/x-ndjson"}
    )
    found = [orjson.loads(line)["probabilities"]["good"] for line in response.text.splitlines()]
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_training_table_is_scored_without_an_error(reviews: Reviews, tmp_path: Path) -> None:
    """By HTTP, and by the command, which writes the same bytes."""
    response = reviews.client.post(
        "/models/reviews/predict?probabilities=all",
        content=reviews.table.read_bytes(),
        headers={"content-type": "text/csv"},
    )
    output = tmp_path / "out.csv"
    done = run_here(
        "score", "--models", str(reviews.models), "reviews", str(reviews.table), "-o", str(output)
    )

    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [row["label"] for row in rows] == [
        row["label"] for row in csv.DictReader(io.StringIO(output.read_text(encoding="utf-8")))
    ]
    expected = [p > 0.5 for p in reviews.predict(reviews.rows)]
    assert [row["label"] == "good" for row in rows] == expected


def test_a_missing_text_is_an_empty_one(reviews: Reviews) -> None:
    """Whether it is null, empty, blank, a word for a missing value, or no key of the row."""
    row = {"visits": 4, "city": "Ulm"}
    texts = [None, "", "  ", "NA", "\x00\x07"]

    found = reviews.predict([row, *(row | {"review": text} for text in texts)])

    assert found == pytest.approx([found[0]] * len(found))
    table = "review,visits,city\n,4,Ulm\nNA,4,Ulm\n"
    response = reviews.client.post(
        "/models/reviews/predict?probabilities=all",
        content=table,
        headers={"content-type": "text/csv"},
    )
    assert {row["error"] for row in csv.DictReader(io.StringIO(response.text))} <= {"", None}
    tensors = {
        "inputs": [
            {"name": "features", "datatype": "FP32", "shape": [1, 2], "data": [4, 1]},
            {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [None]},
        ]
    }
    outputs = reviews.post("/v2/models/reviews/infer", tensors)["outputs"]
    assert outputs[0]["data"] == pytest.approx(found[:1], abs=1e-6)


def test_case_blanks_and_forms_of_a_letter_do_not_matter(reviews: Reviews) -> None:
    """Training and service read the same tokens."""
    row = {"visits": 4, "city": "Ulm"}
    texts = ["das Brot was schön!", " DAS  brot\nwas SCHÖN !", "das Brot was scho\u0308n!"]

    found = reviews.predict([row | {"review": text} for text in texts])

    assert len(set(found)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "\x00\x01\x7f",
        "\U0001f600\u200d\u202e\u05e9\u05dc\u05d5\u05dd",
        "a" * 100_000,
        "\ufffe\uffff\U0010ffff",
        "'; --",
        17,
        1.5,
    ],
)
def test_any_text_gets_a_prediction(reviews: Reviews, text: object) -> None:
    """Control characters, any script, and long words."""
    (found,) = reviews.predict({"review": text, "visits": 4, "city": "Ulm"})

    assert 0 <= found <= 1


def test_a_text_is_read_up_to_a_limit(reviews: Reviews) -> None:
    """What follows has no effect."""
    start = ("the soup was great. " * (MAX_CHARACTERS // 20))[:MAX_CHARACTERS]
    row = {"visits": 4, "city": "Ulm"}

    first, second = reviews.predict(
        [row | {"review": start}, row | {"review": start + " awful broken cold" * 1000}]
    )

    assert first == second


@pytest.mark.parametrize("value", [True, [], {}])
def test_a_value_that_is_no_text_is_described(reviews: Reviews, value: object) -> None:
    """The message names the feature, and the other mistakes of the row."""
    row = {"review": value, "visits": "many", "city": "Ulm"}
    response = reviews.client.post("/models/reviews/predict", content=orjson.dumps(row))

    assert response.status_code == 400
    assert "'review' must be a string" in response.text
    assert "'visits' must be a whole number" in response.text


def test_numbers_next_to_text_keep_their_warnings(reviews: Reviews) -> None:
    """Of values outside the training range."""
    row = reviews.rows[0] | {"visits": 400}

    (warning,) = reviews.post("/models/reviews/predict?warnings=true", row)["warnings"]

    assert warning.startswith("Feature 'visits' is 400, outside the training range 1 to 8")


def test_an_explanation_of_text_is_rejected_with_the_reason(reviews: Reviews) -> None:
    """The document of the service has no such path either."""
    response = reviews.client.post("/models/reviews/explain", content=orjson.dumps(reviews.rows[0]))

    assert response.status_code == 400
    assert "it reads free text" in response.json()["error"]
    paths = reviews.client.get("/openapi.json").json()["paths"]
    assert "/models/reviews/predict" in paths
    assert "/models/reviews/explain" not in paths


def test_another_client_may_send_an_example(reviews: Reviews) -> None:
    """The example of the model's page is a valid row."""
    features = reviews.client.get("/models/reviews").json()["features"]

    assert len(reviews.predict({feature["name"]: feature["example"] for feature in features})) == 1
