"""``:predict``: what a row and a column may be, for bundles and for any graph."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.conftest import StartApp
from tests.models import (
    admission_probability,
    place_bare,
    publish_admission,
    publish_iris,
    publish_mixed,
    publish_price,
    sum_and_difference,
)
from tests.service.api.v1.graphs import FLOAT, STRING, Shape, place, place_identity

ADMISSION = "/v1/models/admission:predict"


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
    models: Path, start: StartApp, body: dict[str, object]
) -> None:
    """Rows by feature, by order and by the graph's input; columns by the same."""
    publish_admission(models)

    answer = start().post(ADMISSION, json=body).json()

    expected = [
        [pytest.approx(admission_probability(*row), abs=1e-6)] for row in ((45, 85), (30, 40))
    ]
    assert answer == {"predictions" if "instances" in body else "outputs": expected}


def test_a_thousand_rows_get_the_same_answer_in_every_dialect(
    models: Path, start: StartApp
) -> None:
    """Plain, version 1 by row and by column, version 2, and one by one: equal to the last digit."""
    publish_iris(models)
    client = start()
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

    assert [list(answer["probabilities"].values()) for answer in plain] == by_row
    assert by_column == by_row
    assert np.reshape(v2, (1000, 3)).tolist() == by_row
    assert alone == by_row[:100]


def test_words_and_booleans_reach_the_graph_by_name_and_by_order(
    models: Path, start: StartApp
) -> None:
    """Rows hold what the plain dialect's rows hold; the input's own name takes graph numbers."""
    publish_mixed(models)
    named = {"size": 1, "rooms": 4, "garden": True, "quarter": "south", "colour": "violet"}
    rows = [named, [1, 4, True, "south", "violet"]]

    client = start()
    words = client.post("/v1/models/mixed:predict", json={"instances": rows}).json()
    numbers = client.post(
        "/v1/models/mixed:predict", json={"instances": [{"features": [1, 4, 1, 1, -1]}] * 2}
    ).json()

    assert words == numbers == {"predictions": [[114.0], [114.0]]}


def test_the_rules_of_features_hold_in_every_form(models: Path, start: StartApp) -> None:
    """A value out of range is named with its row and feature, however it came."""
    publish_admission(models)
    client = start()
    bodies: list[dict[str, object]] = [
        {"instances": [[45, 85], {"exam_1": 45, "exam_2": 101}]},
        {"instances": [{"features": [45, 85]}, {"features": [45, 101]}]},
        {"inputs": [[45, 85], [45, 101]]},
        {"inputs": {"exam_1": [45, 45], "exam_2": [85, 101]}},
    ]

    answers = [client.post(ADMISSION, json=body) for body in bodies]

    for answer in answers:
        assert answer.status_code == 400
        (detail,) = answer.json()["details"]
        assert (detail["row"], detail["feature"], detail["got"]) == (1, "exam_2", "101")


def test_null_stands_for_a_missing_value_where_one_may_be_missing(
    models: Path, start: StartApp
) -> None:
    """It enters the graph as NaN, in rows as in the graph's own columns."""
    publish_mixed(models)
    client = start()

    answers = [
        client.post("/v1/models/mixed:predict", json={"inputs": [[None, 4, 1, 0, 0]]}),
        client.post(
            "/v1/models/mixed:predict", json={"instances": [[None, 4, True, "north", None]]}
        ),
    ]

    # NaN times a weight of zero is NaN, which JSON answers with null: the graph did get the NaN.
    assert [answer.json() for answer in answers] == [
        {"outputs": [[None]]},
        {"predictions": [[None]]},
    ]


TYPES: list[tuple[int, list[object]]] = [
    (TensorProto.BOOL, [True, False]),
    (TensorProto.UINT8, [0, 255]),
    (TensorProto.UINT16, [0, 65535]),
    (TensorProto.UINT32, [0, 2**32 - 1]),
    (TensorProto.UINT64, [0, 2**64 - 1]),
    (TensorProto.INT8, [-128, 127]),
    (TensorProto.INT16, [-32768, 32767]),
    (TensorProto.INT32, [-(2**31), 2**31 - 1]),
    (TensorProto.INT64, [-(2**63), 2**63 - 1]),
    (TensorProto.FLOAT16, [0.5, 65504.0]),
    (TensorProto.FLOAT, [0.1, -3.4028235e38]),
    (TensorProto.DOUBLE, [0.1, 1.7976931348623157e308]),
    (TensorProto.STRING, ["", "né"]),
]


@pytest.mark.parametrize(("kind", "values"), TYPES)
def test_every_element_type_goes_in_and_comes_out(
    models: Path, start: StartApp, kind: int, values: list[object]
) -> None:
    """The extremes of each type, by row and by column."""
    place_identity(models, "echo", {"x": (kind, ["n"])})
    client = start()

    by_row = client.post("/v1/models/echo:predict", json={"instances": values}).json()
    by_column = client.post("/v1/models/echo:predict", json={"inputs": {"x": values}}).json()

    assert by_row == {"predictions": values}
    assert by_column == {"outputs": values}


@pytest.mark.parametrize(
    ("shape", "instance"),
    [
        (["n"], 1.5),
        (["n", 2], [1.5, 2.5]),
        ([1, 2], [1.5, 2.5]),
        ([1, 2], [[1.5, 2.5]]),
        ([2], [1.5, 2.5]),
        ([], 1.5),
        (["n", "m"], [[1.5, 2.5], [3.5, 4.5]]),
        (["n", "m"], [1.5, 2.5, 3.5]),
        ([2, 2], [[1.5, 2.5], [3.5, 4.5]]),
    ],
)
def test_one_instance_is_taken_with_or_without_an_axis_of_rows(
    models: Path, start: StartApp, shape: Shape, instance: object
) -> None:
    """Dynamic, fixed and no batch axis, and scalars: the prediction has the instance's form."""
    place_identity(models, "echo", {"x": (FLOAT, shape)})
    client = start()

    for row in (instance, {"x": instance}):
        answer = client.post("/v1/models/echo:predict", json={"instances": [row]})
        assert answer.json() == {"predictions": [instance]}


