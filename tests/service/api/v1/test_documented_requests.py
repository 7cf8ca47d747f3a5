"""Requests and responses of TensorFlow Serving's documentation, with equal models."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.conftest import StartApp
from tests.service.api.v1.graphs import (
    FLOAT,
    STRING,
    Shape,
    Tensors,
    publish_graph,
    publish_half_plus,
    publish_identity,
)

# The media type of curl's -d, with which the documentation sends JSON.
FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_half_plus_two_predicts_rows(models: Path, start: StartApp) -> None:
    """This is the first example of the container image's guide."""
    publish_half_plus(models, "half_plus_two", 2, ["n"])

    response = start().post(
        "/v1/models/half_plus_two:predict", content='{"instances": [1.0, 2.0, 5.0]}', headers=FORM
    )

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"predictions": [2.5, 3.0, 4.5]}


def test_half_plus_three_predicts_rows_and_columns(models: Path, start: StartApp) -> None:
    """This is the example of the REST guide, with and without the input's name."""
    publish_half_plus(models, "half_plus_three", 3, ["n"])
    client = start()

    bodies = [
        {"instances": [1.0, 2.0, 5.0]},
        {"instances": [{"x": 1.0}, {"x": 2.0}, {"x": 5.0}]},
        {"inputs": [1.0, 2.0, 5.0]},
        {"inputs": {"x": [1.0, 2.0, 5.0]}},
    ]
    responses = [
        client.post("/v1/models/half_plus_three:predict", json=body).json() for body in bodies
    ]

    values = [3.5, 4.0, 5.5]
    assert responses == [{"predictions": values}] * 2 + [{"outputs": values}] * 2


def test_half_plus_three_regresses_examples(models: Path, start: StartApp) -> None:
    """The guide's signature works; the value of an example is a list of one, or bare."""
    publish_half_plus(models, "half_plus_three", 3, ["n", 1])
    body = {"signature_name": "tensorflow/serving/regress", "examples": [{"x": 1.0}, {"x": [2.0]}]}

    response = start().post("/v1/models/half_plus_three:regress", json=body)

    assert response.json() == {"results": [3.5, 4.0]}


def test_a_version_can_be_requested_by_number(models: Path, start: StartApp) -> None:
    """The path with ``/versions/1`` selects version 1."""
    publish_half_plus(models, "half_plus_three", 3, ["n"])
    client = start()

    for path in ("half_plus_three:predict", "half_plus_three/versions/1:predict"):
        response = client.post(f"/v1/models/{path}", json={"instances": [1.0]})
        assert response.json() == {"predictions": [3.5]}


def test_the_status_has_the_fields_of_both_servers(models: Path, start: StartApp) -> None:
    """They are ``model_version_status`` of TensorFlow Serving, ``name`` and ``ready`` of KServe."""
    publish_half_plus(models, "half_plus_three", 3, ["n"])

    response = start().get("/v1/models/half_plus_three")

    assert response.json() == {
        "name": "half_plus_three",
        "ready": True,
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ],
    }


def test_the_metadata_has_the_form_of_the_guide(models: Path, start: StartApp) -> None:
    """The signatures are in a field of a message of the same name."""
    publish_half_plus(models, "half_plus_three", 3, ["n", 1])

    response = start().get("/v1/models/half_plus_three/versions/1/metadata").json()

    shape = {"dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}], "unknown_rank": False}
    assert response == {
        "model_spec": {"name": "half_plus_three", "signature_name": "", "version": "1"},
        "metadata": {
            "signature_def": {
                "signature_def": {
                    "serving_default": {
                        "inputs": {"x": {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": "x"}},
                        "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": "y"}},
                        "method_name": "tensorflow/serving/predict",
                    }
                }
            }
        },
    }


@pytest.mark.parametrize(
    ("shape", "instances"),
    [(["n"], ["foo", "bar", "baz"]), (["n", 1, 2], [[[1, 2]], [[3, 4]]])],
)
def test_rows_of_one_input_are_bare_values(
    models: Path, start: StartApp, shape: Shape, instances: list[object]
) -> None:
    """The guide has three scalars, and two tensors of shape [1, 2]."""
    kind = STRING if isinstance(instances[0], str) else TensorProto.INT32
    publish_identity(models, "echo", {"x": (kind, shape)})

    response = start().post("/v1/models/echo:predict", json={"instances": instances})

    assert response.json() == {"predictions": instances}


def test_named_tensors_in_rows_and_in_columns_are_the_same(models: Path, start: StartApp) -> None:
    """The guide's ``tag``, ``signal`` and ``sensor`` work both ways."""
    publish_identity(
        models,
        "echo",
        {
            "tag": (STRING, ["n"]),
            "signal": (TensorProto.INT64, ["n", 5]),
            "sensor": (FLOAT, ["n", 2, 2]),
        },
    )
    client = start()
    rows = [
        {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
        {"tag": "bar", "signal": [3, 4, 1, 2, 5], "sensor": [[4, 5], [6, 8]]},
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}

    by_row = client.post("/v1/models/echo:predict", json={"instances": rows}).json()
    by_column = client.post("/v1/models/echo:predict", json={"inputs": columns}).json()

    def out(named: Mapping[str, object]) -> dict[str, object]:
        return {f"{name}_out": value for name, value in named.items()}

    assert by_row == {"predictions": [out(row) for row in rows]}
    assert by_column == {"outputs": out(columns)}


def test_binary_strings_are_in_base64(models: Path, start: StartApp) -> None:
    """The guide has ``b64`` objects, which outputs have whose name ends in ``_bytes``."""
    inputs: Tensors = {"image": (STRING, ["n"]), "caption": (STRING, ["n"])}
    nodes = [
        helper.make_node("Identity", ["image"], ["image_bytes"]),
        helper.make_node("Identity", ["caption"], ["text"]),
    ]
    outputs: Tensors = {"image_bytes": (STRING, ["n"]), "text": (STRING, ["n"])}
    publish_graph(models, "echo", nodes, inputs, outputs)
    rows = [
        {"image": {"b64": "aW1hZ2UgYnl0ZXM="}, "caption": "seaside"},
        {"image": {"b64": "YXdlc29tZSBpbWFnZSBieXRlcw=="}, "caption": {"b64": "bW91bnRhaW5z"}},
    ]

    response = start().post("/v1/models/echo:predict", json={"instances": rows})

    assert response.json() == {
        "predictions": [
            {"image_bytes": {"b64": "aW1hZ2UgYnl0ZXM="}, "text": "seaside"},
            {"image_bytes": {"b64": "YXdlc29tZSBpbWFnZSBieXRlcw=="}, "text": "mountains"},
        ]
    }


def test_a_classifier_returns_pairs_of_label_and_score(models: Path, start: StartApp) -> None:
    """Labels are a string output of the graph, as in such signatures."""
    nodes = [
        helper.make_node("Constant", [], ["words"], value_strings=["no", "yes"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Expand", ["words", "shape"], ["classes"]),
        helper.make_node("Softmax", ["x"], ["scores"]),
    ]
    outputs: Tensors = {"classes": (STRING, ["n", 2]), "scores": (FLOAT, ["n", 2])}
    publish_graph(models, "judge", nodes, {"x": (FLOAT, ["n", 2])}, outputs)
    body = {"examples": [{"x": [0, 0]}, {"x": [1000, 0]}]}

    response = start().post("/v1/models/judge:classify", json=body)

    assert response.json() == {
        "results": [[["no", 0.5], ["yes", 0.5]], [["no", 1.0], ["yes", 0.0]]]
    }
