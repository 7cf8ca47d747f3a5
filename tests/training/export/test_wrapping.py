"""A wrapped graph returns for features what the original returns for its own inputs."""

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, load_from_string

from service.predictions import predict_labels
from tests.training.export.foreign_graphs import (
    FLOAT,
    INT64,
    STRING,
    assembled,
    constant,
    floats,
    identity,
    node,
    predicted,
    served,
    softmax_of_three,
    tensor,
)
from training.export.foreign_graph import ForeignGraph
from training.export.graph_reading import NUMBER_TYPES
from training.export.output_choice import find_output
from training.export.output_mapping import OutputMapping
from training.export.wrapping import Datatype, wrap
from training.onnx_files import Array
from training.recipe.table import Feature

ROWS = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
LABELS = ["a", "b", "c"]


def chosen(foreign: ForeignGraph, rows: Array, **options: Any) -> OutputMapping:  # noqa: ANN401 - those of `find_output`
    """The mapping of a graph of one input."""
    (known,) = foreign.inputs
    outputs = foreign.run_original({known.name: rows})
    return find_output(outputs, foreign.known_labels, [], **options)


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize("kind", NUMBER_TYPES)
@pytest.mark.parametrize("shape", [("N",), ("N", 1)])
def test_columns_of_any_number_type_are_converted(
    kind: int, shape: tuple[int | str, ...], datatype: Datatype
) -> None:
    """Each input gets its own column, in its own type and rank."""
    names = ["b", "a"]
    nodes = [
        *(node("Reshape", [name, "column"], [f"{name}_column"]) for name in names),
        *(node("Cast", [f"{name}_column"], [f"{name}_float"], to=FLOAT) for name in names),
        node("Concat", ["b_float", "a_float"], ["both"], axis=1),
        node("MatMul", ["both", "w"], ["y"]),
    ]
    inputs = [tensor(name, kind, *shape) for name in names]
    constants = [constant("column", [-1, 1]), floats("w", [[10], [1]])]
    model = assembled(nodes, inputs, [tensor("y", FLOAT, "N", 1)], constants)
    cells = np.array([[0, 1], [1, 0], [100, 7]]).astype(NUMBER_TYPES[kind])
    own = {name: cells[:, k].reshape(3, *shape[1:]) for k, name in enumerate(names)}
    expected = predicted(model, own)["y"]

    foreign = ForeignGraph(model)
    outputs = foreign.run_original(own)
    mapping = find_output(outputs, None, [])

    found = served(foreign, mapping, cells.astype(np.float64), datatype=datatype)
    np.testing.assert_array_equal(found, expected)


def test_64_bits_of_the_features_reach_the_graph() -> None:
    """Minutes since 1970 differ in their last digit, which 32 bits do not hold."""
    model = assembled(
        [node("Sub", ["x", "start"], ["late"]), node("Cast", ["late"], ["y"], to=FLOAT)],
        [tensor("x", INT64, "N", 1)],
        [tensor("y", FLOAT, "N", 1)],
        [constant("start", [2**53 - 10])],
    )
    cells = np.array([[2**53 - 7], [2**53]], np.int64)
    expected = predicted(model, {"x": cells})["y"]

    foreign = ForeignGraph(model)
    found = served(foreign, chosen(foreign, cells), cells.astype(np.float64), datatype="FP64")

    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize("shape", [("N",), ("N", 1)])
def test_words_are_found_by_their_position(
    shape: tuple[int | str, ...], datatype: Datatype
) -> None:
    """As they are, with blanks; a missing cell is the empty word."""
    encoder = node(
        "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml",
        keys_strings=["b", " a", ""], values_floats=[1.0, 2.0, 3.0], default_float=9.0,
    )  # fmt: skip
    model = assembled([encoder], [tensor("x", STRING, *shape)], [tensor("y", FLOAT, *shape)])
    words = np.array(["b", " a", "a", ""], dtype=object).reshape(-1, *shape[1:])
    expected = predicted(model, {"x": words})["y"]

    foreign = ForeignGraph(model)
    column = Feature(name="x", type="category", categories=["b", " a", "a"])
    rows = np.array([[0], [1], [2], [np.nan]])
    found = served(foreign, chosen(foreign, words), rows, [column], datatype)

    np.testing.assert_array_equal(found[:, 0], expected.ravel())


