"""Why a table's row was answered as it was: sums that are exact, and models that are asked."""

from pathlib import Path

import numpy as np
import pytest

from service.bundle.explanations import Additive, NumberTerm
from service.bundle.manifest import ClassesOutput, ValueOutput
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
    place_bare,
    publish,
    publish_admission,
    publish_iris,
    publish_mixed,
    sum_and_difference,
)


def term(*coefficients: float, reference: float) -> NumberTerm:
    """A number's part of the scores."""
    return NumberTerm(kind="number", coefficients=list(coefficients), reference=reference)


def publish_logistic(models: Path) -> None:
    """Publish the two exams' classifier with its reasons, from 50 points each."""
    labels = ["not admitted", "admitted"]
    output = ClassesOutput(kind="classes", name="decision", labels=labels)
    terms = [term(0.1, reference=50), term(0.2, reference=50)]
    stated = manifest("admission", admission_features(), output).model_copy(
        update={"reasons": Additive(score="log-odds", base=[-5.0], terms=terms)}
    )
    proof = examples([[61.0, 74.0]], [[admission_probability(61, 74)]], stated)
    model = graph(ADMISSION_WEIGHTS, ADMISSION_BIAS, "probability", "Sigmoid")
    publish(models, stated, model, proof)


def test_a_logistic_model_tells_what_each_feature_adds_to_the_log_odds(
    models: Path, start: StartApp
) -> None:
    """The answer is that of a prediction; the parts add up to the bit."""
    publish_logistic(models)
    client = start()
    row = {"exam_1": 45, "exam_2": 85}

    answer = client.post("/models/admission/explain", json=row).json()
    predicted = client.post("/models/admission/predict", json=row).json()

    told = answer.pop("explanation")
    assert answer.pop("method") == "additive"
    assert "add up to score, exactly" in answer.pop("meaning")
    assert answer == predicted
    assert told["of"] == "log-odds of 'admitted'"
    assert told["contributions"] == {"exam_1": pytest.approx(-0.5), "exam_2": pytest.approx(7)}
    assert told["base"] + sum(told["contributions"].values()) == told["score"]
    assert 1 / (1 + np.exp(-told["score"])) == pytest.approx(predicted["probability"], abs=1e-6)


def test_the_first_of_two_labels_is_explained_by_the_opposite(
    models: Path, start: StartApp
) -> None:
    """It is the label answered; asked for, the other one is explained instead."""
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


def test_many_rows_have_reasons_each(models: Path, start: StartApp) -> None:
    """In the order of the rows; what holds for all is said once."""
    publish_logistic(models)

    rows = {"instances": [[45, 85], {"exam_1": 50, "exam_2": 50}]}
    answer = start().post("/models/admission/explain", json=rows).json()

    assert list(answer) == ["predictions", "method", "meaning", "model_version"]
    second = answer["predictions"][1]["explanation"]
    assert second["contributions"] == {"exam_1": 0, "exam_2": 0}
    assert second["base"] == second["score"]


def test_of_an_additive_model_asking_finds_the_known_effects(models: Path, start: StartApp) -> None:
    """``value = 2 size - 3 rooms``: each distance from the reference, times its weight."""
    features = [number("size", example=10), number("rooms", example=4), number("noise", example=1)]
    stated = manifest("rent", list(features), ValueOutput(kind="value", name="rent", unit="euros"))
    proof = examples([[1.0, 1.0, 1.0]], [[-1.0]], stated)
    publish(models, stated, graph([[2.0], [-3.0], [0.0]], [0.0], "value"), proof)

    row = {"size": 25, "rooms": 2, "noise": 77}
    answer = start().post("/models/rent/explain", json=row).json()

    assert answer["method"] == "shapley"
    assert "averaged over 6 orders" in answer["meaning"]
    assert answer["reference"] == {"size": 10, "rooms": 4, "noise": 1}
    assert answer["explanation"] == {
        "of": "value in euros",
        "base": 8,
        "contributions": {"size": 30, "rooms": 6, "noise": 0},
        "score": 44,
    }


