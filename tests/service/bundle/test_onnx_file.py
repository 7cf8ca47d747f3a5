"""ONNX files are inspected without the onnx package, and rejected before they are read."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.bundle.errors import BundleError, InvalidOnnxFile
from service.bundle.onnx_file import GraphSummary, MalformedFile, ProtobufFile
from service.bundle.store import read_onnx
from tests.foreign import FLOAT, one_node, serialized, tensor

# A model's head, and a graph of 1.9 gigabytes.
_LONG_GRAPH = b"\x08\x09\x3a\xf8\xe5\xfe\x89\x07"


def written(folder: Path, content: bytes, size: int | None = None) -> Path:
    """Write a file with this content, extended to a size by a sparse region."""
    path = folder / "model.onnx"
    path.write_bytes(content)
    if size is not None:
        os.truncate(path, size)
    return path


@pytest.mark.parametrize(
    ("head", "size", "reason"),
    [
        (b"", 0, "is empty"),
        (b"", 3_000_000_000, "has 3,000,000,000 bytes, and an ONNX file at most 2,147,483,647"),
        (one_node("Neg"), 100_000_000_000, "has 100,000,000,000 bytes"),
        (b"", 1_900_000_000, "byte 0 does not begin a field"),
        (one_node("Neg"), 1_900_000_000, "does not begin a field"),
        (_LONG_GRAPH, 1_900_000_000, "byte 8 does not begin a field"),
        (_LONG_GRAPH, 1_000_000, "is it truncated"),
        (b"\xff" * 100, None, "byte 0 does not begin a field"),
        (b"version https://git-lfs.github.com/spec/v1\n", None, "does not begin a field"),
        (b"\x08\x09", None, "it has no graph"),
        (b"\x08\x09" * 5_000_000, None, "it has no graph"),
    ],
)
def test_other_files_are_rejected_before_they_are_read(
    tmp_path: Path, head: bytes, size: int | None, reason: str
) -> None:
    """The size, the first bytes or an invalid field is enough to reject a file."""
    with pytest.raises(InvalidOnnxFile, match=reason):
        read_onnx(written(tmp_path, head, size))


def test_graphs_that_are_nested_too_deeply_are_rejected(tmp_path: Path) -> None:
    """The limit is that of protobuf's own reader."""
    graph = b""
    for _ in range(110):
        attribute = field_of(6, graph)
        graph = field_of(1, field_of(5, attribute))

    with pytest.raises(InvalidOnnxFile, match="nested more than 100 levels"):
        read_onnx(written(tmp_path, field_of(7, graph)))


def field_of(number: int, content: bytes) -> bytes:
    """Encode a length-delimited protobuf field."""
    length, size = bytearray(), len(content)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def test_a_message_with_too_many_fields_is_rejected() -> None:
    """Each field takes time to read."""
    content = b"\x08\x09\x28\x01" * 50

    with pytest.raises(MalformedFile, match="more than 10 fields"):
        list(ProtobufFile(BytesIO(content), len(content), 10).fields(0, len(content)))


def test_a_pipe_is_rejected_without_waiting(tmp_path: Path) -> None:
    """A named pipe is not opened, because reading it would block forever."""
    os.mkfifo(tmp_path / "model.onnx")

    with pytest.raises(BundleError, match="is not a regular file"):
        read_onnx(tmp_path / "model.onnx")


def facts(folder: Path, content: bytes) -> GraphSummary:
    return read_onnx(written(folder, content)).graph


def external(name: str, location: str) -> TensorProto:
    """Create a tensor whose values are in another file."""
    made = TensorProto(name=name, data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    made.external_data.add(key="location", value=location)
    return made


def branches(then: list[Any], weights: list[Any]) -> Any:  # noqa: ANN401 - onnx has no types
    """Create an If whose first branch has these nodes and initializers."""
    first = helper.make_graph(then, "then", [], [tensor("t", [4])], weights)
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["e"])], "else", [], [tensor("e", [4])]
    )
    return helper.make_node("If", ["c"], ["y"], then_branch=first, else_branch=other)


