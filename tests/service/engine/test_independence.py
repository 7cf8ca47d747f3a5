"""Graphs without a manifest: whose rows may be answered together, and whose may not."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.engine.independence import is_feed_forward, rows_are_independent
from service.engine.session import Session
from tests.conftest import StartApp
from tests.models import assembled, place_bare

WIDTH = 5
node = helper.make_node


def constant(name: str, values: object, kind: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, kind), name)


WEIGHTS = [
    constant("w", np.random.default_rng(1).normal(size=(WIDTH, WIDTH))),
    constant("v", np.random.default_rng(2).normal(size=(WIDTH, WIDTH))),
    constant("low", 2.5),
    constant("first", [0], np.int64),
    constant("turned", [WIDTH, -1], np.int64),
    constant("back", [-1, WIDTH], np.int64),
    constant("deep", [0, 1, WIDTH], np.int64),
    constant("tall", np.random.default_rng(3).normal(size=(2 * WIDTH, WIDTH))),
    constant("far", 1000),
    constant("from", [0], np.int64),
    constant("to", [4], np.int64),
]


def graph(*nodes: onnx.NodeProto, kind: int = TensorProto.FLOAT) -> bytes:
    """From ``x`` to ``y``, both of rows of five."""
    return assembled(
        list(nodes),
        [helper.make_tensor_value_info("x", kind, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", kind, ["batch", WIDTH])],
        WEIGHTS,
    )


DENSE = graph(
    node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["b"]),
    node("Gemm", ["b", "v"], ["c"]), node("Softmax", ["c"], ["y"], axis=1),
)  # fmt: skip
INDEPENDENT = {
    "dense": DENSE,
    "reshaped within rows": graph(
        node("Reshape", ["x", "deep"], ["a"]), node("Transpose", ["a"], ["b"], perm=[0, 2, 1]),
        node("Reshape", ["b", "back"], ["c"]), node("Tanh", ["c"], ["y"]),
    ),
    "columns beside each other": graph(
        node("MatMul", ["x", "w"], ["a"]), node("Concat", ["x", "a"], ["b"], axis=1),
        node("MatMul", ["b", "tall"], ["y"]),
    ),
    "doubled": graph(node("Add", ["x", "x"], ["y"])),
}  # fmt: skip
OTHERS = {
    "a softmax over rows": graph(node("Softmax", ["x"], ["y"], axis=0)),
    "the first row taken away": graph(
        node("Gather", ["x", "first"], ["a"]), node("Sub", ["x", "a"], ["y"])
    ),
    "rows multiplied by each other": graph(
        node("Transpose", ["x"], ["t"]), node("MatMul", ["t", "x"], ["s"]),
        node("MatMul", ["x", "s"], ["y"]),
    ),
    "rows read as columns": graph(
        node("Reshape", ["x", "turned"], ["a"]), node("Softmax", ["a"], ["b"], axis=1),
        node("Reshape", ["b", "back"], ["y"]),
    ),
    "the first row where it is large": graph(
        node("Gather", ["x", "first"], ["a"]), node("Sub", ["a", "far"], ["b"]),
        node("Relu", ["b"], ["c"]), node("Add", ["x", "c"], ["y"]),
    ),
    "rows on the other axis": graph(
        node("Transpose", ["x"], ["a"]), node("Relu", ["a"], ["b"]),
        node("Transpose", ["b"], ["y"]),
    ),
    "the first rows": assembled(
        [node("Slice", ["x", "from", "to"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["some", WIDTH])],
        WEIGHTS,
    ),
    "a mean of rows": graph(
        node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1), node("Sub", ["x", "m"], ["y"])
    ),
    "rows that matter only where large": graph(
        node("ReduceMax", ["x"], ["m"], axes=[0], keepdims=1),
        node("Greater", ["m", "low"], ["g"]), node("Where", ["g", "low", "x"], ["y"]),
    ),
    "a sum along rows": graph(node("CumSum", ["x", "first"], ["y"])),
    "the number of rows": graph(
        node("Shape", ["x"], ["s"]), node("Gather", ["s", "first"], ["n"]),
        node("Cast", ["n"], ["f"], to=TensorProto.FLOAT), node("Div", ["x", "f"], ["y"]),
    ),
    "the same answer to all": graph(node("Sub", ["x", "x"], ["y"])),
    "no numbers": graph(node("Log", ["x"], ["y"])),
    "fewer rows than were asked": assembled(
        [node("Gather", ["x", "first"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["some", WIDTH])],
        WEIGHTS,
    ),
    "two inputs": assembled(
        [node("Add", ["x", "z"], ["y"])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH])
            for name in ("x", "z")
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTH])],
        [],
    ),
    "two free axes": assembled(
        [node("Relu", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "any"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "any"])],
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INDEPENDENT)
def test_a_feed_forward_networks_rows_are_independent(name: str) -> None:
    """Whatever lies between, as long as each row comes out as alone."""
    model = INDEPENDENT[name]

    assert is_feed_forward(model)
    assert rows_are_independent(Session.open(model, "cpu", 1))


@pytest.mark.parametrize("name", OTHERS)
def test_of_any_other_graph_that_is_not_believed(name: str) -> None:
    """Rows that look at each other, always or for some values, and what cannot be told."""
    model = OTHERS[name]

    assert not (is_feed_forward(model) and rows_are_independent(Session.open(model, "cpu", 1)))


def test_a_file_that_cannot_be_read_says_nothing() -> None:
    """Cut short anywhere within the graph, and no protobuf at all."""
    end_of_graph = len(DENSE) - 20  # behind it are the versions of operators

    for content in (*(DENSE[:end] for end in range(0, end_of_graph, 7)), b"\xff" * 20, b""):
        assert not is_feed_forward(content)


@pytest.mark.parametrize("name", ["dense", "a mean of rows"])
def test_bare_models_answer_together_what_they_answer_alone(
    models: Path, start: StartApp, name: str
) -> None:
    """Many callers at once; only independent rows share runs."""
    model = (INDEPENDENT | OTHERS)[name]
    place_bare(models, "bare", model)
    client = start()
    rows = np.random.default_rng(3).normal(size=(64, WIDTH)).astype(np.float32)
    session = Session.open(model, "cpu", 1)

    def ask(row: np.ndarray) -> list[float]:
        body = json.dumps({"instances": [row.tolist()]})
        found: list[float] = client.post("/v1/models/bare:predict", content=body).json()[
            "predictions"
        ][0]
        return found

    with ThreadPoolExecutor(16) as callers:
        found = np.array(list(callers.map(ask, rows)), np.float32)

    alone = np.concatenate([session.run((row[None],))[0] for row in rows])
    assert found.tobytes() == alone.tobytes()
    told = client.get("/models/bare").json()["execution_details"]
    assert (told["chosen_by"], told.get("batch_rows_bitwise")) == (
        ("warm-up", True) if name in INDEPENDENT else ("graph", None)
    )