def test_columns_may_differ_in_length(models: Path, start: StartApp) -> None:
    """Inputs with first axes of their own are what the column form is for."""
    place_identity(models, "echo", {"x": (FLOAT, ["n"]), "y": (FLOAT, ["m", 2]), "z": (FLOAT, [])})
    client = start()
    inputs = {"x": [1.0, 2.0, 3.0], "y": [[4.0, 5.0]], "z": 6.0}

    answer = client.post("/v1/models/echo:predict", json={"inputs": inputs})

    assert answer.json() == {"outputs": {f"{name}_out": value for name, value in inputs.items()}}


def test_several_inputs_of_a_model_without_a_batch_axis(models: Path, start: StartApp) -> None:
    """Triton's example model, in rows and in columns."""
    place_bare(models, "simple", sum_and_difference())
    client = start()
    left, right = list(range(16)), [1] * 16
    path = "/v1/models/simple:predict"

    by_row = client.post(path, json={"instances": [{"INPUT0": left, "INPUT1": right}]}).json()
    by_column = client.post(path, json={"inputs": {"INPUT0": [left], "INPUT1": [right]}}).json()

    total, difference = [n + 1 for n in left], [n - 1 for n in left]
    assert by_row == {"predictions": [{"OUTPUT0": total, "OUTPUT1": difference}]}
    assert by_column == {"outputs": {"OUTPUT0": [total], "OUTPUT1": [difference]}}


def test_an_output_without_rows_needs_the_column_form(models: Path, start: StartApp) -> None:
    """The sum of all instances belongs to none of them; one instance alone may have it."""
    nodes = [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0)]
    place(models, "total", nodes, {"x": (FLOAT, ["n"])}, {"sum": (FLOAT, [])})
    client = start()
    path = "/v1/models/total:predict"

    several = client.post(path, json={"instances": [1, 2]})
    alone = client.post(path, json={"instances": [1]})
    columns = client.post(path, json={"inputs": [1, 2]})

    assert several.status_code == 400
    assert "send 'inputs' instead of 'instances'" in several.json()["error"]
    assert alone.json() == {"predictions": [1.0]}
    assert columns.json() == {"outputs": 3.0}


def test_numbers_that_are_not_finite_come_out_as_null(models: Path, start: StartApp) -> None:
    """JSON has no NaN and no infinity, in arrays as in scalars."""
    nodes = [helper.make_node("Log", ["x"], ["y"])]
    place(models, "log", nodes, {"x": (FLOAT, ["n"])}, {"y": (FLOAT, ["n"])})
    client = start()

    answer = client.post("/v1/models/log:predict", json={"instances": [1, 0, -1]})

    assert answer.json() == {"predictions": [0.0, None, None]}


def test_optional_tensors_may_be_left_out(models: Path, start: StartApp) -> None:
    """An optional input is left out by all rows; an optional output is left out or null."""
    tensor = helper.make_tensor_type_proto(FLOAT, ["n"])
    value = helper.make_value_info("x", helper.make_optional_type_proto(tensor))
    has = helper.make_tensor_value_info("has", TensorProto.BOOL, [])
    nodes = [helper.make_node("OptionalHasElement", ["x"], ["has"])]
    model = helper.make_model(
        helper.make_graph(nodes, "asks", [value], [has]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    place_bare(models, "asks", model.SerializeToString())
    client = start()

    bodies: list[object] = [{"instances": [{}]}, {"inputs": {}}, {"inputs": {"x": [1.0]}}]
    answers = [client.post("/v1/models/asks:predict", json=body).json() for body in bodies]

    assert answers == [{"predictions": [False]}, {"outputs": False}, {"outputs": True}]


def test_a_model_without_inputs_answers_an_empty_row(models: Path, start: StartApp) -> None:
    """Its only answer, asked by an object that names no input."""
    nodes = [helper.make_node("Constant", [], ["y"], value_floats=[1.0, 2.0])]
    place(models, "constant", nodes, {}, {"y": (FLOAT, [2])})
    client = start()

    by_row = client.post("/v1/models/constant:predict", json={"instances": [{}]}).json()
    by_column = client.post("/v1/models/constant:predict", json={"inputs": {}}).json()

    assert (by_row, by_column) == ({"predictions": [[1.0, 2.0]]}, {"outputs": [1.0, 2.0]})


def test_predictions_are_counted_as_version_1(models: Path, start: StartApp) -> None:
    """The metrics tell this dialect's requests from the others'."""
    publish_price(models)
    client = start()

    client.post("/v1/models/price:predict", json={"instances": [[1], [2]]})

    labels = 'dialect="v1",model="price",outcome="ok",version="1"'
    assert f"onward_requests_total{{{labels}}} 1.0" in client.get("/metrics").text


def test_a_string_may_be_called_as_its_coding_is(models: Path, start: StartApp) -> None:
    """``{"b64": …}`` is a string wherever a string may stand, at any depth."""
    place_identity(models, "echo", {"x": (STRING, ["n", 2])})

    answer = start().post("/v1/models/echo:predict", json={"inputs": [["a", {"b64": "Yg=="}]]})

    assert answer.json() == {"outputs": [["a", "b"]]}
