"""Intervals and the unsure flag in responses of the native protocol and of v2."""

from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from service.bundle.manifest import ClassesOutput, Interval, ValueOutput
from tests.conftest import StartApp
from tests.models import (
    ADMISSION_BIAS,
    ADMISSION_WEIGHTS,
    admission_features,
    admission_probability,
    examples,
    graph,
    manifest,
    number,
    publish,
    publish_admission,
    publish_iris,
    publish_price,
)


def interval(scale: str) -> Interval:
    """Two bins, below and from 10 on, at 0.5 and 0.9."""
    levels = [{"level": 0.5, "margins": [0.25, 0.5]}, {"level": 0.9, "margins": [1, 2]}]
    return Interval.model_validate(
        {"scale": scale, "source": "validation", "rows": 100, "edges": [10.0], "levels": levels}
    )


def publish_doubtful(models: Path, known: Interval) -> Path:
    """Publish ``value = 2 size`` with intervals."""
    output = ValueOutput(kind="value", name="price", unit="euros", interval=known)
    stated = manifest("price", [number("size")], output)
    proof = examples([[1.0]], [[2.0]], stated)
    return publish(models, stated, graph([[2.0]], [0.0], "value"), proof)


@pytest.mark.parametrize("scale", ["value", "log1p"])
@pytest.mark.parametrize("size", [0.0, 4.9, 5.0, 5e6])
def test_a_prediction_has_the_requested_interval(
    models: Path, start: StartApp, scale: str, size: float
) -> None:
    """Its margins are those that training measured; an edge belongs to the bin above."""
    known = interval(scale)
    publish_doubtful(models, known)

    response = start().post("/models/price/predict?interval=0.9", json={"size": size}).json()

    value, margin = float(np.float32(2 * size)), 1 if size < 5 else 2
    low, high = value - margin, value + margin
    if scale == "log1p":
        low, high = (1 + value) / np.exp(margin) - 1, (1 + value) * np.exp(margin) - 1
    assert response == {
        "value": pytest.approx(2 * size),
        "unit": "euros",
        "interval": {
            "level": 0.9,
            "low": pytest.approx(low, rel=1e-6),
            "high": pytest.approx(high, rel=1e-6),
        },
        "model_version": "1",
    }
    assert response["interval"]["low"] <= response["value"] <= response["interval"]["high"]


def test_each_of_many_rows_has_its_interval(models: Path, start: StartApp) -> None:
    """Rows of different bins in one request get the intervals of their bins."""
    publish_doubtful(models, interval("value"))

    rows = [{"size": 1}, {"size": 10}]
    response = start().post("/models/price/predict?interval=.5", json=rows).json()

    ends = [(row["interval"]["low"], row["interval"]["high"]) for row in response["predictions"]]
    assert ends == [(1.75, 2.25), (19.5, 20.5)]


def test_there_is_no_interval_unless_requested(models: Path, start: StartApp) -> None:
    """The default response has no intervals."""
    publish_doubtful(models, interval("value"))

    response = start().post("/models/price/predict", json={"size": 1}).json()

    assert response == {"value": 2.0, "unit": "euros", "model_version": "1"}


def test_an_end_beyond_32_bits_is_the_largest_number(models: Path, start: StartApp) -> None:
    """JSON has no infinity, which would be the product of a factor and a very large number."""
    publish_doubtful(models, interval("log1p"))

    body = {"size": 1.5e38}
    response = start().post("/models/price/predict?interval=0.9", json=body).json()

    assert response["interval"]["high"] == pytest.approx(float(np.finfo(np.float32).max))


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("interval=0.8", "Parameter 'interval' must be one of 0.5, 0.9 here, got 0.8."),
        ("interval=90", 'must be a share between 0 and 1, such as 0.9, got "90".'),
        ("interval=nan", 'got "nan"'),
        ("interval=", 'got ""'),
        ("interval=-0.9", 'got "-0.9"'),
        ("intervall=0.9", "Unknown parameter \"intervall\"; did you mean 'interval'?"),
    ],
)
def test_an_unknown_level_is_rejected(
    models: Path, start: StartApp, query: str, sentence: str
) -> None:
    """The message lists the levels of the model."""
    publish_doubtful(models, interval("value"))

    response = start().post(f"/models/price/predict?{query}", json={"size": 1})

    assert response.status_code == 400
    assert sentence in response.json()["error"]


