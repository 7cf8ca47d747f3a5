"""The prediction of a model does not depend on the protocol."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import orjson
import pytest
import tritonclient.http as triton

from tests.conftest import StartApp
from tests.models import publish_admission, publish_iris, publish_price

Values = npt.NDArray[np.float32]
ROWS = 1000


def posted(client: httpx.Client, path: str, body: object) -> Any:  # noqa: ANN401 - JSON is any of its types
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def array(responses: object) -> Values:
    return np.array(responses, np.float32).reshape(ROWS, -1)


def plain(client: httpx.Client, model: str, names: list[str], rows: Values) -> Values:
    objects = [dict(zip(names, row, strict=True)) for row in rows.tolist()]
    return array(_numbers(posted(client, f"/models/{model}/predict", objects)["predictions"]))


def plain_arrays(client: httpx.Client, model: str, _: list[str], rows: Values) -> Values:
    body = {"instances": rows.tolist()}
    return array(_numbers(posted(client, f"/models/{model}/predict", body)["predictions"]))


def one_by_one(client: httpx.Client, model: str, names: list[str], rows: Values) -> Values:
    objects = [dict(zip(names, row, strict=True)) for row in rows.tolist()]
    responses = [posted(client, f"/models/{model}/predict", one) for one in objects]
    return array(_numbers(responses))


def v1_rows(client: httpx.Client, model: str, _: list[str], rows: Values) -> Values:
    body = {"instances": rows.tolist()}
    return array(posted(client, f"/v1/models/{model}:predict", body)["predictions"])


def v1_columns(client: httpx.Client, model: str, _: list[str], rows: Values) -> Values:
    body = {"inputs": rows.tolist()}
    return array(posted(client, f"/v1/models/{model}:predict", body)["outputs"])


def v2_json(client: httpx.Client, model: str, _: list[str], rows: Values) -> Values:
    tensor = {"name": "features", "datatype": "FP32", "shape": rows.shape, "data": rows.tolist()}
    response = posted(client, f"/v2/models/{model}/infer", {"inputs": [tensor]})
    return array(response["outputs"][0]["data"])


def v2_binary(client: httpx.Client, model: str, _: list[str], rows: Values) -> Values:
    address = f"{client.base_url.host}:{client.base_url.port}"
    features = triton.InferInput("features", rows.shape, "FP32")
    features.set_data_from_numpy(rows)
    response = triton.InferenceServerClient(address).infer(model, [features])
    return array(response.as_numpy(response.get_response()["outputs"][0]["name"]))


def table(client: httpx.Client, model: str, names: list[str], rows: Values) -> Values:
    lines = [",".join(names), *(",".join(map(str, row)) for row in rows.tolist())]
    response = client.post(
        f"/models/{model}/predict",
        content="\n".join(lines),
        headers={"content-type": "text/csv"},
    )
    assert response.status_code == 200, response.text
    responses = list(csv.DictReader(response.text.splitlines()))
    assert not any(row["error"] for row in responses)
    column = "value" if "value" in responses[0] else "probability_"
    numbers = [[share for key, share in row.items() if key.startswith(column)] for row in responses]
    return array([row[1:] if len(row) == 2 else row for row in numbers])


def lines(client: httpx.Client, model: str, names: list[str], rows: Values) -> Values:
    objects = [dict(zip(names, row, strict=True)) for row in rows.tolist()]
    response = client.post(
        f"/models/{model}/predict",
        content=b"\n".join(map(orjson.dumps, objects)),
        headers={"content-type": "application/x-ndjson"},
    )
    assert response.status_code == 200, response.text
    return array(_numbers([orjson.loads(line) for line in response.content.splitlines()]))


def _numbers(responses: list[dict[str, Any]]) -> list[list[float]]:
    """The graph's own output: a value, the second label's probability, or every label's."""
    if "value" in responses[0]:
        return [[response["value"]] for response in responses]
    shares = [list(response["probabilities"].values()) for response in responses]
    return [share[1:] if len(share) == 2 else share for share in shares]


WAYS = [plain, plain_arrays, one_by_one, table, lines, v1_rows, v1_columns, v2_json, v2_binary]


@pytest.mark.parametrize(
    ("publish", "model", "names"),
    [
        (publish_admission, "admission", ["exam_1", "exam_2"]),
        (publish_price, "price", ["size"]),
        (publish_iris, "iris", ["a", "b", "c"]),
    ],
)
def test_a_thousand_rows_get_the_same_bits_in_every_protocol(
    models: Path,
    start: StartApp,
    publish: Callable[[Path], Path],
    model: str,
    names: list[str],
) -> None:
    """The predictions of all formats of each protocol are equal to the last bit."""
    publish(models)
    client = start()
    rows = np.random.default_rng(3).uniform(0, 100, (ROWS, len(names))).astype(np.float32)
    if model == "iris":
        rows /= 20  # so that no probability is zero

    responses = {way.__name__: way(client, model, names, rows) for way in WAYS}

    for way, response in responses.items():
        np.testing.assert_array_equal(response, responses["v2_binary"], err_msg=way)