@pytest.mark.parametrize("opset", range(7, 22))
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_graphs_of_every_operator_set_are_wrapped(opset: int, activation: str | None) -> None:
    """The nodes that are added have the same meaning in all of them."""
    model = softmax_of_three(opset=opset)
    rows = ROWS
    expected = predicted(model, {"x": rows})["p"]
    if activation is not None:
        model.graph.output[0].name = "z"

    foreign = ForeignGraph(model)
    mapping = chosen(foreign, rows, activation=activation)

    np.testing.assert_allclose(served(foreign, mapping, rows), expected, atol=1e-6)


@pytest.mark.parametrize("opset", range(7, 22))
@pytest.mark.parametrize("words", [True, False])
def test_labels_of_every_operator_set_are_one_hot(opset: int, words: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Words and numbers, some of which are negative."""
    names = {"values_strings": LABELS} if words else {"values_int64s": [-5, 3, 10]}
    nodes = [
        node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
        node("LabelEncoder", ["best"], ["y"], domain="ai.onnx.ml", keys_int64s=[0, 1, 2], **names),
    ]
    kind = STRING if words else INT64
    model = assembled(nodes, [tensor("x", FLOAT, "N", 3)], [tensor("y", kind, "N")], opset=opset)
    classes = [name for named in names.values() for name in named]
    expected = predicted(model, {"x": ROWS})["y"][:, None] == np.array(classes)

    foreign = ForeignGraph(model)
    mapping = chosen(foreign, ROWS)

    np.testing.assert_array_equal(served(foreign, mapping, ROWS), expected)


@pytest.mark.parametrize("opset", range(9, 22))
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("words", [True, False])
def test_the_label_decides_between_equal_probabilities(opset: int, count: int, words: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Of scores whose differences 32 bits do not keep, the graph chooses the largest."""
    names = {"values_strings": LABELS[:count]} if words else {"values_int64s": [-5, 3, 10][:count]}
    nodes = [
        node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
        node(
            "LabelEncoder", ["best"], ["label"], domain="ai.onnx.ml",
            keys_int64s=list(range(count)), **names,
        ),
        node("Mul", ["x", "tiny"], ["scores"]),
        node("Softmax", ["scores"], ["p"], axis=1),
    ]  # fmt: skip
    outputs = [
        tensor("label", STRING if words else INT64, "N"),
        tensor("p", FLOAT, "N", count),
    ]
    inputs = [tensor("x", FLOAT, "N", count)]
    model = assembled(nodes, inputs, outputs, [floats("tiny", [3e-8])], opset=opset)
    rows = np.random.default_rng(0).normal(size=(200, count)).astype(np.float32)
    rows[-3:] *= 1e9  # rows of certain labels are unchanged
    expected = predicted(model, {"x": rows})["p"]

    foreign = ForeignGraph(model)
    mapping = chosen(foreign, rows)
    found = served(foreign, mapping, rows)

    np.testing.assert_array_equal(
        predict_labels(found, mapping.chosen_threshold), rows.argmax(axis=1)
    )
    np.testing.assert_allclose(found, expected[:, 1:] if count == 2 else expected, atol=5e-7)
    np.testing.assert_array_equal(found[-3:], (expected[:, 1:] if count == 2 else expected)[-3:])


def test_probabilities_are_clipped() -> None:
    """A sum over trees can be below zero or above one by rounding."""
    rows = np.array([[-1e-7, 1 + 1e-7, 0], [0.25, 0.5, 0.25]], np.float32)
    for opset in (8, 18):
        model = identity(tensor("p", FLOAT, "N", 3))
        model.opset_import[0].version = opset
        foreign = ForeignGraph(model)

        found = served(foreign, chosen(foreign, rows), rows)

        np.testing.assert_array_equal(found, rows.clip(0, 1))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_logits_of_two_labels_give_the_probability_of_the_second(activation: str) -> None:
    """By one logit or by two."""
    width = 1 if activation == "sigmoid" else 2
    logits = ROWS[:, :width]
    second = 1 / (1 + np.exp(-logits[:, -1] + (0 if width == 1 else logits[:, 0])))

    foreign = ForeignGraph(identity(tensor("z", FLOAT, "N", width)))
    mapping = chosen(foreign, logits, activation=activation)

    np.testing.assert_allclose(served(foreign, mapping, logits)[:, 0], second, atol=1e-6)


def branching() -> ModelProto:
    """``probabilities``, computed in the branches of an If from tensors of the outer graph.

    Its tensors have the names of a bundle.
    """
    branches = [
        helper.make_graph(
            [
                node(operator, ["features", "value"], [f"{operator}_features"]),
                node("Softmax", [f"{operator}_features"], [f"{operator}_out"], axis=1),
            ],
            operator,
            [],
            [tensor(f"{operator}_out", FLOAT, "N", 3)],
        )
        for operator in ("Add", "Mul")
    ]
    nodes = [
        node("ReduceSum", ["features"], ["total"], keepdims=0),
        node("Greater", ["total", "zero"], ["is_positive"]),
        node(
            "If", ["is_positive"], ["probabilities"],
            then_branch=branches[0], else_branch=branches[1],
        ),
    ]  # fmt: skip
    return assembled(
        nodes,
        [tensor("features", FLOAT, "N", 3)],
        [tensor("probabilities", FLOAT, "N", 3)],
        [floats("zero", 0), floats("value", [1, 2, 3])],
    )


def looping() -> ModelProto:
    """``value``, the sum of the columns after three steps of a Loop that doubles them."""
    body = helper.make_graph(
        [
            node("Mul", ["carried", "columns/constant_0"], ["doubled"]),
            node("Identity", ["go"], ["on"]),
        ],
        "body",
        [tensor("turn", INT64), tensor("go", TensorProto.BOOL), tensor("carried", FLOAT, "N", 3)],
        [tensor("on", TensorProto.BOOL), tensor("doubled", FLOAT, "N", 3)],
    )
    nodes = [
        node("Loop", ["turns", "", "features"], ["prediction/step_0"], body=body),
        node("MatMul", ["prediction/step_0", "ones"], ["value"]),
    ]
    return assembled(
        nodes,
        [tensor("features", FLOAT, "N", 3)],
        [tensor("value", FLOAT, "N", 1)],
        [constant("turns", 3), floats("columns/constant_0", 2), floats("ones", [[1], [1], [1]])],
    )


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("create", [branching, looping])
def test_subgraphs_and_tensors_with_the_names_of_a_bundle_are_retained(
    create: Any,  # noqa: ANN401 - a function without parameters
    sign: int,
) -> None:
    """Names are changed in the subgraphs of If and Loop too, which read outer tensors."""
    model = create()
    rows = np.abs(ROWS) * np.float32(sign)
    (expected,) = predicted(model, {"features": rows}).values()

    foreign = ForeignGraph(model)
    found = served(foreign, chosen(foreign, rows), rows)

    np.testing.assert_array_equal(found, expected)


def test_functions_of_the_model_are_retained() -> None:
    """PyTorch and Keras can write parts of a graph as functions, with names of their own."""
    model = softmax_of_three()
    opsets = [helper.make_opsetid("", 18)]
    step = node("Add", ["features", "features"], ["value"])
    double = helper.make_function("own", "Double", ["features"], ["value"], [step], opsets)
    model.functions.append(double)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(node("Double", ["p"], ["twice"], domain="own"))
    model.graph.output[0].name = "twice"
    expected = predicted(model, {"x": ROWS})["twice"]

    foreign = ForeignGraph(model)
    mapping = chosen(foreign, ROWS, activation="softmax")

    powers = np.exp(expected.astype(np.float64))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(served(foreign, mapping, ROWS), probabilities, atol=1e-6)


def test_what_the_prediction_does_not_need_is_left_out() -> None:
    """Nodes, constants and inputs of other outputs; the columns remain."""
    model = assembled(
        [
            node("Identity", ["a"], ["y"]),
            node("MatMul", ["b", "large"], ["z"]),
        ],
        [tensor("a", FLOAT, "N", 1), tensor("b", FLOAT, "N", 1)],
        [tensor("y", FLOAT, "N", 1), tensor("z", FLOAT, "N", 1)],
        [floats("large", [[1]])],
    )
    foreign = ForeignGraph(model)
    outputs = foreign.run_original({"a": ROWS[:, :1], "b": ROWS[:, 1:2]})
    mapping = find_output(outputs, None, [], output="y")
    columns = [Feature(name=name, type="number") for name in "ab"]

    wrapped = load_from_string(wrap(foreign, columns, mapping, "value"))

    assert "large" not in {tensor.name for tensor in wrapped.graph.initializer}
    np.testing.assert_array_equal(served(foreign, mapping, ROWS[:, :2]), ROWS[:, :1])


def test_a_graph_without_standard_operators_is_wrapped() -> None:
    """CatBoost only imports those of machine learning, in the third version of the format."""
    classifier = node(
        "LinearClassifier", ["features"], ["label", "p"], domain="ai.onnx.ml",
        classlabels_strings=["no", "maybe", "yes"], coefficients=[1.0, 0, 0, 0, 1, 0, 0, 0, 1],
        intercepts=[0.0, 0, 0], post_transform="SOFTMAX",
    )  # fmt: skip
    zipped = node(
        "ZipMap", ["p"], ["probabilities"], domain="ai.onnx.ml",
        classlabels_strings=["no", "maybe", "yes"],
    )  # fmt: skip
    kind = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, []))
    maps = helper.make_value_info("probabilities", helper.make_sequence_type_proto(kind))
    graph = helper.make_graph(
        [classifier, zipped], "", [tensor("features", FLOAT, "N", 3)],
        [tensor("label", STRING, "N"), maps],
    )  # fmt: skip
    opsets = [helper.make_opsetid("ai.onnx.ml", 2)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=3)
    rows = predicted(model, {"features": ROWS})["probabilities"]

    foreign = ForeignGraph(model)
    mapping = chosen(foreign, ROWS)

    assert mapping.labels == ["no", "maybe", "yes"]
    expected = [[row[name] for name in mapping.labels] for row in rows]
    np.testing.assert_array_equal(served(foreign, mapping, ROWS), np.array(expected))


