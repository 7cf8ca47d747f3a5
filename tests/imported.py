"""Imported models: the original run by ONNX Runtime itself, and predictions in every protocol."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import orjson

from service.bundle.features import BooleanFeature, CategoryFeature, Feature, FeaturesInput
from service.bundle.manifest import ClassesOutput, Manifest, output_name
from tests.tensors import infer_in_binary, infer_in_json, outputs_in_binary, outputs_in_json
from training.export.publish import Publication
from training.importing.options import ImportOptions
from training.importing.publication import import_model

Array = npt.NDArray[Any]
Row = Mapping[str, str]

_DTYPES = {"float": "f4", "double": "f8", "float16": "f2", "bool": "?"}


def save(model: onnx.ModelProto, folder: Path, name: str = "model") -> Path:
    """Write a model to a file."""
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


def write_table(folder: Path, columns: Mapping[str, Sequence[object]], name: str = "rows") -> Path:
    """Write columns to a CSV file: numbers with all digits, and words as they are."""
    path = folder / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file, with unchanged cells."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def import_file(
    path: Path,
    models: Path,
    table: Path | None = None,
    options: ImportOptions | None = None,
    **document: Any,  # noqa: ANN401 - a card as parsed from TOML
) -> Publication:
    """Import a file as the command does; ``target`` can be the name of its column."""
    if isinstance(document.get("target"), str):
        document["target"] = {"column": document["target"]}
    return import_model(path, document, table, models, options)


def run_original(
    path: Path, rows: Sequence[Row], names: Sequence[str] = (), classes: Sequence[object] = ()
) -> dict[str, Array]:
    """Run a file by ONNX Runtime alone: every input in its own type, and words as they are.

    Columns are those of ``names``, by default the names of the inputs. Maps become arrays with a
    column for each class, in the order of ``classes``.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs, start = {}, 0
    known = session.get_inputs()
    columns = list(names) or [node.name for node in known]
    for node in known:
        width = len(columns) if len(known) == 1 else 1
        cells = [[row[name] for name in columns[start : start + width]] for row in rows]
        start += width
        kind = node.type.removeprefix("tensor(").removesuffix(")")
        if kind == "string":
            values = np.array(cells, dtype=object)
        else:
            numbers = [[_to_number(cell) for cell in line] for line in cells]
            values = np.array(numbers).astype(_DTYPES.get(kind, kind))
        inputs[node.name] = values.reshape(len(rows)) if len(node.shape) == 1 else values
    outputs = session.run(None, inputs)
    found = [node.name for node in session.get_outputs()]
    return {name: _join_maps(one, classes) for name, one in zip(found, outputs, strict=True)}


def _join_maps(output: Any, classes: Sequence[object]) -> Array:  # noqa: ANN401 - of any type
    if isinstance(output, list) and isinstance(output[0], dict):
        keys = {str(key): key for key in output[0]}
        return np.array([[row[keys[str(name)]] for name in classes] for row in output])
    return np.asarray(output)


def _to_number(cell: str) -> float:
    truths = {"True": 1.0, "False": 0.0, "": np.nan}
    return truths[cell] if cell in truths else float(cell)


@dataclass(frozen=True)
class Served:
    """Predictions in one format: ``[rows, labels]`` probabilities or ``[rows, 1]`` values."""

    scores: Array
    labels: list[str] | None = None
    """None where the format has none."""


def predict_everywhere(client: httpx.Client, manifest: Manifest, table: Path) -> dict[str, Served]:
    """Return the predictions for the rows of a file in JSON, v1, v2 and CSV."""
    assert isinstance(manifest.input, FeaturesInput)
    features, rows = manifest.input.features, read_table(table)
    objects = [{f.name: _to_json(f, row[f.name]) for f in features} for row in rows]
    dtype = np.float64 if manifest.input.datatype == "FP64" else np.float32
    matrix = np.array(
        [[_encode(f, row[f.name]) for f in features] for row in rows], np.float64
    ).astype(dtype)
    output, address = output_name(manifest.output), f"/models/{manifest.name}/predict"
    tensors = {"features": matrix}
    protocols = {
        "v2 binary": (infer_in_binary, outputs_in_binary),
        "v2 JSON": (infer_in_json, outputs_in_json),
    }
    v1 = _post(client, f"/v1/models/{manifest.name}:predict", {"instances": objects})
    served = {
        "JSON": _from_json(_post(client, address, objects)["predictions"], manifest),
        "JSON, one row": _from_json([_post(client, address, one) for one in objects], manifest),
        "CSV": _from_csv(client, address, table, manifest),
        "v1": Served(_expand(np.array(v1["predictions"], np.float64), manifest)),
    }
    for name, (send, read) in protocols.items():
        if name == "v2 JSON" and np.isnan(matrix).any():
            continue  # JSON has no NaN
        response = send(client, manifest.name, tensors)
        assert response.status_code == httpx.codes.OK, response.text
        (scores,) = read(response, [output])
        assert scores is not None
        served[name] = Served(_expand(scores.astype(np.float64), manifest))
    return served


