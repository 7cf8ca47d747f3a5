"""Third-party graphs with unusual inputs and outputs, external weights or errors."""

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def serialized(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    weights: list[Any] | None = None,
    opset: int = 18,
) -> bytes:
    """The content of a ``model.onnx`` with these parts, which are not checked."""
    model = helper.make_model(
        helper.make_graph(nodes, "foreign", inputs, outputs, weights or []),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=9,
    )
    content: bytes = model.SerializeToString()
    return content


def tensor(name: str, shape: list[int | str] | None, element: int = FLOAT) -> Any:  # noqa: ANN401 - onnx has no types
    """An input or output; without a shape its rank is unknown."""
    return helper.make_tensor_value_info(name, element, shape)


def one_node(operator: str, element: int = FLOAT, opset: int = 18) -> bytes:
    """A graph of one operator from ``x`` to ``y`` of unknown ranks."""
    node = helper.make_node(operator, ["x"], ["y"])
    ends = tensor("x", None, element), tensor("y", None, element)
    return serialized([node], [ends[0]], [ends[1]], opset=opset)


def constant() -> bytes:
    """A graph without inputs and the constant output ``[1, 2]``."""
    node = helper.make_node("Constant", [], ["y"], value_floats=[1.0, 2.0])
    return serialized([node], [], [tensor("y", [2])])


def unknown_operator() -> bytes:
    """A graph of an operator that does not exist."""
    return one_node("Nonexistent")


def newer_format() -> bytes:
    """A file in a version of the format that does not exist yet."""
    model = ModelProto.FromString(one_node("Neg"))
    model.ir_version = 99
    content: bytes = model.SerializeToString()
    return content


def other_domain() -> bytes:
    """A graph of an operator of another domain."""
    node = helper.make_node("Mine", ["x"], ["y"], domain="my.domain")
    return serialized([node], [tensor("x", [1])], [tensor("y", [1])])


def lower_case(locale: str) -> bytes:
    """A graph that changes words to lower case by the rules of a locale."""
    options: dict[str, Any] = {"case_change_action": "LOWER", "locale": locale}
    node = helper.make_node("StringNormalizer", ["x"], ["y"], **options)
    ends = tensor("x", ["n"], TensorProto.STRING), tensor("y", ["m"], TensorProto.STRING)
    return serialized([node], [ends[0]], [ends[1]])


def fixed_inside() -> bytes:
    """A graph that declares any batch, and reshapes it to one row of two numbers."""
    shape = numpy_helper.from_array(np.array([1, 2], np.int64), "shape")
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    return serialized([node], [tensor("x", ["rows", 2])], [tensor("y", None)], [shape])


def list_of_both() -> bytes:
    """A graph whose output is a list of two tensors: ``a`` is abs(x), and ``b`` is -x."""
    nodes = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("Neg", ["x"], ["b"]),
        helper.make_node("SequenceConstruct", ["a", "b"], ["y"]),
    ]
    output = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    return serialized(nodes, [tensor("x", ["n"])], [output])


def maps_of_a_function() -> bytes:
    """A graph with a function that returns maps from ``b`` and ``a`` to the columns of ``x``."""
    words = ["b", "a"]
    body = helper.make_node("ZipMap", ["v"], ["w"], domain="ai.onnx.ml", classlabels_strings=words)
    opsets = [helper.make_opsetid("own", 1), helper.make_opsetid("ai.onnx.ml", 1)]
    function = helper.make_function("own", "Maps", ["v"], ["w"], [body], opsets[1:])
    number = helper.make_tensor_type_proto(FLOAT, None)
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.STRING, number))
    node = helper.make_node("Maps", ["x"], ["maps"], domain="own")
    graph = helper.make_graph(
        [node], "maps", [tensor("x", ["n", 2])], [helper.make_value_info("maps", kind)]
    )
    model = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def optional_both_ways() -> bytes:
    """A graph whose ``has`` is whether ``x`` is present; ``y`` is absent if ``x`` is."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    x, y = (helper.make_value_info(name, kind) for name in ("x", "y"))
    nodes = [
        helper.make_node("OptionalHasElement", ["x"], ["has"]),
        helper.make_node("Identity", ["x"], ["y"]),
    ]
    return serialized(nodes, [x], [tensor("has", [], TensorProto.BOOL), y])


def optional_second_input() -> bytes:
    """A graph that copies ``x`` to ``z``, and may also get ``y``."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, ["n"]))
    inputs = [tensor("x", ["n"]), helper.make_value_info("y", kind)]
    return serialized([helper.make_node("Identity", ["x"], ["z"])], inputs, [tensor("z", ["n"])])


