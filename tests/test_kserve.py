"""What KServe's `InferenceRESTClient` sends, to the byte, and what it reads of the answers.

Its package asks for other versions of two of our libraries, so the exchanges of version 0.21.0
stand here instead: captured from the client, and read as its own code reads them.
"""

from collections.abc import Mapping
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest

from tests.conftest import StartApp
from tests.models import admission_probability, place_bare, publish_admission

ROWS = [[45.0, 85.0], [30.0, 40.0]]
JSON = {"content-type": "application/json"}
LENGTH = "inference-header-content-length"

IN_JSON = (
    b'{"id":"7","model_name":"admission","inputs":[{"name":"features","shape":[2,2],'
    b'"datatype":"FP32","data":[45.0,85.0,30.0,40.0]}],"parameters":{"binary_data_output":false}}'
)
IN_BINARY = (
    b'{"id":"7","model_name":"admission","inputs":[{"name":"features","shape":[2,2],'
    b'"datatype":"FP32","parameters":{"binary_data_size":16}}],'
    b'"parameters":{"binary_data_output":true}}'
)
BINARY = {"content-type": "application/octet-stream", LENGTH: str(len(IN_BINARY))}


def expected() -> list[list[object]]:
    return [[pytest.approx(admission_probability(*row), abs=1e-6)] for row in ROWS]


def told(answer: httpx.Response) -> str:
    """The words of the error that the client raises; it reads no other content type."""
    assert answer.headers["content-type"] == "application/json"
    return str(answer.json()["error"])


def test_the_server_is_alive_and_ready_in_both_versions(models: Path, start: StartApp) -> None:
    """`is_server_live` reads ``status`` of / or ``live``; `is_server_ready` reads ``ready``."""
    publish_admission(models)
    client = start()

    assert client.get("/").json()["status"].lower() == "alive"
    assert client.get("/v2/health/live").json().get("live") is True
    assert client.get("/v2/health/ready").json().get("ready") is True


def test_a_model_is_ready_or_not_in_both_versions(models: Path, start: StartApp) -> None:
    """`is_model_ready` reads ``ready`` in version 1, and takes any error for no in version 2."""
    publish_admission(models)
    place_bare(models, "broken", b"no graph")
    client = start()

    assert client.get("/v1/models/admission").json().get("ready") is True
    assert client.get("/v1/models/broken").json().get("ready") is False
    assert client.get("/v2/models/admission/ready").is_success
    assert not client.get("/v2/models/broken/ready").is_success


def test_version_1_predicts(models: Path, start: StartApp) -> None:
    """`infer` posts the caller's dictionary and gives back the answer's."""
    publish_admission(models)

    answer = start().post(
        "/v1/models/admission:predict", content=b'{"instances":[[45,85],[30,40]]}', headers=JSON
    )

    assert orjson.loads(answer.content) == {"predictions": expected()}


def test_version_2_infers_in_json(models: Path, start: StartApp) -> None:
    """`infer` repeats the model's name in the body, which the protocol does not ask for."""
    publish_admission(models)

    answer = start().post("/v2/models/admission/infer", content=IN_JSON, headers=JSON)

    body = orjson.loads(answer.content)
    (output,) = body["outputs"]
    assert (body["id"], body["model_name"], output["name"]) == ("7", "admission", "probability")
    assert np.reshape(output["data"], output["shape"]).tolist() == expected()


def test_version_2_infers_in_binary(models: Path, start: StartApp) -> None:
    """The answer's header says where its JSON ends and the outputs' bytes begin."""
    publish_admission(models)
    content = IN_BINARY + np.array(ROWS, "<f4").tobytes()

    answer = start().post("/v2/models/admission/infer", content=content, headers=BINARY)

    length = int(answer.headers[LENGTH])
    (output,) = orjson.loads(answer.content[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": 8}
    assert output["datatype"] == "FP32"
    array = np.frombuffer(answer.content[length:], "<f4").reshape(output["shape"])
    assert array.tolist() == expected()


@pytest.mark.parametrize(
    ("path", "sent", "words"),
    [
        ("/v1/models/x:predict", (b'{"instances":[[1,2]]}', JSON), "unknown model: 'x'"),
        ("/v1/models/admission:predict", (b'{"instances":[[1,200]]}', JSON), "'exam_2' must be"),
        ("/v1/models/admission:explain", (b"{}", JSON), "cannot 'explain'; use :predict"),
        ("/v2/models/x/infer", (IN_JSON, JSON), "unknown model: 'x'"),
        ("/v2/models/admission/infer", (IN_BINARY, BINARY), "the body has 0 bytes left"),
    ],
)
def test_an_error_reaches_the_caller_in_words(
    models: Path,
    start: StartApp,
    path: str,
    sent: tuple[bytes, Mapping[str, str]],
    words: str,
) -> None:
    """The client puts the sentence of the contract into the exception that it raises."""
    publish_admission(models)
    body, headers = sent

    answer = start().post(path, content=body, headers=headers)

    assert not answer.is_success
    assert words in told(answer)