def test_external_weights_are_found_everywhere_in_a_graph(tmp_path: Path) -> None:
    """Weights of the main graph are distinguished from nested ones."""
    add = helper.make_node("Add", ["x", "w"], ["t"])
    model = serialized(
        [
            helper.make_node("Constant", [], ["k"], value=external("k", "constant.bin")),
            helper.make_node("ConstantOfShape", ["s"], ["z"], value=external("v", "attribute.bin")),
            branches([add], [external("w", "branch.bin")]),
        ],
        [tensor("x", [4]), tensor("c", [], TensorProto.BOOL)],
        [tensor("y", [4])],
        [external("w0", "weights.bin"), external("w1", "parts/weights.bin")],
    )

    found = facts(tmp_path, model)

    assert found.weights == {"weights.bin", "parts/weights.bin", "constant.bin"}
    assert found.nested_weights == {"attribute.bin", "branch.bin"}


def shaped(*nodes: Any) -> bytes:  # noqa: ANN401 - onnx has no types
    """Create a graph of these nodes from ``x`` and ``n`` to ``y``, with a constant ``k``."""
    constants = [numpy_helper.from_array(np.array([2, 3], np.int64), "k")]
    inputs = [tensor("x", ["rows", 4]), tensor("n", [2], TensorProto.INT64)]
    return serialized(list(nodes), inputs, [tensor("y", None)], constants)


node = helper.make_node


@pytest.mark.parametrize(
    ("model", "operator"),
    [
        (shaped(node("Expand", ["x", "n"], ["y"])), "Expand"),
        (shaped(node("Mul", ["n", "k"], ["m"]), node("Tile", ["x", "m"], ["y"])), "Tile"),
        (shaped(node("Range", ["n", "k", "k"], ["y"])), "Range"),
        (shaped(node("ConstantOfShape", ["n"], ["y"])), "ConstantOfShape"),
        (shaped(branches([node("Neg", ["x"], ["t"])], [])), "If"),
        (shaped(node("NonMaxSuppression", ["x", "x"], ["y"])), "NonMaxSuppression"),
        (shaped(node("Expand", ["x", "k"], ["y"])), ""),
        (shaped(node("Shape", ["x"], ["s"]), node("Expand", ["k", "s"], ["y"])), ""),
        (shaped(node("Range", ["k", "k", "k"], ["y"])), ""),
        (shaped(node("MatMul", ["x", "x"], ["m"]), node("Softmax", ["m"], ["y"])), ""),
    ],
)
def test_operators_whose_time_depends_on_input_values_are_found(
    tmp_path: Path, model: bytes, operator: str
) -> None:
    """These are loops, branches, and outputs whose size depends on values, not on shapes."""
    assert facts(tmp_path, model).unbounded == operator


@pytest.mark.parametrize("operator", ["Loop", "Scan", "SequenceMap"])
def test_a_loop_within_a_function_is_found(tmp_path: Path, operator: str) -> None:
    """The operators in functions are inspected too."""
    body = helper.make_graph([node("Neg", ["v"], ["w"])], "body", [tensor("v", [1])], [])
    function = helper.make_function(
        "own", "F", ["a"], ["b"], [node(operator, ["a"], ["b"], body=body)], []
    )
    graph = helper.make_graph(
        [node("F", ["x"], ["y"], domain="own")], "g", [tensor("x", [1])], [tensor("y", [1])]
    )
    model = helper.make_model(graph, functions=[function]).SerializeToString()

    assert facts(tmp_path, model).unbounded == operator


def test_millions_of_words_and_numbers_in_an_attribute_are_skipped(tmp_path: Path) -> None:
    """A tree ensemble has lists of them, one field each."""
    trees = node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        nodes_featureids=list(range(1_500_000)),
        nodes_modes=["BRANCH_LEQ", "LEAF"] * 750_000,
        nodes_values=[0.5] * 1_500_000,
        domain="ai.onnx.ml",
    )

    assert facts(tmp_path, shaped(trees)) == GraphSummary()
