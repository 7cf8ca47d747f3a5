"""The outputs of a graph become tensors with class names; the rest of the file stays as it is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from service.bundle.graph_outputs import drop_declared_types, expose_tensors
from tests.tensors import Array

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
ROWS = np.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]], np.float32)
ML = "ai.onnx.ml"


def model(
    nodes: Sequence[NodeProto],
    outputs: Sequence[Any],
    weights: Mapping[str, Array] | None = None,
    opsets: Mapping[str, int] | None = None,
) -> bytes:
    """A graph from x ``[n, 3]``."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 3])],
        outputs,
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    imports = [helper.make_opsetid(*each) for each in (opsets or {"": 17, ML: 2}).items()]
    content: bytes = helper.make_model(
        graph, opset_imports=imports, ir_version=8
    ).SerializeToString()
    return content


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:  # noqa: ANN401 - of any type
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def zip_map(scores: str, maps: str, **classes: Any) -> NodeProto:  # noqa: ANN401 - words or integers
    return node("ZipMap", scores, maps, domain=ML, **classes)


def maps_of(name: str, key: int, value: int = FLOAT) -> Any:  # noqa: ANN401 - onnx has no types
    """An output that is a list of maps to numbers."""
    value_type = helper.make_tensor_type_proto(value, None)
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(key, value_type))
    return helper.make_value_info(name, kind)


def tensor(name: str, element: int = FLOAT, shape: Sequence[int | str] | None = None) -> Any:  # noqa: ANN401 - as above
    return helper.make_tensor_value_info(name, element, shape)


def run(content: bytes) -> Mapping[str, Any]:
    """The outputs of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": ROWS}), strict=True))


@pytest.mark.parametrize(
    ("classes", "key", "labels"),
    [
        ({"classlabels_strings": ["c", "a", "b"]}, STRING, ("c", "a", "b")),
        ({"classlabels_strings": ["ä", "", "10"]}, STRING, ("ä", "", "10")),
        ({"classlabels_int64s": [7, -5, 2**40]}, INT64, ("7", "-5", str(2**40))),
    ],
)
def test_a_label_map_becomes_its_tensor(
    classes: Mapping[str, Sequence[object]], key: int, labels: Sequence[str]
) -> None:
    """It has the name of the maps, and its columns the order of the graph."""
    content = model([zip_map("x", "m", **classes)], [maps_of("m", key)])

    exposed = expose_tensors(content)

    assert exposed.labels == {"m": labels}
    checker.check_model(ModelProto.FromString(exposed.content))
    (names,) = classes.values()
    maps = run(content)["m"]
    assert run(exposed.content)["m"].tolist() == [[row[name] for name in names] for row in maps]


def test_only_the_map_and_its_declaration_are_replaced() -> None:
    """All other nodes, outputs and weights have the same bytes."""
    nodes = [
        node("Softmax", "z", "p", axis=1),
        zip_map("p", "m", classlabels_strings=["a", "b", "c"]),
        node("Neg", "p", "q"),
    ]
    weights = {"w": np.eye(3, dtype=np.float32)}
    content = model(
        [node("MatMul", "x w", "z"), *nodes], [maps_of("m", STRING), tensor("q")], weights
    )

    before, after = (ModelProto.FromString(each) for each in (content, expose(content)))

    assert [each.op_type for each in after.graph.node] == ["MatMul", "Softmax", "Identity", "Neg"]
    for part in (before, after):
        del part.graph.node[2], part.graph.output[0]
    assert before == after


def expose(content: bytes) -> bytes:
    return expose_tensors(content).content


def test_a_file_without_standard_operators_gets_their_opset() -> None:
    """CatBoost's exporter declares only the domain of the trees."""
    content = model(
        [zip_map("x", "m", classlabels_int64s=[0, 1, 2])], [maps_of("m", INT64)], opsets={ML: 1}
    )

    np.testing.assert_array_equal(run(expose(content))["m"], ROWS)


def test_maps_that_are_declared_with_another_type_are_served() -> None:
    """ONNX Runtime rejects the original: converters declare float64 for pipelines of float64."""
    maps = maps_of("m", STRING, TensorProto.DOUBLE)
    content = model([zip_map("x", "m", classlabels_strings=["a", "b", "c"])], [maps])

    with pytest.raises(Exception, match="does not match expected type"):
        run(content)
    np.testing.assert_array_equal(run(expose(content))["m"], ROWS)


def test_a_wrong_type_of_an_output_and_of_an_inner_tensor_is_dropped() -> None:
    """ONNX Runtime infers the types."""
    parsed = ModelProto.FromString(
        model([node("Neg", "x", "y"), node("Neg", "y", "z")], [tensor("z", TensorProto.DOUBLE)])
    )
    parsed.graph.value_info.append(tensor("y", INT64))
    content = parsed.SerializeToString()

    with pytest.raises(Exception, match="does not match expected type"):
        run(content)
    np.testing.assert_array_equal(run(drop_declared_types(content))["z"], ROWS)


CLASSIFIER = {
    "domain": ML,
    "coefficients": np.arange(9.0).tolist(),
    "intercepts": [0.0, 0.0, 0.0],
    "classlabels_ints": [0, 1, 2],
}
WORDS = {"words": np.array(["c", "a", "b"], object)}
POSITIONS = {f"k{k}": np.array([k], np.int64) for k in range(4)}
LABEL, SCORES = tensor("label"), tensor("scores")
LABEL.ClearField("type")