@pytest.mark.parametrize("known", ["low", "other"])
def test_the_first_label_encoder_is_upgraded(known: str) -> None:
    """Its attributes are others than those of the version that maps numbers to words."""
    nodes = [
        node("LabelEncoder", ["x"], ["code"], domain="ai.onnx.ml", classes_strings=["high", "low"]),
        node("Abs", ["code"], ["position"]),
        node(
            "LabelEncoder", ["position"], ["y"], domain="ai.onnx.ml",
            classes_strings=["no", "yes"], default_string="none",
        ),
    ]  # fmt: skip
    outputs = [tensor("y", STRING, "N", 1), tensor("position", INT64, "N", 1)]
    model = assembled(nodes, [tensor("x", STRING, "N", 1)], outputs)
    model.opset_import[1].version = 1
    words = np.array([["high"], [known]], dtype=object)
    expected = predicted(model, {"x": words})

    foreign = ForeignGraph(model)
    column = Feature(name="x", type="category", categories=["high", known])
    mapping = OutputMapping("y", "label", ["no", "yes"], ["no", "yes"])

    assert foreign.vocabularies == {("x", 0): ["high", "low"]}
    found = served(foreign, mapping, np.array([[0], [1]]), [column])
    np.testing.assert_array_equal(found, expected["y"] == "yes")
    value = served(foreign, OutputMapping("position", "value"), np.array([[0], [1]]), [column])
    np.testing.assert_array_equal(value, expected["position"])