def assert_served(
    client: httpx.Client,
    imported: Publication,
    table: Path,
    expected: Served,
    tolerance: float = 2e-6,
) -> None:
    """Check that every format gives these predictions for the rows of a file.

    The tolerance is a share of the largest score.
    """
    bound = tolerance * max(1.0, float(np.abs(expected.scores).max()))
    for name, served in predict_everywhere(client, imported.manifest, table).items():
        difference = float(np.abs(served.scores - expected.scores).max())
        assert difference <= bound, f"{name}: {difference}"
        if expected.labels is not None and served.labels is not None:
            assert served.labels == expected.labels, name


def expect(scores: Any, labels: Any = None) -> Served:  # noqa: ANN401 - arrays or lists
    """Return what is expected: probabilities ``[rows, labels]`` or values, and the labels."""
    table = np.asarray(scores, np.float64)
    words = None if labels is None else [str(label) for label in np.ravel(labels).tolist()]
    return Served(table.reshape(len(table), -1), words)


def _post(client: httpx.Client, path: str, body: object) -> Any:  # noqa: ANN401 - JSON is any type
    response = client.post(path, content=orjson.dumps(body))
    assert response.status_code == httpx.codes.OK, response.text
    return response.json()


def _to_json(feature: Feature, cell: str) -> object:
    if isinstance(feature, CategoryFeature):
        known = cell in feature.categories
        return None if not cell.strip() else cell if known else cell.strip()
    if not cell.strip():
        return None
    if isinstance(feature, BooleanFeature):
        return cell.strip().lower() in ("true", "1", "yes")
    return int(cell) if cell.strip().lstrip("-").isdecimal() else float(cell)


def _encode(feature: Feature, cell: str) -> float:
    value = _to_json(feature, cell)
    if value is None:
        return np.nan
    if isinstance(feature, CategoryFeature):
        return feature.categories.index(value) if value in feature.categories else -1
    return float(str(int(value)) if isinstance(value, bool) else str(value))


def _expand(scores: Array, manifest: Manifest) -> Array:
    """Return a column for each label."""
    scores = scores.reshape(len(scores), -1)
    binary = isinstance(manifest.output, ClassesOutput) and scores.shape[1] == 1
    return np.column_stack([1 - scores, scores]) if binary else scores


def _from_json(predictions: list[dict[str, Any]], manifest: Manifest) -> Served:
    if not isinstance(manifest.output, ClassesOutput):
        return Served(np.array([[one["value"]] for one in predictions]))
    order = manifest.output.labels
    scores = [[one["probabilities"][label] for label in order] for one in predictions]
    return Served(np.array(scores), [one["label"] for one in predictions])


def _from_csv(client: httpx.Client, address: str, table: Path, manifest: Manifest) -> Served:
    response = client.post(
        address, content=table.read_bytes(), headers={"content-type": "text/csv"}
    )
    assert response.status_code == httpx.codes.OK, response.text
    rows = list(csv.DictReader(response.text.splitlines()))
    assert not any(row["error"] for row in rows), rows[0]["error"]
    prefix = "predicted_" if "predicted_value" in rows[0] or "predicted_label" in rows[0] else ""
    if not isinstance(manifest.output, ClassesOutput):
        return Served(np.array([[float(row[f"{prefix}value"])] for row in rows]))
    order = manifest.output.labels
    scores = [[float(row[f"probability_{label}"]) for label in order] for row in rows]
    return Served(np.array(scores), [row[f"{prefix}label"] for row in rows])
