"""Explanations of rows: exact sums, and Shapley values of other models."""

from pathlib import Path

import numpy as np
import pytest

from service.bundle.explanations import Additive, NumberTerm
from service.bundle.manifest import ClassesOutput, ValueOutput
from service.bundle.store import MODEL
from tests.conftest import StartApp
from tests.explained import publish_quadratic
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
    publish_bare,
    publish_iris,
    publish_mixed,
    publish_price,
    sum_and_difference,
)


def term(*coefficients: float, reference: float) -> NumberTerm:
    """Return the term of a numeric feature in the scores."""
    return NumberTerm(kind="number", coefficients=list(coefficients), reference=reference)


def publish_logistic(models: Path) -> None:
    """Publish the exams classifier with additive explanations, relative to 50 points each."""
    labels = ["not admitted", "admitted"]
    output = ClassesOutput(kind="classes", name="decision", labels=labels)
    terms = [term(0.1, reference=50), term(0.2, reference=50)]
    stated = manifest("admission", admission_features(), output).model_copy(
        update={"reasons": Additive(score="log-odds", base=[-5.0], terms=terms)}
    )
    rows_and_outputs = examples([[61.0, 74.0]], [[admission_probability(61, 74)]], stated)
    model = graph(ADMISSION_WEIGHTS, ADMISSION_BIAS, "probability", "Sigmoid")
    publish(models, stated, model, rows_and_outputs)


def test_contributions_of_a_logistic_model_add_up_to_the_log_odds(
    models: Path, start: StartApp
) -> None:
    """The response has the prediction, and the sum is exact to the bit."""
    publish_logistic(models)
    client = start()
    row = {"exam_1": 45, "exam_2": 85}

    explained = client.post("/models/admission/explain", json=row).json()
    predicted = client.post("/models/admission/predict", json=row).json()

    explanation = explained.pop("explanation")
    assert explained.pop("method") == "additive"
    assert "add up to score, exactly" in explained.pop("meaning")
    assert explained == predicted
    assert explanation["of"] == "log-odds of 'admitted'"
    assert explanation["contributions"] == {
        "exam_1": pytest.approx(-0.5),
        "exam_2": pytest.approx(7),
    }
    assert explanation["base"] + sum(explanation["contributions"].values()) == explanation["score"]
    assert 1 / (1 + np.exp(-explanation["score"])) == pytest.approx(
        predicted["probability"], abs=1e-6
    )


def test_the_first_of_two_labels_has_the_opposite_explanation(
    models: Path, start: StartApp
) -> None:
    """The predicted label is explained by default, and the other one on request."""
    publish_logistic(models)
    client = start()
    row = {"exam_1": 30, "exam_2": 40}

    own = client.post("/models/admission/explain", json=row).json()
    other = client.post("/models/admission/explain?label=admitted", json=row).json()

    assert own["label"] == other["label"] == "not admitted"
    assert own["explanation"]["of"] == "log-odds of 'not admitted'"
    assert other["explanation"]["of"] == "log-odds of 'admitted'"
    assert own["explanation"]["score"] == -other["explanation"]["score"]
    assert 1 / (1 + np.exp(-own["explanation"]["score"])) == pytest.approx(own["probability"])


def test_each_of_several_rows_has_an_explanation(models: Path, start: StartApp) -> None:
    """They are in the order of the rows; fields that all rows share are sent once."""
    publish_logistic(models)

    rows = {"instances": [[45, 85], {"exam_1": 50, "exam_2": 50}]}
    response = start().post("/models/admission/explain", json=rows).json()

    assert list(response) == ["predictions", "method", "meaning", "model_version"]
    second = response["predictions"][1]["explanation"]
    assert second["contributions"] == {"exam_1": 0, "exam_2": 0}
    assert second["base"] == second["score"]


def test_shapley_values_of_a_linear_model_are_its_known_effects(
    models: Path, start: StartApp
) -> None:
    """With ``value = 2 size - 3 rooms``, each is a weight times a distance from the reference."""
    features = [number("size", example=10), number("rooms", example=4), number("noise", example=1)]
    stated = manifest("rent", list(features), ValueOutput(kind="value", name="rent", unit="euros"))
    rows_and_outputs = examples([[1.0, 1.0, 1.0]], [[-1.0]], stated)
    publish(models, stated, graph([[2.0], [-3.0], [0.0]], [0.0], "value"), rows_and_outputs)

    row = {"size": 25, "rooms": 2, "noise": 77}
    response = start().post("/models/rent/explain", json=row).json()

    assert response["method"] == "shapley"
    assert "averaged over 6 orders" in response["meaning"]
    assert response["reference"] == {"size": 10, "rooms": 4, "noise": 1}
    assert response["explanation"] == {
        "of": "value in euros",
        "base": 8,
        "contributions": {"size": 30, "rooms": 6, "noise": 0},
        "score": 44,
    }


def test_the_interaction_of_two_features_is_halved(models: Path, start: StartApp) -> None:
    """With ``value = x0 * x1`` and a reference of zeros, neither has an effect alone."""
    publish_quadratic(models, [[0, 1], [0, 0]], [0.0, 0.0])

    response = start().post("/models/quadratic/explain", json={"x0": 3, "x1": 4}).json()

    assert response["explanation"]["contributions"] == {"x0": 6, "x1": 6}


