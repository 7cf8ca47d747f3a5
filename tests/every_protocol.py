"""The rows of a table in every protocol, and what the trainer itself predicts for them."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import orjson

from service.bundle.manifest import ClassesOutput, output_name
from service.tabletext import read_rows
from tests.processes import run_here
from tests.same_reading import Row, typed_rows
from tests.tensors import infer_in_binary, infer_in_json, outputs_in_binary, outputs_in_json
from training.data.table import Inputs, Table, encode_features, with_target
from training.evaluation.published import PublishedModel, open_model

Predictions = npt.NDArray[np.float64]
_CSV = {"content-type": "text/csv"}
_NDJSON = {"content-type": "application/x-ndjson"}


@dataclass(frozen=True)
class TrainedRows:
    """The rows of a file that have a target, as the trainer reads them."""

    model: PublishedModel
    path: Path
    table: Table
    file_rows: int
    features: Inputs
    """``[rows, columns]``: the input of the graph."""
    predictions: Predictions
    """``[rows, labels]`` or ``[rows, 1]``: probabilities or values of the graph."""

    @property
    def positions(self) -> Sequence[int]:
        """The rows in the file, from 0."""
        source = self.table.source_rows
        return range(self.file_rows) if source is None else source.tolist()

    @property
    def rows(self) -> list[Row]:
        """The rows as a client sends them that knows the type of each column."""
        return typed_rows(self.table, self.model.columns, self.features)


def read_trained(models: Path, name: str, path: Path) -> TrainedRows:
    """Predict the rows of the training table by the trainer's functions and the graph alone."""
    model = open_model(models, name)
    whole = model.read(path)
    table = with_target(whole, model.recipe.target)
    features = encode_features(table, model.columns)
    scores = model.predict(table).astype(np.float64)
    output = model.manifest.output
    if isinstance(output, ClassesOutput) and len(output.labels) == 2:
        scores = np.column_stack([1 - scores[:, 0], scores[:, 0]])
    return TrainedRows(model, path, table, whole.frame.height, features, scores)


def by_command(trained: TrainedRows, models: Path) -> Predictions:
    """Score the file by ``onward score``."""
    name = trained.model.manifest.name
    done = run_here("score", name, str(trained.path), "--models", str(models))
    assert done.returncode in (0, 1), done.stderr.decode()
    return _of_training(trained, _read_table(trained, done.stdout))


def by_table(trained: TrainedRows, client: httpx.Client) -> Predictions:
    """Send the file as CSV."""
    response = client.post(_path(trained), content=trained.path.read_bytes(), headers=_CSV)
    assert response.status_code == 200, response.text
    return _of_training(trained, _read_table(trained, response.content))


def by_objects(trained: TrainedRows, client: httpx.Client) -> Predictions:
    """Send the rows as an array of JSON objects."""
    return _read_native(_post(client, _path(trained), trained.rows)["predictions"])


def by_arrays(trained: TrainedRows, client: httpx.Client) -> Predictions:
    """Send the rows as an array of JSON arrays."""
    rows = [list(row.values()) for row in trained.rows]
    return _read_native(_post(client, _path(trained), rows)["predictions"])


def by_lines(trained: TrainedRows, client: httpx.Client) -> Predictions:
    """Send one JSON object per line."""
    lines = b"\n".join(map(orjson.dumps, trained.rows))
    response = client.post(_path(trained), content=lines, headers=_NDJSON)
    assert response.status_code == 200, response.text
    return _read_native([orjson.loads(line) for line in response.content.splitlines()])


def by_v1(trained: TrainedRows, client: httpx.Client) -> Predictions:
    """Send the rows as instances of TensorFlow Serving."""
    path = f"/v1/models/{trained.model.manifest.name}:predict"
    found = _post(client, path, {"instances": trained.rows})["predictions"]
    return _add_first(trained, np.array(found, np.float64))


def by_v1_columns(trained: TrainedRows, client: httpx.Client) -> Predictions:
    """Send the columns of TensorFlow Serving."""
    path = f"/v1/models/{trained.model.manifest.name}:predict"
    rows = trained.rows
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    found = _post(client, path, {"inputs": columns})["outputs"]
    return _add_first(trained, np.array(found, np.float64))


def by_v2(trained: TrainedRows, client: httpx.Client) -> Predictions:
    """Send the tensor of the trainer in JSON."""
    response = infer_in_json(client, trained.model.manifest.name, {"features": trained.features})
    return _read_v2(trained, response, outputs_in_json)


def by_v2_binary(trained: TrainedRows, client: httpx.Client) -> Predictions:
    """Send the tensor of the trainer in binary."""
    response = infer_in_binary(client, trained.model.manifest.name, {"features": trained.features})
    return _read_v2(trained, response, outputs_in_binary)


PROTOCOLS: list[Callable[[TrainedRows, httpx.Client], Predictions]] = [
    by_table,
    by_objects,
    by_arrays,
    by_lines,
    by_v1,
    by_v1_columns,
    by_v2,
    by_v2_binary,
]


def _path(trained: TrainedRows) -> str:
    return f"/models/{trained.model.manifest.name}/predict"


def _post(client: httpx.Client, path: str, document: object) -> Any:  # noqa: ANN401 - JSON
    response = client.post(path, content=orjson.dumps(document))
    assert response.status_code == 200, response.text
    return response.json()


def _read_native(predictions: Sequence[Row]) -> Predictions:
    rows = [
        list(row["probabilities"].values()) if "probabilities" in row else [row["value"]]
        for row in predictions
    ]
    return np.array(rows, np.float64)


def _read_v2(
    trained: TrainedRows, response: httpx.Response, read: Callable[..., Any]
) -> Predictions:
    assert response.status_code == 200, response.text
    (array,) = read(response, [output_name(trained.model.manifest.output)])
    return _add_first(trained, np.asarray(array, np.float64))


def _add_first(trained: TrainedRows, scores: Predictions) -> Predictions:
    """Return the probabilities of both labels if the graph has only that of the second."""
    scores = scores.reshape(len(trained.features), -1)
    labels = trained.predictions.shape[1]
    return np.column_stack([1 - scores, scores]) if labels != scores.shape[1] else scores


def _read_table(trained: TrainedRows, content: bytes) -> list[list[str]]:
    """Return the cells of the predictions, below their names, of a table in its own format."""
    csv_format = trained.table.csv_format
    assert csv_format is not None
    text = io.StringIO(content.decode("utf-8-sig"), newline="")
    separator, quote = csv_format.separator, csv_format.quote
    rows = list(read_rows(text, separator, quote, escape=csv_format.escape))
    names = [name.removeprefix("predicted_") for name in rows[0]]
    start = max(k for k, name in enumerate(names) if name in ("value", "label"))
    added = len(names) - start
    return [names[start:], *(row[-added:] for row in rows[1:])]


def _of_training(trained: TrainedRows, table: list[list[str]]) -> Predictions:
    """Return the predictions of the rows that training used, none of which has an error."""
    names, *rows = table
    assert len(rows) == trained.file_rows
    used = [rows[position] for position in trained.positions]
    faults = [row[-1] for row in used if row[-1]]
    assert faults == []
    first = names.index("value") if names[0] == "value" else 2
    columns = range(first, first + trained.predictions.shape[1])
    return np.array([[float(row[k].replace(",", ".")) for k in columns] for row in used])
