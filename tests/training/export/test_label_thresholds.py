"""The threshold of two labels is the graph's own, also where the rows of the table show no tie."""

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto

from tests.training.export.foreign_graphs import (
    DOUBLE,
    FLOAT,
    INT64,
    STRING,
    assembled,
    constant,
    floats,
    node,
    tensor,
)
from training.export.foreign_graph import ForeignGraph
from training.export.output_choice import find_output
from training.onnx_files import Array

LOGITS = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32) * 3
SECOND = np.linspace(0, 1, 11, dtype=np.float32)


def _pair_model(choose: NodeProto) -> ForeignGraph:
    """A classifier of two columns whose ``label`` is chosen from its softmax by a node."""
    nodes = [
        node("Softmax", ["x"], ["p"], axis=1),
        node("Split", ["p"], ["p0", "p1"], axis=1, num_outputs=2),
        choose,
        node("Cast", ["second"], ["chosen"], to=INT64),
        node("Reshape", ["chosen", "flat"], ["label"]),
    ]
    outputs = [tensor("label", INT64, "N"), tensor("p", FLOAT, "N", 2)]
    constants = [constant("flat", [-1]), constant("one", [1]), floats("half", [0.5])]
    inputs = [tensor("x", FLOAT, "N", 2)]
    return ForeignGraph(assembled(nodes, inputs, outputs, constants))


@pytest.mark.parametrize(
    "choose",
    [
        node("ArgMax", ["p"], ["second"], axis=1),
        node("ArgMax", ["p"], ["second"], axis=1, select_last_index=1),
        node("TopK", ["p", "one"], ["largest", "second"], axis=1),
        node("Greater", ["p1", "half"], ["second"]),
        node("GreaterOrEqual", ["p1", "half"], ["second"]),
        node("Less", ["half", "p1"], ["second"]),
        node("Less", ["p0", "half"], ["second"]),
        node("LessOrEqual", ["p0", "half"], ["second"]),
        node("GreaterOrEqual", ["p1", "p0"], ["second"]),
        node("Greater", ["p1", "p0"], ["second"]),
    ],
    ids=lambda one: f"{one.op_type} {' '.join(one.input)}",
)
def test_a_tie_that_no_row_has_gives_the_graph_s_own_label(choose: NodeProto) -> None:
    """The threshold is that of the nodes, also at a probability that the import never saw."""
    foreign = _pair_model(choose)
    seen = foreign.run_original({"x": LOGITS})
    tied = foreign.run_original({"x": np.array([[1, 1], [3, 3]], np.float32)})
    assert not (seen["p"] == 0.5).any()

    mapping = find_output(seen, foreign.known_labels, [])

    np.testing.assert_array_equal(mapping.predict_positions(seen), seen["label"])
    np.testing.assert_array_equal(mapping.predict_positions(tied), tied["label"])


def _logistic(kind: int) -> ForeignGraph:
    """A probability of one column, and a label chosen from it by ``>= 0.3``."""
    limit = constant("limit", np.array([0.3], np.float32 if kind == FLOAT else np.float64))
    nodes = [
        node("Sigmoid", ["x"], ["p"]),
        node("GreaterOrEqual", ["p", "limit"], ["second"]),
        node("Cast", ["second"], ["position"], to=INT64),
        node("Reshape", ["position", "flat"], ["flat_position"]),
        node("Gather", ["words", "flat_position"], ["label"]),
    ]
    outputs = [tensor("p", kind, "N", 1), tensor("label", STRING, "N")]
    constants = [constant("flat", [-1]), constant("words", ["no", "yes"]), limit]
    return ForeignGraph(assembled(nodes, [tensor("x", kind, "N", 1)], outputs, constants))


@pytest.mark.parametrize(("kind", "dtype"), [(FLOAT, np.float32), (DOUBLE, np.float64)])
@pytest.mark.parametrize("options", [{}, {"output": "p"}])
@pytest.mark.parametrize("labels", [[], ["no", "yes"], ["yes", "no"], ["bad", "good"]])
@pytest.mark.parametrize("rows", [slice(None), slice(1)])
def test_one_probability_is_served_with_the_threshold_of_its_label(
    kind: int, dtype: type, options: dict[str, Any], labels: list[str], rows: slice
) -> None:
    """Also if the rows have one label only, as the graph lists both and says how it chooses."""
    foreign = _logistic(kind)
    outputs = foreign.run_original({"x": LOGITS[rows, :1].astype(dtype)})

    mapping = find_output(outputs, foreign.known_labels, labels, **options)

    assert (mapping.output, mapping.form, mapping.label_output) == ("p", "probability", "label")
    assert mapping.labels == (labels if "bad" in labels else ["no", "yes"])
    assert mapping.threshold == np.float32(0.3)
    np.testing.assert_array_equal(mapping.apply(outputs), outputs["p"].astype(np.float32))
    np.testing.assert_array_equal(
        np.array(["no", "yes"])[mapping.predict_positions(outputs)], outputs["label"]
    )


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ((SECOND > 0.3) * 1, 1 - SECOND),
        (np.arange(11) % 2, SECOND),
        (np.zeros(11, int), SECOND),
        ((SECOND > 0.3) * 1, SECOND * 2),
        (np.arange(11) // 4, SECOND),
    ],
    ids=["falling", "unrelated", "one label", "no share", "three labels"],
)
def test_a_number_that_gives_no_label_is_not_its_probability(label: Array, number: Array) -> None:
    """The label is published alone, and the number is noted."""
    outputs = {"label": label, "score": number.astype(np.float32)}

    mapping = find_output(outputs, {3: [0, 1, 2]}.get(len(set(label.tolist())), [0, 1]), [])

    assert (mapping.output, mapping.form) == ("label", "label")
    assert "'score' (one number)" in mapping.remark
