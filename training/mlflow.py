"""Read the folder of an MLflow model: its ONNX file, and the columns that its signature names."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import yaml  # type: ignore[import-untyped] # it ships no type information

from service.spelling import join_names
from training.errors import ImportRejected
from training.library_files import describe_library_folder

_MODEL_FILE = "MLmodel"
_SHOWN = 10
# The feature types of MLflow's column types; those of float and double depend on the graph.
_TYPES = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "long": {"type": "integer"},
    "float": {},
    "double": {},
    "string": {"type": "category"},
}


@dataclass(frozen=True)
class MlflowModel:
    """An ONNX file with what MLflow recorded about it."""

    path: Path
    features: list[dict[str, Any]] = field(default_factory=list)
    """``name``, and ``type`` and ``optional`` if recorded, in the order of the graph's columns;
    empty if the signature names no columns."""


def read_mlflow(folder: Path) -> MlflowModel:
    """Read a folder that ``mlflow.onnx.save_model`` or ``log_model`` wrote.

    Raise `ImportRejected` if the folder is not one, or if it contains no ONNX file.
    """
    recorded = _read_record(folder)
    flavors = recorded.get("flavors")
    flavors = flavors if isinstance(flavors, dict) else {}
    onnx_flavor = flavors.get("onnx")
    if not isinstance(onnx_flavor, dict):
        raise ImportRejected(
            f"{folder} has the flavors {join_names(list(flavors), _SHOWN) or 'none'}, and none of "
            "them is onnx. Convert the model to ONNX, for example with skl2onnx, and save it with "
            "mlflow.onnx.save_model, or import the ONNX file itself."
        )
    data = Path(str(onnx_flavor.get("data", "model.onnx")))
    if data.is_absolute() or ".." in data.parts:
        raise ImportRejected(f"{folder / _MODEL_FILE} names a file outside its folder: {data}.")
    path = folder / data
    if not path.is_file():
        raise ImportRejected(f"{folder / _MODEL_FILE} names {data}, which does not exist.")
    columns = _list_columns(folder, recorded.get("signature"))
    return MlflowModel(path, _order_as_graph(folder, columns, _list_input_names(path)))


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / _MODEL_FILE
    try:
        recorded = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        found = sorted(file.name for file in folder.glob("*.onnx"))
        hint = (
            f" To import a file of it: onward import {folder / found[0]}"
            if found
            else " Give an ONNX file, or the folder that mlflow.onnx.save_model wrote; "
            "docs/serve-your-model.md shows how each library writes one."
        )
        raise ImportRejected(
            describe_library_folder(folder)
            or f"{folder} is a folder without the file {_MODEL_FILE}, so it is not an MLflow model."
            + hint
        ) from None
    except OSError as error:
        raise ImportRejected(f"{path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ImportRejected(f"{path} is not valid YAML: {reason}.") from None
    if not isinstance(recorded, dict):
        raise ImportRejected(f"{path} does not describe a model: it has no keys.")
    return recorded


def _list_columns(folder: Path, signature: object) -> list[dict[str, Any]]:
    """Return the named columns of the signature's inputs; none if they are tensors."""
    text = signature.get("inputs") if isinstance(signature, dict) else None
    if text is None:
        return []
    try:
        inputs = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        raise ImportRejected(
            f"The signature in {folder / _MODEL_FILE} is not valid JSON; correct it, or import "
            "the ONNX file with --features."
        ) from None
    columns = [one for one in inputs if isinstance(one, dict)] if isinstance(inputs, list) else []
    if any("name" not in one or one.get("type") == "tensor" for one in columns):
        return []
    return [_describe_column(folder, one) for one in columns]


def _describe_column(folder: Path, column: dict[str, Any]) -> dict[str, Any]:
    name, kind = str(column["name"]), str(column.get("type"))
    if kind not in _TYPES:
        raise ImportRejected(
            f"The signature in {folder / _MODEL_FILE} gives column {name!r} the type {kind}; a "
            f"table has only {', '.join(_TYPES)}."
        )
    described: dict[str, Any] = {"name": name} | _TYPES[kind]
    if column.get("required", True) is False or column.get("optional", False) is True:
        described["optional"] = True
    return described


def _list_input_names(path: Path) -> list[str]:
    """Return the names of the graph's inputs; none if the file is invalid, which import reports."""
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # noqa: BLE001 - the decoder's errors share no base
        return []
    constants = {tensor.name for tensor in graph.initializer}
    return [one.name for one in graph.input if one.name not in constants]


def _order_as_graph(
    folder: Path, columns: list[dict[str, Any]], inputs: list[str]
) -> list[dict[str, Any]]:
    """Return the columns in the order of the inputs, if each column is an input of its own.

    MLflow passes columns by name, so a signature may list them in another order.
    """
    if len(inputs) <= 1 or not columns:
        return columns
    by_name = {column["name"]: column for column in columns}
    missing = [name for name in inputs if name not in by_name]
    if missing:
        raise ImportRejected(
            f"The graph has the inputs {join_names(missing, _SHOWN)}, which the signature in "
            f"{folder / _MODEL_FILE} does not name. Import the ONNX file itself, with --features."
        )
    return [by_name[name] for name in inputs]