def test_models_without_intervals_reject_the_parameter(models: Path, start: StartApp) -> None:
    """A regression model without intervals and a classifier reject the parameter."""
    publish_price(models)
    publish_admission(models)
    client = start()

    value = client.post("/models/price/predict?interval=0.9", json={"size": 1})
    label = client.post("/models/admission/predict?interval=0.9", json={"exam_1": 1, "exam_2": 2})

    assert value.status_code == label.status_code == 400
    assert "has no prediction intervals" in value.json()["error"]
    assert "predicts class labels" in label.json()["error"]


def tensors(rows: list[list[float]], **rest: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """A request of version 2."""
    shape = [len(rows), len(rows[0])]
    given = {"name": "features", "shape": shape, "datatype": "FP32", "data": rows}
    return {"inputs": [given]} | rest


def test_v2_returns_the_ends_as_outputs(models: Path, start: StartApp) -> None:
    """A parameter of the request adds them; they can be selected like other outputs."""
    publish_doubtful(models, interval("value"))
    client = start()
    body = tensors([[1], [10]], parameters={"interval": 0.9})

    every = client.post("/v2/models/price/infer", json=body).json()["outputs"]
    low = client.post("/v2/models/price/infer", json=body | {"outputs": [{"name": "low"}]}).json()

    assert [output["name"] for output in every] == ["value", "low", "high"]
    assert [output["data"] for output in every] == [[2, 20], [1, 18], [3, 22]]
    assert every[1]["shape"] == [2, 1]
    assert low["outputs"] == [every[1]]


@pytest.mark.parametrize("level", [0.8, "0.9", True, [0.9]])
def test_v2_rejects_an_unknown_level(models: Path, start: StartApp, level: object) -> None:
    """The rule is that of the native protocol."""
    publish_doubtful(models, interval("value"))

    body = tensors([[1]], parameters={"interval": level})
    response = start().post("/v2/models/price/infer", json=body)

    assert response.status_code == 400
    assert "'interval' must be" in response.json()["error"]


def test_a_prediction_of_low_probability_is_unsure(models: Path, start: StartApp) -> None:
    """The manifest has the limit; the other parts of the response do not matter."""
    output = ClassesOutput(
        kind="classes", name="decision", labels=["not admitted", "admitted"], unsure_below=0.7
    )
    stated = manifest("admission", admission_features(), output)
    proof = examples([[61.0, 74.0]], [[admission_probability(61, 74)]], stated)
    model = graph(ADMISSION_WEIGHTS, ADMISSION_BIAS, "probability", "Sigmoid")
    publish(models, stated, model, proof)
    client = start()

    rows = [[45, 85], [61, 70], [30, 40]]
    response = client.post("/models/admission/predict", json=rows).json()["predictions"]
    bare = client.post("/models/admission/predict?probabilities=none", json=rows).json()

    assert [row["unsure"] for row in response] == [row["probability"] < 0.7 for row in response]
    assert [row["unsure"] for row in response] == [False, True, False]
    assert [row["unsure"] for row in bare["predictions"]] == [False, True, False]


def test_a_model_without_a_limit_has_no_unsure_flag(models: Path, start: StartApp) -> None:
    """Without the key in its manifest, predictions have no such field."""
    publish_iris(models)

    assert "unsure" not in start().post("/models/iris/predict", json=[[1, 2, 3]]).text


def test_openapi_describes_the_levels_and_the_intervals(models: Path, start: StartApp) -> None:
    """The values of the parameter are the levels of the model, and the response fits its schema."""
    publish_doubtful(models, interval("value"))
    client = start()

    document = client.get("/openapi.json").json()
    operation = document["paths"]["/models/price/predict"]["post"]
    (parameter,) = [one for one in operation["parameters"] if one["name"] == "interval"]
    response = client.post("/models/price/predict?interval=0.5", json={"size": 1}).json()

    assert parameter["schema"]["allOf"] == [{"enum": [0.5, 0.9]}]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    components = document["components"]
    jsonschema.validate(response, schema | {"components": components})
    interval_schema = components["schemas"]["Interval"]
    jsonschema.validate(response["interval"], interval_schema | {"additionalProperties": False})