@pytest.mark.parametrize(
    ("nodes", "labels"),
    [
        ([node("LinearClassifier", "x", "label scores", **CLASSIFIER)], ("0", "1", "2")),
        (
            [
                node("LinearClassifier", "x", "l s", **CLASSIFIER),
                node("Cast", "l", "label", to=INT64),
                node("Softmax", "s", "t"),
                node("Mul", "t two", "scores"),
            ],
            ("0", "1", "2"),
        ),
        (
            [
                node("LinearClassifier", "x", "l scores", **CLASSIFIER),
                node("ArrayFeatureExtractor", "words l", "label", domain=ML),
            ],
            ("c", "a", "b"),
        ),
        (
            [
                node("LinearClassifier", "x", "l scores", **CLASSIFIER),
                node(
                    "LabelEncoder",
                    "l",
                    "label",
                    domain=ML,
                    keys_int64s=[2, 1, 0],
                    values_strings=["z", "y", "x"],
                ),
            ],
            ("x", "y", "z"),
        ),
        (
            [
                node("Softmax", "x", "scores"),
                node("ArgMax", "scores", "k", axis=1, keepdims=0),
                node("Gather", "words k", "label"),
            ],
            ("c", "a", "b"),
        ),
        (
            [
                node("ArgMax", "x", "k", axis=1, keepdims=0),
                node("Gather", "words k", "label"),
                node("ReduceSum", "x axis", "sum"),
                node("Div", "x sum", "scores"),
            ],
            ("c", "a", "b"),
        ),
    ],
)
def test_class_names_follow_the_scores(nodes: Sequence[NodeProto], labels: Sequence[str]) -> None:
    """They are those of the label output, whatever the graph makes of label and scores."""
    weights = WORDS | {"two": np.full(1, 2, np.float32), "axis": np.array([1], np.int64)}
    content = model(nodes, [LABEL, SCORES], weights)

    exposed = expose_tensors(content)

    assert exposed.labels == {"scores": labels}
    assert exposed.content == content
    predicted = run(content)
    best = predicted["scores"].argmax(axis=1)
    assert [labels[k] for k in best] == [str(label) for label in predicted["label"].ravel()]


@pytest.mark.parametrize(
    "nodes",
    [
        [
            node("LinearClassifier", "x", "l scores", **CLASSIFIER),
            node("Add", "l l", "label"),
        ],
        [
            node("LinearClassifier", "x", "l s", **CLASSIFIER),
            node("LinearClassifier", "x", "label t", **CLASSIFIER),
            node("Add", "s x", "scores"),
        ],
        [
            node("LinearClassifier", "x", "label s", **CLASSIFIER),
            node("Gather", "s k0", "scores", axis=1),
        ],
        [
            node("ArgMax", "x", "label", axis=0),
            node("Identity", "x", "scores"),
        ],
    ],
)
def test_names_that_are_not_certain_are_not_given(nodes: Sequence[NodeProto]) -> None:
    """A label that is changed, scores of several tensors, or a part of the columns."""
    exposed = expose_tensors(model(nodes, [LABEL, SCORES], POSITIONS))

    assert not exposed.labels


COLUMNS = {
    "Slice": [node("Slice", f"s k{k} k{k + 1} k1", f"c{k}") for k in range(3)],
    "Gather": [node("Gather", f"s k{k}", f"c{k}", axis=-1) for k in range(3)],
    "ArrayFeatureExtractor": [
        node("ArrayFeatureExtractor", f"s k{k}", f"c{k}", domain=ML) for k in range(3)
    ],
    "Split": [node("Split", "s", "c0 c1 c2", axis=1)],
}


@pytest.mark.parametrize("way", COLUMNS)
def test_columns_are_joined(way: str) -> None:
    """The tensor that they are taken from is the last output, if they are all of its columns."""
    classifier = node("LinearClassifier", "x", "label s", **CLASSIFIER)
    outputs = [LABEL, tensor("c2"), tensor("c0"), tensor("c1")]
    content = model([classifier, *COLUMNS[way]], outputs, POSITIONS)
    partly = model([classifier, *COLUMNS[way]], outputs[:-1], POSITIONS)

    exposed = expose_tensors(content)

    assert exposed.labels == {"s": ("0", "1", "2")}
    before, after = run(content), run(exposed.content)
    assert list(after) == [*before, "s"]
    for k in range(3):
        np.testing.assert_array_equal(after["s"][:, k], before[f"c{k}"].ravel())
    assert expose(partly) == partly


def test_anything_else_stays_as_it_is() -> None:
    """Truncated content too, which ONNX Runtime rejects."""
    content = model([node("Neg", "x", "y")], [tensor("y")])

    for unchanged in (content, content[:-3], b"", b"\xff" * 50, content + content):
        assert expose(unchanged) == unchanged
    assert drop_declared_types(b"\xff") == b"\xff"


def test_a_graph_of_many_nodes_is_read_in_linear_time() -> None:
    """Chains of any length and any number of outputs are followed only for a few nodes."""
    chain = [node("Identity", f"t{k}" if k else "x", f"t{k + 1}") for k in range(5000)]
    choices = [node("ArgMax", "x", f"k{k}", axis=1) for k in range(2000)]
    ends = [node("Identity", "t5000", f"o{k}") for k in range(2000)]
    content = model([*chain, *choices, *ends], [tensor(f"o{k}") for k in range(2000)])

    assert expose(content) == content
