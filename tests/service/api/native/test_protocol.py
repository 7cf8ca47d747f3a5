"""Requests and responses of the native protocol."""

from pathlib import Path

import pytest

from tests.conftest import StartApp
from tests.models import (
    admission_probability,
    publish_admission,
    publish_bare,
    publish_iris,
    publish_mixed,
    publish_price,
    sum_and_difference,
)


def test_one_object_gets_one_prediction(models: Path, start: StartApp) -> None:
    """The response has the label, its probability, all probabilities, and the version."""
    publish_admission(models)

    response = start().post("/models/admission/predict", json={"exam_1": 45, "exam_2": 85})

    expected = admission_probability(45, 85)
    assert response.status_code == 200
    assert response.json() == {
        "label": "admitted",
        "probability": pytest.approx(expected, abs=1e-6),
        "probabilities": {
            "not admitted": pytest.approx(1 - expected, abs=1e-6),
            "admitted": pytest.approx(expected, abs=1e-6),
        },
        "model_version": "1",
    }


def test_the_probability_is_that_of_the_predicted_label(models: Path, start: StartApp) -> None:
    """For a rejected applicant it is the probability of rejection."""
    publish_admission(models)

    response = start().post("/models/admission/predict", json={"exam_1": 30, "exam_2": 40}).json()

    assert response["label"] == "not admitted"
    assert response["probability"] == pytest.approx(1 - admission_probability(30, 40), abs=1e-6)


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"instances": rows}])
def test_many_rows_get_predictions_in_order(
    models: Path,
    start: StartApp,
    wrap: "type[list[object]]",
) -> None:
    """An array and ``instances`` are the same; rows may be objects or arrays of values."""
    publish_price(models)

    response = start().post("/models/price/predict", json=wrap([{"size": 3}, [4.5], {"size": 1}]))

    values = [{"value": value, "unit": "euros"} for value in (6.0, 9.0, 2.0)]
    assert response.json() == {"predictions": values, "model_version": "1"}


def test_the_most_probable_of_several_labels_is_predicted(models: Path, start: StartApp) -> None:
    """The label is the arg max, and the probabilities sum to one."""
    publish_iris(models)

    response = start().post("/models/iris/predict", json={"a": 0, "b": 2, "c": 1}).json()

    assert response["label"] == "versicolor"
    assert response["probability"] == max(response["probabilities"].values())
    assert sum(response["probabilities"].values()) == pytest.approx(1, abs=1e-6)


def test_every_kind_of_feature_reaches_the_graph(models: Path, start: StartApp) -> None:
    """Numbers, whole numbers, booleans and words become the input columns of the graph."""
    publish_mixed(models)
    row = {"size": 7, "rooms": 2, "garden": True, "quarter": "south", "color": "violet"}
    client = start()

    predictions = [
        client.post("/models/mixed/predict", json=row | change).json()
        for change in ({}, {"rooms": 4.0, "garden": 0, "quarter": "north"}, {"size": None})
    ]

    assert [response["value"] for response in predictions] == [112.0, 4.0, 1112.0]


def test_an_output_that_is_not_finite_is_an_error(models: Path, start: StartApp) -> None:
    """A huge value overflows the graph; the response is an error, not null or a wrong label."""
    publish_price(models)

    response = start().post("/models/price/predict", json=[{"size": 1}, {"size": 3e38}])

    assert (response.status_code, response.json()["code"]) == (400, "input_rejected")
    assert "its prediction for row 1 is not a finite number" in response.json()["error"]


def test_a_model_returns_its_features_and_its_execution(models: Path, start: StartApp) -> None:
    """GET /models/{name} repeats the manifest's features, with device and versions."""
    publish_admission(models)

    document = start().get("/models/admission").json()

    assert [feature["name"] for feature in document["features"]] == ["exam_1", "exam_2"]
    assert document["features"][0]["unit"] == "points"
    assert document["output"]["labels"] == ["not admitted", "admitted"]
    assert (document["ready"], document["device"], document["version"]) == (True, "cpu", "1")
    assert document["versions"] == [{"version": "1", "state": "READY"}]


def test_the_list_names_every_model_and_the_device(models: Path, start: StartApp) -> None:
    """GET /models is enough to choose a model and to see which device is used."""
    publish_admission(models)
    publish_price(models)

    document = start().get("/models").json()

    assert [model["name"] for model in document["models"]] == ["admission", "price"]
    assert document["device"] == {"requested": "cpu", "actual": "cpu"}


def test_a_version_can_be_requested_by_number(models: Path, start: StartApp) -> None:
    """The newest version serves the model, and its own number."""
    publish_price(models, slope=2.0)
    publish_price(models, slope=3.0)
    client = start()

    paths = ("/models/price/predict", "/models/price/versions/2/predict")
    predictions = [client.post(path, json={"size": 10}).json() for path in paths]

    assert predictions == [{"value": 30.0, "unit": "euros", "model_version": "2"}] * 2


def test_the_phases_of_a_prediction_are_timed_in_its_header(models: Path, start: StartApp) -> None:
    """Server-Timing names decode, queue, compute and encode."""
    publish_price(models)

    response = start().post("/models/price/predict", json={"size": 10})

    phases = [part.split(";")[0].strip() for part in response.headers["server-timing"].split(",")]
    assert phases == ["decode", "queue", "compute", "encode"]


def test_a_bare_model_names_the_protocol_that_it_supports(models: Path, start: StartApp) -> None:
    """Without a manifest features have no names, so the native protocol refers to v2."""
    publish_bare(models, "simple", sum_and_difference())

    response = start().post("/models/simple/predict", json={"a": 1})

    assert response.status_code == 400
    assert "/v2/models/simple/infer" in response.json()["error"]
