"""Gaps in columns that have none in the training set are predicted, with a warning."""

import csv
import io
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.conftest import Serve
from tests.tensors import infer_in_binary, infer_in_json, outputs_in_binary, outputs_in_json
from training.autorecipe.draft import draft
from training.data.csv import UNKNOWN, read_csv
from training.data.sources import Folders
from training.run import run

_TEXTS = ["size", "count", "kind", "day", "is_new"]


def _write(path: Path) -> None:
    """Write 300 rows of every type of column, without a gap."""
    generator = np.random.default_rng(4)
    lines = [",".join([*_TEXTS, "price"])]
    for k in range(300):
        size, count = round(generator.normal(5, 2), 2), generator.integers(0, 9)
        kind, new = generator.choice(["a", "b", "c"]), bool(generator.integers(0, 2))
        price = 3 * size + count + 5 * (kind == "b") + 2 * new + k % 12
        lines.append(f"{size},{count},{kind},2023-{k % 12 + 1:02}-15,{str(new).lower()},{price}")
    path.write_text("\n".join(lines))


@pytest.mark.parametrize("family", ["linear", "gradient-boosting"])
def test_a_gap_has_the_same_prediction_in_every_protocol(
    family: str, serve: Serve, tmp_path: Path
) -> None:
    """JSON null and absent keys, empty cells and NA, NaN in tensors, one column or all."""
    table = tmp_path / "prices.csv"
    _write(table)
    recipe = draft(read_csv(table, UNKNOWN), str(table), "price", "prices", family).recipe
    client = serve(lambda models: run(recipe, models, Folders(None, tmp_path)))
    full = {"size": 4.5, "count": 3, "kind": "b", "day": "2023-06-15", "is_new": True}
    matrix = np.tile([4.5, 3.0, 1.0, 19523.0, 1.0], (6, 1))
    for k in range(5):
        matrix[k, k] = np.nan
    nulls = [full | {name: None} for name in _TEXTS] + [full]

    body = client.post("/models/prices/predict", content=orjson.dumps(nulls)).json()

    expected = [one["value"] for one in body["predictions"]]
    assert np.isfinite(expected).all()
    for name, one in zip(_TEXTS, body["predictions"], strict=False):
        (warning,) = one["warnings"]
        assert warning.startswith(f"Feature {name!r} is missing, which it never is in the training")
    assert "warnings" not in body["predictions"][-1]
    absent = [{key: cell for key, cell in row.items() if cell is not None} for row in nulls]
    body = client.post("/models/prices/predict", content=orjson.dumps(absent)).json()
    assert [one["value"] for one in body["predictions"]] == expected
    for word in ("", "NA"):
        cells = [[word if row[key] is None else str(row[key]) for key in _TEXTS] for row in nulls]
        text = "\n".join(",".join(row) for row in [_TEXTS, *cells])
        response = client.post(
            "/models/prices/predict", content=text, headers={"content-type": "text/csv"}
        )
        scored = list(csv.DictReader(io.StringIO(response.text)))
        assert [float(row["value"]) for row in scored] == pytest.approx(expected)
        assert all("which it never is" in row["warnings"] for row in scored[:-1])
    found = client.post(
        "/v1/models/prices:predict", content=orjson.dumps({"instances": nulls})
    ).json()["predictions"]
    assert np.ravel(found) == pytest.approx(expected)
    for send, read in ((infer_in_json, outputs_in_json), (infer_in_binary, outputs_in_binary)):
        array = read(send(client, "prices", {"features": matrix}), ["value"])[0]
        assert array is not None
        assert array.ravel() == pytest.approx(expected, rel=1e-5)
    response = client.post(
        "/models/prices/predict",
        content="size,count,kind,day\n1,2,a,2023-01-15",
        headers={"content-type": "text/csv"},
    )
    assert response.status_code == 400  # a forgotten column is no gap of single rows
    assert "Line 1 has no column 'is_new'" in response.json()["error"]
