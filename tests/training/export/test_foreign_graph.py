"""An imported graph returns what the original returns, as tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.training.export.foreign_graphs import (
    FLOAT,
    INT64,
    STRING,
    assembled,
    identity,
    node,
    predicted,
    softmax_of_three,
    tensor,
)
from training.errors import ImportRejected
from training.export.foreign_graph import ForeignGraph
from training.export.graph_reading import NUMBER_TYPES
from training.onnx_files import Array

X = np.asarray(load_iris().data, np.float32)
WORDS = np.array(["setosa", "virginica", "medium"])[load_iris().target]


def zipped(names: list[str]) -> ModelProto:
    """A classifier that returns a map of these names for each row, in this order."""
    model = softmax_of_three()
    graph = model.graph
    graph.node.append(node("ZipMap", ["p"], ["m"], domain="ai.onnx.ml", classlabels_strings=names))
    kind = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, []))
    del graph.output[:]
    graph.output.append(helper.make_value_info("m", helper.make_sequence_type_proto(kind)))
    return model


@pytest.mark.parametrize("kind", [*NUMBER_TYPES, STRING])
@pytest.mark.parametrize("shape", [("N",), ("N", 1), ("N", 2), ("N", "columns")])
def test_an_input_of_any_type_of_cells_reaches_the_graph_unchanged(
    kind: int, shape: tuple[int | str, ...]
) -> None:
    """Numbers, booleans and words, as columns or matrices, in the graph's own types."""
    dtype = np.dtype(NUMBER_TYPES.get(kind, np.object_))
    width = 2 if shape[1:] in ((2,), ("columns",)) else 1
    cells = np.array([[0, 1], [1, 1], [100, 7]])[:, :width]
    given = cells.astype(str).astype(object) if kind == STRING else cells.astype(dtype)
    model = identity(tensor("y", kind, *shape))
    given = given[:, 0] if len(shape) == 1 else given
    expected = predicted(model, {"y_in": given})

    foreign = ForeignGraph(model)
    (known,) = foreign.inputs
    outputs = foreign.run_original({"y_in": given.reshape(3, -1)})

    assert known.width == (None if shape[1:] == ("columns",) else width)
    assert known.rank == len(shape)
    assert outputs["y"].dtype == expected["y"].dtype
    np.testing.assert_array_equal(outputs["y"], expected["y"])


def test_limits_of_integers_are_known() -> None:
    """A column of eight bits holds 0 to 255; numbers have no limits."""
    foreign = ForeignGraph(
        identity(tensor("a", TensorProto.UINT8, "N", 1), tensor("b", FLOAT, "N", 1))
    )

    assert [known.limits for known in foreign.inputs] == [(0, 255), None]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (tensor("x", FLOAT, 4), "one row of 4 numbers without a batch axis"),
        (tensor("x", FLOAT, "N", 3, 2), "has 3 axes; a table has two"),
        (tensor("x", TensorProto.UINT8, "N", 16, 16, 3), "has 4 axes.*with --images"),
        (tensor("x", TensorProto.COMPLEX64, "N", 3), "of type complex64"),
        (
            helper.make_value_info(
                "x", helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, [1]))
            ),
            "'x' is a sequence; the columns of a table can only fill tensors",
        ),
    ],
)
def test_an_input_that_columns_cannot_fill_is_rejected(value: Any, sentence: str) -> None:  # noqa: ANN401 - onnx has no types
    """The message names the input and says what to change."""
    model = assembled([node("Identity", ["x"], ["y"])], [value], [tensor("y", FLOAT)])

    with pytest.raises(ImportRejected, match=sentence):
        ForeignGraph(model)


@pytest.mark.parametrize("names", [["no", "maybe", "yes"], ["z", "y", "x"]])
def test_maps_become_a_tensor_in_the_order_of_their_classes(names: list[str]) -> None:
    """ONNX Runtime sorts the keys of a map; the classes of the graph are not sorted."""
    rows = X[:20, :3]
    maps = predicted(zipped(names), {"x": rows})["m"]

    foreign = ForeignGraph(zipped(names))

    assert foreign.known_labels.classes == {"m": names}
    expected = [[one[name] for name in names] for one in maps]
    np.testing.assert_array_equal(foreign.run_original({"x": rows})["m"], np.array(expected))


