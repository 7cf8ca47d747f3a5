"""``:predict`` of models without a manifest: any type, shape and number of inputs and outputs."""

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.conftest import StartApp
from tests.models import publish_bare, sum_and_difference
from tests.service.api.v1.graphs import (
    FLOAT,
    STRING,
    Shape,
    Tensors,
    publish_graph,
    publish_identity,
)

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
def test_every_element_type_is_read_and_written(
    models: Path, start: StartApp, kind: int, values: list[object]
) -> None:
    """The extremes of each type pass, by row and by column."""
    publish_identity(models, "echo", {"x": (kind, ["n"])})
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
def test_one_instance_is_accepted_with_or_without_an_axis_of_rows(
    models: Path, start: StartApp, shape: Shape, instance: object
) -> None:
    """The prediction has the instance's form, for any batch axis."""
    publish_identity(models, "echo", {"x": (FLOAT, shape)})
    client = start()

    for row in (instance, {"x": instance}):
        response = client.post("/v1/models/echo:predict", json={"instances": [row]})
        assert response.json() == {"predictions": [instance]}


def test_columns_may_differ_in_length(models: Path, start: StartApp) -> None:
    """Inputs may have different first axes in the column form."""
    publish_identity(
        models, "echo", {"x": (FLOAT, ["n"]), "y": (FLOAT, ["m", 2]), "z": (FLOAT, [])}
    )
    client = start()
    inputs = {"x": [1.0, 2.0, 3.0], "y": [[4.0, 5.0]], "z": 6.0}

    response = client.post("/v1/models/echo:predict", json={"inputs": inputs})

    assert response.json() == {"outputs": {f"{name}_out": value for name, value in inputs.items()}}


def test_several_inputs_of_a_model_without_a_batch_axis(models: Path, start: StartApp) -> None:
    """Triton's example model accepts rows and columns."""
    publish_bare(models, "simple", sum_and_difference())
    client = start()
    left, right = list(range(16)), [1] * 16
    path = "/v1/models/simple:predict"

    by_row = client.post(path, json={"instances": [{"INPUT0": left, "INPUT1": right}]}).json()
    by_column = client.post(path, json={"inputs": {"INPUT0": [left], "INPUT1": [right]}}).json()

    total, difference = [n + 1 for n in left], [n - 1 for n in left]
    assert by_row == {"predictions": [{"OUTPUT0": total, "OUTPUT1": difference}]}
    assert by_column == {"outputs": {"OUTPUT0": [total], "OUTPUT1": [difference]}}


def test_an_output_without_rows_needs_the_column_form(models: Path, start: StartApp) -> None:
    """The sum of all instances has no row for each; a single instance may have it."""
    nodes = [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0)]
    publish_graph(models, "total", nodes, {"x": (FLOAT, ["n"])}, {"sum": (FLOAT, [])})
    client = start()
    path = "/v1/models/total:predict"

    several = client.post(path, json={"instances": [1, 2]})
    alone = client.post(path, json={"instances": [1]})
    columns = client.post(path, json={"inputs": [1, 2]})

    assert several.status_code == 400
    assert "send 'inputs' instead of 'instances'" in several.json()["error"]
    assert alone.json() == {"predictions": [1.0]}
    assert columns.json() == {"outputs": 3.0}


def test_numbers_that_are_not_finite_are_written_as_null(models: Path, start: StartApp) -> None:
    """JSON has no NaN and no infinity, in arrays as in scalars."""
    nodes = [helper.make_node("Log", ["x"], ["y"])]
    publish_graph(models, "log", nodes, {"x": (FLOAT, ["n"])}, {"y": (FLOAT, ["n"])})
    client = start()

    response = client.post("/v1/models/log:predict", json={"instances": [1, 0, -1]})

    assert response.json() == {"predictions": [0.0, None, None]}


def test_integer_outputs_of_the_runtime_are_written(models: Path, start: StartApp) -> None:
    """Its integer type differs from numpy's default one, with the same values."""
    nodes = [
        helper.make_node("Size", ["x"], ["size"]),
        helper.make_node("NonZero", ["x"], ["positions"]),
        helper.make_node("Shape", ["x"], ["shape"]),
    ]
    outputs: Tensors = {
        "size": (TensorProto.INT64, []),
        "positions": (TensorProto.INT64, [1, "n"]),
        "shape": (TensorProto.INT64, [1]),
    }
    publish_graph(models, "counts", nodes, {"x": (FLOAT, ["n"])}, outputs)
    client = start()
    path = "/v1/models/counts:predict"

    by_row = client.post(path, json={"instances": [7]}).json()
    by_column = client.post(path, json={"inputs": [7, 0, 9]}).json()

    assert by_row == {"predictions": [{"size": 1, "positions": [0], "shape": 1}]}
    assert by_column == {"outputs": {"size": 3, "positions": [[0, 2]], "shape": [3]}}


@pytest.mark.parametrize(
    ("shape", "empty"), [(["n"], []), (["n", 2], []), ([2, "n", 3], [[], []]), ([0, 3], [])]
)
def test_an_empty_array_has_the_axes_of_its_input(
    models: Path, start: StartApp, shape: Shape, empty: list[object]
) -> None:
    """An axis of any length after the empty one has length 0."""
    publish_identity(models, "echo", {"x": (FLOAT, shape)})

    response = start().post("/v1/models/echo:predict", json={"inputs": empty})

    assert response.json() == {"outputs": empty}


def test_optional_tensors_may_be_omitted(models: Path, start: StartApp) -> None:
    """All rows omit an optional input; an optional output is omitted or null."""
    tensor = helper.make_tensor_type_proto(FLOAT, ["n"])
    value = helper.make_value_info("x", helper.make_optional_type_proto(tensor))
    has = helper.make_tensor_value_info("has", TensorProto.BOOL, [])
    nodes = [helper.make_node("OptionalHasElement", ["x"], ["has"])]
    model = helper.make_model(
        helper.make_graph(nodes, "optional", [value], [has]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    publish_bare(models, "optional", model.SerializeToString())
    client = start()

    bodies: list[object] = [{"instances": [{}]}, {"inputs": {}}, {"inputs": {"x": [1.0]}}]
    responses = [client.post("/v1/models/optional:predict", json=body).json() for body in bodies]

    assert responses == [{"predictions": [False]}, {"outputs": False}, {"outputs": True}]


def test_a_model_without_inputs_predicts_an_empty_row(models: Path, start: StartApp) -> None:
    """The row is an object without inputs."""
    nodes = [helper.make_node("Constant", [], ["y"], value_floats=[1.0, 2.0])]
    publish_graph(models, "constant", nodes, {}, {"y": (FLOAT, [2])})
    client = start()

    by_row = client.post("/v1/models/constant:predict", json={"instances": [{}]}).json()
    by_column = client.post("/v1/models/constant:predict", json={"inputs": {}}).json()

    assert (by_row, by_column) == ({"predictions": [[1.0, 2.0]]}, {"outputs": [1.0, 2.0]})


def test_base64_objects_are_strings(models: Path, start: StartApp) -> None:
    """``{"b64": …}`` is accepted for a string at any depth."""
    publish_identity(models, "echo", {"x": (STRING, ["n", 2])})

    response = start().post("/v1/models/echo:predict", json={"inputs": [["a", {"b64": "Yg=="}]]})

    assert response.json() == {"outputs": [["a", "b"]]}
