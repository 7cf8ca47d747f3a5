"""The folder of an MLflow model names its file and its columns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml  # type: ignore[import-untyped] # it ships no type information
from onnx import TensorProto, helper

from service.bundle.features import FeaturesInput
from service.bundle.store import read_bundle
from training.__main__ import main
from training.errors import ImportRejected
from training.mlflow import read_mlflow


def graph(*inputs: tuple[str, int, list[Any]]) -> onnx.ModelProto:
    """A graph that adds up its inputs, converted to numbers."""
    infos = [helper.make_tensor_value_info(*one) for one in inputs]
    nodes = [
        helper.make_node("Cast", [name], [f"{name}_"], to=TensorProto.FLOAT)
        for name, _, _ in inputs
    ]
    nodes += [
        helper.make_node("Concat", [f"{name}_" for name, _, _ in inputs], ["all"], axis=1),
        helper.make_node("ReduceSum", ["all", "axis"], ["sum"], keepdims=1),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    output = helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N", 1])
    return helper.make_model(
        helper.make_graph(nodes, "sum", infos, [output], [axis]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )


def save(folder: Path, model: onnx.ModelProto, columns: list[dict[str, Any]] | None) -> Path:
    """Write a folder as MLflow does; a signature without columns is one of tensors."""
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    tensor = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]
    record = {
        "flavors": {
            "onnx": {"data": "model.onnx", "onnx_version": "1.17"},
            "python_function": {"data": "model.onnx", "loader_module": "mlflow.onnx"},
        },
        "signature": {"inputs": json.dumps(tensor if columns is None else columns)},
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(record))
    return folder


def test_the_signature_names_the_columns_of_a_matrix(tmp_path: Path) -> None:
    """Names, types and whether a value may be missing come from the signature."""
    columns = [
        {"type": "long", "name": "rooms", "required": True},
        {"type": "double", "name": "area", "required": False},
    ]
    folder = save(tmp_path / "flats", graph(("X", TensorProto.FLOAT, ["N", 2])), columns)

    found = read_mlflow(folder)

    assert found.path == folder / "model.onnx"
    assert found.features == [
        {"name": "rooms", "type": "integer"},
        {"name": "area", "optional": True},
    ]


def test_columns_are_matched_with_the_inputs_by_name(tmp_path: Path) -> None:
    """A signature in another order than the inputs does not swap columns."""
    columns = [{"type": "double", "name": name} for name in ("b", "a")]
    inputs = [(name, TensorProto.FLOAT, ["N", 1]) for name in ("a", "b")]

    found = read_mlflow(save(tmp_path / "sums", graph(*inputs), columns))

    assert [one["name"] for one in found.features] == ["a", "b"]


def test_a_signature_of_tensors_names_no_columns(tmp_path: Path) -> None:
    """Then the names come from the table, as for a file."""
    folder = save(tmp_path / "sums", graph(("X", TensorProto.FLOAT, ["N", 2])), None)

    assert read_mlflow(folder).features == []


def test_the_model_of_a_folder_is_imported_under_its_name(tmp_path: Path, models: Path) -> None:
    """One command turns the folder into a bundle."""
    columns = [{"type": "double", "name": name} for name in ("width", "height")]
    folder = save(tmp_path / "frames", graph(("X", TensorProto.FLOAT, ["N", 2])), columns)
    rows = np.random.default_rng(0).normal(size=(20, 2)).round(2)
    text = "\n".join(["height,width", *(f"{height},{width}" for height, width in rows)])
    (tmp_path / "rows.csv").write_text(text)

    code = main(
        ["import", str(folder), "--csv", str(tmp_path / "rows.csv"), "--models", str(models)]
    )

    assert code == 0
    described = read_bundle(models / "frames" / "1").manifest.input
    assert isinstance(described, FeaturesInput)
    assert [feature.name for feature in described.features] == ["width", "height"]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "without the file MLmodel"),
        ("a: [", "not valid YAML"),
        ("text", "has no keys"),
        ("flavors: {sklearn: {}, python_function: {}}", "sklearn, python_function"),
        ("flavors: {onnx: {data: ../../model.onnx}}", "outside its folder"),
        ("flavors: {onnx: {data: /etc/passwd}}", "outside its folder"),
        ("flavors: {onnx: {data: other.onnx}}", "does not exist"),
        (
            'flavors: {onnx: {}}\nsignature: {inputs: "["}',
            "not valid JSON",
        ),
        (
            """flavors: {onnx: {}}\nsignature: {inputs: '[{"name": "a", "type": "datetime"}]'}""",
            "'a' the type datetime",
        ),
    ],
)
def test_another_folder_is_rejected_with_the_reason(
    record: str | None, words: str, tmp_path: Path
) -> None:
    """The message names what is missing, and what to do."""
    onnx.save(graph(("X", TensorProto.FLOAT, ["N", 2])), tmp_path / "model.onnx")
    if record is not None:
        (tmp_path / "MLmodel").write_text(record)

    with pytest.raises(ImportRejected, match=words):
        read_mlflow(tmp_path)


def test_an_input_that_the_signature_lacks_is_reported(tmp_path: Path) -> None:
    """Clients could not send it."""
    inputs = [(name, TensorProto.FLOAT, ["N", 1]) for name in ("a", "b")]
    folder = save(tmp_path / "sums", graph(*inputs), [{"type": "double", "name": "a"}])

    with pytest.raises(ImportRejected, match="inputs b, which the signature"):
        read_mlflow(folder)