def test_what_two_features_do_together_is_halved(models: Path, start: StartApp) -> None:
    """``value = x0 * x1`` from nought: alone neither does anything."""
    publish_quadratic(models, [[0, 1], [0, 0]], [0.0, 0.0])

    answer = start().post("/models/quadratic/explain", json={"x0": 3, "x1": 4}).json()

    assert answer["explanation"]["contributions"] == {"x0": 6, "x1": 6}


def test_words_flags_and_gaps_are_explained(models: Path, start: StartApp) -> None:
    """From the reference's rooms, garden and quarter; a gap adds what gaps add."""
    publish_mixed(models)
    row = {"size": None, "rooms": 5, "garden": False, "quarter": "south", "colour": "violet"}

    answer = start().post("/models/mixed/explain", json=row).json()

    assert answer["reference"] == {
        "size": 1,
        "rooms": 3,
        "garden": True,
        "quarter": "north",
        "colour": "red",
    }
    contributions = {"size": 1000, "rooms": 2, "garden": -10, "quarter": 100, "colour": 0}
    assert answer["explanation"]["contributions"] == pytest.approx(contributions)
    assert answer["explanation"]["score"] == answer["value"] == 1105


def test_one_of_many_labels_is_explained(models: Path, start: StartApp) -> None:
    """The answered one, or the one asked for; base and contributions are its probability."""
    publish_iris(models)
    client = start()
    row = {"a": 3, "b": 1, "c": 0}

    own = client.post("/models/iris/explain", json=row).json()
    other = client.post("/models/iris/explain?label=virginica", json=row).json()

    for answer, label in ((own, "setosa"), (other, "virginica")):
        told = answer["explanation"]
        assert told["of"] == f"probability of {label!r}"
        assert told["score"] == pytest.approx(answer["probabilities"][label], abs=1e-7)
        assert told["base"] + sum(told["contributions"].values()) == told["score"]
    assert own["explanation"]["contributions"]["a"] > 0


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("admission/explain?label=admited", {}, "did you mean 'admitted'?"),
        ("price/explain?label=x", {}, "this model answers a value"),
        ("price/explain?lable=x", {}, "did you mean 'label'?"),
        ("price/explain", [{"size": 1}] * 4, "at most 3 rows, got 4"),
        ("price/explain", [], "There is no row to predict"),
        ("price/explain", {"size": "wide"}, "Feature 'size' must be a number"),
        ("price/explain?resolution=1", {}, "whole number from 2 to 32"),
        ("bare/explain", {}, "has no manifest"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    models: Path, start: StartApp, path: str, body: object, sentence: str
) -> None:
    """By the error contract, with what to do."""
    publish_admission(models)
    stated = manifest("price", [number("size")], ValueOutput(kind="value", name="price"))
    publish(models, stated, graph([[2.0]], [0.0], "value"), examples([[1.0]], [[2.0]], stated))
    place_bare(models, "bare", sum_and_difference())
    usual = {"exam_1": 1, "exam_2": 2} if "admission" in path else {"size": 1}

    client = start(max_explained_rows=3)
    answer = client.post(f"/models/{path}", json=usual if body == {} else body)

    assert answer.status_code == 400
    assert sentence in answer.json()["error"]


def test_an_unknown_model_is_told(models: Path, start: StartApp) -> None:
    """As for predictions."""
    publish_admission(models)

    answer = start().post("/models/admision/explain", json={})

    assert answer.status_code == 404
    assert "did you mean 'admission'?" in answer.json()["error"]


def test_a_version_may_be_named(models: Path, start: StartApp) -> None:
    """Each version answers for itself."""
    publish_quadratic(models, [[1]], [0.0])
    publish_quadratic(models, [[2]], [0.0])
    client = start(version_policy="all")

    answers = [
        client.post(f"/models/quadratic/versions/{version}/explain", json={"x0": 3}).json()
        for version in (1, 2)
    ]

    assert [answer["explanation"]["contributions"]["x0"] for answer in answers] == [9, 18]
    assert [answer["model_version"] for answer in answers] == ["1", "2"]


def test_explanations_are_counted_apart(models: Path, start: StartApp) -> None:
    """Predictions stay what was predicted; what was explained has a counter of its own."""
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
