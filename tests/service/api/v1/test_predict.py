"""``:predict`` of a bundle: rows and columns."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conftest import Serve
from tests.models import (
    admission_probability,
    publish_admission,
    publish_iris,
    publish_mixed,
    publish_price,
)

ADMISSION = "/v1/models/admission:predict"


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of the models of this file."""

    def publish(models: Path) -> None:
        publish_admission(models)
        publish_iris(models)
        publish_mixed(models)
        publish_price(models)

    return serve(publish)


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"exam_1": 45, "exam_2": 85}, {"exam_1": 30, "exam_2": 40}]},
        {"instances": [[45, 85], [30, 40]]},
        {"instances": [{"exam_2": 85, "exam_1": 45}, [30, 40]]},
        {"instances": [{"features": [45, 85]}, {"features": [30, 40]}]},
        {"instances": [[45, 85], [30, 40]], "signature_name": "serving_default", "id": 7},
        {"inputs": [[45, 85], [30, 40]]},
        {"inputs": {"features": [[45, 85], [30, 40]]}},
        {"inputs": {"exam_1": [45, 30], "exam_2": [85, 40]}},
    ],
)
def test_every_form_of_the_same_rows_gets_the_same_numbers(
    client: httpx.Client, body: dict[str, object]
) -> None:
    """Rows and columns may be by feature, by order, or by the graph's input."""
    response = client.post(ADMISSION, json=body).json()

    expected = [
        [pytest.approx(admission_probability(*row), abs=1e-6)] for row in ((45, 85), (30, 40))
    ]
    assert response == {"predictions" if "instances" in body else "outputs": expected}


def test_a_thousand_rows_get_equal_predictions_in_every_protocol(client: httpx.Client) -> None:
    """Predictions of all protocols and of single rows are equal to the last digit."""
    rows = np.random.default_rng(1).normal(size=(1000, 3)).round(3).tolist()
    tensor = {"name": "features", "shape": [1000, 3], "datatype": "FP32", "data": rows}

    def post(path: str, body: object) -> Any:  # noqa: ANN401 - JSON is any of its types
        return client.post(path, json=body).json()

    plain = post("/models/iris/predict", rows)["predictions"]
    by_row = post("/v1/models/iris:predict", {"instances": rows})["predictions"]
    by_column = post("/v1/models/iris:predict", {"inputs": rows})["outputs"]
    v2 = post("/v2/models/iris/infer", {"inputs": [tensor]})["outputs"][0]["data"]
    alone = [
        post("/v1/models/iris:predict", {"instances": [row]})["predictions"][0]
        for row in rows[:100]
    ]

    assert [list(response["probabilities"].values()) for response in plain] == by_row
    assert by_column == by_row
    assert np.reshape(v2, (1000, 3)).tolist() == by_row
    assert alone == by_row[:100]


def test_categories_and_booleans_are_decoded_by_name_and_by_order(client: httpx.Client) -> None:
    """Rows have the values of the native protocol; the input's name takes the graph's numbers."""
    named = {"size": 1, "rooms": 4, "garden": True, "quarter": "south", "color": "violet"}
    rows = [named, [1, 4, True, "south", "violet"]]

    words = client.post("/v1/models/mixed:predict", json={"instances": rows}).json()
    numbers = client.post(
        "/v1/models/mixed:predict", json={"instances": [{"features": [1, 4, 1, 1, -1]}] * 2}
    ).json()

    assert words == numbers == {"predictions": [[114.0], [114.0]]}


def test_features_are_validated_in_every_form(client: httpx.Client) -> None:
    """A value out of range is reported with its row and feature."""
    bodies: list[dict[str, object]] = [
        {"instances": [[45, 85], {"exam_1": 45, "exam_2": 101}]},
        {"instances": [{"features": [45, 85]}, {"features": [45, 101]}]},
        {"inputs": [[45, 85], [45, 101]]},
        {"inputs": {"exam_1": [45, 45], "exam_2": [85, 101]}},
    ]

    responses = [client.post(ADMISSION, json=body) for body in bodies]

    for response in responses:
        assert response.status_code == 400
        (detail,) = response.json()["details"]
        assert (detail["row"], detail["feature"], detail["got"]) == (1, "exam_2", "101")


def test_null_is_a_missing_value_of_an_optional_feature(client: httpx.Client) -> None:
    """The graph gets NaN, in rows as in columns."""
    responses = [
        client.post("/v1/models/mixed:predict", json={"inputs": [[None, 4, 1, 0, 0]]}),
        client.post(
            "/v1/models/mixed:predict", json={"instances": [[None, 4, True, "north", None]]}
        ),
    ]

    assert [response.json() for response in responses] == [
        {"outputs": [[1014.0]]},
        {"predictions": [[1014.0]]},
    ]


def test_predictions_are_counted_as_version_1(client: httpx.Client) -> None:
    """The metrics distinguish v1 from the other protocols."""
    client.post("/v1/models/price:predict", json={"instances": [[1], [2]]})

    labels = 'model="price",outcome="ok",protocol="v1",version="1"'
    assert f"onward_requests_total{{{labels}}} 1.0" in client.get("/metrics").text
