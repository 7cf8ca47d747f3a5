"""Labels and warnings of predictions, according to the parameters of the request."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from service.bundle.features import CategoryFeature, Feature, Range
from service.bundle.manifest import ClassesOutput, ValueOutput
from service.codecs.features import TrainingRange
from service.values import parse_integer
from tests.conftest import Serve, StartApp
from tests.models import (
    examples,
    graph,
    manifest,
    number,
    publish,
    publish_admission,
    publish_iris,
    publish_price,
)

IRIS = {"a": 1, "b": 3, "c": 2}


def publish_trained(models: Path) -> None:
    """Publish ``value = size + 10 color``, trained on sizes from 1 to 2.1 and five colors."""
    color = CategoryFeature(
        name="color",
        type="category",
        categories=["red", "green", "blue", "gray", "black"],
        example="red",
        unseen="other",
    )
    trained = Range(minimum=1, maximum=2.1)
    features: list[Feature] = [number("size", unit="m", trained=trained), color]
    stated = manifest("trained", features, ValueOutput(kind="value", name="value"))
    proof = examples([[1.0, 1.0]], [[11.0]], stated)
    publish(models, stated, graph([[1.0], [10.0]], [0.0], "value"), proof)


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of the models of this file."""

    def publish(models: Path) -> None:
        publish_iris(models)
        publish_admission(models)
        publish_price(models)
        publish_trained(models)

    return serve(publish)


def test_top_returns_the_most_probable_labels_in_order(client: httpx.Client) -> None:
    """The first is the predicted label; the probabilities are those of the full response."""
    whole = client.post("/models/iris/predict", json=IRIS).json()
    two = client.post("/models/iris/predict?top=2", json=IRIS).json()
    many = client.post("/models/iris/predict?top=9", json=IRIS).json()

    assert list(two["probabilities"]) == ["versicolor", "virginica"]
    assert two["label"] == "versicolor"
    assert two["probability"] == whole["probability"]
    assert two["probabilities"].items() <= whole["probabilities"].items()
    assert many["probabilities"] == whole["probabilities"]
    assert list(many["probabilities"]) == ["versicolor", "virginica", "setosa"]


@pytest.mark.parametrize("media_type", ["application/json", "text/csv"])
def test_a_number_may_have_leading_zeros(models: Path, start: StartApp, media_type: str) -> None:
    """However many they are, they do not change the number."""
    publish_iris(models)
    client = start()
    path = "/models/iris/predict?top="
    body = {"json": IRIS} if media_type == "application/json" else {"content": "a,b,c\n1,3,2\n"}
    headers = {"content-type": media_type}

    one, zeros = (
        client.post(f"{path}{top}", headers=headers, **body) for top in ("1", "0000000001")
    )

    assert zeros.status_code == 200
    assert zeros.content == one.content


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("0200", 200),
        ("9" * 18, 10**18 - 1),
        ("1" * 5000, 10**18),
        ("0" * 5000 + "7", 7),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("٣", None),
    ],
)
def test_a_whole_number_is_read_as_a_whole(text: str, number: int | None) -> None:
    """Cutting off digits would make another number of it."""
    assert parse_integer(text) == number


def test_the_threshold_and_not_the_top_decides_the_label(models: Path, start: StartApp) -> None:
    """A label below one half can be predicted; its probability is unchanged."""
    output = ClassesOutput(kind="classes", name="y", labels=["no", "yes"], threshold=0.2)
    stated = manifest("rare", [number("x")], output)
    model = graph([[1.0]], [0.0], "probability", "Sigmoid")
    publish(models, stated, model, examples([[0.0]], [[0.5]], stated))

    response = start().post("/models/rare/predict?top=1", json={"x": -1}).json()

    assert response["label"] == "yes"
    assert response["probability"] == pytest.approx(0.26894142, abs=1e-6)
    assert list(response["probabilities"]) == ["no"]


def test_probabilities_can_be_omitted(client: httpx.Client) -> None:
    """The label and its own probability remain, for any `top`."""
    rows = [{"exam_1": 45, "exam_2": 85}, {"exam_1": 30, "exam_2": 40}]

    whole = client.post("/models/admission/predict?probabilities=all", json=rows).json()
    short = client.post("/models/admission/predict?top=2&probabilities=none", json=rows).json()

    assert short["predictions"] == [
        {"label": response["label"], "probability": response["probability"]}
        for response in whole["predictions"]
    ]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("top=0", "Parameter 'top' must be a whole number from 1, got \"0\"."),
        ("top=-1", 'got "-1"'),
        ("top=2.5", 'got "2.5"'),
        ("top=", 'got ""'),
        ("top=all", 'got "all"'),
        ("topp=3", "Unknown parameter \"topp\"; did you mean 'top'?"),
        ("probability=none", "did you mean 'probabilities'?"),
        ("probabilities=some", "must be 'all' or 'none', got \"some\"."),
        ("warnings=yes", "must be 'true' or 'false', got \"yes\"."),
        ("decimal=;", "must be 'point' or 'comma', got \";\"."),
    ],
)
def test_a_wrong_parameter_is_reported(client: httpx.Client, query: str, sentence: str) -> None:
    """A misspelled name gets a suggestion, and an invalid value gets the valid ones."""
    response = client.post(f"/models/iris/predict?{query}", json=IRIS)

    assert response.status_code == 400
    assert sentence in response.json()["error"]


def test_a_regression_model_rejects_top(client: httpx.Client) -> None:
    """A value has no labels to choose from."""
    response = client.post("/models/price/predict?top=3", json={"size": 1})

    assert "this model predicts a value" in response.json()["error"]


def test_unrelated_parameters_are_ignored(client: httpx.Client) -> None:
    """Proxies and browsers add their own."""
    response = client.post("/models/price/predict?key=1&utm_source=x&trace=", json={"size": 1})

    assert response.status_code == 200


def test_values_outside_the_training_range_get_warnings(client: httpx.Client) -> None:
    """Numbers outside the range and unseen words; the ends of a range are within it.

    A table repeats the warning in every row, so it has the first three categories.
    """
    rows = [
        {"size": 1, "color": "red"},
        {"size": 2.1, "color": "green"},
        {"size": 2.2, "color": "mauve"},
        {"size": -3, "color": "green"},
    ]

    predictions = client.post("/models/trained/predict", json=rows).json()["predictions"]

    far = (
        "Feature 'size' is {} m, outside the training range 1 to 2.1; the prediction is unreliable."
    )
    word = (
        "Feature 'color' has a category that is not in the training set "
        '("red", "green", "blue" and 2 more).'
    )
    assert [response.get("warnings") for response in predictions] == [
        None,
        None,
        [far.format("2.2"), word],
        [far.format("-3")],
    ]


def test_warnings_can_be_omitted(client: httpx.Client) -> None:
    """The response is otherwise the same."""
    row = {"size": 5, "color": "red"}

    warned = client.post("/models/trained/predict", json=row).json()
    plain = client.post("/models/trained/predict?warnings=false", json=row).json()

    assert warned.pop("warnings")
    assert plain == warned


def test_a_missing_value_gets_no_warning() -> None:
    """NaN is a missing value, which no range excludes."""
    trained = TrainingRange([number("size", trained=Range(minimum=1, maximum=2))])

    assert trained.warnings(np.array([[np.nan], [1.5]], np.float32)) == {}
