"""``:classify`` and ``:regress``: examples, their context, and the models that support them."""

from pathlib import Path

import httpx
import pytest
from onnx import TensorProto, helper

from tests.conftest import Serve, StartApp
from tests.models import (
    admission_probability,
    publish_admission,
    publish_bare,
    publish_iris,
    publish_price,
    sum_and_difference,
)
from tests.service.api.v1.graphs import (
    FLOAT,
    Tensors,
    publish_graph,
    publish_half_plus,
    publish_identity,
)


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of the models of this file."""

    def publish(models: Path) -> None:
        publish_admission(models)
        publish_iris(models)
        publish_price(models)
        publish_identity(models, "scores", {"x": (FLOAT, ["n", 2])})
        publish_half_plus(models, "half", 0, ["n"])
        publish_bare(models, "simple", sum_and_difference())
        publish_identity(models, "square", {"x": (FLOAT, ["n", 2, 2])})

    return serve(publish)


def test_a_bundle_classifies_by_its_labels(client: httpx.Client) -> None:
    """Both labels of a binary model are returned, the second with the graph's probability."""
    body = {"examples": [{"exam_1": 45, "exam_2": [85]}, {"exam_1": 30, "exam_2": 40}]}

    response = client.post("/v1/models/admission:classify", json=body).json()

    for pairs, row in zip(response["results"], ((45, 85), (30, 40)), strict=True):
        second = admission_probability(*row)
        assert pairs == [
            ["not admitted", pytest.approx(1 - second, abs=1e-6)],
            ["admitted", pytest.approx(second, abs=1e-6)],
        ]


def test_scores_equal_those_of_the_native_protocol(client: httpx.Client) -> None:
    """A prediction does not depend on the protocol."""
    row = {"a": 0.5, "b": 2, "c": 1}

    plain = client.post("/models/iris/predict", json=row).json()["probabilities"]
    pairs = client.post("/v1/models/iris:classify", json={"examples": [row]}).json()["results"][0]

    assert dict(pairs) == plain


def test_a_bundle_regresses_to_its_value(client: httpx.Client) -> None:
    """Each example gets one number, in order."""
    response = client.post(
        "/v1/models/price:regress", json={"examples": [{"size": 3}, {"size": 1}]}
    )

    assert response.json() == {"results": [6.0, 2.0]}


def test_the_context_is_part_of_every_example(client: httpx.Client) -> None:
    """Values that examples share may be sent once."""
    path = "/v1/models/admission:classify"

    said_once = {"context": {"exam_2": 85}, "examples": [{"exam_1": 45}, {"exam_1": 30}]}
    said_twice = {"examples": [{"exam_1": 45, "exam_2": 85}, {"exam_1": 30, "exam_2": 85}]}

    assert client.post(path, json=said_once).json() == client.post(path, json=said_twice).json()


def test_classes_without_labels_have_empty_ones(client: httpx.Client) -> None:
    """The protocol has empty labels for graphs without labels."""
    response = client.post("/v1/models/scores:classify", json={"examples": [{"x": [1, 2]}]})

    assert response.json() == {"results": [[["", 1.0], ["", 2.0]]]}


def test_a_label_file_names_the_classes_of_a_bare_model(models: Path, start: StartApp) -> None:
    """It is the file in Triton's configuration."""
    publish_identity(models, "scores", {"x": (FLOAT, ["n", 2])})
    (models / "scores" / "config.pbtxt").write_text(
        'output { name: "x_out" label_filename: "labels.txt" }'
    )
    (models / "scores" / "labels.txt").write_text("cat\ndog\n")

    response = start().post("/v1/models/scores:classify", json={"examples": [{"x": [1, 2]}]})

    assert response.json() == {"results": [[["cat", 1.0], ["dog", 2.0]]]}


def test_one_score_for_each_example_is_one_class(client: httpx.Client) -> None:
    """A graph that outputs a vector has one class."""
    response = client.post("/v1/models/half:classify", json={"examples": [{"x": 1}, {"x": [3]}]})

    assert response.json() == {"results": [[["", 0.5]], [["", 1.5]]]}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("admission:regress", "Model 'admission' is a binary model, which cannot regress"),
        ("price:classify", "Model 'price' is a regression model, which cannot classify"),
        ("simple:classify", "has no floating-point output"),
        ("square:classify", "predicts an array of shape [1, 2, 2], not a row of scores for each"),
        ("square:regress", "not one number for each of 1 examples"),
    ],
)
def test_a_model_of_another_task_is_rejected(
    client: httpx.Client, call: str, sentence: str
) -> None:
    """The 400 error has the task, and suggests :predict."""
    rows = {
        "admission": {"exam_1": 45, "exam_2": 85},
        "price": {"size": 3},
        "simple": {"INPUT0": [1] * 16, "INPUT1": [1] * 16},
        "square": {"x": [[1, 2], [3, 4]]},
    }

    body = {"examples": [rows[call.partition(":")[0]]]}
    response = client.post(f"/v1/models/{call}", json=body)

    assert response.status_code == 400
    assert sentence in response.json()["error"]
    assert response.json()["error"].endswith("use :predict.")


def test_the_first_floating_point_output_is_the_score(models: Path, start: StartApp) -> None:
    """Integer outputs before it, such as the label of scikit-learn's converters, are skipped."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
        helper.make_node("Identity", ["x"], ["probabilities"]),
    ]
    outputs: Tensors = {"label": (TensorProto.INT64, ["n"]), "probabilities": (FLOAT, ["n", 2])}
    publish_graph(models, "trees", nodes, {"x": (FLOAT, ["n", 2])}, outputs)

    response = start().post("/v1/models/trees:classify", json={"examples": [{"x": [0.25, 0.75]}]})

    assert response.json() == {"results": [[["", 0.25], ["", 0.75]]]}
