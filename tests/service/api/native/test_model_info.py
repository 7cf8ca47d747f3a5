"""Lists of models, and the description, evaluation and report of a model."""

from pathlib import Path

import pytest

from service.bundle.manifest import Baseline, Evaluation, ValueOutput
from service.bundle.store import EXAMPLES, MODEL, to_json, write_bundle
from tests.conftest import StartApp
from tests.image_models import publish_mirror
from tests.images import image_input
from tests.models import (
    examples,
    graph,
    manifest,
    number,
    publish_admission,
    publish_bare,
    sum_and_difference,
)

REPORT = b"<!doctype html><title>Price</title><p style='color: red'>Measured."
MEASURED = Evaluation(
    part="test",
    rows=50,
    metrics={"mae": 1.5, "rmse": 2.5},
    baseline=Baseline(name="the training mean", metrics={"mae": 3.0, "rmse": 4.0}),
)


MAIN_METRIC = {
    "name": "rmse",
    "value": 2.5,
    "baseline": 4.0,
    "rows": 50,
    "mae": 1.5,
    "baseline_mae": 3.0,
}


@pytest.fixture
def measured(models: Path) -> Path:
    """Publish a bundle with an evaluation and a report; return its folder."""
    output = ValueOutput(kind="value", name="price", unit="euros")
    stated = manifest("price", [number("size")], output)
    stated = stated.model_copy(update={"evaluation": MEASURED})
    proof = to_json(examples([[1.0]], [[2.0]], stated))
    parts = {MODEL: graph([[2.0]], [0.0], "value"), EXAMPLES: proof, "report.html": REPORT}
    return write_bundle(models, stated, parts)


@pytest.mark.usefixtures("measured")
def test_the_list_is_enough_to_choose_a_model(start: StartApp) -> None:
    """Title, task, input, output, and the main metric with that of the baseline and its rows."""
    (document,) = start().get("/models").json()["models"]

    assert document == {
        "name": "price",
        "version": "1",
        "ready": True,
        "title": "Price",
        "description": "The price of the tests.",
        "task": "regression",
        "input": "features",
        "feature_count": 1,
        "feature_names": ["size"],
        "output": {"name": "price", "unit": "euros"},
        "metric": MAIN_METRIC,
        "device": "cpu",
    }


def test_a_model_without_the_usual_metric_has_its_first_one(models: Path, start: StartApp) -> None:
    """An imported model may be measured by another metric than the usual one of its task."""
    output = ValueOutput(kind="value", name="price", unit="euros")
    other = MEASURED.model_copy(update={"metrics": {"mape": 0.25}})
    stated = manifest("price", [number("size")], output).model_copy(update={"evaluation": other})
    proof = to_json(examples([[1.0]], [[2.0]], stated))
    write_bundle(models, stated, {MODEL: graph([[2.0]], [0.0], "value"), EXAMPLES: proof})

    (document,) = start().get("/models").json()["models"]

    assert document["metric"] == {"name": "mape", "value": 0.25, "rows": 50}


def test_a_model_of_images_has_its_preprocessing(models: Path, start: StartApp) -> None:
    """The description has the image's size instead of features."""
    rule = image_input(4, 5)
    publish_mirror(models, rule)

    document = start().get("/models/mirror").json()

    assert (document["image"]["height"], document["image"]["width"]) == (4, 5)
    assert "features" not in document


@pytest.mark.usefixtures("measured")
def test_a_model_returns_its_evaluation(start: StartApp) -> None:
    """By name and by version: every metric, the number of rows, and the baseline."""
    client = start()

    document = client.get("/models/price/metrics").json()

    assert document == {
        "name": "price",
        "version": "1",
        "metric": MAIN_METRIC,
        **MEASURED.model_dump(exclude_none=True),
    }
    assert client.get("/models/price/versions/1/metrics").json() == document


@pytest.mark.usefixtures("measured")
def test_a_report_is_served_with_a_strict_policy(start: StartApp) -> None:
    """The page is that of the bundle; its policy allows only style and images."""
    client = start()

    page = client.get("/models/price/report")

    assert page.content == REPORT
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith(
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    )
    assert page.headers["x-content-type-options"] == "nosniff"
    assert client.get("/models/price/versions/1/report").content == REPORT


def test_a_report_that_has_changed_is_not_served(measured: Path, start: StartApp) -> None:
    """The error message explains that the file differs from the one that training wrote."""
    client = start()
    (measured / "report.html").write_text("<script>alert(1)</script>")

    response = client.get("/models/price/report")

    assert response.status_code == 404
    assert "report.html has" in response.json()["error"]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/models/admission/metrics", "Model 'admission' has no evaluation"),
        ("/models/admission/report", "Model 'admission' has no report"),
        ("/models/bare/metrics", "Model 'bare' has no evaluation"),
        ("/models/bare/report", "Model 'bare' has no report"),
        ("/models/admision/report", "did you mean 'admission'?"),
        ("/models/admission/versions/7/metrics", "has no version '7'"),
    ],
)
def test_a_missing_evaluation_or_report_is_reported(
    models: Path, start: StartApp, path: str, sentence: str
) -> None:
    """The status is 404, and the message names the missing report or evaluation."""
    publish_admission(models)
    publish_bare(models, "bare", sum_and_difference())

    response = start().get(path)

    assert response.status_code == 404
    assert sentence in response.json()["error"]
