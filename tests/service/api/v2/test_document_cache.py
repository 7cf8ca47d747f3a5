"""Repeated JSON of binary requests is decoded once, and cached documents are not mixed up."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from tests.conftest import StartApp
from tests.foreign import optional_second_input
from tests.models import publish_admission, publish_bare, publish_price


def post(
    client: httpx.Client, document: dict[str, Any], content: bytes, model: str = "price"
) -> httpx.Response:
    text = orjson.dumps(document)
    headers = {"inference-header-content-length": str(len(text))}
    return client.post(f"/v2/models/{model}/infer", content=text + content, headers=headers)


def request_of(values: list[float], **others: Any) -> tuple[dict[str, Any], bytes]:  # noqa: ANN401 - JSON
    content = np.array(values, "<f4").tobytes()
    tensor = {
        "name": "features",
        "shape": [len(values), 1],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(content)},
    }
    return {"inputs": [tensor], **others}, content


def in_bytes(response: httpx.Response) -> list[float]:
    assert response.status_code == 200, response.text
    length = int(response.headers["inference-header-content-length"])
    (output,) = orjson.loads(response.content[:length])["outputs"]
    found = np.frombuffer(response.content[length:], "<f4")
    assert output["shape"] == [len(found), 1]
    assert output["parameters"] == {"binary_data_size": found.nbytes}
    return [float(value) for value in found]


BINARY = {"parameters": {"binary_data_output": True}}


def test_repeated_json_with_other_bytes_gets_other_predictions(
    models: Path, start: StartApp
) -> None:
    """The prediction always follows from the bytes of the request."""
    publish_price(models)
    client = start()

    for values in ([1.0, 2.0], [3.0, 4.0], [5.0], [6.0, 7.0], [8.0], [1.0, 2.0]):
        assert in_bytes(post(client, *request_of(values, **BINARY))) == [2 * v for v in values]


def test_ids_and_formats_are_those_of_the_request(models: Path, start: StartApp) -> None:
    """A document with another id or output format is another document."""
    publish_price(models)
    client = start()

    for _ in range(3):
        for identity in ("a", "b"):
            response = post(client, *request_of([1.0], id=identity))
            assert response.json()["id"] == identity
            assert response.json()["outputs"][0]["data"] == [2.0]
        assert in_bytes(post(client, *request_of([4.0], **BINARY))) == [8.0]


def test_wrong_lengths_are_rejected_after_cached_json(models: Path, start: StartApp) -> None:
    """The errors are those after uncached JSON."""
    publish_price(models)
    client = start()
    document, content = request_of([1.0, 2.0], **BINARY)
    sent = [content[:-1], content + b"x", content[:4], b""]
    before = [post(client, document, other) for other in sent]

    good = post(client, document, content)
    after = [post(client, document, other) for other in sent]

    assert in_bytes(good) == [2.0, 4.0]
    assert [response.status_code for response in before + after] == [400] * 8
    assert [response.json() for response in before] == [response.json() for response in after]


def test_features_are_validated_after_cached_json(models: Path, start: StartApp) -> None:
    """An exam of 101 points and NaN are rejected."""
    publish_admission(models)
    client = start()

    def response(row: list[float]) -> httpx.Response:
        content = np.array(row, "<f4").tobytes()
        tensor = {"name": "features", "shape": [1, 2], "datatype": "FP32"}
        document = {"inputs": [tensor | {"parameters": {"binary_data_size": 8}}], **BINARY}
        text = orjson.dumps(document)
        return client.post(
            "/v2/models/admission/infer",
            content=text + content,
            headers={"inference-header-content-length": str(len(text))},
        )

    rows: list[list[float]] = [[61, 74], [61, 101], [61, np.nan], [61, 74]]
    found = [response(row).status_code for row in rows]

    assert found == [200, 400, 400, 200]


def test_an_omitted_optional_input_stays_omitted(models: Path, start: StartApp) -> None:
    """Repeated JSON with one of two inputs gets the same prediction."""
    publish_bare(models, "first", optional_second_input())
    client = start()
    x = {"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}
    numbers = [np.array([number], "<f4").tobytes() for number in (1, 2)]

    responses = [post(client, {"inputs": [x]}, number, "first") for number in numbers]

    assert [response.json()["outputs"][0]["data"] for response in responses] == [[1.0], [2.0]]


@pytest.mark.parametrize("count", [200])
def test_the_cache_evicts_documents(models: Path, start: StartApp, count: int) -> None:
    """Each of many documents gets its own prediction."""
    publish_price(models)
    client = start()

    for number in range(count):
        document, content = request_of([float(number)], id=str(number), **BINARY)
        assert in_bytes(post(client, document, content)) == [2.0 * number]