@pytest.mark.parametrize("labels", [WORDS, load_iris().target * 5 - 5])
def test_columns_of_one_tensor_are_joined(labels: Array) -> None:
    """The converter's option gives one output per class; they are also joined, with their names."""
    fitted = LogisticRegression(max_iter=500).fit(X, labels)
    options = {id(fitted): {"zipmap": "columns"}}
    kind = FloatTensorType([None, 4])
    model = to_onnx(fitted, initial_types=[("X", kind)], options=options)
    original = predicted(model, {"X": X})
    columns = list(original.values())[1:]

    foreign = ForeignGraph(model)
    outputs = foreign.run_original({"X": X})

    joined = list(outputs)[-1]
    assert list(original) == list(outputs)[:-1]
    np.testing.assert_array_equal(outputs[joined], np.column_stack(columns))
    assert foreign.known_labels.classes[joined] == fitted.classes_.tolist()


def split() -> list[NodeProto]:
    return [node("Split", ["p"], ["p0", "p1", "p2"], axis=1, num_outputs=3)]


def sliced() -> list[NodeProto]:
    return [
        part
        for k in range(3)
        for part in (
            node("Constant", [], [f"start{k}"], value_ints=[0, k]),
            node("Constant", [], [f"end{k}"], value_ints=[2**31 - 1, k + 1]),
            node("Slice", ["p", f"start{k}", f"end{k}"], [f"p{k}"]),
        )
    ]


def gathered() -> list[NodeProto]:
    return [
        part
        for k in range(3)
        for part in (
            node("Constant", [], [f"position{k}"], value_int=k),
            node("Gather", ["p", f"position{k}"], [f"p{k}"], axis=1),
        )
    ]


@pytest.mark.parametrize("columns", [split, sliced, gathered])
def test_columns_of_other_programs_are_joined(columns: Callable[[], list[NodeProto]]) -> None:
    """However they were selected, and in any order."""
    model = softmax_of_three()
    model.graph.node.extend(columns())
    del model.graph.output[:]
    model.graph.output.extend(ValueInfoProto(name=f"p{k}") for k in (2, 0, 1))
    original = predicted(model, {"x": X[:, :3]})

    outputs = ForeignGraph(model).run_original({"x": X[:, :3]})

    expected = np.column_stack([original[f"p{k}"] for k in range(3)])
    np.testing.assert_array_equal(list(outputs.values())[-1], expected)


def test_a_wrongly_declared_output_type_is_corrected() -> None:
    """ONNX Runtime does not load such a graph: double declared, float computed."""
    model = softmax_of_three()
    rows = X[:, :3]
    expected = predicted(model, {"x": rows})["p"]
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE

    outputs = ForeignGraph(model).run_original({"x": rows})

    np.testing.assert_array_equal(outputs["p"], expected)


def test_the_domain_of_standard_operators_can_be_spelled_out() -> None:
    """ONNX Runtime accepts it, the checker of ONNX does not."""
    model = softmax_of_three()
    rows = X[:, :3]
    expected = predicted(model, {"x": rows})["p"]
    model.opset_import[0].domain = "ai.onnx"
    for one in model.graph.node:
        one.domain = "ai.onnx"

    foreign = ForeignGraph(model)

    assert [opset.domain for opset in foreign.model.opset_import] == ["", "ai.onnx.ml"]
    np.testing.assert_array_equal(foreign.run_original({"x": rows})["p"], expected)


def test_a_sequence_of_tensors_is_no_output() -> None:
    """Several targets give one tensor each; the other outputs remain."""
    model = softmax_of_three()
    model.graph.node.append(node("SequenceConstruct", ["p", "z"], ["all"]))
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    model.graph.output.append(helper.make_value_info("all", kind))

    foreign = ForeignGraph(model)

    assert foreign.known_labels.sequences == ["all"]
    assert list(foreign.run_original({"x": X[:, :3]})) == ["p"]


def test_one_column_inputs_are_named_columns() -> None:
    """Their names, widths and types are those of the graph."""
    foreign = ForeignGraph(identity(tensor("age", INT64, "N", 1), tensor("job", STRING, "N")))

    assert foreign.column_names == ["age_in", "job_in"]
    assert foreign.column_types == [INT64, STRING]
    assert foreign.width == 2


def test_constants_that_are_listed_as_inputs_are_no_columns() -> None:
    """Graphs of the first versions list them."""
    model = softmax_of_three()
    model.ir_version = 3
    model.graph.input.append(tensor("w", FLOAT, 3, 3))

    foreign = ForeignGraph(model)

    assert [known.name for known in foreign.inputs] == ["x"]


def test_a_graph_without_inputs_is_rejected() -> None:
    """A constant is no prediction."""
    model = assembled([node("Constant", [], ["y"], value_float=1.0)], [], [tensor("y", FLOAT)])

    with pytest.raises(ImportRejected, match="has no inputs"):
        ForeignGraph(model)