def with_weights_at(location: str) -> bytes:
    """``y = x + [0, 1, 2, 3]``, with the second summand in an external file."""
    weights = TensorProto(
        name="weights", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        weights.external_data.add(key=key, value=value)
    node = helper.make_node("Add", ["x", "weights"], ["y"])
    return serialized([node], [tensor("x", [4])], [tensor("y", [4])], [weights])


def weights_file() -> bytes:
    """The content of the external file of `with_weights_at`."""
    return np.arange(4, dtype="<f4").tobytes()


def sequence_input() -> bytes:
    """A graph whose input is a sequence of tensors, which no protocol supports."""
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    node = helper.make_node("SequenceLength", ["x"], ["y"])
    return serialized(
        [node], [helper.make_value_info("x", kind)], [tensor("y", [], TensorProto.INT64)]
    )


def brain_floats() -> bytes:
    """A graph of BFLOAT16, which the service does not support."""
    node = helper.make_node("Identity", ["x"], ["y"])
    element = TensorProto.BFLOAT16
    return serialized([node], [tensor("x", [2], element)], [tensor("y", [2], element)])


def failing_shape() -> bytes:
    """A graph that accepts any length, but fails unless it is a multiple of seven."""
    sevens = numpy_helper.from_array(np.array([-1, 7], np.int64), "sevens")
    node = helper.make_node("Reshape", ["x", "sevens"], ["y"])
    return serialized([node], [tensor("x", ["n"])], [tensor("y", None)], [sevens])


def external_weights(location: str, size: int = 4) -> Any:  # noqa: ANN401 - onnx has no types
    """The tensor ``w`` of ``size`` floats at the start of an external file."""
    weights = TensorProto(
        name="w", data_type=FLOAT, dims=[size], data_location=TensorProto.EXTERNAL
    )
    weights.external_data.add(key="location", value=location)
    return weights


def adds_in_a_branch(location: str) -> bytes:
    """``y = x + w`` in the branches of an If, with ``w`` in an external file."""
    branches = [
        helper.make_graph(
            [helper.make_node("Add", ["x", "w"], [name])],
            name,
            [],
            [tensor(name, [4])],
            [external_weights(location)],
        )
        for name in ("then", "else")
    ]
    node = helper.make_node(
        "If", ["always"], ["y"], then_branch=branches[0], else_branch=branches[1]
    )
    always = numpy_helper.from_array(np.array([1], bool).reshape(()), "always")
    return serialized([node], [tensor("x", [4])], [tensor("y", [4])], [always])


def adds_large_weights(location: str, size: int) -> bytes:
    """``y = x + w``, with ``w`` of ``size`` floats in an external file."""
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return serialized(
        [node], [tensor("x", [1])], [tensor("y", [size])], [external_weights(location, size)]
    )


def counting_loop() -> bytes:
    """``y = x + n``, computed by a loop of ``n`` iterations."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["v", "one"], ["more"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            tensor("turn", [], TensorProto.INT64),
            tensor("go", [], TensorProto.BOOL),
            tensor("v", [1]),
        ],
        [tensor("on", [], TensorProto.BOOL), tensor("more", [1])],
        [numpy_helper.from_array(np.array(1, np.float32), "one")],
    )
    node = helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)
    inputs = [tensor("x", [1]), tensor("n", [], TensorProto.INT64)]
    return serialized([node], inputs, [tensor("y", [1])])


def one_large_product() -> bytes:
    """``y`` is the sum of the product of two matrices of shape ``n``."""
    nodes = [
        helper.make_node("Expand", ["x", "n"], ["a"]),
        helper.make_node("MatMul", ["a", "a"], ["b"]),
        helper.make_node("ReduceSum", ["b"], ["y"], keepdims=0),
    ]
    inputs = [tensor("x", [1, 1]), tensor("n", [2], TensorProto.INT64)]
    return serialized(nodes, inputs, [tensor("y", [])])


def attention() -> bytes:
    """Attention over a sequence, whose time and memory are quadratic in the length."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "t"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "x"], ["y"]),
    ]
    shape: list[int | str] = ["rows", "length", 8]
    return serialized(nodes, [tensor("x", shape)], [tensor("y", shape)])