def test_categories_flags_and_missing_values_are_explained(models: Path, start: StartApp) -> None:
    """Each contributes its effect relative to the reference row."""
    publish_mixed(models)
    row = {"size": None, "rooms": 5, "garden": False, "quarter": "south", "color": "violet"}

    response = start().post("/models/mixed/explain", json=row).json()

    assert response["reference"] == {
        "size": 1,
        "rooms": 3,
        "garden": True,
        "quarter": "north",
        "color": "red",
    }
    contributions = {"size": 1000, "rooms": 2, "garden": -10, "quarter": 100, "color": 0}
    assert response["explanation"]["contributions"] == pytest.approx(contributions)
    assert response["explanation"]["score"] == response["value"] == 1105


def test_one_of_many_labels_is_explained(models: Path, start: StartApp) -> None:
    """Base and contributions of the predicted or requested label add up to its probability."""
    publish_iris(models)
    client = start()
    row = {"a": 3, "b": 1, "c": 0}

    own = client.post("/models/iris/explain", json=row).json()
    other = client.post("/models/iris/explain?label=virginica", json=row).json()

    for response, label in ((own, "setosa"), (other, "virginica")):
        explanation = response["explanation"]
        assert explanation["of"] == f"probability of {label!r}"
        assert explanation["score"] == pytest.approx(response["probabilities"][label], abs=1e-7)
        assert (
            explanation["base"] + sum(explanation["contributions"].values()) == explanation["score"]
        )
    assert own["explanation"]["contributions"]["a"] > 0


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("admission/explain?label=admited", {}, "did you mean 'admitted'?"),
        ("price/explain?label=x", {}, "this model predicts a value"),
        ("price/explain?lable=x", {}, "did you mean 'label'?"),
        ("price/explain", [{"size": 1}] * 4, "at most 3 rows, got 4"),
        ("price/explain", [], "There is no row to predict"),
        ("price/explain", {"size": "wide"}, "Feature 'size' must be a number"),
        ("price/explain?resolution=1", {}, "whole number from 2 to 32"),
        ("price/explain?resolution=0200", {}, "whole number from 2 to 32"),
        ("price/explain?image=yes", {}, "must be 'true' or 'false', got \"yes\""),
        ("bare/explain", {}, "has no manifest"),
    ],
)
def test_an_invalid_request_for_an_explanation_is_rejected(
    models: Path, start: StartApp, path: str, body: object, sentence: str
) -> None:
    """The error message states the valid request."""
    publish_admission(models)
    stated = manifest("price", [number("size")], ValueOutput(kind="value", name="price"))
    publish(models, stated, graph([[2.0]], [0.0], "value"), examples([[1.0]], [[2.0]], stated))
    publish_bare(models, "bare", sum_and_difference())
    usual = {"exam_1": 1, "exam_2": 2} if "admission" in path else {"size": 1}

    client = start(max_explained_rows=3)
    response = client.post(f"/models/{path}", json=usual if body == {} else body)

    assert response.status_code == 400
    assert sentence in response.json()["error"]


def test_an_unknown_model_is_reported(models: Path, start: StartApp) -> None:
    """The explanation of an unknown model fails with the error of its prediction."""
    publish_admission(models)

    response = start().post("/models/admision/explain", json={})

    assert response.status_code == 404
    assert "did you mean 'admission'?" in response.json()["error"]


def test_a_version_can_be_requested(models: Path, start: StartApp) -> None:
    """Each version explains its own predictions."""
    publish_quadratic(models, [[1]], [0.0])
    publish_quadratic(models, [[2]], [0.0])
    client = start(version_policy="all")

    responses = [
        client.post(f"/models/quadratic/versions/{version}/explain", json={"x0": 3}).json()
        for version in (1, 2)
    ]

    assert [response["explanation"]["contributions"]["x0"] for response in responses] == [9, 18]
    assert [response["model_version"] for response in responses] == ["1", "2"]


def test_explanations_have_their_own_counter(models: Path, start: StartApp) -> None:
    """They do not count as predictions."""
    publish_quadratic(models, [[1]], [0.0])
    client = start()

    client.post("/models/quadratic/explain", json={"x0": 3})
    client.post("/models/quadratic/explain", json={"x0": "x"})
    client.post("/models/nobody/explain", json={})
    text = client.get("/metrics").text

    name = 'onward_explanations_total{model="quadratic",outcome='
    assert f'{name}"ok",version="1"}} 1.0' in text
    assert f'{name}"invalid_input",version="1"}} 1.0' in text
    assert 'onward_explanations_total{model="",outcome="model_not_found",version=""} 1.0' in text
    assert "onward_requests_total{" not in text
    assert "onward_rows_total{" not in text


@pytest.mark.parametrize(
    ("path", "counted"),
    [
        ("predict", 'onward_requests_total{{model="price",outcome="{}",protocol="native",'),
        ("explain", 'onward_explanations_total{{model="price",outcome="{}",'),
    ],
)
def test_failed_explanations_have_the_labels_of_failed_predictions(
    models: Path, start: StartApp, path: str, counted: str
) -> None:
    """A version that is not ready is a label; without a model to run there is no version."""
    publish_price(models)
    (publish_price(models) / MODEL).write_bytes(b"broken")
    client = start()

    client.post(f"/models/price/versions/2/{path}", json={"size": 1})
    client.post(f"/models/price/{path}", content=b"", headers={"content-type": "a/b"})
    text = client.get("/metrics").text

    assert counted.format("model_not_ready") + 'version="2"} 1.0' in text
    assert counted.format("unsupported_content") + 'version=""} 1.0' in text
