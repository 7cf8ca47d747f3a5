"""Errors of ONNX Runtime are explained with their remedy, without its C++ names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from service.bundle.runtime_messages import (
    describe_runtime_error,
    explain_runtime_error,
    explain_unsupported_type,
)

FLOAT, STRING = TensorProto.FLOAT, TensorProto.STRING
ROWS = np.zeros((2, 3), np.float32)
SHAPE = numpy_helper.from_array(np.array([1, 3]), "s")
TABLE = numpy_helper.from_array(np.zeros((4, 2), np.float32), "t")


def model(
    nodes: Sequence[NodeProto],
    *,
    x: tuple[int, Sequence[int | str]] = (FLOAT, ["n", 3]),
    y: int = FLOAT,
    opsets: Mapping[str, int] | None = None,
    ir: int = 10,
) -> bytes:
    """A graph from x to y, with the tensors s and t."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", x[0], x[1])],
        [helper.make_tensor_value_info("y", y, None)],
        [SHAPE, TABLE],
    )
    imports = [helper.make_opsetid(*each) for each in (opsets or {"": 17}).items()]
    content: bytes = helper.make_model(
        graph, opset_imports=imports, ir_version=ir
    ).SerializeToString()
    return content


def node(operator: str, inputs: Sequence[str] = ("x",), **attributes: Any) -> list[NodeProto]:  # noqa: ANN401 - of any type
    return [helper.make_node(operator, inputs, ["y"], **attributes)]


def error_of(content: bytes, x: object = ROWS) -> str:
    """What ONNX Runtime itself says about a graph that it cannot load or run."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with pytest.raises(Exception, match=r".") as raised:
        onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"]).run(None, {"x": x})
    return str(raised.value)


LOWER = node("StringNormalizer", locale="xx_XX.UTF-8", case_change_action="LOWER")
ENCODER = node("OneHotEncoder", domain="ai.onnx.ml", cats_strings=["a"], zeros=0)
FREE = (FLOAT, ["n", "m"])
ML = {"": 17, "ai.onnx.ml": 2}
EXPLAINED = [
    (model(node("Relu"), ir=99), ROWS, ["IR version 99 is newer", "save it with model.ir_version"]),
    (model(node("Relu"), opsets={"": 99}), ROWS, ["opset 99 of ai.onnx is newer", "or lower"]),
    (
        model(node("Scaler", domain="ai.onnx.ml"), opsets={"": 17, "ai.onnx.ml": 99}),
        ROWS,
        ["opset 99 of ai.onnx.ml is newer", "target_opset"],
    ),
    (
        model(node("Mine", domain="my.domain"), opsets={"": 17, "my.domain": 1}),
        ROWS,
        ["operator Mine of the domain my.domain", "export it with standard operators only"],
    ),
    (
        model(node("Mine", domain="my.domain")),
        ROWS,
        ["operator Mine of the domain 'my.domain'", "standard operators only"],
    ),
    (model(node("Mine")), ROWS, ["the operator Mine does not exist in opset 17"]),
    (model(node("Gelu"), opsets={"": 13}), ROWS, ["Gelu does not exist in opset 13"]),
    (
        model(LOWER, x=(STRING, ["n"]), y=STRING),
        ROWS,
        ["needs the locale xx_XX.UTF-8", "localedef -i xx_XX -f UTF-8", "container image"],
    ),
    (
        model(node("Relu"), x=(TensorProto.DOUBLE, ["n"])),
        ROWS,
        ["'y' is declared as tensor(float), and its node returns tensor(double)"],
    ),
    (
        model(node("Relu"), x=(FLOAT, [1, 3])),
        ROWS,
        ["a fixed batch of 1 row (axis 0 of input 'x'), got 2", "a free batch axis"],
    ),
    (
        model(node("Relu"), x=(FLOAT, ["n", 5, 7])),
        np.zeros((2, 3, 4), np.float32),
        ["axis 1 has length 3, not 5; axis 2 has length 4, not 7"],
    ),
    (
        model(node("Relu")),
        np.zeros(1, np.float32),
        ["input 'x' has rank 1, and the graph takes rank 2"],
    ),
    (model(node("Relu")), np.zeros((1, 3)), ["tensor(double), and the graph takes tensor(float)"]),
    (
        model(node("Reshape", ["x", "s"], name="flat")),
        ROWS,
        ["its Reshape node 'flat'", "the shape [2, 3] the shape [1, 3]", "a free batch axis"],
    ),
    (model(node("Add", ["x", "t"]), x=FREE), ROWS, ["Add node cannot combine axes of the lengths"]),
    (
        model(node("Gather", ["t", "x"]), x=(TensorProto.INT64, ["n"])),
        np.array([7]),
        ["has no entry 7, only -4 to 3"],
    ),
    (
        model(ENCODER, x=(STRING, ["n"]), opsets=ML),
        np.array(["b"], object),
        ["does not know a value of the input", "handle_unknown='ignore'"],
    ),
    (model(node("MatMul", ["x", "t"]), x=FREE), ROWS, ["its MatMul node fails on this input: "]),
    (
        model(node("MatMul", ["x", "t"], name="m")),
        ROWS,
        ["its MatMul node 'm' does not fit the shapes that the graph declares: Incompatible"],
    ),
]


@pytest.mark.parametrize(("content", "x", "parts"), EXPLAINED)
def test_an_error_is_explained(content: bytes, x: object, parts: Sequence[str]) -> None:
    """The sentence names what is wrong and the remedy, and no file or function of the runtime."""
    explained = explain_runtime_error(error_of(content, x))

    assert explained is not None
    assert all(part in explained for part in parts), explained
    assert not any(word in explained for word in ("onnxruntime_src", "::", "ONNXRuntimeError"))


def test_an_unknown_error_loses_its_code_source_file_and_function() -> None:
    """What remains is the runtime's own sentence; only the first line is of use."""
    text = (
        "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/core/graph.cc:7 "
        "void onnxruntime::Graph::f(const std::unordered_map<std::string, int>&, int (*)(int)) "
        "const something new\nstack trace"
    )

    assert explain_runtime_error(text) is None
    assert describe_runtime_error(text) == "something new"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            "NOT_IMPLEMENTED : Could not find an implementation for ConvInteger(10) node",
            "no implementation of ConvInteger (opset 10)",
        ),
        (
            "Failed to allocate memory for requested buffer of size 123456789",
            "needs 123,456,789 bytes of memory; send fewer rows",
        ),
        ("std::bad_alloc", "more memory than is available"),
        (
            "model_path must not be empty. Ensure that a path is provided when the model is loaded",
            "weights are in a separate file",
        ),
    ],
)
def test_errors_of_other_machines_are_explained(text: str, part: str) -> None:
    """They depend on the device and its memory."""
    explained = explain_runtime_error(text)

    assert explained is not None
    assert part in explained


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("seq(tensor(float))", "one tensor for each of them"),
        ("seq(map(string,tensor(float)))", "options={'zipmap': False}"),
        ("sparse_tensor(float)", "a dense tensor"),
        ("tensor(bfloat16)", "add a Cast"),
    ],
)
def test_a_type_without_a_protocol_has_a_remedy(kind: str, remedy: str) -> None:
    """The sentence names the tensor, its type, and what to export instead."""
    explained = explain_unsupported_type("x", kind)

    assert explained.startswith(f"'x' is a {kind}, which no protocol here supports; ")
    assert remedy in explained
