"""Import estimators of other libraries, and compare what four protocols return with the library."""

import base64
import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import onnx
import orjson
from PIL import Image

from bench.imports.estimators import Estimator
from training.__main__ import main

Array = npt.NDArray[Any]

PAGE = Path("docs/serve-your-model.md")
_START, _END = "<!-- matrix -->\n", "<!-- end of matrix -->"
_BEST_DIGITS = 1e-9


@dataclass(frozen=True)
class Protocol:
    """How rows are sent by one protocol, and read from its responses."""

    name: str
    infer: Callable[[httpx.Client, str, Estimator], "Served"]


@dataclass(frozen=True)
class Served:
    """What a protocol returned for all rows."""

    scores: Array
    """Probabilities ``[rows, classes]``, or values ``[rows]``."""
    labels: Sequence[str] | None


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    name: str
    library: str
    problem: str
    """Why there is no comparison; empty if there is one."""
    differing: int = 0
    """Rows with another label than the library's, by any protocol."""
    difference: float = 0.0
    """The largest difference of a probability, or of a value relative to the largest one."""


def import_estimator(position: int, estimator: Estimator, models: Path) -> str:
    """Import an estimator as ``e<position>`` below ``models``; return the message if rejected."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / f"e{position}.onnx"
        onnx.save(estimator.model, path)
        words = ["import", str(path), *estimator.arguments]
        if not isinstance(estimator.rows, np.ndarray):
            estimator.rows.to_csv(folder / "rows.csv", index=False)
            words += ["--csv", str(folder / "rows.csv")]
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = main([*words, "--models", str(models)])
    return "" if code == 0 else said.getvalue().strip()


def compare_estimator(position: int, estimator: Estimator, client: httpx.Client) -> Result:
    """Compare the served estimator with the library by every protocol."""
    expected = estimator.predict(estimator.rows)
    labels = estimator.predict_labels(estimator.rows)
    differing, difference = 0, 0.0
    for protocol in PROTOCOLS:
        if protocol.name == "CSV" and isinstance(estimator.rows, np.ndarray):
            continue
        served = protocol.infer(client, f"e{position}", estimator)
        if labels is not None and served.labels is not None:
            wrong = sum(a != b for a, b in zip(served.labels, labels, strict=True))
            differing = max(differing, wrong)
        if expected is not None:
            difference = max(difference, _measure_difference(served.scores, expected))
    return Result(estimator.name, estimator.library, "", differing, difference)


def _measure_difference(found: Array, expected: Array) -> float:
    scale = 1.0 if expected.ndim > 1 else float(np.abs(expected).max())
    return float(np.abs(found.reshape(expected.shape) - expected).max()) / scale


def write_table(results: Sequence[Result], page: Path = PAGE) -> None:
    """Replace the table of the page."""
    head, _, rest = page.read_text().partition(_START)
    _, _, tail = rest.partition(_END)
    page.write_text(f"{head}{_START}{''.join(_format_table(results))}{_END}{tail}")


def _format_table(results: Sequence[Result]) -> Iterator[str]:
    yield "| library | estimator | other labels | largest difference |\n"
    yield "| --- | --- | --- | --- |\n"
    for one in results:
        cells = one.problem or f"{one.differing} | {_format_difference(one.difference)}"
        yield f"| {one.library} | {one.name} | {cells}{' |' if one.problem else ''} |\n"


def _format_difference(difference: float) -> str:
    return "0" if difference < _BEST_DIGITS else f"{difference:.0e}"


# Protocols.


def _list_rows(estimator: Estimator) -> list[Any]:
    """Return the rows as JSON objects, with null for gaps; images in base64."""
    if isinstance(estimator.rows, np.ndarray):
        return [_encode_image(pixels) for pixels in estimator.rows]
    return [
        {name: None if cell != cell else cell for name, cell in row.items()}  # noqa: PLR0124 - NaN
        for row in estimator.rows.to_dict("records")
    ]


def _encode_image(pixels: Array) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def _read_native(predictions: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Served:
    if not labels:
        return Served(np.array([one["value"] for one in predictions]), None)
    scores = [[one["probabilities"][label] for label in labels] for one in predictions]
    return Served(np.array(scores), [one["label"] for one in predictions])


def _infer_json(client: httpx.Client, model: str, estimator: Estimator) -> Served:
    response = client.post(f"/models/{model}/predict", json={"instances": _list_rows(estimator)})
    return _read_native(_read(response)["predictions"], estimator.labels)


def _infer_csv(client: httpx.Client, model: str, estimator: Estimator) -> Served:
    response = client.post(
        f"/models/{model}/predict",
        content=estimator.rows.to_csv(index=False),
        headers={"content-type": "text/csv", "accept": "application/json"},
    )
    return _read_native(_read(response)["predictions"], estimator.labels)


def _infer_v1(client: httpx.Client, model: str, estimator: Estimator) -> Served:
    rows = _list_rows(estimator)
    if isinstance(estimator.rows, np.ndarray):
        rows = [{"b64": row} for row in rows]
    response = client.post(f"/v1/models/{model}:predict", json={"instances": rows})
    return _read_scores(np.array(_read(response)["predictions"]), client, model, estimator)


def _infer_v2(client: httpx.Client, model: str, estimator: Estimator) -> Served:
    info = _read(client.get(f"/v2/models/{model}"))
    (tensor,) = info["inputs"]
    matrix = _encode_matrix(client, model, estimator, tensor["datatype"])
    content = matrix.tobytes()
    head = {
        "inputs": [
            {
                "name": tensor["name"],
                "shape": matrix.shape,
                "datatype": tensor["datatype"],
                "parameters": {"binary_data_size": len(content)},
            }
        ],
        "parameters": {"binary_data_output": True},
    }
    request = orjson.dumps(head)
    response = client.post(
        f"/v2/models/{model}/infer",
        content=request + content,
        headers={
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(request)),
        },
    )
    response.raise_for_status()
    end = int(response.headers["inference-header-content-length"])
    scores = np.frombuffer(response.content[end:], np.float32).reshape(len(matrix), -1)
    return _read_scores(scores, client, model, estimator)


def _encode_matrix(client: httpx.Client, model: str, estimator: Estimator, datatype: str) -> Array:
    """Return the graph's input: pixels, or numbers with the positions of words."""
    if isinstance(estimator.rows, np.ndarray):
        return estimator.rows
    columns = []
    for feature in _read(client.get(f"/models/{model}"))["features"]:
        cells = estimator.rows[feature["name"]]
        if feature["type"] == "category":
            cells = cells.map({word: k for k, word in enumerate(feature["categories"])})
        columns.append(cells.to_numpy(np.float64))
    return np.column_stack(columns).astype({"FP32": np.float32, "FP64": np.float64}[datatype])


def _read_scores(scores: Array, client: httpx.Client, model: str, estimator: Estimator) -> Served:
    """Return the scores with the labels that a client of v1 or v2 takes from them."""
    scores = scores.reshape(len(estimator.rows), -1).astype(np.float64)
    labels = estimator.labels
    if not labels:
        return Served(scores[:, 0], None)
    output = _read(client.get(f"/models/{model}"))["output"]
    served = output["labels"]
    if scores.shape[1] == 1:
        chosen = (scores[:, 0] >= output["threshold"]).astype(int)
        scores = np.hstack([1 - scores, scores])
    else:
        chosen = scores.argmax(axis=1)
    order = [served.index(label) for label in labels]
    return Served(scores[:, order], [served[k] for k in chosen])


def _read(response: httpx.Response) -> Any:  # noqa: ANN401 - any JSON value
    if response.is_error:
        raise RuntimeError(f"{response.request.url}: {response.text[:300]}")
    return response.json()


PROTOCOLS = (
    Protocol("JSON", _infer_json),
    Protocol("v1", _infer_v1),
    Protocol("v2 binary", _infer_v2),
    Protocol("CSV", _infer_csv),
)
